"""Small models with every kind of latents, and programs of a user's own, for the tests of inference data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from stratagem.guides import AmortizedGuide
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    KeyValuePrefix,
    LanguageModel,
    Latent,
    LatentLM,
    Memory,
    Normal,
    PooledRouter,
    encode_prompt,
)
from torch import nn

from .fit_fixtures import tiny_backbone

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz

az: Any = arviz

OLD = az.__version__.startswith("0.")

plot_posterior: Callable[..., Any] = az.plot_posterior if OLD else az.plot_dist

KINDS: dict[str, dict[str, Latent]] = {
    "categorical": {"z": Categorical(3)},
    "two": {"a": Categorical(3), "b": Categorical(2)},
    "normal": {"z": Normal(2)},
    "mixed": {"z": Categorical(3), "style": Normal(2)},
}

EXACT, SAMPLED = ("categorical", "two"), ("normal", "mixed")


def latent_lm(kind: str, seed: int = 1) -> tuple[LatentLM, AmortizedGuide]:
    """A model and its guide, away from their start: a seed makes another of either, on the same base."""
    torch.manual_seed(seed)
    entry = partial(KeyValuePrefix, length=2, init_scale=1.0)
    model = LatentLM(tiny_backbone(), KINDS[kind], PooledRouter, entry)
    guide = AmortizedGuide(model)
    return shaken(model), shaken(guide)


def shaken(module: Any) -> Any:
    """With its heads away from zero."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.requires_grad and "conditionings" not in name:
                weight.normal_(0, 0.05)
    return module


class Families(nn.Module):
    """A program of a user's own: a family, and a strategy whose law depends on it, with names that axes have too."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.latents: dict[str, Latent] = {"strategy": Categorical(2), "joint": Categorical(3)}
        self.family = nn.Parameter(torch.tensor([0.2, -0.4]))
        self.variant = nn.Parameter(torch.tensor([[0.5, 0.0, -0.5], [-1.0, 0.3, 0.9]]))
        self.entries = nn.ModuleDict({k: KeyValuePrefix(backbone, v) for k, v in self.latents.items()})

    def forward(self, batch: Batch) -> Any:
        prompt = encode_prompt(self.backbone, "decoder", batch.prompt, batch.prompt_mask)
        with pyro.plate("data", len(batch), dim=-1):
            family = pyro.sample("strategy", dist.Categorical(logits=self.family))
            variant = pyro.sample("joint", dist.Categorical(logits=self.variant[family]))
            memory = Memory.cat([self.entries["strategy"](family), self.entries["joint"](variant)])
            law = LanguageModel(self.backbone, prompt, memory, batch.max_length, batch.response_mask)
            return pyro.sample("y", law, obs=batch.response)


VALUES = 3


def saying(batch: Batch) -> None:
    """A program that is a plain function: z by the prompt's last token, and a response that says z twice."""
    law = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])[batch.prompt[:, -1] % 2]
    with pyro.plate("data", len(batch), dim=-1):
        z = pyro.sample("z", dist.Categorical(law))
        tokens = nn.functional.one_hot(z, VALUES).double()[..., None, :].expand(*z.shape, 2, VALUES)
        pyro.sample("y", dist.Categorical(tokens).to_event(1), obs=batch.response)


def hearing(batch: Batch) -> None:
    """Its guide, which takes one response in ten for another."""
    assert batch.response is not None
    heard = nn.functional.one_hot(batch.response[:, 0], VALUES) * 0.85 + 0.05
    with pyro.plate("data", len(batch), dim=-1):
        pyro.sample("z", dist.Categorical(heard))


@contextmanager
def quiet(*messages: str) -> Iterator[None]:
    """Without the warnings of other libraries that begin like this."""
    with warnings.catch_warnings():
        for message in messages:
            warnings.filterwarnings("ignore", message=message)
        yield


def groups(inference_data: Any) -> dict[str, Any]:
    """The groups by name, in either release of ArviZ."""
    names = inference_data.groups() if OLD else inference_data.children
    return {name: inference_data[name] for name in names}
