"""A partition by clusters of the base's hidden states."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import one_hot

from ...models import Backbone, BackboneReader
from ...models.backbone import BASE
from ..dataset import Dataset
from .companions import companions
from .cut import apart, rival_cuts, spaces
from .partition import Assign, Partition
from .referee import referee
from .surface import contents, interchangeable, prompt_dependence

log = logging.getLogger(__name__)


class HiddenStates(Partition):
    """K-means on what of the base's hidden states differs between responses to one prompt.

    A model that writes out a strategy has to know it while it writes: its hidden states say which. They also say what
    the prompt is and what the surface looks like. With several responses to each prompt these come apart:
    the cut is made in spaces, :func:`~.cut.spaces`, in which responses to one prompt that say different things lie
    far from each other and those that say the same do not [discriminant analysis, Fisher 1936; within-class covariance
    normalisation, Hatch et al. 2006]. Two responses say the same where all tokens agree but those whose law does not
    depend on the prompt, :func:`~.surface.prompt_dependence`, and those that may change places throughout,
    :func:`~.surface.interchangeable`. Several cuts may part the responses to each prompt equally well and differ in
    what they name alike on different prompts: among these the decoder chooses, :func:`~.referee.referee`.

    Args:
        prompts: of the data, that the cut is found on.
        responses: to each of them, at least 2.
        others: prompts that a token's law is compared under.
        threshold: bits of dependence on the prompt, below which a token is surface.
        ridge: see :func:`~.cut.spaces`.
        surface_penalty: likewise.
        dimensions: of the spaces, in multiples of the number of parts.
        restarts: of K-means in each space.
        rivals: cuts that are as good by themselves, of which the decoder chooses, :func:`~.referee.referee`.
        steps: of the fits that it chooses by.
        fits: for each two cuts.

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
        if not (0 <= threshold < 1 and ridge > 0 and surface_penalty >= 0):
            raise ValueError(
                "partition hidden_states: expected threshold in [0, 1), ridge above 0 and surface_penalty at least 0, "
                f"got {threshold}, {ridge} and {surface_penalty}"
            )
        self.prompts, self.responses, self.others, self.threshold = prompts, responses, others, threshold
        self.ridge, self.surface_penalty = ridge, surface_penalty
        self.dimensions, self.restarts, self.rivals = tuple(dimensions), restarts, rivals
        self.steps, self.fits = steps, fits

    def fit(self, backbone: Backbone, data: Dataset, parts: int, seed: int) -> Assign:
        device = backbone.device
        found = companions(backbone, data, self.prompts, self.responses, seed)
        dependence = prompt_dependence(backbone, found, self.others, seed)
        said = contents(found, dependence, interchangeable(backbone, found), self.threshold)
        if len(found.data) < 2 * parts:
            raise ValueError(
                f"partition hidden_states: {len(found.data)} responses cannot be cut into {parts} parts; give more "
                "prompts, or take the term distillation out with ~inference.terms.distillation"
            )
        reader = BackboneReader(backbone, BASE, 1, "mean", 0, True, every_layer=True).to(device)
        features = found.data.pooled(reader, device)
        candidates = spaces(
            features,
            found.same_prompt,
            said,
            backbone.layer_sizes,
            [multiple * parts for multiple in self.dimensions],
            self.ridge,
            self.surface_penalty,
        )
        pairs = found.same_prompt
        cuts = rival_cuts(features, list(candidates), pairs, said, parts, self.restarts, self.rivals, seed)
        labels = [cut(features) for cut in cuts]
        best = referee(backbone, found.data, labels, parts, self.steps, self.fits, seed)
        cut = cuts[best]
        log.info(
            "partition: %s responses told apart: %.3f; cut %s of %s",
            len(features),
            apart(labels[best], said, pairs),
            best + 1,
            len(cuts),
        )

        def assign(dataset: Dataset) -> Tensor:
            return one_hot(cut(dataset.pooled(reader, device)), parts).float()

        return assign
