"""``stratagem generate``: responses under a chosen strategy."""

from __future__ import annotations

import torch
from omegaconf import DictConfig, OmegaConf

from ...models import LatentLM, generate
from ..build import check_seed
from .load import load_program


def run(config: DictConfig) -> None:
    """Print the responses, each with its z and the router's probability of it."""
    if config.prompt is None:
        raise ValueError('no prompt given; pass prompt="..."')
    check_seed(config)
    model, _ = load_program(config)
    torch.manual_seed(config.seed)
    if isinstance(model, LatentLM):
        model.set_strength(config.strength)
    elif config.strength != 1:
        raise ValueError(
            f"strength={config.strength}: only a LatentLM can be switched off; {type(model).__name__} has strength=1"
        )
    z = OmegaConf.to_container(config.z) if OmegaConf.is_config(config.z) else config.z
    found = generate(
        model,
        [str(config.prompt)],
        z,
        n=config.n,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        annotations=list(config.annotations) if config.annotations else None,
    )
    for generation in found:
        values = " ".join(f"{name}={value}" for name, value in generation.z.items())
        print(f"{values}  p(z|x)={generation.router:.3f}  {generation.text}")
