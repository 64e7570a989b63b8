"""Draws of categorical sites that a gradient flows through."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import ClassVar

import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Categorical

from ..expectations.expectation import relaxed_note
from ..schedules import Schedule, scheduled


class RelaxedDraws(Messenger, ABC):
    """Fills the guide's categorical sites with weights ``(P, B, K)``; other sites are drawn by their ``rsample``.

    Attributes:
        mixes: whether there may be other sites.

    Args:
        gradient: whose draws they are, for messages.

    Raises:
        ValueError: within, a site that it cannot fill.
    """

    mixes: ClassVar[bool] = True

    def __init__(self, gradient: str) -> None:
        super().__init__()
        self.gradient = gradient
        self.filled: list[str] = []

    @abstractmethod
    def fill(self, name: str, log_p: Tensor) -> Tensor:
        """The value of a site whose law has log-probabilities ``log_p`` ``(P, B, K)``."""

    def _pyro_sample(self, msg: Message) -> None:
        if msg["is_observed"] or msg["value"] is not None or site_is_subsample(msg):
            return
        name, law = str(msg["name"]), msg["fn"]
        if isinstance(law, Categorical):
            log_p = law.logits.to(torch.promote_types(law.logits.dtype, torch.float32))
            msg["value"], msg["done"] = self.fill(name, log_p), True
            self.filled.append(name)
        elif not (self.mixes and law.has_rsample):
            wanted = "categorical or reparameterised" if self.mixes else "categorical"
            raise ValueError(
                f"gradient {self.gradient}: site {name} is drawn from {type(law).__name__}, expected every site to "
                f"be {wanted}; use gradient ScoreFunction"
            )

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(exc_value, IndexError | RuntimeError | TypeError):
            for name in self.filled:
                exc_value.add_note(relaxed_note(name))
        super().__exit__(exc_type, exc_value, traceback)


def perturbed(log_p: Tensor) -> Tensor:
    """``log_p`` plus standard Gumbel noise: its largest place is a draw from p [Gumbel 1954]."""
    return log_p - torch.empty_like(log_p).exponential_().log()


def one_hot_of_largest(values: Tensor) -> Tensor:
    """1 at the largest place of the last dimension, 0 elsewhere."""
    return torch.zeros_like(values).scatter(-1, values.argmax(-1, keepdim=True), 1.0)


def temperature_schedule(gradient: str, temperature: float | Schedule) -> Schedule:
    """A temperature as a schedule.

    Raises:
        ValueError: one that is not above 0 and finite, at any share of the fit.
    """
    schedule = scheduled(temperature)
    schedule.check(f"gradient {gradient}: temperature", lambda t: 0 < t < float("inf"), "above 0 and finite")
    return schedule
