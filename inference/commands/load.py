"""Loading the run that a command is about."""

from __future__ import annotations

from omegaconf import DictConfig
from torch import nn

from ...models import LatentLM
from ...models.pretrained import load_pretrained
from ..build import pick_device


def load_latent_lm(config: DictConfig) -> tuple[LatentLM, nn.Module]:
    """Model and guide of ``config.run``.

    Raises:
        ValueError: no run given or there, or a model that is no :class:`LatentLM`.
    """
    if config.run is None:
        raise ValueError("no run given; pass run=DIR, a folder made by stratagem fit")
    model, guide = load_pretrained(
        config.run, config.lm, pick_device(config.device), config.trust_remote_code
    )
    if not isinstance(model, LatentLM) or guide is None:
        raise ValueError(f"run={config.run}: expected a LatentLM with a guide, found {type(model).__name__}")
    return model, guide
