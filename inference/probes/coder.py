"""What a probe may ask of a fitted model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from ...models import Latent


class Coder(ABC):
    """Texts from values of the latents, and values from texts.

    A datum is named by its place in the space's data, so that R requests are R places and what goes with each.

    Attributes:
        latents: families by site.
        own: the value of each latent at each datum, ``(N, *event)``: that nearest to the mean under the guide, the
            likeliest of a discrete latent.
        draws: of continuous latents, from the guide, ``(S, N, *event)``.
    """

    latents: Mapping[str, Latent]
    own: Mapping[str, Tensor]
    draws: Mapping[str, Tensor]

    @abstractmethod
    def decode(self, z: Mapping[str, Tensor], index: Sequence[int], temperature: float = 0.0) -> list[str]:
        """Responses to the prompts of R data, at values ``(R, *event)``; a latent that z lacks is at the datum's own.

        Temperature 0 is greedy.
        """

    @abstractmethod
    def encode(self, index: Sequence[int], responses: Sequence[str]) -> dict[str, Tensor]:
        """Means under the guide of continuous latents, ``(R, *event)``, of responses to the prompts of R data."""

    @abstractmethod
    def router(self, index: Sequence[int], draws: int) -> dict[str, Tensor]:
        """Draws from ``p(z|x)`` of every latent, ``(S, R, *event)``, at the prompts of R data."""

    @abstractmethod
    def named(self, label: str, index: Sequence[int], responses: Sequence[str]) -> list[str] | None:
        """What a label is of new responses; None where only the given ones have it."""

    @abstractmethod
    def tokens(self, text: str) -> list[int]:
        """Token ids of a text."""

    @abstractmethod
    def hidden(self, bins: int) -> list[np.ndarray]:
        """Hidden states of the LM alone on prompts and responses, of the embeddings and after each layer.

        Each ``(N, 1 + bins, width)``: of the prompt's last token, and means over as many stretches of the response.
        """
