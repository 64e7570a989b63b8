"""The bound of a response and of its reconstructions."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Sample
from ..log_quantities import LogQuantities
from .objective import Objective


class AutoGen(Objective):
    """``(1 + m) E_q[log p(y|x,z)] - KL(q || p(z|x))`` [Mansbridge et al. 2018].

    A lower bound, not of ``log p(y|x)``, but of the log-probability of y together with m reconstructions of it from
    the same z: what is raised where z is to describe the response. Exact where enumerated, unbiased where sampled.

    Args:
        m: reconstructions, at least 0; the ELBO at 0.

    Raises:
        ValueError: a negative m, or one that is not finite.
    """

    expectations: ClassVar = (Enumerate, Sample)

    def __init__(self, m: float = 1.0) -> None:
        if not 0 <= m < float("inf"):
            raise ValueError(f"objective AutoGen: m must be finite and not negative, got {m}")
        self.m = m

    def bound(self, log: LogQuantities) -> Tensor:
        return log.expect_q(log.log_w + self.m * log.log_lik)
