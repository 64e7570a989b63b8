"""K-means in linear spaces of hidden states in which responses to one prompt lie apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

NEAR = 0.99
"""A figure of a cut from this share of the best one's on is held to be as good."""

SAME = 0.9
"""Adjusted mutual information from which two cuts are one."""

FEW = 4
"""Restarts of K-means in each space that are enough where cuts are only held against others."""


@dataclass(frozen=True)
class Space:
    """A linear map of pooled hidden states.

    Attributes:
        places: of the numbers that it reads.
        centre: taken from them.
        axes: ``(len(places), dimensions)``.
    """

    places: slice
    centre: Tensor
    axes: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        return (features[:, self.places].double() - self.centre) @ self.axes


@dataclass(frozen=True)
class Cut:
    """Parts of a space.

    Attributes:
        space: where.
        means: ``(parts, dimensions)``, a point is of the part with the nearest.
    """

    space: Space
    means: Tensor

    @property
    def parts(self) -> int:
        """Their number."""
        return len(self.means)

    def __call__(self, features: Tensor) -> Tensor:
        """``(N,)``: the part of each."""
        return torch.cdist(self.space(features), self.means).argmin(1)


def spaces(
    features: Tensor,
    pairs: Tensor,
    contents: Tensor,
    sizes: Sequence[int],
    dimensions: Sequence[int],
    ridge: float,
    surface_penalty: float,
) -> Iterator[Space]:
    """Spaces of each layer, and at last of all layers together, brought to one scale.

    The axes are the generalised eigenvectors of the scatter within prompts against the total scatter, ``ridge``
    times its mean eigenvalue, and ``surface_penalty`` times the scatter of responses that say the same.

    Args:
        features: ``(N, sum(sizes))``, layer after layer.
        pairs: places of two responses to one prompt.
        contents: of each response, ``(N,)``.
        sizes: of the layers.
        dimensions: of the spaces.
        ridge: above 0.
        surface_penalty: at least 0.
    """
    same = pairs[contents[pairs[:, 0]] == contents[pairs[:, 1]]]
    layers = _layers(sizes)
    mean, centred, scale = _scaled(features, layers)
    for begin, end in [*layers, (0, layers[-1][1])]:
        x = centred[:, begin:end] / scale[begin:end]
        total = x.T @ x / len(x)
        noise = total + ridge * total.diagonal().mean() * torch.eye(len(total)).double()
        root = torch.linalg.cholesky(noise + surface_penalty * scatter(x, same))
        half = torch.linalg.solve_triangular(root, scatter(x, pairs), upper=False)
        whitened = torch.linalg.solve_triangular(root, half.T, upper=False)
        vectors = torch.linalg.eigh((whitened + whitened.T) / 2)[1].flip(-1)
        axes = torch.linalg.solve_triangular(root.T, vectors, upper=True) / scale[begin:end, None]
        for number in dimensions:
            yield Space(slice(begin, end), mean[begin:end], axes[:, :number])


def leading_cut(
    features: Tensor,
    pairs: Tensor,
    sizes: Sequence[int],
    dimensions: int,
    parts: int,
    restarts: int,
    seed: int,
) -> Cut:
    """K-means on the axes of the largest scatter within prompts, of all layers together, brought to one scale.

    Args:
        features: ``(N, sum(sizes))``, layer after layer.
        pairs: places of two responses to one prompt.
        sizes: of the layers.
        dimensions: axes.
        parts: of the cut.
        restarts: of K-means, the one that explains most is taken.
        seed: of K-means.
    """
    mean, centred, scale = _scaled(features, _layers(sizes))
    vectors = torch.linalg.eigh(scatter(centred / scale, pairs))[1].flip(-1)
    space = Space(slice(0, sum(sizes)), mean, vectors[:, :dimensions] / scale[:, None])
    return _k_means(space, space(features), parts, restarts, seed)[0]


def _layers(sizes: Sequence[int]) -> list[tuple[int, int]]:
    return list(pairwise(torch.tensor([0, *sizes]).cumsum(0).tolist()))


def _scaled(features: Tensor, layers: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Mean of the features, what is left of them, and of each number the root mean square of its layer."""
    mean = features.double().mean(0)
    centred = features.double() - mean
    scale = [centred[:, b:e].square().mean().sqrt().clamp(min=1e-12).expand(e - b) for b, e in layers]
    return mean, centred, torch.cat(scale)


def rival_cuts(
    features: Tensor,
    candidates: Sequence[Space],
    pairs: Tensor,
    contents: Tensor,
    parts: int,
    restarts: int,
    rivals: int,
    seed: int,
) -> list[Cut]:
    """The best cuts by K-means in any of the spaces, those that are not nearly the same as one before.

    They tell responses to one prompt :func:`apart` as well as the best one does, nearly, and of these their parts
    explain nearly as much of the scatter within prompts, :func:`explained` in the last of the spaces, as the first
    one's, which explain most.

    Args:
        features: ``(N, size)``.
        candidates: the spaces.
        pairs: places of two responses to one prompt.
        contents: of each response, ``(N,)``.
        parts: of a cut.
        restarts: of K-means in each space.
        rivals: cuts at most.
        seed: of K-means.
    """
    widest = candidates[-1](features)
    found: list[tuple[float, float, Cut, Tensor]] = []
    for space in candidates:
        points = space(features)
        for restart in range(restarts):
            cut, z = _k_means(space, points, parts, 1, seed * restarts + restart)
            found.append((apart(z, contents, pairs), explained(z, widest, pairs, parts), cut, z))
    best = max(told for told, _, _, _ in found)
    good = sorted((f for f in found if f[0] >= NEAR * best), key=lambda f: -f[1])
    most = good[0][1]
    kept: list[tuple[Cut, Tensor]] = []
    for _, share, cut, z in good:
        if share >= NEAR * most and all(agreement(z, other) < SAME for _, other in kept):
            kept.append((cut, z))
    return [cut for cut, _ in kept[:rivals]]


def agreement(z: Tensor, other: Tensor) -> float:
    """Adjusted mutual information of two cuts ``(N,)``, 0 by chance and 1 where they are one [Vinh et al. 2010]."""
    from sklearn.metrics import adjusted_mutual_info_score  # 80 MiB and 2 s, for this alone

    return float(adjusted_mutual_info_score(z.numpy(), other.numpy()))


def _k_means(space: Space, points: Tensor, parts: int, restarts: int, seed: int) -> tuple[Cut, Tensor]:
    """A cut of a space and the parts of its points, the best of several starts."""
    from sklearn.cluster import KMeans  # as above
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than parts
        means = KMeans(parts, n_init=restarts, random_state=seed).fit(points.numpy())
    cut = Cut(space, torch.from_numpy(means.cluster_centers_).to(points))
    return cut, torch.from_numpy(means.labels_).long()


def scatter(x: Tensor, pairs: Tensor) -> Tensor:
    """Covariance of what differs between two of a pair, ``E[(x - x')(x - x')^T] / 2``; zero without pairs."""
    differ = x[pairs[:, 0]] - x[pairs[:, 1]]
    return differ.T @ differ / 2 / max(len(differ), 1)


def apart(z: Tensor, contents: Tensor, pairs: Tensor) -> float:
    """``P(z != z', c != c') (1 - P(z != z' | c = c') / P(z != z'))`` over pairs: told apart by what is said."""
    first, second = pairs.T
    differ, same = z[first] != z[second], contents[first] == contents[second]
    share = float(differ.double().mean())
    if share == 0:
        return 0.0
    by_surface = float(differ[same].double().mean()) if same.any() else 0.0
    return float((differ & ~same).double().mean()) * max(0.0, 1 - by_surface / share)


def explained(z: Tensor, points: Tensor, pairs: Tensor, parts: int) -> float:
    """Share of the scatter within prompts that is the parts', were their means the same on every prompt."""
    differ = points[pairs[:, 0]] - points[pairs[:, 1]]
    one_hot = torch.eye(parts, dtype=points.dtype)[z]
    signs = one_hot[pairs[:, 0]] - one_hot[pairs[:, 1]]
    means = torch.linalg.lstsq(signs, differ, driver="gelsd").solution
    return 1 - float((differ - signs @ means).square().sum() / differ.square().sum().clamp(min=1e-12))
