"""``stratagem pretrain``: train a small base on the mixture of a task."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from ...models.backbone import new_backbone
from ...models.pretrained import write_atomic
from ...tasks import Task
from ..build import node, pick_device
from ..pretrain import BaseReport, Training, train_base

log = logging.getLogger(__name__)


def run(config: DictConfig) -> float:
    """Train, and write the LM, its tokenizer and a model card in Hugging Face format; the held-out loss."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if (folder / "config.json").is_file():
        raise ValueError(f"run={folder}: there is a model in this folder; pass another run=")
    training = Training(
        config.steps, config.batch_size, config.lr, config.seed, config.eval_every, config.test_size
    )
    task: Task = instantiate(node(config, "task"))
    torch.manual_seed(config.seed)
    backbone = new_backbone(task.vocabulary, config.hidden, config.layers, config.heads, config.context)
    device = pick_device(config.device)
    report = train_base(backbone.to(device), task, training)
    backbone.save_base(folder)
    command = " ".join(["stratagem pretrain", *(w for w in sys.argv[1:] if not w.startswith("run="))])
    threads = (
        f"the CPU, threads: {torch.get_num_threads()}" if device == "cpu" else torch.cuda.get_device_name()
    )
    write_atomic(
        folder / "README.md",
        card(task, training, report, command, threads, backbone.num_base_parameters).encode(),
    )
    log.info(
        "held-out loss %.4f, floor %.4f nats a sequence (%.1f %% above); accuracy %.3f; written to %s",
        report.loss,
        report.floor,
        100 * (report.loss / report.floor - 1),
        report.accuracy,
        folder,
    )
    return report.loss


def card(task: Task, training: Training, report: BaseReport, command: str, device: str, size: int) -> str:
    """The model card."""
    rows = "\n".join(
        f"| {s} | {p:.3f} | {report.frequencies[s]:.3f} |"
        for s, p in zip(task.strategies, task.strategy_weights, strict=True)
    )
    return f"""---
license: apache-2.0
library_name: transformers
---
# A base for the task {task.name}

A Llama of {size:,} parameters, trained from nothing on the mixture of strategies of stratagem's task
`{task.name}`, prompts like `{task.prompts(1, "test", 0)[0]}`.

| figure | value |
|---|---|
| held-out loss, nats a sequence | {report.loss:.4f} |
| entropy of the mixture (the floor), nats a sequence | {report.floor:.4f} |
| loss above the floor | {100 * (report.loss / report.floor - 1):.2f} % |
| accuracy of sampled answers | {report.accuracy:.3f} |
| held-out prompts | {training.test_size} |
| training | {training.steps} steps of {training.batch_size} fresh pairs, seed {training.seed} |
| time | {report.seconds:.0f} s on {device} |

The loss is the exact expectation over all responses of the mixture. Sampled strategies, responses that follow
several counted in part:

| strategy | p(s) | sampled |
|---|---|---|
{rows}

Made by `{command}`.
"""
