"""What is diagnosed: a latent model and its guide, and held-out data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from torch import nn

from ...models import Generation, LatentProgram, generate
from ...tasks import Task
from ..data import Data
from ..dataset import Dataset, make_dataset
from ..evaluation import Posteriors, on_base, posteriors
from ..evaluation.values import Values, values_of
from ..randomness import seeded

CENTRES = 4
"""Clusters of a continuous latent where no task says how many strategies there are."""

ROWS = 8
"""Responses for each datum of a batch that are generated at once; under fewer values of z, more data are."""


@dataclass(frozen=True)
class Subject:
    """A model, its guide, and responses of the base to held-out prompts.

    Attributes:
        model: the latent model.
        guide: its guide.
        data: prompts, each with a response drawn from the base.
        seen: what model, guide and base say of these.
        max_new_tokens: of a response.
        seed: of all draws.
        batch_size: data at a time.
        task: whose prompts they are, where its strategies are known.
        paraphrases: of the prompts the same in other words, by prompt; those that the user has given.
    """

    model: LatentProgram
    guide: nn.Module
    data: Dataset
    seen: Posteriors
    max_new_tokens: int
    seed: int = 0
    batch_size: int = 64
    task: Task | None = None
    paraphrases: dict[str, str] = field(default_factory=dict)

    @property
    def enumerable(self) -> bool:
        """Whether z takes finitely many values, so that sums over it are exact."""
        return self.seen.exact

    @cached_property
    def values(self) -> Values | None:
        """All joint values of enumerable latents, centres of clusters of continuous ones; None for both together."""
        number = CENTRES if self.task is None else len(self.task.strategies)
        return values_of(self.seen, number, self.model.latents)

    @cached_property
    def forced(self) -> list[list[Generation]]:
        """One sampled response to every prompt under each of :attr:`values`: P lists of N; empty without values.

        In the order of their ``posterior``, of several latents the first changing fastest.
        """
        return self._forced(1.0, 10)

    @cached_property
    def greedy(self) -> list[list[Generation]]:
        """As :attr:`forced`, each token the likeliest."""
        return self._forced(0.0, 11)

    @cached_property
    def sampled(self) -> list[Generation]:
        """A response to every prompt with z drawn from the router: N draws from the model itself."""
        return self.generated(None, 1.0, 3)

    def generated(self, z: object, temperature: float, draw: int) -> list[Generation]:
        """Responses to every prompt, prompt by prompt; the same for the same ``draw``."""
        out: list[Generation] = []
        every = 1 if z != "all" or self.seen.posterior is None else self.seen.posterior.shape[1]
        size = max(1, self.batch_size * ROWS // every)
        with seeded(self.seed + 7919 * draw, self.model.backbone.device):
            for start in range(0, len(self.data), size):
                part = self.data.examples[start : start + size]
                out += generate(
                    self.model, part, z, max_new_tokens=self.max_new_tokens, temperature=temperature
                )
        return out

    def _forced(self, temperature: float, draw: int) -> list[list[Generation]]:
        if self.values is None:
            return []
        given = self.values.given
        every = [self.generated(z, temperature, draw + 2 * k) for k, z in enumerate(given)]
        if self.values.centres:
            return every
        P = self.values.posterior.shape[1]
        return [every[0][k::P] for k in range(P)]


def subject(
    model: LatentProgram,
    guide: nn.Module,
    data: Data,
    seed: int,
    cache: Path,
    batch_size: int = 64,
    limit: int = 300,
    paraphrases: dict[str, str] | None = None,
) -> Subject:
    """The subject on held-out prompts, with the same responses of the base that the evaluation is on.

    Arguments as those of :func:`..evaluation.evaluate`, and those of :class:`Subject`.
    """
    test = on_base(model, make_dataset(model.backbone, data, "test", seed, cache), data, seed, cache, limit)
    with seeded(seed, model.backbone.device):
        seen = posteriors(model, guide, test, batch_size, tokens=True)
    return Subject(
        model, guide, test, seen, data.max_new_tokens, seed, batch_size, data.task, paraphrases or {}
    )


def on_same_data(first: Subject, model: LatentProgram, guide: nn.Module) -> Subject:
    """Another model and guide on the data of ``first``, with the same draws."""
    with seeded(first.seed, model.backbone.device):
        seen = posteriors(model, guide, first.data, first.batch_size, tokens=True)
    return replace(first, model=model, guide=guide, seen=seen)
