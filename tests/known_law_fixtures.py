"""Latent models without weights, whose laws are those of a task given what z tells of strategy and nuisance."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from stratagem.inference.dataset import Dataset
from stratagem.models import Backbone, Batch, Categorical, LanguageModel, Latent
from stratagem.models.text import encode
from stratagem.tasks import Task
from torch import Tensor, nn

from .fit_fixtures import tiny_backbone

Given = Callable[[str, int, int], Tensor]
"""``p(z|x,s,n)``, ``(P,)``, from a prompt and the places of strategy and nuisance."""


class FiniteLaw(LanguageModel):
    """``p(y|x,z)`` over finitely many responses.

    Args:
        laws: for each of B data, ``p(y|x,z)``, ``(P,)``, by response.
        z: ``(*batch, B)`` or what broadcasts to it.
        mask: ``(B, T)`` of the observed value.
    """

    def __init__(
        self, laws: Sequence[Mapping[tuple[int, ...], Tensor]], z: Tensor, mask: Tensor | None
    ) -> None:
        self.laws, self.z, self.mask_of_value = laws, z, mask
        shape = torch.broadcast_shapes(z.shape, (len(laws),))
        TorchDistribution.__init__(self, shape, torch.Size((0,)), validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: LanguageModel | None = None) -> LanguageModel:
        assert _instance is None
        return FiniteLaw(self.laws, self.z.expand(batch_shape), self.mask_of_value)

    def token_log_probs(self, value: Tensor) -> Tensor:
        mask = self.mask_of(value)
        rows = [self._row(law, y[m].tolist()) for law, y, m in zip(self.laws, value, mask, strict=True)]
        table = torch.stack([nn.functional.pad(row, (0, value.shape[-1] - row.shape[-1])) for row in rows])
        return table[torch.arange(len(rows)), self.z]  # (*batch, B, T)

    def _row(self, law: Mapping[tuple[int, ...], Tensor], y: list[int]) -> Tensor:
        """``log p(y_t|x,z,y_<t)``, ``(P, t)``; what cannot be reached any more costs nothing more."""
        alike = [
            torch.stack([p for ids, p in law.items() if list(ids[:t]) == y[:t]]).sum(0)
            for t in range(len(y) + 1)
        ]
        mass = torch.stack(alike, 1)
        return torch.where(mass[:, :-1] > 0, (mass[:, 1:] / mass[:, :-1]).log(), 0.0)


class KnownLatents(nn.Module):
    """The task's own law, ``p(y|x) = sum_z p(z|x) p(y|x,z)``, cut by z as told.

    Args:
        task: the task.
        data: whose prompts batches index.
        backbone: whose tokens they are.
        given: what z is told.
        P: values of z.
    """

    latents: Mapping[str, Latent]

    def __init__(self, task: Task, data: Dataset, backbone: Backbone, given: Given, P: int) -> None:
        super().__init__()
        self.task, self.data, self.backbone = task, data, backbone
        self.given, self.latents = given, {"z": Categorical(P)}
        self.known: dict[str, dict[tuple[int, ...], Tensor]] = {}

    def joint(self, prompt: str) -> dict[tuple[int, ...], Tensor]:
        """``p(y,z|x)``, ``(P,)`` by response."""
        if prompt not in self.known:
            self.known[prompt] = self._joint(prompt)
        return self.known[prompt]

    def _joint(self, prompt: str) -> dict[tuple[int, ...], Tensor]:
        out: dict[tuple[int, ...], Tensor] = {}
        for s, p_s in self.task.admissible(prompt).items():
            for n, p_n in zip(self.task.nuisances, self.task.nuisance_weights, strict=True):
                ids = encode(self.backbone, prompt, self.task.trace(prompt, s, n)).response
                places = self.task.strategies.index(s), self.task.nuisances.index(n)
                out[ids] = out.get(ids, 0.0) + p_s * p_n * self.given(prompt, *places).double()
        return out

    def outputs(self, prompts: Sequence[str], seed: int = 0) -> list[list[str]]:
        """A response under each z to each prompt."""
        rng, out = random.Random(seed), []
        for k in range(self.latents["z"].num_features):
            laws = [{ids: float(p[k]) for ids, p in self.joint(prompt).items()} for prompt in prompts]
            drawn = [rng.choices(list(law), list(law.values()))[0] for law in laws]
            out.append([self.backbone.tokenizer.decode(ids, skip_special_tokens=True) for ids in drawn])
        return out

    def forward(self, batch: Batch) -> None:
        assert batch.index is not None
        joint = [self.joint(self.data.prompts[i]) for i in batch.index.tolist()]
        router = torch.stack([torch.stack(list(law.values())).sum(0) for law in joint])  # (B, P)
        laws = [
            {ids: torch.where(r > 0, p / r, 0.0) for ids, p in law.items()}
            for law, r in zip(joint, router, strict=True)
        ]
        with pyro.plate("data", len(batch), dim=-1):
            z = pyro.sample("z", dist.Categorical(router))
            pyro.sample("y", FiniteLaw(laws, z, batch.response_mask), obs=batch.response)


class Ignorant(nn.Module):
    """The uniform guide."""

    def __init__(self, P: int) -> None:
        super().__init__()
        self.P = P

    def forward(self, batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("z", dist.Categorical(torch.full((len(batch), self.P), 1 / self.P)))


def every_pair(task: Task, prompts: Sequence[str]) -> Dataset:
    """Each prompt with the response of each strategy in each nuisance: of equal weights, the task's law itself."""
    backbone = tiny_backbone(words=task.vocabulary)
    pairs = [(p, task.trace(p, s, n)) for p in prompts for s in task.admissible(p) for n in task.nuisances]
    examples = [encode(backbone, prompt, response) for prompt, response in pairs]
    return Dataset(examples, [p for p, _ in pairs], [r for _, r in pairs], backbone.pad_id)


def known(task: Task, prompts: Sequence[str], given: Given, P: int) -> tuple[KnownLatents, Ignorant, Dataset]:
    """A model and a guide with every pair."""
    data = every_pair(task, prompts)
    return KnownLatents(task, data, tiny_backbone(words=task.vocabulary), given, P), Ignorant(P), data


def one_hot(place: int, P: int) -> Tensor:
    """All of the probability at one value."""
    return nn.functional.one_hot(torch.tensor(place), P)
