"""From text to token ids: what a prompt begins with, what a response follows, and where it ends."""

from __future__ import annotations

import pytest
from stratagem.models import Backbone
from stratagem.models.backbone.scratch import new_causal_lm, symbol_tokenizer
from stratagem.models.text import encode
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from .fit_fixtures import tiny_backbone


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return tiny_backbone()


@pytest.fixture(scope="module")
def pieces() -> Backbone:
    """A tokenizer that marks the beginning of words, as those of Llama 2 and Mistral do, and begins texts with one."""
    words = ["<pad>", "<bos>", "<eos>", "<unk>", "▁", *"abcdefgh", "▁gi", "rl"]
    merges = [("▁", "g"), ("▁g", "i"), ("r", "l")]
    vocabulary = {word: i for i, word in enumerate([*words, "▁g", "i", "r", "l"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", 1)])
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>"
    )
    return Backbone(new_causal_lm(made, hidden=16, layers=1, heads=2, context=32), made)


def tokens(backbone: Backbone, prompt: str, response: str) -> tuple[list[str], list[str]]:
    example = encode(backbone, prompt, response)
    found = [
        backbone.tokenizer.convert_ids_to_tokens(list(ids)) for ids in (example.prompt, example.response)
    ]
    return found[0], found[1]


@pytest.mark.parametrize("response", ["a b", "a b <eos>", "a b <eos> c", "a b <eos> <eos>"])
def test_a_response_ends_once(backbone: Backbone, response: str) -> None:
    assert tokens(backbone, "c d", response)[1] == ["a", "b", "<eos>"]


def test_a_response_may_end_as_the_model_ends_it() -> None:
    backbone = tiny_backbone()
    ends = backbone.tokenizer.convert_tokens_to_ids("f")
    backbone.lm.generation_config.eos_token_id = [backbone.tokenizer.eos_token_id, ends]
    assert tokens(backbone, "c d", "a b f")[1] == ["a", "b", "f"]
    assert tokens(backbone, "c d", "a b")[1] == ["a", "b", "<eos>"]


def test_a_begin_token_that_a_template_writes_out_stands_once(pieces: Backbone) -> None:
    assert tokens(pieces, "a", "b")[0] == tokens(pieces, "<bos>a", "b")[0] == ["<bos>", "▁", "a"]


@pytest.mark.parametrize(
    ("prompt", "response", "found"),
    [
        ("gi", "rl", ["rl", "<eos>"]),
        ("ab", " cd", ["▁", "c", "d", "<eos>"]),
        ("ab ", "cd", ["c", "d", "<eos>"]),
        ("r", "l", ["▁", "l", "<eos>"]),  # "rl" is another token than "r"
    ],
)
def test_a_response_is_split_as_the_text_after_its_prompt(
    pieces: Backbone, prompt: str, response: str, found: list[str]
) -> None:
    assert tokens(pieces, prompt, response)[1] == found


def test_symbols_that_stand_apart_are_as_they_were() -> None:
    tokenizer = symbol_tokenizer(["a", "b", ":"], 16)
    backbone = Backbone(new_causal_lm(tokenizer, hidden=16, layers=1, heads=2, context=16), tokenizer)
    assert tokens(backbone, "a b :", "b a")[1] == ["b", "a", "<eos>"]
