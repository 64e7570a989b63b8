"""How earlier latents of a chain bear on the law of the next."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from .latents import Latent


class Carry(nn.Module):
    """What the law of each latent gains from those before it: parameters linear in their features, zero at the start.

    Args:
        latents: in the order of the chain.
        reach: how many latents back, at least 1; all where not given.

    Raises:
        ValueError: a smaller reach.
    """

    def __init__(self, latents: Sequence[Latent], reach: int | None = None) -> None:
        super().__init__()
        if reach is not None and reach < 1:
            raise ValueError(f"chain: reach must be at least 1, got {reach}")
        self._first = [0 if reach is None else max(0, place - reach) for place in range(len(latents))]
        self._latents = list(latents)
        self.maps = nn.ModuleList(
            nn.ModuleList(
                nn.Linear(earlier.num_features, latent.num_parameters, bias=False)
                for earlier in latents[self._first[place] : place]
            )
            for place, latent in enumerate(latents)
        )
        for weight in self.parameters():
            nn.init.zeros_(weight)

    def forward(self, parameters: Tensor, z: Sequence[Tensor]) -> Tensor:
        """The parameters ``(B, num_parameters)`` of the next law, with what the values ``z`` before it add."""
        maps, first = self.maps[len(z)], self._first[len(z)]
        assert isinstance(maps, nn.ModuleList)
        for linear, latent, value in zip(maps, self._latents[first:], z[first:], strict=False):
            parameters = parameters + linear(latent.features(value).to(parameters.dtype))
        return parameters
