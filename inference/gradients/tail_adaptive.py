"""The gradient of a divergence that adapts to the tail of the weights."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...models import Capability
from ..expectations import Expectation, Sample
from ..log_quantities import LogQuantities
from ..objectives import Objective
from .gradient import Gradient
from .rescoring import rescore


class TailAdaptive(Gradient):
    """The guide by a tail-adaptive f-divergence [Wang et al. 2018, algorithm 1], the model by its own bound.

    The guide's gradient is ``sum_s g_s d log w_s/dz_s dz_s/dphi`` with ``g_s = c_s^beta / sum_r c_r^beta``, where
    ``c_s`` is the share of the S draws with a weight of at least ``w_s``: it covers as much of the posterior as the
    draws allow, however heavy the tail of the weights. No gradient of one function: f changes with q; 0 where the
    guide is the posterior. It takes the place of the objective's gradient in the guide, whose bound the model
    raises by the same draws, held fixed. Costs one more run back through the model.

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
        z = {name: site.z for name, site in log.sites.items()}
        log_w = log.log_joint - rescore(log, z, fixed=True)
        raised = (self.weights(log.log_w) * log_w).sum(0)
        bound = objective.bound(log.hold_guide())
        # What the guide is to gain by the draws, less what it would gain through the model's bound.
        slopes = torch.autograd.grad((raised - bound).sum(), list(z.values()), retain_graph=True)
        gain = sum(
            (value * slope).flatten(2).sum(-1) if value.dim() > 2 else value * slope
            for value, slope in zip(z.values(), slopes, strict=True)
        )
        assert isinstance(gain, Tensor)
        return bound, bound + (gain - gain.detach()).sum(0)

    def weights(self, log_w: Tensor) -> Tensor:
        """``(S, B)`` weights of the draws, without gradient, summing to one over S."""
        log_w = log_w.detach()
        share = (log_w[None] >= log_w[:, None]).to(log_w.dtype).mean(1)
        gamma = share**self.beta
        return gamma / gamma.sum(0)
