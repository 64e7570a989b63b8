"""The four properties of a factorisation: fidelity, use, meaning, skill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ...models import Example, LatentProgram, generate
from ...models.text import decode
from ..data import Data
from ..dataset import Dataset, cache_path, make_dataset, sample_base
from ..randomness import seeded
from .fidelity import fidelity
from .posteriors import ROWS, Posteriors, posteriors
from .skill import OfBase
from .task_figures import Forced, task_figures
from .use import VERDICTS, use
from .values import Values, values_of


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
    model: LatentProgram,
    guide: nn.Module,
    data: Data,
    seed: int,
    cache: Path,
    batch_size: int = 64,
    limit: int = 300,
    draws: int = 4,
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
        draws: responses to each prompt by which skill is told; of one each, 300 prompts leave an error of 0.01.
    """
    test = on_base(model, make_dataset(model.backbone, data, "test", seed, cache), data, seed, cache, limit)
    with seeded(seed, model.backbone.device):
        seen = posteriors(model, guide, test, batch_size)
        figures = fidelity(seen) | use(seen)
        if (task := data.task) is not None:
            length = data.max_new_tokens
            sampled = [_texts(model, test.prompts, None, length, batch_size) for _ in range(draws)]
            values = values_of(seen, len(task.strategies), model.latents)
            forced = (
                None if values is None else _forced(model, test.prompts, values, length, batch_size, draws)
            )
            base = [OfBase(test.responses, None if values is None else values.posterior)]
            base += [
                _of_base(model, guide, test, length, seed + 1000 + n, batch_size, seen.exact)
                for n in range(1, draws)
            ]
            figures |= task_figures(task, model.backbone, test, seen, sampled, forced, base, length, seed)
    return Evaluation(figures, test, seen)


def on_base(model: LatentProgram, test: Dataset, data: Data, seed: int, cache: Path, limit: int) -> Dataset:
    """The distinct held-out prompts, at most ``limit``, each with one response from the base.

    Where all have one prompt, as texts without a prompt have, there is a response for each of the data.
    """
    first: dict[tuple[int, ...], int] = {}
    for i, example in enumerate(test.examples):
        first.setdefault(example.prompt, i)
    index = [*(first.values() if len(first) > 1 else range(len(test)))][:limit]
    prompts = [Example(test.examples[i].prompt) for i in index]
    length, own = data.max_new_tokens, seed + 1
    path = cache_path(cache, "evaluation", model.backbone, prompts, length, own)
    ids = sample_base(model.backbone, prompts, length, own, path)
    return Dataset(
        [Example(example.prompt, row) for example, row in zip(prompts, ids, strict=True)],
        [test.prompts[i] for i in index],
        [decode(model.backbone, row) for row in ids],
        test.pad_id,
    )


def _of_base(
    model: LatentProgram, guide: nn.Module, data: Dataset, length: int, seed: int, size: int, exact: bool
) -> OfBase:
    """Further responses of the base to the prompts of the data, with the posterior where z can be summed over."""
    ids = sample_base(model.backbone, data.examples, length, seed)
    texts = [decode(model.backbone, row) for row in ids]
    if not exact:
        return OfBase(texts)
    examples = [Example(e.prompt, row) for e, row in zip(data.examples, ids, strict=True)]
    seen = posteriors(model, guide, Dataset(examples, data.prompts, texts, data.pad_id), size)
    return OfBase(texts, seen.posterior)


def _forced(
    model: LatentProgram, prompts: Sequence[str], values: Values, length: int, size: int, draws: int
) -> Forced:
    def under_each(temperature: float) -> list[list[str]]:
        return [
            texts
            for z in values.given
            for texts in _by_value(_texts(model, prompts, z, length, size, temperature), len(prompts))
        ]

    sampled = [under_each(1.0) for _ in range(draws)]
    return Forced(values, [list(of_value) for of_value in zip(*sampled, strict=True)], under_each(0.0))


def _texts(
    model: LatentProgram, prompts: Sequence[str], z: object, length: int, size: int, temperature: float = 1.0
) -> list[str]:
    """Prompt by prompt, then value by value; of all values as many rows at once as scoring has."""
    if z == "all":
        size = min(
            size, max(1, size * ROWS // math.prod(latent.num_values for latent in model.latents.values()))
        )
    out: list[str] = []
    for start in range(0, len(prompts), size):
        part = prompts[start : start + size]
        found = generate(model, part, z, max_new_tokens=length, temperature=temperature)
        out += [generation.text for generation in found]
    return out


def _by_value(texts: list[str], prompts: int) -> list[list[str]]:
    named = len(texts) // prompts
    return [texts[k::named] for k in range(named)]
