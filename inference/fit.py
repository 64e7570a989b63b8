"""The fit loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from ..models import Batch
from ..models.backbone import low_precision
from ..models.pretrained import WEIGHTS, load_state, read_tensors, trainable_state, write_tensors
from .algorithm import Algorithm
from .checkpoint import Progress, load_checkpoint, save_checkpoint
from .dataset import Dataset
from .held_out import Evaluation, summary
from .interrupts import interrupts
from .loss import Loss
from .metrics import MetricsLog, read_metrics
from .optim import Optim
from .peak_memory import PeakMemory
from .revival import revive
from .settings import FitSettings
from .trackers import tracked, tracking

log = logging.getLogger(__name__)

STATE, METRICS = "state.safetensors", "metrics.jsonl"


class Step(nn.Module):
    """Model and guide under one inference algorithm: a module whose forward is the loss of a batch."""

    def __init__(self, model: nn.Module, guide: nn.Module, inference: Algorithm) -> None:
        super().__init__()
        self.model, self.guide = model, guide
        self.inference = inference

    def forward(self, batch: Batch, share: float = 1.0, held: Tensor | None = None) -> Loss:
        return self.inference(self.model, self.guide, batch, share, held)

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Model and guide by the names that their weights are saved under."""
        return {"model": self.model, "guide": self.guide}

    @property
    def all_parts(self) -> dict[str, nn.Module]:
        """Everything that is learned: model, guide, and what the algorithm learns for itself."""
        return self.parts | {"inference": self.inference}


def fit(
    step: Step,
    train: Dataset,
    test: Dataset,
    optim: Optim,
    settings: FitSettings,
    seed: int,
    run: Path,
    resume: bool,
    until: int | None = None,
) -> Progress:
    """Raise the objective by gradient steps.

    The last weights stay in the modules, those of the best held-out objective where ``settings.patience`` stops
    the fit early.

    A checkpoint follows each evaluation, the last step and an interrupt. With ``resume`` the fit goes on from
    it to the same numbers as if it had never stopped; of several processes only the first draws the same again.

    Args:
        step: model, guide and algorithm.
        train: data to fit on.
        test: held-out data.
        optim: the optimizer's settings.
        settings: the loop's settings.
        seed: of the order of the data and of sampled objectives.
        run: the run's folder.
        resume: go on from the folder's checkpoint.
        until: stop after this step, as if interrupted, to go on later; None for the last.

    Raises:
        KeyboardInterrupt: interrupted; the state is saved.
        ValueError: a loss or gradient that is not finite; the last good checkpoint stays.
    """
    accelerator = Accelerator(
        mixed_precision="no",
        cpu=next(step.parameters()).device.type == "cpu",
        **tracked(settings.trackers if until is None else (), run),
    )
    share = settings.batch_size // settings.accumulate
    if share % accelerator.num_processes:
        raise ValueError(
            f"fit: the {share} data of a part (fit.batch_size / fit.accumulate) must be a multiple of the "
            f"{accelerator.num_processes} processes"
        )
    torch.manual_seed(seed + accelerator.process_index)
    optimizer = optim.optimizer(step.all_parts)
    state = run / STATE
    parallel = accelerator.prepare(step)
    progress = Progress()
    if resume and state.is_file():
        progress = load_checkpoint(state, step.all_parts, optimizer)
        if accelerator.process_index:  # the saved random state is that of the first
            torch.manual_seed(hash((seed, accelerator.process_index, progress.step)))
    schedule = optim.schedule(optimizer, settings.steps, progress.step)
    last = min(settings.steps, until or settings.steps)
    metrics = MetricsLog(run / METRICS, after=progress.step)
    evaluation = Evaluation(step, test, settings.eval_size, settings.batch_size)
    memory = PeakMemory(accelerator.device)
    main = accelerator.is_main_process
    low = settings.mixed_precision == "bf16"

    def write(split: str, figures: Mapping[str, float]) -> None:
        if main:
            metrics.write(split, progress.step, figures)
            send(split, progress.step, figures)

    def save() -> None:
        if main:
            save_checkpoint(state, step.all_parts, optimizer, progress)

    with (
        tracking(accelerator, run, progress.step, read_metrics(metrics.path)) as send,
        interrupts() as interrupted,
        tqdm(
            total=last,
            initial=progress.step,
            disable=None if settings.progress and main else True,
            desc="fit",
        ) as bar,
    ):
        while progress.step < last and not (0 < settings.patience <= progress.stale):
            began = time.perf_counter()
            index = train.index_at(progress.step, settings.batch_size, seed)
            held: list[Tensor | None] = [None] * settings.accumulate
            for _ in range(step.inference.updates):
                losses = []
                for part in range(settings.accumulate):
                    mine = index[part * share : (part + 1) * share][
                        accelerator.process_index :: accelerator.num_processes
                    ]
                    with low_precision(step, low):
                        batch = train.batch(mine).to(accelerator.device)
                        loss = parallel(batch, progress.step / settings.steps, held[part])
                        _check_finite(loss.surrogate, "loss", progress.step, mine, train, state)
                        accelerator.backward(loss.surrogate / settings.accumulate)
                    held[part] = loss.held
                    losses.append(loss)
                norm = _clip(step, optim.clip)
                _check_finite(norm, "gradient", progress.step, index, train, state)
                optimizer.step()
                optimizer.zero_grad()
            schedule.step()
            progress.step += 1
            seen = summary(losses) | {"gradient_norm": float(norm)}
            seen |= {f"weight/{name}": weight for name, weight in losses[0].weights.items()}
            seen |= {f"lr/{group['part']}": group["lr"] for group in optimizer.param_groups}
            write("train", seen | {"seconds": time.perf_counter() - began} | memory.figures())
            bar.update()
            bar.set_postfix_str(f"bound {seen['bound']:.3f}{evaluation.line}")
            if progress.step % settings.eval_every == 0 or progress.step == last:
                figures = evaluation()
                if not math.isfinite(figures["objective"]):
                    raise ValueError(
                        f"the held-out objective after step {progress.step} is {figures['objective']}; "
                        f"{_kept(state)}. Lower optim.lr"
                    )
                better = (
                    not settings.patience or progress.best is None or figures["objective"] > progress.best
                )
                progress.stale = 0 if better else progress.stale + 1
                write("test", figures)
                if better:
                    progress.best = figures["objective"]
                    if main:
                        write_tensors(run / "model" / WEIGHTS, trainable_state(step.parts))
                if 2 * progress.step < settings.steps:
                    revive(
                        step.model,
                        step.guide,
                        evaluation.usage,
                        evaluation.entropy,
                        settings.revive,
                        progress.step,
                    )
                save()
            if interrupted():
                save()
                raise KeyboardInterrupt(f"interrupted after step {progress.step}; the state is in {state}")
    if progress.step < last:
        log.info("no better objective in %s evaluations: stopped at step %s", progress.stale, progress.step)
    accelerator.wait_for_everyone()
    load_state(step.parts, read_tensors(run / "model" / WEIGHTS)[0], str(run / "model"))
    return progress


def _clip(step: nn.Module, largest: float) -> Tensor:
    parameters = [p for p in step.parameters() if p.grad is not None]
    return nn.utils.clip_grad_norm_(parameters, largest if largest else math.inf)


def _check_finite(value: Tensor, what: str, step: int, index: list[int], data: Dataset, state: Path) -> None:
    if torch.isfinite(value).all():
        return
    shown = "; ".join(repr(data.prompts[i][:40]) for i in index[:3])
    raise ValueError(
        f"the {what} of step {step + 1} is {value.item()}, on the data {index} (prompts {shown} ...); "
        f"{_kept(state)}. Lower optim.lr, or look at these data"
    )


def _kept(state: Path) -> str:
    return f"the last good checkpoint is {state}" if state.is_file() else "no checkpoint had been written yet"
