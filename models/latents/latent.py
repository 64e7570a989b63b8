"""What a latent is to the rest: a family of laws, and what can be done with it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import ClassVar

from pyro.distributions import TorchDistribution
from torch import Tensor


class Capability(Enum):
    """What an inference algorithm may ask of a latent."""

    ENUMERABLE = "enumerable (a finite support that can be summed over)"
    REPARAMETERISED = "reparameterised (a sample is a differentiable function of the parameters)"
    SCORABLE = "scorable (log_prob has gradients in the parameters)"
    RELAXABLE = "relaxable (a value may be a mixture of the values of a finite support)"


class Latent(ABC):
    """A latent variable: its family of laws, shared by router and posterior, and its features for the decoder."""

    capabilities: ClassVar[frozenset[Capability]]

    @property
    @abstractmethod
    def num_parameters(self) -> int:
        """Real numbers that fix one law of the family; zeros give the reference law."""

    @property
    @abstractmethod
    def num_features(self) -> int:
        """Length of the vector that the decoder is conditioned on."""

    @property
    def num_values(self) -> int:
        """Values ``0 ... num_values - 1`` of an enumerable latent: as many as features, where these are one-hot."""
        return self.num_features

    def nearest(self, point: Tensor) -> Tensor:
        """The value nearest to a point ``(*batch, *event)``: that point, unless values have a shape."""
        return point

    @abstractmethod
    def law(self, parameters: Tensor) -> TorchDistribution:
        """The law of parameters ``(*batch, num_parameters)``, of batch shape ``batch``."""

    @abstractmethod
    def features(self, z: Tensor) -> Tensor:
        """``(*batch, num_features)`` of values of batch shape ``batch``."""
