"""The contract of an inference algorithm: what a fit asks of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from ..models import Backbone, Batch, Latent
from .dataset import Dataset
from .log_quantities import Program
from .loss import Loss


class Algorithm(nn.Module, ABC):
    """How model and guide are compared; what it learns for itself are parameters of its own."""

    @property
    def updates(self) -> int:
        """Gradient steps on a batch before the next."""
        return 1

    @abstractmethod
    def check(self, latents: Mapping[str, Latent]) -> None:
        """Refuse latents that cannot do what the algorithm asks of them, before any forward pass.

        Raises:
            ValueError: names the latent and an algorithm that would work.
        """

    def bind(self, model: nn.Module) -> None:
        """Build what depends on the model, before the first step."""

    def prepare(
        self, model: Program, guide: Program, backbone: Backbone, data: Sequence[Dataset], seed: int
    ) -> None:
        """Compute for the data what the algorithm reads of them, once, before the first step.

        Args:
            model: the generative program.
            guide: the inference program.
            backbone: the LM.
            data: the sets that will be asked, the one to fit on first.
            seed: of all draws.
        """

    def led(self, share: float) -> bool:  # noqa: ARG002
        """Whether what :meth:`prepare` computes still counts when ``share`` of the fit is done."""
        return False

    def go_on(self) -> None:
        """Leave that out, to go on from weights that have been fitted."""

    @abstractmethod
    def forward(
        self, model: Program, guide: Program, batch: Batch, share: float = 1.0, held: Tensor | None = None
    ) -> Loss:
        """Loss of a batch, a mean over the data; without gradients one that compares across algorithms.

        Args:
            model: the generative program.
            guide: the inference program.
            batch: the data.
            share: of the fit that is done.
            held: what an earlier step on the same batch left in :attr:`Loss.held`.
        """
