"""The contract of a weighted term beside the objective."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

from torch import Tensor

from ...models import Backbone
from ..dataset import Dataset
from ..expectations import Expectation
from ..gradients import Gradient
from ..log_quantities import LogQuantities
from ..part import Part
from ..schedules import HUNDREDTHS, Schedule, finite, scheduled


class Term(Part):
    """A per-datum quantity that is raised (or lowered, where :attr:`sign` is -1) beside the bound.

    Attributes:
        reads: features of the data that :meth:`prepare` computes; without them the term is left out where its weight
            is 0, and refused elsewhere.

    Args:
        weight: of the term, at least 0, a number or a schedule over the fit; the sign is the term's own.

    Raises:
        ValueError: a weight that is negative or not finite, at any share of the fit.
    """

    sign: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()

    def __init__(self, weight: float | Schedule = 1.0) -> None:
        self.weight = scheduled(weight)
        self._check(HUNDREDTHS)

    def signed_weight(self, share: float) -> float:
        """What the term's value is multiplied by when ``share`` of the fit is done."""
        self._check((share,))
        return self.sign * self.weight.at(share)

    def _check(self, shares: Iterable[float]) -> None:
        self.weight.check(f"term {type(self).__name__}: weight", finite, "finite and not negative", shares)

    def prepare(self, backbone: Backbone, data: Sequence[Dataset], values: int, seed: int) -> None:
        """Compute what the term :attr:`reads`, and what it takes of the data, once, before the first step.

        Args:
            backbone: the LM.
            data: the sets that will be asked, the one to fit on first.
            values: joint values of the latents, P.
            seed: of all draws.
        """

    def check(self, expectation: Expectation, gradient: Gradient) -> None:
        """Refuse draws that the term is not made for.

        Raises:
            ValueError: says what would work.
        """

    @abstractmethod
    def value(self, log: LogQuantities) -> Tensor:
        """``(B,)``, differentiable, before weight and sign."""
