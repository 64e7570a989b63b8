"""A partition by clusters of the base's hidden states."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from sklearn.cluster import KMeans
from torch import Tensor
from torch.nn.functional import one_hot

from ...models import Backbone, Reader
from ...models.backbone import BASE
from ..dataset import Dataset
from ..randomness import seeded
from .companions import companions, contents, prompt_dependence
from .cut import Cut, best_cut, spaces
from .partition import Assign, Partition
from .transfer import match

log = logging.getLogger(__name__)

LEAST_KIND = 0.1
"""Share of the prompts that a kind must have to be cut by itself."""

LEAST_PART = 25
"""Responses for each part that a kind must have, likewise."""


class HiddenStates(Partition):
    """K-means on what of the base's hidden states differs between responses to one prompt.

    A model that writes out a strategy has to know it while it writes: its hidden states say which. They also say what
    the prompt is and what the surface looks like. With several responses to each prompt these come apart:
    the cut is made in spaces, :func:`~.cut.spaces`, in which responses to one prompt that say different things lie
    far from each other and those that say the same do not [discriminant analysis, Fisher 1936; within-class covariance
    normalisation, Hatch et al. 2006]. Two responses say the same where all tokens agree whose law depends on the
    prompt, :func:`~.companions.prompt_dependence`.

    Where prompts are of two kinds, hidden states may name the parts by what they look like, and not by what they do.
    Each kind is therefore cut by itself, and the parts matched by the decoder, :func:`~.transfer.match`.

    Args:
        prompts: of the data, that the cut is found on.
        responses: to each of them, at least 2.
        kinds: of prompts, by 2-means and so on of their own hidden states; 1 to cut all at once.
        others: prompts that a token's law is compared under.
        threshold: bits of dependence on the prompt, below which a token is surface.
        ridge: see :func:`~.cut.spaces`.
        surface_penalty: likewise.
        dimensions: of the spaces, in multiples of the number of parts.
        restarts: of K-means in each space.
        steps: of the fit that matches kinds.
        lr: its learning rate.

    Raises:
        ValueError: a setting out of range; fewer than two distinct prompts.
    """

    def __init__(
        self,
        prompts: int = 400,
        responses: int = 4,
        kinds: int = 2,
        others: int = 3,
        threshold: float = 0.1,
        ridge: float = 0.5,
        surface_penalty: float = 10.0,
        dimensions: Sequence[int] = (2, 3, 4),
        restarts: int = 3,
        steps: int = 60,
        lr: float = 0.03,
    ) -> None:
        for name, value, least in (
            ("prompts", prompts, 2),
            ("responses", responses, 2),
            ("kinds", kinds, 1),
            ("others", others, 1),
            ("dimensions", min(dimensions, default=0), 1),
            ("restarts", restarts, 1),
            ("steps", steps, 1),
        ):
            if value < least:
                raise ValueError(f"partition hidden_states: {name} must be at least {least}, got {value}")
        if not (0 <= threshold < 1 and ridge > 0 and surface_penalty >= 0 and lr > 0):
            raise ValueError(
                "partition hidden_states: expected threshold in [0, 1), ridge and lr above 0 and surface_penalty at "
                f"least 0, got {threshold}, {ridge}, {lr} and {surface_penalty}"
            )
        self.prompts, self.responses, self.kinds = prompts, responses, kinds
        self.others, self.threshold, self.ridge, self.surface_penalty = (
            others,
            threshold,
            ridge,
            surface_penalty,
        )
        self.dimensions, self.restarts, self.steps, self.lr = tuple(dimensions), restarts, steps, lr

    def fit(self, backbone: Backbone, data: Dataset, parts: int, seed: int) -> Assign:
        found = companions(backbone, data, self.prompts, self.responses, seed)
        dependence = prompt_dependence(backbone, found, self.others, seed)
        said = contents(found, dependence, self.threshold)
        readers = {
            name: Reader(backbone, BASE, 1, pooling, 0, name == "response", every_layer=True).to(
                backbone.device
            )
            for name, pooling in (("prompt", "last"), ("response", "mean"))
        }
        if len(found.data) < 2 * parts:
            raise ValueError(
                f"partition hidden_states: {len(found.data)} responses cannot be cut into {parts} parts; give more "
                "prompts, or take the term distillation out with ~inference.terms.distillation"
            )
        features, asked = (pooled(readers[name], found.data) for name in ("response", "prompt"))
        least = max(LEAST_KIND * len(asked), LEAST_PART * parts)
        kinds = self.kinds if len(asked) >= self.kinds * least else 1
        kind_of = kinds_of(asked, kinds, seed, least)
        kind = kind_of(asked)
        dimensions = [multiple * parts for multiple in self.dimensions]
        cuts: list[Cut] = []
        for k in range(int(kind.max()) + 1):
            mine = kind == k
            place = mine.cumsum(0) - 1
            pairs = place[found.same_prompt[mine[found.same_prompt[:, 0]]]]
            candidates = spaces(
                features[mine],
                pairs,
                said[mine],
                backbone.layer_sizes,
                dimensions,
                self.ridge,
                self.surface_penalty,
            )
            cut, told = best_cut(
                features[mine], list(candidates), pairs, said[mine], parts, self.restarts, seed
            )
            log.info("partition: %s responses of one kind of prompts told apart: %.3f", int(mine.sum()), told)
            cuts.append(cut)
        z = part_of(cuts, features, kind)
        names = torch.arange(parts)[None]
        if len(cuts) > 1:
            names = match(backbone, found.data, z, kind, parts, self.steps, self.lr, seed)

        def assign(dataset: Dataset) -> Tensor:
            kind = kind_of(pooled(readers["prompt"], dataset))
            z = part_of(cuts, pooled(readers["response"], dataset), kind)
            return one_hot(names[kind, z], parts).float()

        return assign


def kinds_of(
    asked: Tensor, kinds: int, seed: int, least: float, dimensions: int = 16
) -> Callable[[Tensor], Tensor]:
    """From hidden states of prompts ``(N, size)`` to their kinds ``(N,)``: K-means on the leading principal components.

    One kind for all where one of them would have fewer than ``least`` of the N.
    """
    centre, scale = asked.mean(0), asked.std(0).clamp(min=1e-3 * float(asked.std()) + 1e-8)
    with seeded(seed, asked.device):
        axes = torch.pca_lowrank((asked - centre) / scale, min(dimensions, *asked.shape), niter=4)[2]

    def points(states: Tensor) -> Tensor:
        return ((states - centre) / scale) @ axes

    means = KMeans(kinds, n_init=5, random_state=seed).fit(points(asked).numpy())
    centres = torch.from_numpy(means.cluster_centers_)
    if torch.bincount(torch.from_numpy(means.labels_).long(), minlength=kinds).min() < least:
        centres = centres[:1]
    return lambda states: torch.cdist(points(states), centres.to(states)).argmin(1)


def part_of(cuts: Sequence[Cut], features: Tensor, kind: Tensor) -> Tensor:
    """``(N,)``: the part of each, by the cut of its kind."""
    each = torch.stack([cut(features) for cut in cuts])
    return each[kind, torch.arange(len(kind))]


def pooled(reader: Reader, data: Dataset, size: int = 64) -> Tensor:
    """What the reader pools of each datum, ``(N, size)``."""
    if reader.name in data.features:
        return data.features[reader.name]
    with torch.no_grad():
        parts = [reader.features(batch.to(reader.backbone.device)).cpu() for batch in data.batches(size)]
    return torch.cat(parts)
