"""The contract of p(z|x)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ..backbone import Backbone
from ..batch import Batch
from ..latents import Latent


class Router(nn.Module, ABC):
    """``p(z|x)``: the law of one latent given the prompts, of batch shape ``(B,)``.

    Args:
        backbone: the LM.
        latent: the family of the law.
    """

    def __init__(self, backbone: Backbone, latent: Latent) -> None:
        super().__init__()
        self.backbone, self.latent = backbone, latent

    @abstractmethod
    def parameters_of(self, batch: Batch) -> Tensor:
        """Parameters of the law, ``(B, num_parameters)``."""

    def forward(self, batch: Batch) -> TorchDistribution:
        return self.latent.law(self.parameters_of(batch))


class GroupedRouter(Router):
    """A router that knows what of it belongs to which strategy, so that strategies can be revived and pruned."""

    @abstractmethod
    def regroup(self, weight: Tensor, gain: Tensor, prompts: Iterable[Batch]) -> None:
        """Give ``weight @ logits + gain`` in place of the logits of K strategies, or what comes nearest to it.

        Args:
            weight: ``(G, K)``.
            gain: ``(G,)``.
            prompts: on which it has to be near, on the model's device.
        """
