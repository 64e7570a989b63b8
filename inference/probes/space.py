"""The texts of a run as points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...models import Latent, LatentProgram
from ...models.generation import in_order
from ..data import Data
from ..dataset import Dataset, make_dataset
from ..evaluation.evaluate import on_base
from ..evaluation.posteriors import Posteriors, posteriors
from ..labels import UNKNOWN, labels_of
from ..randomness import seeded
from .coder import Coder
from .model_coder import ModelCoder

"""The label of a datum of which a name is not known."""


@dataclass(frozen=True)
class Space:
    """Held-out texts with their points.

    Attributes:
        points: mean features of the latents under the guide, ``(N, D)``.
        coordinates: names of the D columns.
        data: prompts, with responses drawn from the base.
        labels: of each name that is known, a word for each datum; :data:`UNKNOWN` where it is not known.
        coder: the model and the guide, for probes that decode; None where there are points alone.
    """

    points: np.ndarray
    coordinates: list[str]
    data: Dataset
    labels: Mapping[str, list[str]]
    coder: Coder | None = None

    def known(self) -> dict[str, list[str]]:
        """The labels with two values or more.

        Raises:
            ValueError: none.
        """
        found = {n: words for n, words in self.labels.items() if len(set(words) - {UNKNOWN}) > 1}
        if not found:
            raise ValueError(
                "probe: the data have no label with two values or more; give columns of the file as labels=[NAME], or "
                "probe a run on a task"
            )
        return found


def space_of(
    model: LatentProgram,
    guide: nn.Module,
    data: Data,
    seed: int,
    cache: Path,
    batch_size: int,
    limit: int,
    names: Sequence[str] = (),
) -> Space:
    """The space of a run.

    Args:
        model: the latent model.
        guide: its guide.
        data: that it was fitted on.
        seed: of the draws.
        cache: folder of the base's responses.
        batch_size: data at a time.
        limit: data at most.
        names: labels; of a task its strategy and nuisance where not given.

    Raises:
        ValueError: a name that the data do not have.
    """
    test = on_base(model, make_dataset(model.backbone, data, "test", seed, cache), data, seed, cache, limit)
    labels = labels_named(test, data, names)
    with seeded(seed, model.backbone.device):
        seen = posteriors(model, guide, test, batch_size)
    return space_on(model, guide, test, data, seen, labels, batch_size)


def labels_named(test: Dataset, data: Data, names: Sequence[str] = ()) -> dict[str, list[str]]:
    """The labels of a space by name; of a task its strategy and nuisance where no name is given.

    Raises:
        ValueError: a name that the data do not have.
    """
    wanted = list(names) or (["strategy", "nuisance"] if data.task is not None else [])
    return {name: labels_of(test, data, name) for name in wanted}


def space_on(
    model: LatentProgram,
    guide: nn.Module,
    test: Dataset,
    data: Data,
    seen: Posteriors,
    labels: Mapping[str, list[str]],
    batch_size: int,
) -> Space:
    """The space of texts whose posteriors are known.

    Args:
        model: the latent model.
        guide: its guide.
        test: the texts.
        data: that they are of.
        seen: what model and guide say of them.
        labels: of each name, a word for each text.
        batch_size: data at a time.
    """
    latents = in_order(model, test.batch([0]).to(model.backbone.device))
    parts = _mean_features(seen, latents)
    coordinates = [f"{name}[{d}]" for name, part in parts.items() for d in range(part.shape[1])]
    points = torch.cat(list(parts.values()), 1).double().numpy()
    return Space(points, coordinates, test, labels, ModelCoder(model, guide, test, data, seen, batch_size))


@torch.no_grad()
def _mean_features(seen: Posteriors, latents: Mapping[str, Latent]) -> dict[str, Tensor]:
    if seen.amortized is None:
        assert seen.draws is not None
        return {name: latents[name].features(draws).mean(0) for name, draws in seen.draws.items()}
    out, z = {}, torch.arange(seen.amortized.shape[1])
    for name, latent in latents.items():
        out[name] = seen.amortized @ latent.features(z % latent.num_values)
        z = z // latent.num_values
    return out
