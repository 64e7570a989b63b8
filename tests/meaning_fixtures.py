"""Outputs and posteriors that follow strategies of sorting, and prompts that tell these apart."""

from __future__ import annotations

import random
from typing import Any

import torch
from stratagem.inference.evaluation.meaning import telling
from stratagem.tasks import Sorting
from torch import Tensor, nn

TASK = Sorting()
S = len(TASK.strategies)
RNG = random.Random(0)

every_prompt = TASK.prompts(300, "test", 0)
TELLING = [p for p, row in zip(every_prompt, telling(TASK, every_prompt), strict=True) if row.all()][:120]
MUTE = [p for p, row in zip(every_prompt, telling(TASK, every_prompt), strict=True) if not row.any()]


def traces(choice: Any, prompts: list[str] = TELLING) -> list[list[str]]:
    """Outputs of latents that follow strategy ``choice[k]``, or ``choice(k, n)``, with any nuisance."""
    ks = range(len(choice)) if not callable(choice) else range(S)
    pick = choice if callable(choice) else lambda k, _: choice[k]
    return [
        [
            TASK.trace(p, TASK.strategies[pick(k, n)], RNG.choice(TASK.nuisances))
            for n, p in enumerate(prompts)
        ]
        for k in ks
    ]


def certain(labels: list[int], K: int) -> Tensor:
    return nn.functional.one_hot(torch.tensor(labels), K).float()
