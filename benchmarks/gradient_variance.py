"""Variance against cost of every gradient estimator for discrete latents, on the bundled base.

The gradient of the ELBO (of the importance-weighted bound for VIMCO) in the guide's and in the decoder's parameters is
estimated again and again on one batch, model and guide being held: after a few steps of enumerated fitting from the
start, so that q is neither flat nor the posterior. Per estimator, number of draws S and of strategies K:

- noise: the root of an estimate's total variance over the norm of the true gradient, of the guide and of the decoder;
- bias: the norm of the mean estimate's error over that of the true gradient, with the error that chance alone would
  leave beside it (bias that does not exceed it is not seen);
- seconds a step, forward and backward, median.

The true gradient is the enumerated one, for VIMCO the mean of its own estimates, so that it has no bias to show.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from stratagem.inference.build import build_plan, node
from stratagem.inference.dataset import make_dataset, standardise
from stratagem.inference.fit import Step
from stratagem.inference.inference import Inference
from stratagem.models import Batch, LatentLM, calibrate
from torch import Tensor

ESTIMATORS = ("elbo_rloo", "elbo_nvil", "iwae_vimco", "elbo_gumbel", "elbo_straight_through", "elbo_rebar")
SINGLE = ("elbo_nvil", "elbo_gumbel", "elbo_straight_through", "elbo_rebar")
"""Those that work with one draw."""
PARTS = {"guide": "guide.", "decoder": "model.conditionings."}
SHARE = 0.5


def prepare(K: int, batch_size: int, folder: Path) -> tuple[Step, Batch]:
    """Model, guide and a batch, some steps after the start."""
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        words = [f"latents.z.K={K}", "inference=elbo", "data.num_train=256", "data.num_test=8", "device=cpu"]
        config = compose("fit", [*words, f"run={folder}"])
    plan = build_plan(config, folder)
    data = make_dataset(plan.backbone, plan.data, "train", 0, folder)
    data.keep_features(plan.step.all_parts, plan.backbone.device)
    standardise(plan.step.all_parts, data, plan.backbone.device)
    assert isinstance(plan.step.model, LatentLM)
    calibrate(plan.step.model, data.batch(range(64)), plan.settings.start_cost)
    marginal = algorithm("marginal")
    fitted = Step(plan.step.model, plan.step.guide, marginal)
    optimizer = plan.optim.optimizer(fitted.parts)
    for i in range(60):
        fitted(data.batch(data.index_at(i, batch_size, 0)), 0.0).surrogate.backward()
        optimizer.step()
        optimizer.zero_grad()
    return plan.step, data.batch(range(batch_size))


def algorithm(name: str, draws: int | None = None) -> Inference:
    """One of ``configs/inference``."""
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        words = [f"inference={name}"] + (
            [] if draws is None else [f"inference.expectation.num_particles={draws}"]
        )
        return instantiate(node(compose("fit", words), "inference"))


def gradient(step: Step, batch: Batch) -> dict[str, Tensor]:
    """One estimate, flat, of each part."""
    step.zero_grad(set_to_none=True)
    step(batch, SHARE).surrogate.backward()
    found = {n: p.grad for n, p in step.named_parameters() if p.grad is not None}
    return {
        part: torch.cat([g.flatten() for n, g in found.items() if n.startswith(prefix)])
        for part, prefix in PARTS.items()
    }


def measure(step: Step, batch: Batch, repeats: int, truth: dict[str, Tensor] | None) -> list[str]:
    """Cells of a row: noise and bias of each part, seconds."""
    seconds, estimates = [], []
    for i in range(repeats + 2):
        begun = time.perf_counter()
        found = gradient(step, batch)
        if i >= 2:
            seconds.append(time.perf_counter() - begun)
            estimates.append(found)
    cells = []
    for part in PARTS:
        rows = torch.stack([found[part] for found in estimates])
        mean = rows.mean(0)
        centre = mean if truth is None else truth[part]
        spread = (rows - mean).square().sum() / (repeats - 1)
        cells.append(f"{float(spread.sqrt() / centre.norm()):.2f}")
        chance = float((spread / repeats).sqrt() / centre.norm())
        cells.append(
            "-" if truth is None else f"{float((mean - centre).norm() / centre.norm()):.2f} ({chance:.2f})"
        )
    return [*cells, f"{statistics.median(seconds):.3f}"]


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--strategies", type=int, nargs="+", default=[8, 64], help="K")
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 4, 16], help="S")
    parser.add_argument("--batch", type=int, default=8, help="data in the batch")
    parser.add_argument("--repeats", type=int, default=50, help="estimates of each")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    print(
        f"torch {torch.__version__}, {args.threads} threads, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(f"batch of {args.batch}, {args.repeats} estimates each\n")
    print("| K | S | inference | guide: noise | bias (chance) | decoder: noise | bias (chance) | s a step |")
    print("|---|---|---|---|---|---|---|---|")
    for K in args.strategies:
        with TemporaryDirectory() as folder:
            step, batch = prepare(K, args.batch, Path(folder))
        model, guide = step.model, step.guide
        truth = gradient(Step(model, guide, algorithm("elbo")), batch)
        cells = measure(Step(model, guide, algorithm("elbo")), batch, 3, truth)
        print(f"| {K} | all | elbo | {' | '.join(cells)} |", flush=True)
        for S in args.draws:
            for name in ESTIMATORS if S > 1 else SINGLE:
                inference = algorithm(name, S)
                inference.gradient.bind(model)
                own = Step(model, guide, inference)
                cells = measure(own, batch, args.repeats, None if name == "iwae_vimco" else truth)
                print(f"| {K} | {S} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
