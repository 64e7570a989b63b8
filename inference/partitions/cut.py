"""K-means in spaces of hidden states, and what it is worth."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .spaces import Sample, Space

NEAR = 0.99
"""A figure of a cut from this share of the best one's on is held to be as good."""

SAME = 0.9
"""Adjusted mutual information from which two cuts are one."""

FEW = 4
"""Restarts of K-means in each space that are enough where cuts are only held against others."""


@dataclass(frozen=True)
class Cut:
    """Parts of a space.

    Attributes:
        space: where.
        means: ``(M, dimensions)``, a point is of the part of the nearest.
        names: ``(M,)``, the part of each mean; None where each is a part of its own.
    """

    space: Space
    means: Tensor
    names: Tensor | None = None

    @property
    def parts(self) -> int:
        """Their number."""
        return len(self.means) if self.names is None else int(self.names.max()) + 1

    def __call__(self, features: Tensor) -> Tensor:
        """``(N,)``: the part of each."""
        nearest = torch.cdist(self.space(features), self.means).argmin(1)
        return nearest if self.names is None else self.names[nearest]


def rival_cuts(
    sample: Sample, candidates: Sequence[Space], parts: int, restarts: int, rivals: int, seed: int
) -> list[Cut]:
    """The best cuts by K-means in any of the spaces, those that are not nearly the same as one before.

    They tell responses to one prompt :func:`apart` as well as the best one does, nearly, and of these their parts
    explain nearly as much of the scatter within prompts, :func:`explained` in the last of the spaces, as the first
    one's, which explain most.

    Args:
        sample: the responses.
        candidates: the spaces.
        parts: of a cut.
        restarts: of K-means in each space.
        rivals: cuts at most.
        seed: of K-means.
    """
    features, pairs = sample.features, sample.pairs
    widest = candidates[-1](features)
    found: list[tuple[float, float, Cut, Tensor]] = []
    for space in candidates:
        points = space(features)
        for restart in range(restarts):
            cut, z = _k_means(space, points, parts, 1, seed * restarts + restart)
            found.append((apart(z, sample.contents, pairs), explained(z, widest, pairs, parts), cut, z))
    best = max(told for told, _, _, _ in found)
    good = sorted((f for f in found if f[0] >= NEAR * best), key=lambda f: -f[1])
    most = good[0][1]
    kept: list[tuple[Cut, Tensor]] = []
    for _, share, cut, z in good:
        if share >= NEAR * most and all(agreement(z, other) < SAME for _, other in kept):
            kept.append((cut, z))
    return [cut for cut, _ in kept[:rivals]]


def k_means(sample: Sample, space: Space, parts: int, restarts: int, seed: int) -> Cut:
    """The cut of a space that explains most, of several starts."""
    return _k_means(space, space(sample.features), parts, restarts, seed)[0]


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
