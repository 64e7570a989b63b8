"""``stratagem fit``: factorise a language model."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from ...models import LatentLM, calibrate
from ..build import build_plan
from ..dataset import make_dataset, standardise
from ..evaluation import evaluate
from ..fit import fit
from ..run_folder import check_run, write_config
from .report import write_evaluation

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Fit, evaluate, and write the run's folder; the held-out objective."""
    began = time.perf_counter()
    folder = Path(HydraConfig.get().runtime.output_dir)
    is_main = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    if is_main:
        check_run(config, folder)
    plan = build_plan(config, folder)
    if is_main:
        write_config(config, folder)
    train, test = (
        make_dataset(plan.backbone, plan.data, split, config.seed, folder / "data")
        for split in ("train", "test")
    )
    for dataset in (train, test):
        dataset.keep_features(plan.step.all_parts, plan.backbone.device)
    standardise(plan.step.all_parts, train, plan.backbone.device)
    if plan.settings.start_cost and isinstance(plan.step.model, LatentLM):
        calibrate(
            plan.step.model,
            train.batch(range(min(64, len(train)))).to(plan.backbone.device),
            plan.settings.start_cost,
        )
    log.info(
        "%s training and %s held-out pairs after %.0f s", len(train), len(test), time.perf_counter() - began
    )
    progress = fit(plan.step, train, test, plan.optim, plan.settings, config.seed, folder, config.resume)
    log.info("fitted %s steps, %.0f s in all; evaluating", progress.step, time.perf_counter() - began)
    if isinstance(plan.step.model, LatentLM) and is_main:
        result = evaluate(plan.step.model, plan.step.guide, plan.data, config.seed, folder / "data")
        write_evaluation(folder, plan.step.model, result)
    log.info("done in %.0f s: %s", time.perf_counter() - began, folder)
    assert progress.best is not None
    return progress.best
