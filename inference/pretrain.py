"""A small base, trained on the mixture of a task."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from ..models import Backbone, Batch, collate
from ..models.text import decode, encode
from ..tasks import Task
from .dataset import sample_base

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """How a base is trained: AdamW, a warm-up of 200 steps, cosine to 0.

    Attributes:
        steps: optimizer steps.
        batch_size: pairs of a step, drawn afresh from the mixture.
        lr: peak learning rate.
        seed: of weights and data.
        eval_every: steps between evaluations.
        test_size: held-out prompts.
    """

    steps: int
    batch_size: int
    lr: float
    seed: int
    eval_every: int
    test_size: int

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "eval_every", "test_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be above 0, got {self.lr}")


@dataclass(frozen=True)
class BaseReport:
    """What the base reaches on held-out prompts.

    Attributes:
        loss: ``E_x E_{y ~ mixture} -log p0(y|x)`` over all responses of the mixture, nats per sequence.
        floor: the mixture's entropy, nats per sequence: no law has a smaller loss.
        accuracy: share of right answers of sampled responses.
        frequencies: share of each strategy in sampled responses, those that follow several counted in part.
        seconds: of the training.
    """

    loss: float
    floor: float
    accuracy: float
    frequencies: dict[str, float]
    seconds: float


def train_base(backbone: Backbone, task: Task, training: Training) -> BaseReport:
    """Train the whole LM of ``backbone`` on fresh pairs of the task's mixture, by the loss of the response alone,
    in nats per token.

    Raises:
        ValueError: a loss that is not finite.
    """
    lm = backbone.lm
    lm.requires_grad_(True)
    optimizer = torch.optim.AdamW(lm.parameters(), training.lr, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda s: min((s + 1) / 200, 1) * 0.5 * (1 + math.cos(math.pi * min(1.0, s / training.steps))),
    )
    pairs = task.stream("train", training.seed)
    prompts = task.prompts(training.test_size, "test", training.seed)
    began = time.perf_counter()
    with tqdm(range(training.steps), desc="pretrain", disable=None) as bar:
        for step in bar:
            drawn = list(itertools.islice(pairs, training.batch_size))
            batch = collate([encode(backbone, t.prompt, t.response) for t in drawn], backbone.pad_id)
            batch = batch.to(backbone.device)
            assert batch.response_mask is not None
            loss = -response_log_probs(backbone, batch).sum() / batch.response_mask.sum()
            if not torch.isfinite(loss):
                raise ValueError(f"the loss of step {step + 1} is {float(loss)}; lower lr")
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if (step + 1) % training.eval_every == 0:
                held_out, floor = mixture_loss(backbone, task, prompts)
                bar.set_postfix_str(f"held-out loss {held_out:.4f}, floor {floor:.4f} nats a sequence")
    lm.requires_grad_(False)
    seconds = time.perf_counter() - began
    loss_out, floor = mixture_loss(backbone, task, prompts)
    accuracy, frequencies = sampled_figures(backbone, task, prompts, training.seed)
    return BaseReport(loss_out, floor, accuracy, frequencies, seconds)


def response_log_probs(backbone: Backbone, batch: Batch) -> Tensor:
    """``log p0(y|x)``, ``(B,)`` nats per sequence, with gradients in the base's weights."""
    assert batch.response is not None
    assert batch.response_mask is not None
    ids = torch.cat([batch.prompt, batch.response], 1)
    mask = torch.cat([batch.prompt_mask, batch.response_mask], 1)
    position = (mask.long().cumsum(-1) - 1).clamp(min=0)
    logits = backbone.network("base")(input_ids=ids, attention_mask=mask.long(), position_ids=position).logits
    start = batch.prompt.shape[1]
    losses = cross_entropy(
        logits[:, start - 1 : -1].float().transpose(1, 2), batch.response, reduction="none"
    )
    return -(losses * batch.response_mask).sum(1)


@torch.no_grad()
def mixture_loss(backbone: Backbone, task: Task, prompts: Sequence[str]) -> tuple[float, float]:
    """The exact expected loss on the prompts, over every response of the mixture, and the mixture's entropy."""
    weighted = [(prompt, response, p) for prompt in prompts for response, p in task.law(prompt).items()]
    total = 0.0
    for start in range(0, len(weighted), 512):
        part = weighted[start : start + 512]
        batch = collate([encode(backbone, prompt, response) for prompt, response, _ in part], backbone.pad_id)
        weight = torch.tensor([p for _, _, p in part], device=backbone.device)
        total -= float((response_log_probs(backbone, batch.to(backbone.device)) * weight).sum())
    return total / len(prompts), sum(map(task.entropy, prompts)) / len(prompts)


def sampled_figures(
    backbone: Backbone, task: Task, prompts: Sequence[str], seed: int, max_new_tokens: int = 96
) -> tuple[float, dict[str, float]]:
    """Accuracy and strategy frequencies of one sampled response to each prompt."""
    examples = [encode(backbone, prompt) for prompt in prompts]
    room = min(max_new_tokens, backbone.context - max(len(e.prompt) for e in examples))
    texts = [decode(backbone, ids) for ids in sample_base(backbone, examples, room, seed)]
    right = sum(task.is_correct(p, t) for p, t in zip(prompts, texts, strict=True)) / len(prompts)
    found = [task.strategies_of(p, t) for p, t in zip(prompts, texts, strict=True)]
    shares = {s: sum(s in f and 1 / len(f) for f in found) / len(prompts) for s in task.strategies}
    return right, shares
