"""Chains of latents: one for each layer of the decoder, or one for each segment of the response."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import pyro
import torch
from torch import Tensor, nn

from .backbone import Backbone
from .batch import Batch
from .carry import Carry
from .conditioning import Conditioning
from .generation import RESPONSE
from .language_model import LanguageModel
from .latents import Latent
from .memory import Memory
from .prompt import encode_prompt
from .routers import Router
from .template import Template


class Chain(nn.Module):
    """``p(z_0|x) p(z_1|x,z_0) ... p(y|x,z_0,z_1,...)``, latents of one family each with its own way into the decoder.

    The law of a latent is the router's, its parameters moved by a linear map of the features of those before it.

    Args:
        backbone: the LM and its roles.
        latents: the family, under the name that the sites get with their number: ``z0``, ``z1``, ...
        router: makes ``p(z_i|x)``, a law of the family.
        conditionings: make the way into the decoder of each latent in turn.
        template: makes what stands around x and y.
        reach: how many latents back a law looks; all where None.

    Raises:
        ValueError: another number of families than one, fewer latents than two, or a router whose law is a mixture.
    """

    def __init__(
        self,
        backbone: Backbone,
        latents: Mapping[str, Latent],
        router: Callable[[Backbone, Latent], Router],
        conditionings: Sequence[Callable[[Backbone, Latent], Conditioning]],
        template: Callable[[Backbone], Template],
        reach: int | None,
    ) -> None:
        super().__init__()
        number = len(conditionings)
        if len(latents) != 1 or number < 2:
            raise ValueError(
                f"model {type(self).__name__}: expected one family of latents and a chain of at least 2, got "
                f"{', '.join(latents)} and {number}"
            )
        ((name, latent),) = latents.items()
        self.backbone = backbone
        self.latents = {f"{name}{place}": latent for place in range(number)}
        self.routers = nn.ModuleDict({site: router(backbone, latent) for site in self.latents})
        for made in self.routers.values():
            if type(made).forward is not Router.forward:
                raise ValueError(
                    f"model {type(self).__name__}: the latents before move the parameters of a law of the family, and "
                    f"{type(made).__name__} makes a mixture of such laws; use router=pooled, learned, token or uniform"
                )
        self.conditionings = nn.ModuleDict(
            {site: make(backbone, latent) for site, make in zip(self.latents, conditionings, strict=True)}
        )
        self.template = template(backbone)
        self.carry = Carry([latent] * number, reach)

    def memory(self, z: Sequence[Tensor]) -> Memory:
        """What values of the latents, in the order of the chain, add to the decoder's context."""
        parts = [
            conditioning(value) for conditioning, value in zip(self.conditionings.values(), z, strict=True)
        ]
        return self.template.around_slot(Memory.cat(parts))

    def forward(self, batch: Batch) -> Tensor:
        """The generative program; y is observed where the batch has a response, else sampled."""
        prompt = encode_prompt(
            self.backbone, "decoder", batch.prompt, batch.prompt_mask, self.template.around_prompt()
        )
        z: list[Tensor] = []
        shared = batch.shared()
        with pyro.plate("data", len(batch), dim=-1):
            for site, latent in self.latents.items():
                router = self.routers[site]
                assert isinstance(router, Router)
                law = latent.law(self.carry(router.parameters_of(shared), z))
                z.append(pyro.sample(site, law))
            decoder = LanguageModel(
                self.backbone, prompt, self.memory(z), batch.max_length, batch.response_mask
            )
            return pyro.sample(RESPONSE, decoder, obs=batch.response)


class LayeredLM(Chain):
    """A latent for each layer, its law given those of the layers below [Hu, Yi et al. 2022, DELLA].

    Args:
        backbone, latents, router, template: as of a chain; as many latents as the LM has layers.
        conditioning: one that acts on single layers; ``tensor_product`` in the paper.

    Raises:
        ValueError: a conditioning without ``layers``.
    """

    def __init__(
        self,
        backbone: Backbone,
        latents: Mapping[str, Latent],
        router: Callable[[Backbone, Latent], Router],
        conditioning: Callable[..., Conditioning],
        template: Callable[[Backbone], Template] = Template,
    ) -> None:
        if "layers" not in inspect.signature(conditioning).parameters:
            raise ValueError(
                "model layered: the conditioning acts on all layers at once; use one with a setting layers: "
                "conditioning=tensor_product, residual, cross_attention, modulated_lora or lora_experts"
            )
        entries = [partial(conditioning, layers=[layer]) for layer in range(backbone.num_layers)]
        super().__init__(backbone, latents, router, entries, template, None)


class SegmentedLM(Chain):
    """A latent for each segment of the response, its law given that of the segment before: a Markov prior.

    The keys and values of a latent are seen from the first token of its segment on, those before it remaining in sight.

    Args:
        backbone, latents, router, template: as of a chain.
        conditioning: one of keys and values.
        segments: how many, at least 2; the last goes on to the end.
        length: of a segment in tokens, at least 1.

    Raises:
        ValueError: fewer or shorter segments, or a conditioning without keys and values.
    """

    def __init__(
        self,
        backbone: Backbone,
        latents: Mapping[str, Latent],
        router: Callable[[Backbone, Latent], Router],
        conditioning: Callable[..., Conditioning],
        template: Callable[[Backbone], Template] = Template,
        segments: int = 4,
        length: int = 8,
    ) -> None:
        if length < 1:
            raise ValueError(f"model segmented: length must be at least 1, got {length}")
        super().__init__(backbone, latents, router, [conditioning] * segments, template, 1)
        self.length = length
        for made in self.conditionings.values():
            assert isinstance(made, Conditioning)
            here = next(made.parameters()).device
            memory = made.memory(torch.zeros(made.latent.num_features, device=here))
            if (
                memory.key_values is None
                or memory.tokens is not None
                or memory.edits
                or memory.places is not None
            ):
                raise ValueError(
                    "model segmented: a latent enters by keys and values that are seen from its segment on; use "
                    "conditioning=prefix"
                )

    def memory(self, z: Sequence[Tensor]) -> Memory:
        parts = []
        for place, (conditioning, value) in enumerate(zip(self.conditionings.values(), z, strict=True)):
            part = conditioning(value)
            if part.bias is not None:
                part = replace(part, places=torch.full_like(part.bias, place * self.length))
            parts.append(part)
        return self.template.around_slot(Memory.cat(parts))
