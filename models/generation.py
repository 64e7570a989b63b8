"""Responses under a chosen strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor

from .annotations import annotation_ids
from .backbone import Backbone
from .batch import Batch, Example, collate
from .language_model import LanguageModel, Warp, warper
from .latents import Capability, Latent
from .program import LatentProgram
from .text import check_length, decode, encode

RESPONSE = "y"
"""Name of the site of the response."""


@dataclass(frozen=True)
class Generation:
    """One response.

    Attributes:
        prompt: the text given, or that of the tokens given.
        z: the value of each latent.
        router: ``p(z|x)`` of those values, the density for a continuous latent.
        text: the response.
    """

    prompt: str
    z: dict[str, Any]
    router: float
    text: str


def generate(
    model: LatentProgram,
    prompts: Sequence[str | Example],
    z: Any = None,
    n: int = 1,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
    annotations: Sequence[str] | None = None,
) -> list[Generation]:
    """``n`` responses to each prompt: for each value of the latents that ``z`` names, or with z from the router.

    Prompt by prompt, then value by value, then draw by draw.

    Args:
        model: the latent model, :class:`.LatentLM` or a program of the user's own.
        prompts: texts, at least one; or their tokens, after which a response ends where the context does.
        z: None to draw from the router; ``"all"`` for every value of enumerable latents, the first latent
            changing fastest; else the value of the only latent, or a mapping from names to values.
        n: responses for each prompt and value.
        max_new_tokens: of a response.
        temperature: 0 is greedy.
        top_p: mass of the tokens kept.
        annotations: labels of the tokens to come, the first of them first, for a model that is told them; the tokens
            after the last have none.

    Raises:
        ValueError: an empty or too long prompt, a z out of range or unknown, a setting out of range, or annotations
            that the model does not know.
    """
    if n < 1 or max_new_tokens < 1:
        raise ValueError(f"n and max_new_tokens must be at least 1, got {n} and {max_new_tokens}")
    warp = warper(temperature, top_p)
    examples = [_example(model.backbone, prompt, max_new_tokens) for prompt in prompts]
    batch = (
        collate(examples, model.backbone.pad_id).to(model.backbone.device).without_response(max_new_tokens)
    )
    if annotations:
        names = getattr(model, "annotations", None)
        if names is None:
            raise ValueError(
                f"annotations={list(annotations)}: {type(model).__name__} is told none; fit with model=annotated"
            )
        ids = torch.tensor(annotation_ids(names, annotations), device=batch.prompt.device)
        batch = replace(batch, annotations=ids.expand(len(batch), -1))
    values = values_of(model.latents if z != "all" else in_order(model, batch), z)
    given = {
        name: v.to(model.backbone.device).repeat_interleave(n, 0) for name, v in (values or {}).items()
    }  # (V n, 1, *event)
    rows = next((len(v) for v in given.values()), n)
    with torch.no_grad(), _Warped(warp), pyro.plate("draws", rows, dim=-2):
        trace = poutine.trace(poutine.condition(model, data=given)).get_trace(batch)
        sites = {name: trace.nodes[name] for name in model.latents}
        log_router = sum(
            (site["fn"].log_prob(site["value"]).expand(rows, len(batch)) for site in sites.values()),
            torch.zeros((), device=batch.prompt.device),
        )
    drawn = trace.nodes[RESPONSE]["value"]
    out = []
    for b, prompt in enumerate(prompts):
        for i in range(rows):
            row = {
                name: _plain(site["value"][i, b if site["value"].shape[1] > 1 else 0])
                for name, site in sites.items()
            }
            text = decode(model.backbone, drawn[i, b].tolist())
            said = prompt if isinstance(prompt, str) else decode(model.backbone, prompt.prompt)
            out.append(Generation(said, row, float(log_router[i, b].exp()), text))
    return out


def _example(backbone: Backbone, prompt: str | Example, max_new_tokens: int) -> Example:
    if isinstance(prompt, Example):
        return Example(prompt.prompt)
    example = encode(backbone, prompt)
    check_length(backbone, example, max_new_tokens)
    return example


def in_order(model: LatentProgram, batch: Batch) -> dict[str, Latent]:
    """The latents in the order in which the program draws them."""
    if len(model.latents) == 1:
        return dict(model.latents)
    with torch.no_grad():
        trace = poutine.trace(model).get_trace(batch.without_response(1))
    return {name: model.latents[name] for name in trace.nodes if name in model.latents}


class _Warped(Messenger):
    """Responses are drawn from warped logits."""

    def __init__(self, warp: Warp | None) -> None:
        super().__init__()
        self.warp = warp

    def _pyro_sample(self, msg: Any) -> None:
        if isinstance(msg["fn"], LanguageModel):
            msg["fn"] = msg["fn"].warped(self.warp)


def values_of(latents: Mapping[str, Latent], z: Any) -> dict[str, Tensor] | None:
    """Values by name, each ``(V, 1, *event)``; None to draw them."""
    if z is None:
        return None
    if z == "all":
        wrong = [name for name, latent in latents.items() if Capability.ENUMERABLE not in latent.capabilities]
        if wrong:
            raise ValueError(f"z=all: latent {wrong[0]} cannot be enumerated; give a value or leave z out")
        sizes = [latent.num_values for latent in latents.values()]
        grid = torch.cartesian_prod(*map(torch.arange, reversed(sizes)))
        columns = reversed(grid.reshape(len(grid), -1).unbind(1))
        return {name: column[:, None] for name, column in zip(latents, columns, strict=True)}
    if not isinstance(z, Mapping):
        if len(latents) > 1:
            raise ValueError(
                f"z={z}: the model has latents {', '.join(latents)}; give a value for each by name"
            )
        z = {next(iter(latents)): z}
    if set(z) != set(latents):
        raise ValueError(f"z: expected values for {', '.join(latents)}, got {', '.join(map(str, z))}")
    out = {}
    for name, latent in latents.items():
        try:
            value = torch.as_tensor(z[name])
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"z={z[name]}: expected a number, a list of numbers, all, or nothing to draw it"
            ) from None
        shape = latent.law(torch.zeros(latent.num_parameters)).event_shape
        if value.shape != shape:
            wanted = f"{shape.numel()} numbers" if shape else "a number"
            raise ValueError(f"z={z[name]}: expected {wanted} for latent {name}")
        latent.features(value)
        out[name] = value[None, None]
    return out


def _plain(value: Tensor) -> Any:
    return value.item() if value.dim() == 0 else [round(x, 6) for x in value.tolist()]
