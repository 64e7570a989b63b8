"""From a composed config to the objects it names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from ..models import Backbone, is_latent_program, load_backbone
from ..models.pretrained import CONFIG, describe, write_atomic
from .algorithm import Algorithm
from .data import Data
from .fit import Step
from .optim import Optim
from .settings import FitSettings

T = TypeVar("T")

DRAW = 7_919
"""Between the seeds of two draws of the first weights."""


@dataclass(frozen=True)
class Plan:
    """Everything a fit needs, built and checked before the first forward pass of a step."""

    backbone: Backbone
    step: Step
    data: Data
    optim: Optim
    settings: FitSettings


def node(config: DictConfig, *names: str) -> Any:
    """A part of a config as plain containers, resolved."""
    part: Any = config
    for name in names:
        part = part[name]
    return OmegaConf.to_container(part, resolve=True) if OmegaConf.is_config(part) else part


def pick_device(name: str) -> str:
    """``auto`` is the first GPU where there is one.

    Raises:
        ValueError: a device that torch does not know, or does not have here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (
        RuntimeError,
        AssertionError,
    ) as error:  # the latter where torch was built without this kind of device
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device={name}: {reason}; expected auto, cpu, or a GPU of this machine, such as cuda"
        ) from None
    return name


def check_seed(config: DictConfig) -> None:
    """Refuse a seed that is no whole number.

    Raises:
        ValueError: it is none.
    """
    if type(config.seed) is not int:
        raise ValueError(f"seed={config.seed}: expected a whole number")


def build_backbone(config: DictConfig) -> Backbone:
    """The base with its roles."""
    roles = {name: instantiate(role) for name, role in node(config, "roles").items()}
    return load_backbone(
        config.lm, roles, config.dtype, config.revision, config.trust_remote_code, pick_device(config.device)
    )


def typed(kind: type[T], settings: Any, prefix: str = "") -> T:
    """A dataclass of settings, each of the type that it is declared with.

    Raises:
        ValueError: one that is not, named after ``prefix``, or that the dataclass refuses.
    """
    try:
        made: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), settings))
    except OmegaConfBaseException as error:
        raise ValueError(f"{prefix}{error.full_key}: {str(error.msg).splitlines()[0]}") from None
    return made


def build_step(config: DictConfig, backbone: Backbone, draw: int = 0) -> Step:
    """Model, guide and algorithm on a backbone, with the first weights of a draw.

    Raises:
        ValueError: a part that refuses its settings, or parts that do not go together.
    """
    inference: Algorithm = instantiate(node(config, "inference"))
    torch.manual_seed(config.seed + DRAW * draw)
    model: nn.Module = instantiate(node(config, "model"), backbone=backbone)
    if is_latent_program(model):
        inference.check(model.latents)
    guide: nn.Module = instantiate(node(config, "guide"), model=model)
    inference.bind(model)
    device = backbone.device
    return Step(model.to(device), guide.to(device), inference.to(device))


def build_plan(config: DictConfig, folder: Path) -> Plan:
    """Model, guide, algorithm, data and settings; ``folder/model/config.json`` is written on the way.

    Raises:
        ValueError: a part that refuses its settings, or parts that do not go together.
    """
    check_seed(config)
    settings = typed(FitSettings, config["fit"], "fit.")
    optim = typed(Optim, config["optim"], "optim.")
    if config.path is not None and "${path}" not in OmegaConf.to_yaml(config["data"]):
        kind = config["data"]["_target_"].rpartition(".")[2]
        raise ValueError(
            f"path={config.path}: {kind} reads no file; pass data=pairs, data=self or data=text with it"
        )
    data: Data = instantiate(node(config, "data"))
    torch.manual_seed(config.seed)
    backbone = build_backbone(config)
    step = build_step(config, backbone)
    if data.annotations and not hasattr(step.model, "annotations"):
        raise ValueError(
            f"data.annotations: {type(step.model).__name__} is told none; set model=annotated, or leave them out"
        )
    about = describe(backbone, node(config, "model"), node(config, "guide"))
    path = folder / "model" / CONFIG
    before = json.loads(path.read_text())["lm"] if config.resume and path.is_file() else about["lm"]
    if before["fingerprint"] != backbone.fingerprint:
        raise ValueError(
            f"resume=true: {folder} was started on the base {before['name']} (digest {before['fingerprint']}), but "
            f"{backbone.name} is another (digest {backbone.fingerprint}); give lm= the base that it was started on"
        )
    write_atomic(path, json.dumps(about, indent=2).encode())
    return Plan(backbone, step, data, optim, settings)
