"""Text encoders with random weights, in folders as Hugging Face writes them."""

from __future__ import annotations

from pathlib import Path

import torch
from stratagem.models.backbone.scratch import symbol_tokenizer
from transformers import BertConfig, BertModel, T5Config, T5Model

SYMBOLS = ["sort", ":", *map(str, range(10)), ";", "|"]


def save_encoder(folder: Path, kind: str) -> Path:
    torch.manual_seed(0)
    tokenizer = symbol_tokenizer(SYMBOLS, 512)
    tokenizer.save_pretrained(folder)
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if kind == "bert":
        shape = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
        BertModel(BertConfig(**common, **shape, max_position_embeddings=64)).save_pretrained(folder)
    else:
        config = T5Config(
            **common, d_model=12, d_kv=6, d_ff=16, num_layers=2, num_heads=2, decoder_start_token_id=0
        )
        T5Model(config).save_pretrained(folder)
    return folder
