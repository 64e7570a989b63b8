"""The gradient in the model alone, on draws that are held fixed."""

from __future__ import annotations

from typing import ClassVar

import pyro.poutine.runtime
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..expectations import Expectation, Sample
from ..log_quantities import LogQuantities
from ..objectives import Objective
from .gradient import Gradient


class Detached(Messenger):
    """Draws through which no gradient flows."""

    def _pyro_post_sample(self, msg: pyro.poutine.runtime.Message) -> None:
        if not msg["is_observed"] and msg["value"] is not None:
            msg["value"] = msg["value"].detach()


class Held(Gradient):
    """Autograd in the model with the draws and q held fixed; the guide is fitted by terms of its own.

    The model's half of wake-sleep: with the objective ``IWAE`` the gradient is ``sum_s w_s d log p(y, z_s|x)`` with
    self-normalised weights [Bornschein & Bengio 2015, eq. 6], biased at the rate 1/S, with any latents.

    Raises:
        ValueError: in :meth:`check`, an objective over the minibatch.
    """

    expectations: ClassVar = (Sample,)

    def draws(self, share: float) -> Detached:  # noqa: ARG002
        return Detached()

    def check(self, objective: Objective, expectation: Expectation) -> None:  # noqa: ARG002
        if not objective.pointwise:
            raise ValueError(
                f"gradient Held: holds the log-quantities of q, and {type(objective).__name__} has more of the guide "
                "in it; use gradient Pathwise for continuous latents, expectation Enumerate for discrete ones"
            )

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        bound = objective.bound(log.hold_guide())
        return bound, bound
