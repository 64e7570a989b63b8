"""The gradient of a divergence that adapts to the tail of the weights."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ...models import Capability
from ..expectations import Expectation, Sample
from ..log_quantities import LogQuantities
from ..objectives import Objective
from .gradient import Gradient
from .two_paths import slope, two_paths


class TailAdaptive(Gradient):
    """The guide by a tail-adaptive f-divergence [Wang et al. 2018, algorithm 1], the model by its own bound.

    The guide's gradient is ``sum_s g_s d log w_s/dz_s dz_s/dphi`` with ``g_s = c_s^beta / sum_r c_r^beta``, where
    ``c_s`` is the share of the S draws with a weight of at least ``w_s``: it covers as much of the posterior as the
    draws allow, however heavy the tail of the weights. Zero on every draw where the guide is the posterior; elsewhere
    biased as the gradient of any one divergence, f being made of the S draws. The model raises the objective's bound
    as by :class:`Pathwise`, from the same run. Costs one more run of the guide.

    Args:
        beta: at most 0; the plain mean of the draws at 0.

    Raises:
        ValueError: a positive beta.
    """

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.REPARAMETERISED

    def __init__(self, beta: float = -1.0) -> None:
        super().__init__()
        if not -float("inf") < beta <= 0:
            raise ValueError(f"gradient TailAdaptive: beta must be finite and at most 0, got {beta}")
        self.beta = beta

    def check(self, objective: Objective, expectation: Expectation) -> None:
        if not (objective.of_weights and objective.shared):
            raise ValueError(
                f"gradient TailAdaptive: it fits the guide in its own way, which {type(objective).__name__} would not "
                "see; use objective ELBO (beta 1) or IWAE, or gradient Pathwise"
            )
        assert isinstance(expectation, Sample)
        if expectation.num_particles < 2:
            raise ValueError(
                "gradient TailAdaptive: it ranks the draws, and needs expectation Sample with num_particles of 2 or "
                f"more, got {expectation.num_particles}"
            )

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        return objective.bound(log), two_paths(log, slope(objective.bound, log), self.weights(log.log_w))

    def weights(self, log_w: Tensor) -> Tensor:
        """``(S, B)`` weights of the draws, without gradient, summing to one over S."""
        log_w = log_w.detach()
        share = (log_w[None] >= log_w[:, None]).to(log_w.dtype).mean(1)
        gamma = share**self.beta
        return gamma / gamma.sum(0)
