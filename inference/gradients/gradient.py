"""The contract of a gradient estimator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from ...models import Capability
from ..expectations import Expectation
from ..log_quantities import LogQuantities
from ..objectives import Objective


class Gradient(ABC):
    """How the expectation of an objective is differentiated.

    :attr:`expectations` are those it is made for; :attr:`needs` what it asks of every latent.
    """

    expectations: ClassVar[tuple[type[Expectation], ...]]
    needs: ClassVar[Capability | None] = None

    @abstractmethod
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        """The bound ``(B,)``, and what is differentiated in its place ``(B,)``."""
