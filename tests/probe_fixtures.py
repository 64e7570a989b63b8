"""Spaces with a decoder that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from stratagem.inference.dataset import Dataset
from stratagem.inference.probes import Coder, Space
from stratagem.models import Latent, Normal
from torch import Tensor

Written = Callable[[np.ndarray, int], str]
"""The response at a value ``(*event)`` to a datum's prompt."""


class KnownCoder(Coder):
    """One latent z, whose decoder is a function of its value; the response's numbers are its encoding.

    Args:
        values: of the data, ``(N, *event)``.
        written: the decoder.
        latent: its family.
        router: draws ``(S, R, *event)`` for S and R.
        named: a label of a response by its name.
        states: hidden states of each layer, ``(N, 1 + bins, width)``.
    """

    def __init__(
        self,
        values: Tensor,
        written: Written,
        latent: Latent | None = None,
        router: Callable[[int, int], Tensor] | None = None,
        named: Mapping[str, Callable[[str], str]] | None = None,
        states: list[np.ndarray] | None = None,
    ) -> None:
        self.latents = {"z": latent or Normal(values.shape[-1])}
        self.own = {"z": values}
        self.draws = {"z": values[None]} if values.is_floating_point() else {}
        self.written, self.drawn, self.labels, self.states = written, router, named or {}, states or []
        self.decoded: list[tuple[Tensor, list[int], float]] = []

    def decode(self, z: Mapping[str, Tensor], index: Sequence[int], temperature: float = 0.0) -> list[str]:
        self.decoded.append((z["z"], list(index), temperature))
        return [self.written(value.numpy(), i) for value, i in zip(z["z"], index, strict=True)]

    def encode(self, index: Sequence[int], responses: Sequence[str]) -> dict[str, Tensor]:
        assert len(index) == len(responses)
        return {"z": torch.tensor([[float(word) for word in text.split()] for text in responses])}

    def router(self, index: Sequence[int], draws: int) -> dict[str, Tensor]:
        assert self.drawn is not None
        return {"z": self.drawn(draws, len(index))}

    def named(self, label: str, index: Sequence[int], responses: Sequence[str]) -> list[str] | None:
        assert len(index) == len(responses)
        return [self.labels[label](text) for text in responses] if label in self.labels else None

    def tokens(self, text: str) -> list[int]:
        return [int(float(word) * 1000) for word in text.split()]

    def hidden(self, bins: int) -> list[np.ndarray]:
        assert all(layer.shape[1] == 1 + bins for layer in self.states)
        return self.states


def known_space(coder: KnownCoder, responses: Sequence[str] | None = None, **labels: list[str]) -> Space:
    """The space of a coder, prompts ``x0 ...``, responses those at the data's own values."""
    values = coder.own["z"]
    count = len(values)
    texts = responses or [coder.written(value.numpy(), i) for i, value in enumerate(values)]
    points = coder.latents["z"].features(values).double().numpy()
    names = [f"z[{d}]" for d in range(points.shape[1])]
    return Space(points, names, Dataset([], [f"x{i}" for i in range(count)], list(texts), 0), labels, coder)


def rounded(value: np.ndarray, _: int = 0) -> str:
    """The value itself, to whole numbers."""
    return " ".join(str(round(float(v))) for v in value)


def exactly(value: np.ndarray, _: int = 0) -> str:
    """The value itself."""
    return " ".join(str(float(v)) for v in value)
