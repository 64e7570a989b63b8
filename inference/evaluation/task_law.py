"""How early in the response the strategy and the nuisance can be read by the task's own law."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...models import Backbone
from ...models.text import encode
from ...tasks import Task
from ..log_quantities import xlogp

CHOICES = ("strategy", "nuisance")


def task_law(backbone: Backbone, task: Task, prompts: Sequence[str]) -> dict[str, Tensor]:
    """Of strategy and nuisance, what the first t tokens of a response tell of them: ``(T + 1,)`` each, by name.

    The law of a prompt is finite, and the posterior ``p(s|x,y_<=t)`` is the share of s among the responses that begin
    like y. ``<choice>_information`` is its divergence from the law given the prompt alone, in nats,
    ``<choice>_certainty`` its largest probability; exact expectations over y, means over the prompts.

    Args:
        backbone: whose tokens they are.
        task: the task.
        prompts: at least one.
    """
    found = [_of_prompt(backbone, task, prompt) for prompt in prompts]
    length = max(len(curve) for curves in found for curve in curves.values())
    return {name: torch.stack([hold(curves[name], length) for curves in found]).mean(0) for name in found[0]}


def hold(curve: Tensor, length: int) -> Tensor:
    """The curve with its last value repeated up to ``length``."""
    return torch.cat([curve, curve[-1:].expand(max(0, length - len(curve)))])


def _of_prompt(backbone: Backbone, task: Task, prompt: str) -> dict[str, Tensor]:
    law = task.law(prompt)
    ids = [encode(backbone, prompt, response).response for response in law]
    length = max(map(len, ids))
    tokens = torch.tensor([[*row, *[-1] * (length - len(row))] for row in ids])  # (R, T)
    alike = (tokens[:, None] == tokens).cumprod(-1)  # (R, R, T): the first t tokens are
    alike = torch.cat([torch.ones_like(alike[..., :1]), alike], -1).double()
    p = torch.tensor(list(law.values()), dtype=torch.float64)
    out = {}
    for choice, joint in zip(CHOICES, _joint(task, prompt, law), strict=True):
        mass = torch.einsum("qrt,rc->qtc", alike, joint)
        log_posterior = (mass / mass.sum(-1, keepdim=True)).log()  # (R, T + 1, C)
        divergence = xlogp(log_posterior, log_posterior - log_posterior[:, :1]).sum(-1)
        out[f"{choice}_information"] = p @ divergence
        out[f"{choice}_certainty"] = p @ log_posterior.exp().amax(-1)
    return out


def _joint(task: Task, prompt: str, law: dict[str, float]) -> tuple[Tensor, Tensor]:
    """``p(y,s|x)``, ``(R, S)``, and ``p(y,n|x)``, ``(R, N + 1)``, the last place for responses that show none."""
    open_to, nuisances = task.admissible(prompt), (*task.nuisances, None)
    strategies = torch.zeros(len(law), len(task.strategies), dtype=torch.float64)
    marks = torch.zeros(len(law), len(nuisances), dtype=torch.float64)
    for row, (response, p) in enumerate(law.items()):
        found = task.strategies_of(prompt, response)
        for s in found:
            strategies[row, task.strategies.index(s)] = (
                p * open_to[s] / sum(open_to[other] for other in found)
            )
        marks[row, nuisances.index(task.nuisance_of(response))] = p
    return strategies, marks
