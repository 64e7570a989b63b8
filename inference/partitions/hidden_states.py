"""A partition by clusters of the base's hidden states."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache, partial
from math import isnan, nan

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ...models import Backbone, BackboneReader
from ...models.backbone import BASE
from ..dataset import Dataset
from .companions import companions
from .cut import FEW, Cut, apart, k_means, rival_cuts
from .merging import merged
from .parsimony import fewest_parts
from .partition import Assign, Partition
from .referee import referee
from .spaces import Sample, Space, leading_space, spaces
from .steadiness import FEWEST, found_again
from .surface import contents, interchangeable, prompt_dependence

log = logging.getLogger(__name__)

FINEST = 8
"""Parts that are tried at most where fewer are not found again."""


class HiddenStates(Partition):
    """K-means on what of the base's hidden states differs between responses to one prompt.

    A model that writes out a strategy has to know it while it writes: its hidden states say which. They also say what
    the prompt is and what the surface looks like. With several responses to each prompt these come apart:
    the cut is made in spaces, :func:`~.spaces.spaces`, in which responses to one prompt that say different things lie
    far from each other and those that say the same do not [discriminant analysis, Fisher 1936; within-class covariance
    normalisation, Hatch et al. 2006]. Two responses say the same where all tokens agree but those whose law does not
    depend on the prompt, :func:`~.surface.prompt_dependence`, and those that may change places throughout,
    :func:`~.surface.interchangeable`. Several cuts may part the responses to each prompt equally well and differ in
    what they name alike on different prompts: among these the decoder chooses, :func:`~.referee.referee`. Where fewer
    parts are enough, :func:`~.parsimony.fewest_parts`, the others have no response.

    A cut that is there is found on one half of the prompts as on the other, :func:`~.steadiness.found_again`. One into
    fewer parts than there are strategies may not be: a cut into more parts, up to :data:`FINEST`, is, and its
    parts are put together, :func:`~.merging.merged`. Free text has no such spaces: no two responses say the same, and
    every prompt differs. The cut is then made on the axes along which responses to one prompt differ most,
    :func:`~.spaces.leading_space`. Of all these the one is taken of which found again times :func:`~.cut.apart` is
    largest.

    Args:
        prompts: of the data, that the cut is found on.
        responses: to each of them, at least 2.
        others: prompts that a token's law is compared under.
        threshold: bits of dependence on the prompt, below which a token is surface.
        ridge: see :func:`~.spaces.spaces`.
        surface_penalty: likewise.
        dimensions: of the spaces, in multiples of the number of parts.
        restarts: of K-means in each space.
        rivals: cuts that are as good by themselves, of which the decoder chooses, :func:`~.referee.referee`.
        steps: of the fits that it chooses by.
        fits: for each two cuts.
        steady: adjusted mutual information of the cuts of two halves of the prompts from which a cut is found again;
            fewer than 64 prompts are not asked.
        enough: share of what the best number of parts tells apart, from which fewer are enough; null for all parts.

    Raises:
        ValueError: a setting out of range; fewer than two distinct prompts.
    """

    def __init__(
        self,
        prompts: int = 400,
        responses: int = 4,
        others: int = 3,
        threshold: float = 0.1,
        ridge: float = 0.5,
        surface_penalty: float = 10.0,
        dimensions: Sequence[int] = (2, 3, 4),
        restarts: int = 12,
        rivals: int = 6,
        steps: int = 60,
        fits: int = 3,
        steady: float = 0.4,
        enough: float | None = 0.99,
    ) -> None:
        for name, value, least in (
            ("prompts", prompts, 2),
            ("responses", responses, 2),
            ("others", others, 1),
            ("dimensions", min(dimensions, default=0), 1),
            ("restarts", restarts, 1),
            ("rivals", rivals, 1),
            ("steps", steps, 1),
            ("fits", fits, 1),
        ):
            if value < least:
                raise ValueError(f"partition hidden_states: {name} must be at least {least}, got {value}")
        if not (0 <= threshold < 1 and ridge > 0 and surface_penalty >= 0 and 0 <= steady <= 1):
            raise ValueError(
                "partition hidden_states: expected threshold in [0, 1), ridge above 0, surface_penalty at least 0 and "
                f"steady in [0, 1], got {threshold}, {ridge}, {surface_penalty} and {steady}"
            )
        if enough is not None and not 0 < enough <= 1:
            raise ValueError(f"partition hidden_states: expected enough in (0, 1], or null, got {enough}")
        self.prompts, self.responses, self.others, self.threshold = prompts, responses, others, threshold
        self.ridge, self.surface_penalty = ridge, surface_penalty
        self.dimensions, self.restarts, self.rivals = tuple(dimensions), restarts, rivals
        self.steps, self.fits, self.steady, self.enough = steps, fits, steady, enough

    def fit(self, backbone: Backbone, data: Dataset, parts: int, seed: int) -> Assign:
        device = backbone.device
        found = companions(backbone, data, self.prompts, self.responses, seed)
        dependence = prompt_dependence(backbone, found, self.others, seed)
        symbols = interchangeable(backbone, found)
        said = contents(found, dependence, symbols, self.threshold)
        if len(found.data) < 2 * parts:
            raise ValueError(
                f"partition hidden_states: {len(found.data)} responses cannot be cut into {parts} parts; give more "
                "prompts, or take the term distillation out with ~inference.terms.distillation"
            )
        reader = BackboneReader(backbone, BASE, 1, "mean", 0, True, every_layer=True).to(device)
        features = found.data.pooled(reader, device)
        written = contents(found, [torch.ones_like(d) for d in dependence], symbols, 0.0)
        sample = Sample(features, found.same_prompt, said, backbone.layer_sizes, found.responses)
        cuts, again, how = self.cuts(sample, written, parts, seed)
        labels = [cut(features) for cut in cuts]
        best = referee(backbone, found.data, labels, cuts[0].parts, self.steps, self.fits, seed)
        cut = cuts[best]
        log.info(
            "partition: %s responses told apart: %.3f; %s parts, cut %s of %s %s, found again on other prompts: %s",
            len(features),
            apart(labels[best], said, sample.pairs),
            cut.parts,
            best + 1,
            len(cuts),
            how,
            "too few to ask" if isnan(again) else f"{again:.3f}",
        )

        def assign(dataset: Dataset) -> Tensor:
            return one_hot(cut(dataset.pooled(reader, device)), parts).float()

        return assign

    def cuts(self, sample: Sample, written: Tensor, parts: int, seed: int) -> tuple[list[Cut], float, str]:
        """Rival cuts, how far the like of them is found again on other prompts, nan for too few, and where they lie.

        Args:
            sample: the responses.
            written: ``(N,)``, what each says where only symbols that may change places are surface.
            parts: of a cut, at most.
            seed: of K-means.
        """

        @cache
        def widest(some: Sample) -> list[Space]:
            return spaces(some, max(self.dimensions) * parts, self.ridge, self.surface_penalty)

        @cache
        def leading(some: Sample) -> Space:
            return leading_space(some, parts)

        def candidates(number: int, some: Sample) -> list[Space]:
            return [space.first(multiple * number) for space in widest(some) for multiple in self.dimensions]

        def rivals(number: int, restarts: int, some: Sample) -> list[Cut]:
            return rival_cuts(some, candidates(number, some), number, restarts, self.rivals, seed)

        def finer(number: int, share: float) -> tuple[list[Cut], float, str]:
            where = f"in spaces that part responses to one prompt, of {number} parts put together"
            return rivals(number, self.restarts, sample), share, where

        def put_together(found: tuple[list[Cut], float, str]) -> tuple[list[Cut], float, str]:
            cuts, share, where = found
            points = candidates(cuts[0].parts, sample)[-1](sample.features)
            return [merged(cut, sample, points, parts) for cut in cuts], share, where

        def along(axes: int, some: Sample) -> list[Cut]:
            return [k_means(some, leading(some).first(axes), parts, self.restarts, seed)]

        def worth(found: tuple[list[Cut], float, str]) -> float:
            cuts, share, _ = found
            return share * apart(cuts[0](sample.features), written, sample.pairs)

        needed = parts
        if self.enough is not None:
            needed = fewest_parts(lambda number: rivals(number, FEW, sample), sample, parts, self.enough)
        cuts, how = rivals(needed, self.restarts, sample), "in spaces that part responses to one prompt"
        if len(sample) < max(FEWEST, 2 * parts) * sample.responses:
            return cuts, nan, how
        tried = [(cuts, found_again(partial(rivals, needed, FEW), sample), how)]
        if tried[0][1] < self.steady:
            again = {n: found_again(partial(rivals, n, FEW), sample) for n in range(parts + 1, FINEST + 1)}
            steady = [finer(n, share) for n, share in again.items() if share >= self.steady]
            tried += [put_together(max(steady, key=worth))] if steady else []
            for axes in range(1, parts + 1):
                find = partial(along, axes)
                tried.append((find(sample), found_again(find, sample), f"along {axes} leading axes"))
        return max(tried, key=worth)
