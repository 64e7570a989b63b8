"""The contract of a term that measures the reconstruction against the base."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Expectation, Sample
from ..gradients import Gradient, ScoreFunction
from ..log_quantities import LogQuantities
from .term import Term


class Reconstruction(Term):
    """``E_q`` of a gain over the base, raised. A subclass is its formula, :meth:`gain`.

    Where sampled the value is unbiased, and so is the gradient, through the draws.

    Raises:
        ValueError: in :meth:`check`, draws that no gradient flows through.
    """

    expectations: ClassVar = (Enumerate, Sample)
    pointwise: ClassVar = False

    def check(self, expectation: Expectation, gradient: Gradient) -> None:  # noqa: ARG002
        if gradient.copies > 1:
            raise ValueError(
                f"term {type(self).__name__}: needs plain draws from q, and {type(gradient).__name__} draws each "
                f"particle {gradient.copies} times; use another gradient"
            )
        if isinstance(gradient, ScoreFunction):
            raise ValueError(
                f"term {type(self).__name__}: has no gradient in the guide through draws without one, as of "
                f"{type(gradient).__name__}; use expectation Enumerate with gradient Exact, or Sample with Pathwise"
            )

    def value(self, log: LogQuantities) -> Tensor:
        return log.expect_q(self.gain(log))

    @abstractmethod
    def gain(self, log: LogQuantities) -> Tensor:
        """``(P, B)``, differentiable."""
