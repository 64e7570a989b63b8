"""The mean of several importance-weighted bounds."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Expectation, Sample
from ..log_quantities import LogQuantities
from .iwae import log_mean_exp
from .objective import Objective


class MIWAE(Objective):
    """The mean over M groups of the IWAE bound of S/M draws each [Rainforth et al. 2018, section 4].

    The ELBO at M = S, the IWAE at M = 1. Unbiased for the mean of an IWAE bound of S/M draws; the signal-to-noise
    ratio of the gradient in the guide rises as ``sqrt(M)``.

    Args:
        groups: M, which divides the number of draws.

    Raises:
        ValueError: fewer than one group; in :meth:`check`, groups that do not divide the draws.
    """

    expectations: ClassVar = (Sample,)
    of_weights: ClassVar = True

    def __init__(self, groups: int = 2) -> None:
        if groups < 1:
            raise ValueError(f"objective {type(self).__name__}: groups must be at least 1, got {groups}")
        self.groups = groups

    def check(self, expectation: Expectation) -> None:
        assert isinstance(expectation, Sample)
        if expectation.num_particles % self.groups:
            raise ValueError(
                f"objective {type(self).__name__}: {self.groups} groups do not divide the "
                f"{expectation.num_particles} particles of expectation Sample; take a multiple of {self.groups}"
            )

    def bound(self, log: LogQuantities) -> Tensor:
        return log_mean_exp(log.log_w.unflatten(0, (-1, self.groups))).mean(0)
