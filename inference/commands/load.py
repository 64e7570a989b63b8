"""Loading the run that a command is about."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig
from torch import nn

from ...models import LatentLM, LatentProgram, is_latent_program
from ...models.pretrained import load_pretrained
from ...models.spec import build
from ..build import check_seed, node, pick_device
from ..data import Data
from ..run_folder import read_config


def load_program(config: DictConfig) -> tuple[LatentProgram, nn.Module]:
    """Model and guide of ``config.run``.

    Raises:
        ValueError: no run given or there, or a model that is no :class:`LatentProgram`.
    """
    if config.run is None:
        raise ValueError("no run given; pass run=DIR, a folder made by stratagem fit")
    model, guide = load_pretrained(
        config.run, config.lm, pick_device(config.device), config.trust_remote_code
    )
    if not is_latent_program(model) or guide is None:
        raise ValueError(
            f"run={config.run}: expected a model with a backbone and latents, and a guide; found "
            f"{type(model).__name__} {'without' if guide is None else 'with'} a guide"
        )
    return model, guide


def load_latent_lm(config: DictConfig) -> tuple[LatentLM, nn.Module]:
    """As :func:`load_program`, for what asks for a router and a decoder apart.

    Raises:
        ValueError: as there, or a model that is no :class:`LatentLM`.
    """
    model, guide = load_program(config)
    if not isinstance(model, LatentLM):
        raise ValueError(f"run={config.run}: expected a LatentLM with a guide, found {type(model).__name__}")
    return model, guide


def load_for_figures(config: DictConfig) -> tuple[LatentProgram, nn.Module, Data, int]:
    """Model and guide of ``config.run``, the data that it was fitted on, and the seed of the draws.

    Raises:
        ValueError: as :func:`load_program`, :func:`check_sizes` or :func:`.check_seed`.
    """
    check_sizes(config)
    if config.seed is not None:
        check_seed(config)
    model, guide = load_program(config)
    fitted = read_config(Path(config.run))
    data: Data = build(node(fitted, "data"), config.trust_remote_code)
    return model, guide, data, fitted.seed if config.seed is None else config.seed


def check_sizes(config: DictConfig) -> None:
    """Refuse a ``batch_size``, ``limit`` or, where there is one, ``draws`` that counts nothing.

    Raises:
        ValueError: below 1.
    """
    for name in ("batch_size", "limit", "draws"):
        if name in config and (type(config[name]) is not int or config[name] < 1):
            raise ValueError(f"{name}={config[name]}: expected a whole number, at least 1")
