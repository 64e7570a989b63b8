"""The entropy of the posterior."""

from __future__ import annotations

from typing import ClassVar

from pyro.distributions import TorchDistribution
from torch import Tensor

from ..expectations import Enumerate, Sample
from ..laws import Law, laws_given_datum
from ..log_quantities import LogQuantities
from ..schedules import Schedule
from .term import Term

DIRECTIONS = {"raise": 1, "lower": -1}


class PosteriorEntropy(Term):
    """``H(q(z|x,y)) = -E_q[log q(z|x,y)]`` in nats per sequence; exact, without draws.

    Raised, it keeps the guide from settling on a strategy too soon [as of classifiers: Pereyra et al. 2017]. Lowered,
    it makes the guide choose one [as of classifiers: Grandvalet & Bengio 2005]; by itself that is as well done by
    one strategy for all data, and :class:`~stratagem.inference.terms.MinibatchInformation` spreads them at the same
    time. For continuous latents it is the differential entropy, which has no bound on either side.

    Args:
        weight: of the term, a number or a schedule; which way is said by the direction, never by a sign.
        direction: ``raise`` or ``lower``.

    Raises:
        ValueError: another direction.
    """

    expectations: ClassVar = (Enumerate, Sample)
    pointwise: ClassVar = False

    def __init__(self, weight: float | Schedule = 1.0, direction: str = "raise") -> None:
        super().__init__(weight)
        if direction not in DIRECTIONS:
            raise ValueError(
                f"term PosteriorEntropy: expected direction {' or '.join(DIRECTIONS)}, got {direction!r}"
            )
        self.direction = direction

    def signed_weight(self, share: float) -> float:
        return DIRECTIONS[self.direction] * super().signed_weight(share)

    def value(self, log: LogQuantities) -> Tensor:
        if log.enumerated:
            return -log.expect_q(log.log_q)
        entropies = [
            _entropy(name, law).mean(0) for name, law in laws_given_datum(log, Law.POSTERIOR).items()
        ]
        return sum(entropies[1:], entropies[0])


def _entropy(name: str, law: TorchDistribution) -> Tensor:
    try:
        return law.entropy()
    except NotImplementedError:
        raise ValueError(
            f"term PosteriorEntropy: latent {name}: the entropy of {type(law).__name__} is not known; another guide "
            "or latent may have one, or leave the term out"
        ) from None
