"""Meaning, calibration of the router, and skill: what can be said where the strategies of a task are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...models import Backbone
from ...models.text import decode
from ...tasks import Task
from ..dataset import Dataset, sample_base
from .meaning import output_figures, posterior_figures
from .posteriors import Posteriors
from .routing import routing
from .skill import OfBase, skill
from .values import Values


@dataclass(frozen=True)
class Forced:
    """Texts under each of P values of the latents.

    Attributes:
        values: which, and how much each is used.
        sampled: of each value draws from the model, each of N texts.
        greedy: of each value N texts, each token the likeliest.
    """

    values: Values
    sampled: list[list[list[str]]]
    greedy: list[list[str]]


def task_figures(
    task: Task,
    backbone: Backbone,
    data: Dataset,
    seen: Posteriors,
    sampled: Sequence[Sequence[str]],
    forced: Forced | None,
    base: Sequence[OfBase],
    length: int,
    seed: int,
) -> dict[str, float]:
    """The figures under the names of ``docs/evaluation.md``, those of forced z where there are values to force.

    Args:
        task: whose prompts they are.
        backbone: the LM, for responses of the base beside those of the model.
        data: N prompts, each with a response of the base.
        seen: what model and guide say of them.
        sampled: draws of N texts with z from the router; skill is told by all of them.
        forced: texts under each value; None where the latents have no finitely many values to be forced to.
        base: draws of the base, by which its skill is told.
        length: tokens of a response at most.
        seed: of the base's responses that stand for chance.
    """
    prompts = data.prompts
    figures: dict[str, float] = {}
    texts: list[list[str]] = []
    usage: list[float] = []
    if forced is not None:
        texts, posterior = [draws[0] for draws in forced.sampled], forced.values.posterior
        share = posterior.mean(0).numpy()
        usage = share.tolist()
        if forced.values.centres:
            figures["meaning/clusters"] = float(len(texts))
        chance = [_base_texts(backbone, data, length, seed + 1 + k) for k in range(len(texts))]
        for suffix, outputs in (("", texts), ("_greedy", forced.greedy), ("_chance", chance)):
            figures |= output_figures(task, prompts, outputs, share, suffix)
        figures |= posterior_figures(task, prompts, data.responses, posterior)
    if seen.amortized is not None:
        figures |= posterior_figures(task, prompts, data.responses, seen.amortized, "_amortized")
    if seen.router is not None:
        figures |= routing(task, prompts, texts, seen.router)
    return figures | skill(task, prompts, sampled, base, [] if forced is None else forced.sampled, usage)


def _base_texts(backbone: Backbone, data: Dataset, length: int, seed: int) -> list[str]:
    return [decode(backbone, ids) for ids in sample_base(backbone, data.examples, length, seed)]
