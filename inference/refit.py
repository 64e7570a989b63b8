"""A fit that goes on from weights that are good already."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor

from ..models import Batch, LatentLM
from ..models.spec import build
from .algorithm import Algorithm
from .build import node
from .data import Data
from .dataset import make_dataset
from .fit import Step, fit
from .loss import Loss
from .optim import Optim
from .settings import FitSettings


class Settled(Step):
    """A step whose schedules are at their end, however much of the fit is done."""

    def forward(self, batch: Batch, share: float = 1.0, held: Tensor | None = None) -> Loss:  # noqa: ARG002
        return super().forward(batch, 1.0, held)


def refit(
    model: LatentLM,
    guide: torch.nn.Module,
    config: DictConfig,
    data: Data,
    settings: FitSettings,
    out: Path,
    cache: Path,
    trust_remote_code: bool = False,
) -> None:
    """Fit model and guide by a run's algorithm, data and optimizer, from the weights that they have.

    The weights of the algorithm's terms are those of the end of a fit. The learning rate rises and falls anew. What
    the algorithm learns for itself begins anew.

    Args:
        model: the model.
        guide: its guide.
        config: of the run.
        data: of the run.
        settings: of the loop; its ``starts`` and ``start_cost`` have no part.
        out: folder of the fit; what an earlier one has left there is written over.
        cache: folder of the base's responses.
        trust_remote_code: allow an algorithm from outside this package.

    Raises:
        KeyboardInterrupt: interrupted.
        ValueError: an algorithm that the model cannot have; a loss or gradient that is not finite.
    """
    torch.manual_seed(config.seed)
    inference: Algorithm = build(node(config, "inference"), trust_remote_code)
    inference.check(model.latents)
    inference.bind(model)
    backbone = model.backbone
    step = Settled(model, guide, inference.to(backbone.device))
    train, test = (make_dataset(backbone, data, split, config.seed, cache) for split in ("train", "test"))
    for dataset in (train, test):
        dataset.keep_features(step.all_parts, backbone.device)
    fit(step, train, test, Optim(**node(config, "optim")), settings, config.seed, out, resume=False)
