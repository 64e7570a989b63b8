"""What the parts of an inference algorithm say of themselves."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar

from ..models import Capability
from .expectations import Expectation


class Part(ABC):
    """An objective, a gradient estimator or a term.

    Attributes:
        expectations: the ways of taking ``E_q`` that it is right for.
        needs: what it asks of every latent; None for nothing.
        pointwise: whether what it says of a datum is a function of that datum's log-quantities, those of its
            sites included; otherwise its neighbours in the batch, or more of the run, take part.
    """

    expectations: ClassVar[tuple[type[Expectation], ...]]
    needs: ClassVar[Capability | None] = None
    pointwise: ClassVar[bool] = True
