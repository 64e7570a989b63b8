"""The contract of a cut of the responses that is made before the fit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from ...models import Backbone
from ..dataset import Dataset

Assign = Callable[[Dataset], Tensor]
"""From N data to ``r(z|x,y)``, ``(N, parts)``, rows that sum to one."""


class Partition(ABC):
    """A cut of the responses to each prompt into parts that mean the same on every prompt, without labels."""

    @abstractmethod
    def fit(self, backbone: Backbone, data: Dataset, parts: int, seed: int) -> Assign:
        """Find the cut.

        Args:
            backbone: the base.
            data: prompts, with responses.
            parts: of the cut, at least 2.
            seed: of all draws; the global generators are left as they were.
        """
