"""The baseline of a draw by the other draws."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..expectations import Sample
from ..log_quantities import LogQuantities
from .baseline import Baseline, Bound
from .replaced import bounds_with


class LeaveOneOut(Baseline):
    """The bound with the draw's log-quantities replaced by the mean of those of the other draws.

    For the ELBO what is left is ``1/S`` of the draw's bound less the others' mean: RLOO [Kool et al. 2019]. For the
    IWAE the draw's weight is replaced by the geometric mean of the others': VIMCO [Mnih & Rezende 2016]. Nothing is
    learned, and the model is not run again.
    """

    def check(self, expectation: Sample) -> None:
        if expectation.num_particles < 2:
            raise ValueError(
                "gradient ScoreFunction: baseline LeaveOneOut needs expectation Sample with num_particles of at "
                f"least 2, got {expectation.num_particles}; for a single draw use baseline NVIL (inference=elbo_nvil)"
            )

    def forward(self, value: Tensor, bound: Bound, log: LogQuantities) -> tuple[Tensor, Tensor]:
        mean = self.of_others
        sites = {
            name: replace(site, log_prior=mean(site.log_prior), log_q=mean(site.log_q))
            for name, site in log.sites.items()
        }
        others = replace(
            log, log_lik=mean(log.log_lik), log_prior=mean(log.log_prior), log_q=mean(log.log_q), sites=sites
        )
        return value - bounds_with(bound, log, others), value.new_zeros(())

    @staticmethod
    def of_others(values: Tensor) -> Tensor:
        """For each of ``(S, B)`` the mean of the other ``S - 1``, whatever its own is."""
        none = values.isneginf()
        rest = values.masked_fill(none, 0.0)
        mean = (rest.sum(0) - rest) / (len(values) - 1)
        return mean.masked_fill(none.sum(0) > none.long(), -torch.inf)
