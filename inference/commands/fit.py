"""``stratagem fit``: factorise a language model."""

from __future__ import annotations

import logging
import os
import time
from contextlib import nullcontext
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ...models import LatentLM, calibrate, is_latent_program
from ..build import DRAW, build_plan, build_step
from ..checkpoint import Progress
from ..dataset import make_dataset, standardise
from ..evaluation import evaluate
from ..fit import STATE, Step, fit
from ..locking import alone_in
from ..reduction import check_reducible
from ..refit import free_steps
from ..response_cache import response_cache
from ..run_folder import CONFIG_FILE, check_run, write_config
from ..starts import pick_start
from . import prune
from .report import write_evaluation

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Fit, evaluate, and write the run's folder; the held-out objective."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    is_main = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    with alone_in(folder) if is_main else nullcontext():
        return _fit(config, folder, is_main)


def _fit(config: DictConfig, folder: Path, is_main: bool) -> float:
    began = time.perf_counter()
    if HydraConfig.get().mode == RunMode.MULTIRUN and not (folder / CONFIG_FILE).is_file():
        config.resume = False  # of a sweep that goes on, a fit that had not begun
    if is_main:
        check_run(config, folder)
    plan = build_plan(config, folder)
    if plan.settings.prune:
        check_reducible(plan.step.model, plan.step.guide)
        if not free_steps(config, plan.settings, trust_remote_code=True):
            raise ValueError(
                "fit.prune=true: clusters of as many parts as there are strategies lead the fit to its end, which "
                "cannot be made again for fewer; leave it out, and stratagem prune says how many there are"
            )
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise ValueError(
                "fit.prune=true: pruning is work for one process; run stratagem prune afterwards"
            )
    if is_main:
        write_config(config, folder, HydraConfig.get().runtime.choices)
    train, test = (
        make_dataset(plan.backbone, plan.data, split, config.seed, folder / "data", response_cache())
        for split in ("train", "test")
    )
    for dataset in (train, test):
        dataset.keep_features(plan.step.all_parts, plan.backbone.device)
    plan.step.inference.prepare(
        plan.step.model,
        plan.step.guide,
        plan.backbone,
        (train, test),
        config.seed + DRAW * plan.settings.draw,
    )
    log.info(
        "%s training and %s held-out pairs after %.0f s", len(train), len(test), time.perf_counter() - began
    )
    settings, device = plan.settings, plan.backbone.device
    adapters = {n: p.detach().clone() for n, p in plan.backbone.named_parameters() if p.requires_grad}

    def make(draw: int) -> Step:
        plan.backbone.load_state_dict(adapters, strict=False)
        step = build_step(config, plan.backbone, settings.draw + draw)
        standardise(step.all_parts, train, device)
        if settings.start_cost and isinstance(step.model, LatentLM):
            calibrate(step.model, train.batch(range(min(64, len(train)))).to(device), settings.start_cost)
        return step

    def begin(step: Step, where: Path) -> Progress:
        return fit(step, train, test, plan.optim, settings, config.seed, where, True, settings.start_steps)

    resume = config.resume
    if settings.starts > 1 and settings.start_steps < settings.steps and not (folder / STATE).is_file():
        pick_start(make, begin, test, settings, folder)
        resume = True
    step = make(0)
    progress = fit(step, train, test, plan.optim, settings, config.seed, folder, resume)
    log.info("fitted %s steps, %.0f s in all; evaluating", progress.step, time.perf_counter() - began)
    if is_latent_program(step.model) and is_main:
        result = evaluate(step.model, step.guide, plan.data, config.seed, folder / "data")
        write_evaluation(folder, step.model, result)
    if settings.prune:
        prune.run(prune.defaults(folder, config.device))
    log.info("done in %.0f s: %s", time.perf_counter() - began, folder)
    assert progress.best is not None
    return progress.best
