"""A text encoder beside the LM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer


class TextEncoder(nn.Module):
    """Hidden states of texts by any encoder that ``AutoModel`` loads: BERT, a sentence encoder, the encoder of a T5.

    The network stays in evaluation mode, so that it is a function of its input.

    Args:
        name: a local folder in Hugging Face format, or an identifier on the hub.
        trained: whether its weights are trained.
        revision: of a model on the hub.

    Raises:
        ValueError: nothing at ``name`` that ``AutoModel`` and ``AutoTokenizer`` load, or a tokenizer that cannot pad.
    """

    def __init__(self, name: str, trained: bool = False, revision: str | None = None) -> None:
        super().__init__()
        self.name, self.trained, self.revision = name, trained, revision
        if Path(name).exists() and not (Path(name) / "config.json").is_file():
            raise ValueError(
                f"encoder={name}: the folder has no config.json; expected a model in Hugging Face format"
            )
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
            whole = AutoModel.from_pretrained(name, revision=revision, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise ValueError(f"encoder={name}: {error}") from error
        if self.tokenizer.pad_token_id is None:
            raise ValueError(
                f"encoder={name}: its tokenizer has no pad token; set one and save it beside the model"
            )
        self.tokenizer.padding_side = "right"  # places are counted from the left, padding included
        self.network = whole.get_encoder() if whole.config.is_encoder_decoder else whole
        self.network.requires_grad_(trained)
        self.eval()

    @property
    def hidden_size(self) -> int:
        return int(self.network.config.hidden_size)

    def train(self, mode: bool = True) -> TextEncoder:
        super().train(mode)
        self.network.eval()
        return self

    def forward(self, first: Sequence[str] | None, second: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Last hidden states ``(B, T, hidden_size)`` and mask ``(B, T)`` of texts, or of pairs of them.

        What is longer than the encoder can read is cut at its end.
        """
        texts = (list(second),) if first is None else (list(first), list(second))
        read = self.tokenizer(
            *texts, return_tensors="pt", padding=True, truncation=True, max_length=self._longest()
        )
        read = read.to(next(self.network.parameters()).device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.trained):
            hidden = self.network(**read).last_hidden_state
        return hidden, read["attention_mask"].bool()

    def _longest(self) -> int:
        places = getattr(self.network.config, "max_position_embeddings", None) or 512
        return int(min(places, self.tokenizer.model_max_length))
