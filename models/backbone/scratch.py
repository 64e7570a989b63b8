"""A small causal LM from nothing, over the symbols of a task."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from .backbone import Backbone

SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}


def symbol_tokenizer(vocabulary: Sequence[str], context: int) -> PreTrainedTokenizerBase:
    """A tokenizer with one token for each symbol; texts are symbols between blanks, prompts begin with ``<bos>``."""
    ids = {token: i for i, token in enumerate((*SPECIAL.values(), *vocabulary))}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    bos = SPECIAL["bos_token"]
    tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, ids[bos])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, padding_side="left", model_max_length=context, **SPECIAL
    )


def new_causal_lm(
    tokenizer: PreTrainedTokenizerBase, hidden: int, layers: int, heads: int, context: int
) -> PreTrainedModel:
    """A Llama with random weights over ``tokenizer``'s vocabulary."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=8 * hidden // 3 // 8 * 8,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def new_backbone(vocabulary: Sequence[str], hidden: int, layers: int, heads: int, context: int) -> Backbone:
    """An untrained Llama over ``vocabulary``, with the tokenizer for it.

    Raises:
        ValueError: a width that is no even multiple of the heads, or a size below 1.
    """
    if min(hidden, layers, heads, context) < 1 or hidden % (2 * heads):
        raise ValueError(
            f"hidden={hidden} layers={layers} heads={heads} context={context}: expected sizes of at least 1 and a "
            "width that is an even multiple of the heads"
        )
    tokenizer = symbol_tokenizer(vocabulary, context)
    return Backbone(new_causal_lm(tokenizer, hidden, layers, heads, context), tokenizer, name="new")
