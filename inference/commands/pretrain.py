"""``stratagem pretrain``: train a small base on the mixture of a task."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from ...models import Backbone, load_backbone
from ...models.backbone import new_backbone
from ...models.pretrained import write_atomic
from ...tasks import Task
from ..build import check_seed, node, pick_device
from ..locking import alone_in
from ..pretrain import DRAWS, BaseReport, Training, train_base

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Train, and write the LM, its tokenizer and a model card in Hugging Face format.

    Returns the largest share by which the held-out loss of a task lies above its floor.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    with alone_in(folder):
        return _pretrain(config, folder)


def _pretrain(config: DictConfig, folder: Path) -> float:
    if (folder / "config.json").is_file():
        raise ValueError(f"run={folder}: there is a model in this folder; pass another run=")
    check_seed(config)
    training = Training(
        config.steps,
        config.rows,
        config.lr,
        config.seed,
        config.eval_every,
        config.test_size,
        config.compile,
        config.average,
    )
    if config.average and config.lm is None:
        raise ValueError(
            f"average={config.average}: there is no model to average with; pass lm=, or leave it out"
        )
    task: Task = instantiate(node(config, "task"))
    torch.manual_seed(config.seed)
    backbone = _backbone(config, task)
    device = pick_device(config.device)
    report = train_base(backbone.to(device), task, training)
    backbone.save_base(folder)
    command = " ".join(["stratagem pretrain", *(w for w in sys.argv[1:] if not w.startswith("run="))])
    hardware = (
        f"the CPU, threads: {torch.get_num_threads()}" if device == "cpu" else torch.cuda.get_device_name()
    )
    write_atomic(
        folder / "README.md",
        card(task, training, report, command, hardware, backbone.num_base_parameters, config.lm).encode(),
    )
    for name, part in report.tasks.items():
        log.info(
            "%s: held-out loss %.4f, floor %.4f nats a sequence (%.1f %% above); accuracy %.3f",
            name,
            part.loss,
            part.floor,
            100 * part.excess,
            part.accuracy,
        )
    log.info("%s pairs in %.0f s; written to %s", report.pairs, report.seconds, folder)
    return max(part.excess for part in report.tasks.values())


def _backbone(config: DictConfig, task: Task) -> Backbone:
    """A new one of the size asked for, or the model to go on from."""
    if config.lm is None:
        return new_backbone(task.vocabulary, **node(config, "size"), context=config.context)
    backbone = load_backbone(config.lm, trust_remote_code=config.trust_remote_code)
    tokenizer = backbone.tokenizer
    unknown = [
        s for s in task.vocabulary if tokenizer.unk_token_id in tokenizer(s, verbose=False)["input_ids"]
    ]
    if unknown:
        raise ValueError(
            f"lm={config.lm}: its tokenizer does not know the symbols {' '.join(unknown)} of task {task.name}; "
            "leave lm out to train a new model, or the symbols out of the task"
        )
    return backbone


def card(
    task: Task, training: Training, report: BaseReport, command: str, device: str, size: int, lm: str | None
) -> str:
    """The model card."""
    origin = "from nothing" if lm is None else f"from `{lm}` on,"
    prompts = "\n".join(f"- `{part.prompts(1, 'test', 0)[0]}` ({name})" for name, part in task.parts.items())
    figures = "\n".join(
        f"| {name} | {part.loss:.4f} | {part.floor:.4f} | {100 * part.excess:.2f} % | {part.accuracy:.3f} |"
        for name, part in report.tasks.items()
    )
    strategies = "\n".join(
        f"| {name} | {strategy} | {f.mixture:.3f} | {f.base:.3f} | {f.sampled:.3f} |"
        for name, part in report.tasks.items()
        for strategy, f in part.frequencies.items()
    )
    return f"""---
license: apache-2.0
library_name: transformers
---
# A base for {"the tasks" if len(report.tasks) > 1 else "the task"} {", ".join(report.tasks)}

A causal LM of {size:,} parameters, trained {origin} on the mixtures of strategies of stratagem's synthetic tasks.
Prompts are like

{prompts}

| task | held-out loss | entropy of the mixture | loss above it | accuracy |
|---|---|---|---|---|
{figures}

Loss and entropy in nats a sequence, on {training.test_size} held-out prompts of each task: the exact expectation over
all responses of the mixture, and the least that any law can reach. Accuracy is of sampled answers.

| task | strategy | mixture | base | sampled |
|---|---|---|---|---|
{strategies}

How often a strategy is followed, mean over the held-out prompts: in the mixture; under the base, by the probability of
each of its responses; in {DRAWS} sampled responses to each prompt. Responses that follow several count in part.

Training: {training.steps} steps of {training.rows} rows, {report.pairs:,} fresh pairs in all, seed {training.seed},
{report.seconds:.0f} s on {device}.

Made by `{command}`.
"""
