"""Word dropout in the decoder's input."""

from __future__ import annotations

from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from torch import Tensor

from ...models import Batch, LanguageModel
from ..log_quantities import Program
from ..schedules import Schedule
from .corruption import Corruption
from .tokens import ordinary_tokens

TOKENS = ("pad", "unk", "random")


class WordDropout(Corruption):
    """The decoder predicts ``y_t`` from a ``y_<t`` some tokens of which are replaced [Bowman et al. 2016].

    A decoder that cannot lean on the words before leans on z. What is predicted stays y, at every token. All values
    of the latents of a datum read the same. While training, ``log p(y|x,z)`` is that of the spoilt reading, so that
    the bound is not one on ``log p(y|x)``.

    Args:
        rate: chance that a token of the response is replaced where it is read.
        token: by the ``pad`` token, the ``unk`` token, or a ``random`` one, drawn for each place.

    Raises:
        ValueError: a token of another name; in a run, ``unk`` where the tokenizer has none.
    """

    def __init__(self, rate: float | Schedule, token: str = "pad") -> None:
        super().__init__(rate)
        if token not in TOKENS:
            raise ValueError(
                f"corruption WordDropout: token must be one of {', '.join(TOKENS)}, got {token!r}"
            )
        self.token = token

    def of_model(self, model: Program, share: float) -> Program:
        return _Spoilt(model, _Dropout(self.rate.at(share), self.token))


class _Spoilt:
    """A program under a messenger, its other attributes the program's own."""

    def __init__(self, program: Program, messenger: Messenger) -> None:
        self._program, self._messenger = program, messenger

    def __call__(self, batch: Batch) -> Any:
        with self._messenger:
            return self._program(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._program, name)


class _Dropout(Messenger):
    """Has the observed language models read spoilt values, the same in every run of the program."""

    def __init__(self, rate: float, token: str) -> None:
        super().__init__()
        self.rate, self.token = rate, token
        self._spoilt: dict[str, tuple[Tensor, Tensor]] = {}

    def _pyro_sample(self, msg: Message) -> None:
        law, value, name = msg["fn"], msg["value"], msg["name"]
        if not msg["is_observed"] or not isinstance(law, LanguageModel) or value is None or name is None:
            return
        if name not in self._spoilt or self._spoilt[name][0] is not value:
            self._spoilt[name] = value, self._drop(law, value)
        msg["fn"] = law.reading(self._spoilt[name][1])

    def _drop(self, law: LanguageModel, value: Tensor) -> Tensor:
        read = value if law.inputs is None else law.inputs
        shape = read.shape[-2:]  # (B, T)
        dropped = torch.rand(shape, device=read.device) < self.rate
        return torch.where(dropped, self._replacement(law, shape, read.device), read)

    def _replacement(self, law: LanguageModel, shape: torch.Size, device: torch.device) -> Tensor:
        backbone = law.backbone
        if self.token == "random":
            return ordinary_tokens(backbone, shape, device)
        token = backbone.pad_id if self.token == "pad" else backbone.tokenizer.unk_token_id
        if token is None:
            raise ValueError(
                f"corruption WordDropout: the tokenizer of {backbone.name} has no unk token; use token=pad or "
                "token=random"
            )
        return torch.tensor(token, device=device)
