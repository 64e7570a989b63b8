"""How early in the response the latent can be read, and whether it is the strategy or the nuisance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...models import Backbone, Capability, Latent, LatentProgram
from ...tasks import Task
from ..data import Data
from ..dataset import Dataset, make_dataset
from ..expectations import Enumerate
from ..log_quantities import xlogp
from ..terms.response import response_of
from .evaluate import on_base
from .meaning import ami, nuisance_labels, strategy_labels
from .statistics import mean_se
from .task_law import CHOICES, hold, task_law
from .use import WEAK

READINGS = ("neither", "strategy", "nuisance", "both")

DECODED = 0.2
"""Adjusted mutual information with the likeliest z from which z carries the strategy, or the nuisance."""


@dataclass(frozen=True)
class Positions:
    """What the first t tokens of a response tell, t = 0 ... T.

    Attributes:
        columns: ``(T + 1,)`` each, by name; ``tokens``, the first, is t. See ``docs/evaluation.md``.
        figures: the same in a few numbers, by name.
    """

    columns: dict[str, Tensor]
    figures: dict[str, float]

    @property
    def reading(self) -> str | None:
        """What z carries, one of :data:`READINGS`; None without a task with known strategies."""
        place = self.figures.get("position/reading")
        return None if place is None else READINGS[int(place)]


def position(
    model: LatentProgram,
    guide: nn.Module,
    data: Data,
    seed: int,
    cache: Path,
    batch_size: int = 64,
    limit: int = 300,
) -> Positions:
    """The curves over the held-out prompts and the responses of the base that the evaluation is on.

    Arguments as those of :func:`.evaluate.evaluate`.

    Raises:
        ValueError: latents that cannot be enumerated.
    """
    check_latents(model.latents)
    test = on_base(model, make_dataset(model.backbone, data, "test", seed, cache), data, seed, cache, limit)
    return positions(model, guide, test, data.task, batch_size)


def check_latents(latents: Mapping[str, Latent]) -> None:
    """Refuse latents whose posterior given a prefix is no finite sum.

    Raises:
        ValueError: names the latent.
    """
    for name, latent in latents.items():
        if Capability.ENUMERABLE not in latent.capabilities:
            raise ValueError(
                f"position: latent {name} ({type(latent).__name__}) cannot be enumerated, and p(z|x,y_<=t) is a sum "
                "over its values; expected categorical latents, such as fit has with latent@latents.z=categorical"
            )


def positions(
    model: LatentProgram, guide: nn.Module, data: Dataset, task: Task | None, batch_size: int = 64
) -> Positions:
    """The curves of enumerable latents over responses, and those of the task's own law where there is a task.

    Args:
        model: the latent model.
        guide: its guide, which has no part in the curves.
        data: prompts and responses.
        task: whose prompts they are.
        batch_size: data at a time.
    """
    return curves(prefix_posterior(model, guide, data, batch_size), model.backbone, data, task)


def curves(log_posterior: Tensor, backbone: Backbone, data: Dataset, task: Task | None) -> Positions:
    """As :func:`positions`, of what :func:`prefix_posterior` has given of the same data."""
    columns, told = _information(log_posterior)
    figures = {"position/information": float(columns["information"][-1])}
    if told:
        figures["position/information_half"] = half(columns["information"])
    if task is not None:
        z = log_posterior.argmax(0).numpy()  # (N, T + 1)
        found = strategy_labels(task, data.prompts, data.responses), nuisance_labels(task, data.responses)
        for choice, labels in zip(CHOICES, found, strict=True):
            if (labels >= 0).any():
                columns[f"{choice}_ami"] = _ami_by_tokens(labels, z)
        columns |= task_law(backbone, task, data.prompts)
        figures |= _choices(columns, told)
    length = max(map(len, columns.values()))
    tokens = torch.arange(length)
    lengths = torch.tensor([len(example.response) for example in data.examples])
    counts = (lengths >= tokens[:, None]).sum(1)
    held = {name: hold(column, length) for name, column in columns.items()}
    return Positions({"tokens": tokens, "data": counts, **held}, figures)


@torch.no_grad()
def prefix_posterior(model: LatentProgram, guide: nn.Module, data: Dataset, batch_size: int = 64) -> Tensor:
    """``log p(z|x,y_<=t)``, t = 0 ... T, ``(P, N, T + 1)``; a response that has ended keeps its last."""
    length = max(len(example.response) for example in data.examples)
    parts = []
    for batch in data.batches(batch_size):
        log = Enumerate()(model, guide, batch.to(model.backbone.device))
        log_p = response_of(log).log_p
        padded = F.pad(log_p, (0, length - log_p.shape[-1]))
        parts.append(after_tokens(log.log_prior.double(), padded.double()).cpu())
    return torch.cat(parts, 1)


def after_tokens(log_prior: Tensor, log_p: Tensor) -> Tensor:
    """``log p(z|x,y_<=t)``, t = 0 ... T, ``(P, B, T + 1)``, by Bayes' rule.

    Args:
        log_prior: ``log p(z|x)``, ``(P, B)``.
        log_p: ``log p(y_t|x,z,y_<t)``, ``(P, B, T)``, 0 at padding.
    """
    return (log_prior[..., None] + F.pad(log_p.cumsum(-1), (1, 0))).log_softmax(0)


def half(curve: Tensor) -> float:
    """The least t at which the curve has reached half of what it ends with."""
    return float((curve >= curve[-1] / 2).nonzero()[0])


def _information(log_posterior: Tensor) -> tuple[dict[str, Tensor], bool]:
    """The information of z, and whether at the end it is anything beside the router's entropy, its most."""
    log_prior = log_posterior[..., :1]
    information = xlogp(log_posterior, log_posterior - log_prior).sum(0)  # (N, T + 1)
    means, errors = zip(*map(mean_se, information.T), strict=True)
    entropy = -xlogp(log_prior, log_prior).sum(0).mean()
    told = means[-1] >= WEAK * float(entropy) > 0
    columns = {"information": means, "information_se": errors}
    return {name: torch.tensor(found, dtype=torch.float64) for name, found in columns.items()}, told


def _ami_by_tokens(labels: np.ndarray, z: np.ndarray) -> Tensor:
    """Of labels ``(N,)``, -1 for none, with values ``(N, T + 1)``."""
    known = labels >= 0
    return torch.tensor([ami(labels[known], column) for column in z[known].T], dtype=torch.float64)


def _choices(columns: Mapping[str, Tensor], told: bool) -> dict[str, float]:
    """What z carries of strategy and nuisance, and how early it can be read.

    Where z is collapsed it carries nothing, whatever its likeliest value goes along with.
    """
    figures, carried = {}, {}
    for choice in CHOICES:
        law = columns[f"{choice}_information"]
        if law[-1] > 1e-9:
            figures[f"position/{choice}_law_half"] = half(law)
        if f"{choice}_ami" in columns:
            curve = columns[f"{choice}_ami"]
            carried[choice] = told and float(curve[-1]) >= DECODED
            figures[f"position/{choice}"] = float(curve[-1])
            if carried[choice]:
                figures[f"position/{choice}_half"] = half(curve)
    if len(carried) == len(CHOICES):
        figures["position/reading"] = float(carried["strategy"] + 2 * carried["nuisance"])
    return figures
