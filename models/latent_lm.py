"""The factorised language model: p(y|x) = sum_z p(z|x) p(y|x,z) as a Pyro program."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyro
from torch import Tensor, nn

from .backbone import BASE, Backbone
from .batch import Batch
from .conditioning import Conditioning
from .generation import RESPONSE, Generation, generate
from .language_model import LanguageModel, Warp
from .latents import Latent
from .memory import Memory
from .pretrained import (
    CONFIG,
    WEIGHTS,
    describe,
    load_pretrained,
    trainable_state,
    write_atomic,
    write_tensors,
)
from .program import law_of_backbone
from .prompt import EncodedPrompt, encode_prompt
from .routers import Router
from .spec import spec_of, target_of
from .template import Template


class LatentLM(nn.Module):
    """A causal LM with latent strategies.

    The generative program is

        z_i ~ p(z_i | x)   for each latent i,        y ~ p(y | x, z_1, z_2, ...)

    with one plate ``data`` at dimension -1. Latents are independent given x; other structures are programs of
    the user's own.

    Args:
        backbone: the LM and its roles.
        latents: families by site name.
        router: makes ``p(z|x)`` of one latent.
        conditioning: makes the way one latent enters the decoder.
        template: makes what stands around x, z and y; nothing where not given.

    Raises:
        ValueError: no latent, or one named ``y`` or ``data``.
    """

    def __init__(
        self,
        backbone: Backbone,
        latents: Mapping[str, Latent],
        router: Callable[[Backbone, Latent], Router],
        conditioning: Callable[[Backbone, Latent], Conditioning],
        template: Callable[[Backbone], Template] = Template,
    ) -> None:
        super().__init__()
        self._factories: dict[str, Any] = {
            "router": router,
            "conditioning": conditioning,
            "template": template,
        }
        if not latents or {RESPONSE, "data"} & set(latents):
            raise ValueError(f"model: expected named latents, none called y or data; got {sorted(latents)}")
        self.backbone = backbone
        self.latents = dict(latents)
        self.routers = nn.ModuleDict({name: router(backbone, latent) for name, latent in latents.items()})
        self.conditionings = nn.ModuleDict(
            {name: conditioning(backbone, latent) for name, latent in latents.items()}
        )
        self.template = template(backbone)

    def set_strength(self, strength: float) -> None:
        """How strongly every latent acts; 1 as trained, 0 for p0."""
        for conditioning in self.conditionings.values():
            assert isinstance(conditioning, Conditioning)
            conditioning.strength = strength

    @property
    def is_base(self) -> bool:
        """Whether all conditioning is switched off, so that the decoder is p0."""
        return all(conditioning.strength == 0 for conditioning in self.conditionings.values())

    def router(self, batch: Batch) -> dict[str, pyro.distributions.TorchDistribution]:
        """``p(z|x)`` of each latent."""
        batch = batch.shared()
        return {name: router(batch) for name, router in self.routers.items()}

    def encode(self, batch: Batch) -> EncodedPrompt:
        """The prompts as the decoder reads them, for all strategies at once."""
        if self.is_base:
            return encode_prompt(self.backbone, BASE, batch.prompt, batch.prompt_mask)
        return encode_prompt(
            self.backbone, "decoder", batch.prompt, batch.prompt_mask, self.template.around_prompt()
        )

    def memory(self, z: Mapping[str, Tensor]) -> Memory:
        """What values of the latents add to the decoder's context."""
        parts = [conditioning(z[name]) for name, conditioning in self.conditionings.items()]
        memory = Memory.cat(parts)
        return memory if self.is_base else self.template.around_slot(memory)

    def context(self, batch: Batch, z: Mapping[str, Tensor]) -> Memory:  # noqa: ARG002
        """All that the decoder is given beside the prompts: the memory of z, of which no batch has more to say here.

        A model that is told more of a response than its prompt takes it from the batch.
        """
        return self.memory(z)

    def decoder(
        self,
        batch: Batch,
        z: Mapping[str, Tensor],
        prompt: EncodedPrompt | None = None,
        warp: Warp | None = None,
    ) -> LanguageModel:
        """``p(y|x,z)``, of the batch shape of z broadcast with ``(B,)``."""
        return LanguageModel(
            self.backbone,
            prompt or self.encode(batch),
            self.context(batch, z),
            batch.max_length,
            batch.response_mask,
            warp,
        )

    def base(self, batch: Batch, warp: Warp | None = None) -> LanguageModel:
        """``p0(y|x)``, the law that is factorised."""
        return law_of_backbone(self.backbone, batch, warp)

    def model(self, batch: Batch) -> Tensor:
        """The generative program; y is observed where the batch has a response, else sampled."""
        with pyro.plate("data", len(batch), dim=-1):
            z = {name: pyro.sample(name, law) for name, law in self.router(batch).items()}
            return pyro.sample(RESPONSE, self.decoder(batch, z), obs=batch.response)

    forward = model

    def generate(self, prompts: str | Sequence[str], z: Any = None, **settings: Any) -> list[Generation]:
        """Responses to one prompt or several; see :func:`stratagem.models.generation.generate`."""
        return generate(self, [prompts] if isinstance(prompts, str) else prompts, z, **settings)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write what was trained, and the base by name: ``config.json`` and ``model.safetensors``.

        Raises:
            ValueError: a part that was made by a function and not by a class, so that it cannot be built
                again.
        """
        node = {"_target_": target_of(type(self)), "latents": spec_of(self.latents)}
        node |= {name: spec_of(factory) for name, factory in self._factories.items()}
        about = describe(self.backbone, node, None)
        write_tensors(Path(folder) / WEIGHTS, trainable_state({"model": self}))
        write_atomic(Path(folder) / CONFIG, json.dumps(about, indent=2).encode())

    @classmethod
    def from_pretrained(cls, run: str | Path, **settings: Any) -> Self:
        """The model of a run, or of a folder made by :meth:`save_pretrained`.

        Further arguments are those of :func:`stratagem.models.pretrained.load_pretrained`.
        """
        model, _ = load_pretrained(run, **settings)
        if not isinstance(model, cls):
            raise ValueError(f"run={run}: holds a {type(model).__name__}, expected a {cls.__name__}")
        return model
