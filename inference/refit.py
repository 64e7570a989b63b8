"""The end of a fit again, from other weights."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import nn

from ..models import LatentLM
from ..models.spec import build
from .algorithm import Algorithm
from .build import node
from .checkpoint import Progress, save_checkpoint
from .data import Data
from .dataset import make_dataset
from .fit import STATE, Step, fit
from .optim import Optim
from .settings import FitSettings


def free_steps(config: DictConfig, settings: FitSettings, trust_remote_code: bool = False) -> int:
    """How many of a run's last steps go by nothing that its algorithm has computed for its number of strategies."""
    inference: Algorithm = build(node(config, "inference"), trust_remote_code)
    free = (n for n in range(settings.steps, 0, -1) if not inference.led(1 - n / settings.steps))
    return next(free, 0)


def refit(
    model: LatentLM,
    guide: nn.Module,
    config: DictConfig,
    data: Data,
    settings: FitSettings,
    steps: int,
    out: Path,
    cache: Path,
    trust_remote_code: bool = False,
) -> None:
    """The last ``steps`` of a run's fit, from the weights that model and guide have.

    Learning rates and the weights of the terms are those of these steps. Held at their last values instead, they either
    move too little or, at a learning rate that moves enough, let the strategies run into each other. The optimizer,
    and what the algorithm learns for itself, begin anew.

    Args:
        model: the model.
        guide: its guide.
        config: of the run.
        data: of the run.
        settings: of the loop, of as many steps as the run's.
        steps: at least 1, at most :func:`free_steps`.
        out: folder of the fit; what one that was stopped has left there is written over.
        cache: folder of the base's responses.
        trust_remote_code: allow an algorithm from outside this package.

    Raises:
        KeyboardInterrupt: interrupted.
        ValueError: an algorithm that the model cannot have; a loss or gradient that is not finite.
    """
    torch.manual_seed(config.seed)
    backbone = model.backbone
    inference: Algorithm = build(node(config, "inference"), trust_remote_code)
    inference.check(model.latents)
    inference.bind(model)
    inference.go_on()
    step = Step(model, guide, inference.to(backbone.device))
    train, test = (make_dataset(backbone, data, split, config.seed, cache) for split in ("train", "test"))
    for dataset in (train, test):
        dataset.keep_features(step.all_parts, backbone.device)
    optim = Optim(**node(config, "optim"))
    begin = Progress(step=settings.steps - steps)
    save_checkpoint(out / STATE, step.all_parts, optim.optimizer(step.all_parts), begin)
    fit(step, train, test, optim, settings, config.seed, out, resume=True)
