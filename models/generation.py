"""Responses under a chosen strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .batch import collate
from .language_model import warper
from .latents import Capability, Latent
from .text import check_length, decode, encode

if TYPE_CHECKING:
    from .latent_lm import LatentLM


@dataclass(frozen=True)
class Generation:
    """One response.

    Attributes:
        prompt: the text given.
        z: the value of each latent.
        router: ``p(z|x)`` of those values, the density for a continuous latent.
        text: the response.
    """

    prompt: str
    z: dict[str, Any]
    router: float
    text: str


def generate(
    model: LatentLM,
    prompts: Sequence[str],
    z: Any = None,
    n: int = 1,
    max_new_tokens: int = 64,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> list[Generation]:
    """``n`` responses to each prompt: for each value of the latents that ``z`` names, or with z from the router.

    Prompt by prompt, then value by value, then draw by draw.

    Args:
        model: the latent model.
        prompts: texts, at least one.
        z: None to draw from the router; ``"all"`` for every value of enumerable latents, the first latent
            changing fastest; else the value of the only latent, or a mapping from names to values.
        n: responses for each prompt and value.
        max_new_tokens: of a response.
        temperature: 0 is greedy.
        top_p: mass of the tokens kept.

    Raises:
        ValueError: an empty or too long prompt, a z out of range or unknown, or a setting out of range.
    """
    if n < 1 or max_new_tokens < 1:
        raise ValueError(f"n and max_new_tokens must be at least 1, got {n} and {max_new_tokens}")
    warp = warper(temperature, top_p)
    examples = [encode(model.backbone, prompt) for prompt in prompts]
    for example in examples:
        check_length(model.backbone, example, max_new_tokens)
    batch = (
        collate(examples, model.backbone.pad_id).to(model.backbone.device).without_response(max_new_tokens)
    )
    with torch.no_grad():
        laws = model.router(batch)
        values = _values(model.latents, z)
        if values is None:
            drawn = {name: law.sample((n,)) for name, law in laws.items()}  # (n, B)
        else:
            here = {name: v.to(model.backbone.device) for name, v in values.items()}
            drawn = {name: v.repeat_interleave(n, 0) for name, v in here.items()}  # (V n, 1)
        log_router = sum((law.log_prob(drawn[name]) for name, law in laws.items()), torch.zeros(()))
        ids = model.decoder(batch, drawn, warp=warp).expand(log_router.shape).sample()
    out = []
    for b, prompt in enumerate(prompts):
        for i in range(log_router.shape[0]):
            row = {name: _plain(v[i, b if v.shape[1] > 1 else 0]) for name, v in drawn.items()}
            text = decode(model.backbone, ids[i, b].tolist())
            out.append(Generation(prompt, row, float(log_router[i, b].exp()), text))
    return out


def _values(latents: Mapping[str, Latent], z: Any) -> dict[str, Tensor] | None:
    """Values by name, each ``(V, 1, *event)``; None to draw them."""
    if z is None:
        return None
    if z == "all":
        wrong = [name for name, latent in latents.items() if Capability.ENUMERABLE not in latent.capabilities]
        if wrong:
            raise ValueError(f"z=all: latent {wrong[0]} cannot be enumerated; give a value or leave z out")
        sizes = [latent.num_features for latent in latents.values()]
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
