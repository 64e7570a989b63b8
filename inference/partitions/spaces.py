"""Linear spaces of hidden states in which responses to one prompt lie apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Sample:
    """Pooled hidden states of several responses to each of some prompts.

    Attributes:
        features: ``(N, sum(sizes))``, layer after layer, the responses to a prompt beside each other.
        pairs: ``(Q, 2)``, places of two responses to one prompt.
        contents: ``(N,)``, what each says.
        sizes: of the layers.
        responses: to each prompt.
    """

    features: Tensor
    pairs: Tensor
    contents: Tensor
    sizes: Sequence[int]
    responses: int

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def halves(self) -> tuple[Sample, Sample]:
        """Those to one half of the prompts, and those to the other."""
        middle = len(self) // self.responses // 2 * self.responses
        return self._part(0, middle), self._part(middle, len(self))

    def _part(self, begin: int, end: int) -> Sample:
        inside = (self.pairs[:, 0] >= begin) & (self.pairs[:, 0] < end)
        return replace(
            self,
            features=self.features[begin:end],
            pairs=self.pairs[inside] - begin,
            contents=self.contents[begin:end],
        )

    @property
    def layers(self) -> list[tuple[int, int]]:
        """Where each begins and ends among the features."""
        return list(pairwise(torch.tensor([0, *self.sizes]).cumsum(0).tolist()))

    @cached_property
    def scaled(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean of the features, what is left of them, and of each number the root mean square of its layer."""
        mean = self.features.double().mean(0)
        centred = self.features.double() - mean
        scale = [
            centred[:, b:e].square().mean().sqrt().clamp(min=1e-12).expand(e - b) for b, e in self.layers
        ]
        return mean, centred, torch.cat(scale)


@dataclass(frozen=True)
class Space:
    """A linear map of pooled hidden states.

    Attributes:
        places: of the numbers that it reads.
        centre: taken from them.
        axes: ``(len(places), dimensions)``, the first the most telling.
    """

    places: slice
    centre: Tensor
    axes: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        return (features[:, self.places].double() - self.centre) @ self.axes

    def first(self, dimensions: int) -> Space:
        """The space of the first axes."""
        return replace(self, axes=self.axes[:, :dimensions])


def spaces(sample: Sample, dimensions: int, ridge: float, surface_penalty: float) -> list[Space]:
    """Spaces of each layer, and at last of all layers together, brought to one scale.

    The axes are the generalised eigenvectors of the scatter within prompts against the total scatter, ``ridge``
    times its mean eigenvalue, and ``surface_penalty`` times the scatter of responses that say the same.

    Args:
        sample: the responses.
        dimensions: of a space, at most.
        ridge: above 0.
        surface_penalty: at least 0.
    """
    pairs, contents = sample.pairs, sample.contents
    same = pairs[contents[pairs[:, 0]] == contents[pairs[:, 1]]]
    mean, centred, scale = sample.scaled
    found = []
    for begin, end in [*sample.layers, (0, sum(sample.sizes))]:
        x, basis = _spanned(centred[:, begin:end] / scale[begin:end])
        total = x.T @ x / len(x)
        noise = total + ridge * total.diagonal().sum() / (end - begin) * torch.eye(len(total)).double()
        root = torch.linalg.cholesky(noise + surface_penalty * scatter(x, same))
        half = torch.linalg.solve_triangular(root, scatter(x, pairs), upper=False)
        whitened = torch.linalg.solve_triangular(root, half.T, upper=False)
        vectors = torch.linalg.eigh((whitened + whitened.T) / 2)[1].flip(-1)
        axes = torch.linalg.solve_triangular(root.T, vectors, upper=True)[:, :dimensions]
        axes = (axes if basis is None else basis @ axes) / scale[begin:end, None]
        found.append(Space(slice(begin, end), mean[begin:end], axes))
    return found


def leading_space(sample: Sample, dimensions: int) -> Space:
    """The axes of the largest scatter within prompts, of all layers together, brought to one scale."""
    mean, centred, scale = sample.scaled
    x, basis = _spanned(centred / scale)
    axes = torch.linalg.eigh(scatter(x, sample.pairs))[1].flip(-1)[:, :dimensions]
    axes = (axes if basis is None else basis @ axes) / scale[:, None]
    return Space(slice(0, len(mean)), mean, axes)


def scatter(x: Tensor, pairs: Tensor) -> Tensor:
    """Covariance of what differs between two of a pair, ``E[(x - x')(x - x')^T] / 2``; zero without pairs."""
    differ = x[pairs[:, 0]] - x[pairs[:, 1]]
    return differ.T @ differ / 2 / max(len(differ), 1)


def _spanned(x: Tensor) -> tuple[Tensor, Tensor | None]:
    """``x`` in a basis of what its N rows span, where they are fewer than its columns, and the basis.

    Every scatter of the rows is zero outside, so that no axis leads there: for wide layers that makes N x N
    matrices of those to take apart.
    """
    if x.shape[1] <= len(x):
        return x, None
    basis = torch.linalg.qr(x.T).Q
    return x @ basis, basis
