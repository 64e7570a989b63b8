"""A small base, trained on the mixture of a task."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from ..models import Backbone, LanguageModel, collate, encode_prompt
from ..models.backbone import BASE
from ..models.text import decode, encode
from ..tasks import Task
from .dataset import sample_base
from .packing import pack

log = logging.getLogger(__name__)

WARM_UP, COOL_DOWN = 200, 0.4

DRAWS = 4
"""Sampled responses to each prompt."""


@dataclass(frozen=True)
class Training:
    """How a base is trained: Muon on the matrices of the layers, AdamW on the rest; the learning rate warms up over 200
    steps, and falls to 0 over the last 0.4 of them.

    Attributes:
        steps: optimizer steps.
        rows: of a step, each as long as the context and full of pairs drawn afresh from the mixture.
        lr: peak learning rate.
        seed: of weights and data.
        eval_every: steps between evaluations.
        test_size: held-out prompts of each task.
        compile: the loss by ``torch.compile``.
        average: share of the weights that were there before in those that result [Wortsman et al. 2022], so that a
            model that is trained on does not forget what the new mixture has less of.
    """

    steps: int
    rows: int
    lr: float
    seed: int
    eval_every: int
    test_size: int
    compile: bool = False
    average: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "rows", "eval_every", "test_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be above 0, got {self.lr}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be at least 0 and below 1, got {self.average}")

    def rate(self, step: int) -> float:
        """The share of the peak learning rate at a step."""
        left = (self.steps - step) / (COOL_DOWN * self.steps)
        return min((step + 1) / WARM_UP, 1.0, left)


@dataclass(frozen=True)
class Frequency:
    """How often a strategy is followed, mean over the prompts; responses that follow several count in part.

    Attributes:
        mixture: ``p(s|x)``.
        base: probability of its responses under the base, a sum over all of them.
        sampled: share of the base's sampled responses.
    """

    mixture: float
    base: float
    sampled: float


@dataclass(frozen=True)
class TaskReport:
    """What the base reaches on held-out prompts of one task.

    Attributes:
        loss: ``E_x E_{y ~ mixture} -log p0(y|x)`` over all responses of the mixture, nats per sequence.
        floor: the mixture's entropy, nats per sequence: no law has a smaller loss.
        accuracy: share of right answers of sampled responses.
        frequencies: by strategy.
    """

    loss: float
    floor: float
    accuracy: float
    frequencies: dict[str, Frequency]

    @property
    def excess(self) -> float:
        """The loss above the floor, as a share of it; infinite where one response is all there is to a prompt."""
        return self.loss / self.floor - 1 if self.floor else math.inf


@dataclass(frozen=True)
class BaseReport:
    """What a trained base reaches, by task.

    Attributes:
        tasks: figures of each.
        pairs: that it was trained on.
        seconds: of the training.
    """

    tasks: dict[str, TaskReport]
    pairs: int
    seconds: float


def train_base(backbone: Backbone, task: Task, training: Training) -> BaseReport:
    """Train the whole LM of ``backbone`` on fresh pairs of the task's mixture, by the loss of the response alone,
    in nats per token.

    Raises:
        ValueError: a loss that is not finite.
    """
    lm = backbone.lm
    lm.requires_grad_(True)
    before = [p.detach().clone() for p in lm.parameters()]
    optimizers = _optimizers(lm, lm.get_output_embeddings(), training.lr)
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, training.rate) for o in optimizers]
    examples = (encode(backbone, t.prompt, t.response) for t in task.stream("train", training.seed))
    packs = pack(examples, training.rows, backbone.context, backbone.pad_id)
    loss_of: Callable[..., Tensor] = torch.compile(_loss) if training.compile else _loss
    prompts = {name: t.prompts(training.test_size, "test", training.seed) for name, t in task.parts.items()}
    began, pairs = time.perf_counter(), 0
    with tqdm(range(training.steps), desc="pretrain", disable=None) as bar:
        for step in bar:
            packed = next(packs).to(backbone.device)
            pairs += packed.size
            loss = loss_of(lm, packed.ids, packed.attention(), packed.position, packed.target)
            if not torch.isfinite(loss):
                raise ValueError(f"the loss of step {step + 1} is {float(loss.detach())}; lower lr")
            loss.backward()
            nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            if (step + 1) % training.eval_every == 0:
                above = {
                    name: held_out - floor
                    for name, t in task.parts.items()
                    for held_out, floor in [mixture_loss(backbone, t, prompts[name][:100])]
                }
                text = ", ".join(f"{name} {nats:.3f}" for name, nats in above.items())
                log.info(
                    "step %s, %.0f s: nats a sequence above the floor: %s",
                    step + 1,
                    time.perf_counter() - began,
                    text,
                )
    lm.requires_grad_(False)
    for new, old in zip(lm.parameters(), before, strict=True):
        new.lerp_(old, training.average)
    seconds = time.perf_counter() - began
    reports = {name: report(backbone, t, prompts[name], training.seed) for name, t in task.parts.items()}
    return BaseReport(reports, pairs, seconds)


def _optimizers(lm: nn.Module, head: nn.Module | None, lr: float) -> list[torch.optim.Optimizer]:
    """Muon [Jordan et al. 2024] for the matrices of the layers, AdamW for embeddings, head and norms."""
    tables = {id(m.weight) for m in lm.modules() if isinstance(m, nn.Embedding) or m is head}
    matrices = [p for p in lm.parameters() if p.ndim == 2 and id(p) not in tables]
    chosen = {id(p) for p in matrices}
    rest = [p for p in lm.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _loss(lm: nn.Module, ids: Tensor, attention: Tensor, position: Tensor, target: Tensor) -> Tensor:
    """Nats per token of the responses."""
    logits = lm(input_ids=ids, attention_mask=attention, position_ids=position, use_cache=False).logits
    nll = cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
    wanted = target[:, 1:].flatten()
    return (nll * wanted).sum() / wanted.sum()


def report(backbone: Backbone, task: Task, prompts: Sequence[str], seed: int) -> TaskReport:
    loss, floor = mixture_loss(backbone, task, prompts)
    right, true, base, sampled = 0.0, Counter[str](), Counter[str](), Counter[str]()
    for prompt, response, _, log_p in _scored(backbone, task, prompts):
        base.update(_followed(task, prompt, response, math.exp(log_p)))
    for draw in range(DRAWS):
        for prompt, text in zip(prompts, sample_texts(backbone, prompts, seed + draw), strict=True):
            true.update(task.admissible(prompt))
            right += task.is_correct(prompt, text)
            sampled.update(_followed(task, prompt, text, 1.0))
    num = DRAWS * len(prompts)
    frequencies = {
        s: Frequency(true[s] / num, base[s] / len(prompts), sampled[s] / num) for s in task.strategies
    }
    return TaskReport(loss, floor, right / num, frequencies)


def _followed(task: Task, prompt: str, response: str, weight: float) -> dict[str, float]:
    """A weight shared between the strategies that a response follows."""
    found = task.strategies_of(prompt, response)
    return {s: weight / len(found) for s in found}


def mixture_loss(backbone: Backbone, task: Task, prompts: Sequence[str]) -> tuple[float, float]:
    """The exact expected loss on the prompts, over every response of the mixture, and the mixture's entropy."""
    loss = -sum(p * log_p for _, _, p, log_p in _scored(backbone, task, prompts)) / len(prompts)
    return loss, sum(map(task.entropy, prompts)) / len(prompts)


@torch.no_grad()
def _scored(
    backbone: Backbone, task: Task, prompts: Sequence[str]
) -> Iterator[tuple[str, str, float, float]]:
    """Each prompt with each response of the mixture, its probability there, and ``log p0(y|x)``."""
    every = [(prompt, response, p) for prompt in prompts for response, p in task.law(prompt).items()]
    for start in range(0, len(every), 512):
        part = every[start : start + 512]
        batch = collate([encode(backbone, prompt, response) for prompt, response, _ in part], backbone.pad_id)
        batch = batch.to(backbone.device)
        assert batch.response is not None
        law = LanguageModel(backbone, encode_prompt(backbone, BASE, batch.prompt, batch.prompt_mask))
        for row, log_p in zip(part, law.log_prob(batch.response).tolist(), strict=True):
            yield *row, log_p


def sample_texts(backbone: Backbone, prompts: Sequence[str], seed: int) -> list[str]:
    """One sampled response to each prompt, as long as the context has room for."""
    examples = [encode(backbone, prompt) for prompt in prompts]
    room = backbone.context - max(len(e.prompt) for e in examples)
    return [decode(backbone, ids) for ids in sample_base(backbone, examples, room, seed)]
