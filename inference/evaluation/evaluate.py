"""The four properties of a factorisation: fidelity, use, meaning, skill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ...models import Example, LatentLM
from ...models.generation import Generation, generate
from ...models.text import decode
from ...tasks import Task
from ..data import Data
from ..dataset import Dataset, make_dataset, sample_base
from ..randomness import seeded
from .clusters import clusters
from .fidelity import fidelity
from .meaning import output_figures, posterior_figures
from .posteriors import Posteriors, posteriors
from .routing import routing
from .skill import skill
from .use import VERDICTS, use


@dataclass(frozen=True)
class Evaluation:
    """Figures by name, and what they were made of.

    Attributes:
        figures: a flat mapping of names to numbers; see ``docs/evaluation.md``.
        data: held-out prompts with responses drawn from the base.
        on_base: model, guide and base on them.
    """

    figures: dict[str, float]
    data: Dataset
    on_base: Posteriors

    @property
    def verdict(self) -> str:
        """``used``, ``weak`` or ``collapsed``."""
        return VERDICTS[int(self.figures["use/verdict"])]


def evaluate(
    model: LatentLM,
    guide: nn.Module,
    data: Data,
    seed: int,
    cache: Path,
    batch_size: int = 64,
    limit: int = 300,
) -> Evaluation:
    """The figures of the four properties on held-out prompts.

    Fidelity and use are on responses drawn afresh from the base. Meaning and skill need a task with known
    strategies; meaning needs latents that are all enumerable or all continuous, of which then finitely many values
    are clusters' centres; the calibration of the router needs enumerable ones.

    Args:
        model: the latent model.
        guide: its guide.
        data: where prompts come from.
        seed: of the draws.
        cache: folder for the base's responses.
        batch_size: data at a time.
        limit: held-out prompts at most.
    """
    test = on_base(model, make_dataset(model.backbone, data, "test", seed, cache), data, seed, cache, limit)
    with seeded(seed, model.backbone.device):
        seen = posteriors(model, guide, test, batch_size)
        figures = fidelity(seen) | use(seen)
        if data.task is not None:
            figures |= _task_figures(model, data, data.task, test, seen, seed, batch_size)
    return Evaluation(figures, test, seen)


def _task_figures(
    model: LatentLM,
    data: Data,
    task: Task,
    test: Dataset,
    seen: Posteriors,
    seed: int,
    batch_size: int,
) -> dict[str, float]:
    """Meaning, calibration of the router, and skill."""
    prompts, length = test.prompts, data.max_new_tokens
    sampled = [g.text for g in _generate(model, prompts, None, length, batch_size)]
    figures: dict[str, float] = {}
    usage = np.zeros(0)
    forced: list[list[str]] = []
    posterior = seen.posterior
    values: list[Any] = ["all"]
    if seen.draws is not None and all(site.is_floating_point() for site in seen.draws.values()):
        found = clusters(seen.draws, len(task.strategies))
        posterior, values = found.posterior, found.values
        figures["meaning/clusters"] = float(len(values))
    if posterior is not None:
        usage = posterior.mean(0).numpy()
        forced = _forced(model, prompts, values, length, batch_size, temperature=1.0)
        greedy = _forced(model, prompts, values, length, batch_size, temperature=0.0)
        chance = [_base_outputs(model, test, length, seed + 1 + k) for k in range(len(forced))]
        for suffix, outputs in (("", forced), ("_greedy", greedy), ("_chance", chance)):
            figures |= output_figures(task, prompts, outputs, usage, suffix)
        figures |= posterior_figures(task, prompts, test.responses, posterior)
    if seen.amortized is not None:
        figures |= posterior_figures(task, prompts, test.responses, seen.amortized, "_amortized")
    if seen.router is not None:
        figures |= routing(task, prompts, forced, seen.router)
    base = _base_outputs(model, test, length, seed + 1000)
    return figures | skill(task, prompts, sampled, base, forced, usage.tolist())


def on_base(model: LatentLM, test: Dataset, data: Data, seed: int, cache: Path, limit: int) -> Dataset:
    """The distinct held-out prompts, at most ``limit``, each with one response from the base."""
    first: dict[tuple[int, ...], int] = {}
    for i, example in enumerate(test.examples):
        first.setdefault(example.prompt, i)
    index = list(first.values())[:limit]
    prompts = [Example(test.examples[i].prompt) for i in index]
    path = cache / f"evaluation-{seed}-{len(prompts)}-{data.max_new_tokens}.jsonl"
    ids = sample_base(model.backbone, prompts, data.max_new_tokens, seed + 1, path)
    return Dataset(
        [Example(example.prompt, row) for example, row in zip(prompts, ids, strict=True)],
        [test.prompts[i] for i in index],
        [decode(model.backbone, row) for row in ids],
        test.pad_id,
    )


def _generate(
    model: LatentLM, prompts: Sequence[str], z: object, length: int, size: int, temperature: float = 1.0
) -> list[Generation]:
    out: list[Generation] = []
    for start in range(0, len(prompts), size):
        part = prompts[start : start + size]
        out += generate(model, part, z, max_new_tokens=length, temperature=temperature)
    return out


def _forced(
    model: LatentLM, prompts: Sequence[str], values: Sequence[Any], length: int, size: int, temperature: float
) -> list[list[str]]:
    """For each z that ``values`` names the N outputs."""
    out = []
    for z in values:
        every = _generate(model, prompts, z, length, size, temperature)
        named = len(every) // len(prompts)
        out += [[g.text for g in every[k::named]] for k in range(named)]
    return out


def _base_outputs(model: LatentLM, data: Dataset, length: int, seed: int) -> list[str]:
    ids = sample_base(model.backbone, data.examples, length, seed)
    return [decode(model.backbone, row) for row in ids]
