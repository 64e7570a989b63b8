"""A latent model with fewer strategies, from one with more."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy

import torch
from torch import Tensor, nn

from ..guides import AmortizedGuide, ExactGuide
from ..models import Batch, Categorical, GroupedRouter, LatentLM, LinearConditioning
from .dataset import readers
from .pruning import Pruning

GUIDES = (AmortizedGuide, ExactGuide)


def check_reducible(model: nn.Module, guide: nn.Module) -> str:
    """The name of the one latent whose strategies can be dropped and merged.

    Raises:
        ValueError: another model, or parts of it that are not known to have weights of their own for each strategy.
    """
    if not isinstance(model, LatentLM):
        raise ValueError(f"prune: expected a LatentLM, got {type(model).__name__}")
    latents = list(model.latents.items())
    if len(latents) != 1 or not isinstance(latents[0][1], Categorical):
        has = ", ".join(f"{name} ({type(latent).__name__})" for name, latent in latents)
        raise ValueError(
            f"prune: expected one categorical latent, whose K strategies can be told apart by their outputs; the model "
            f"has {has}"
        )
    name = latents[0][0]
    for what, part, kinds in (
        ("router", model.routers[name], (GroupedRouter,)),
        ("conditioning", model.conditionings[name], (LinearConditioning,)),
        ("guide", guide, GUIDES),
    ):
        if not isinstance(part, kinds):
            raise ValueError(
                f"prune: {what} {type(part).__name__}: what of it belongs to which strategy is not known; expected "
                f"{' or '.join(kind.__name__ for kind in kinds)}"
            )
    return name


@torch.no_grad()
def reduce(
    model: LatentLM, guide: nn.Module, pruning: Pruning, router: Tensor, prompts: Iterable[Batch]
) -> None:
    """Keep one strategy of each group, in place; it gets the group's mass in router and guide.

    - Conditioning: the kept rows, as they were.
    - Router: the kept strategy's logit, and the log of the group's mass over its own, of the means over the prompts.
      This is the law of the groups, ``p(g|x) = sum_{k in g} p(k|x)``, where the shares within each group are the same
      on every prompt, and near it elsewhere, since a sum of exponentials of linear logits is not one. Of what is
      dropped the mass goes to all in proportion.
    - Guide: ``sum_k w_k l_k + H(w)`` of the logits of a group, w being the shares of its members in the mean posterior:
      linear, and a lower bound of ``log sum_k exp l_k`` that is tight where the shares are w. What a guide tells the
      members apart by drops out; the kept strategy's own logit would go by it.

    Args:
        model: of one categorical latent.
        guide: its guide.
        pruning: the groups, at least two.
        router: ``p(z|x)``, ``(N, K)``, on the prompts.
        prompts: the same, on the model's device.
    """
    name = check_reducible(model, guide)
    law, conditioning, groups = model.routers[name], model.conditionings[name], pruning.groups
    kept = [group[0] for group in groups]
    mass = router.double().mean(0)
    gain = torch.stack([(mass[group].sum() / mass[group[0]]).log() for group in groups])
    smaller = copy(model.latents[name])
    assert isinstance(smaller, Categorical)
    smaller.K = len(groups)
    pick = torch.eye(len(mass), dtype=torch.double)[kept]  # (G, K)
    assert isinstance(law, GroupedRouter)
    law.regroup(pick, gain, prompts)
    assert isinstance(conditioning, LinearConditioning)
    conditioning.weight = nn.Parameter(conditioning.weight[kept])
    if isinstance(guide, AmortizedGuide):
        share = torch.zeros_like(pick)
        for row, group in zip(share, groups, strict=True):
            row[group] = torch.tensor(pruning.usage, dtype=torch.double)[group]
        share /= share.sum(1, keepdim=True)
        (reader,) = readers({"guide": guide})
        reader.regroup(share, -torch.special.xlogy(share, share).sum(1))
        guide.latents[name] = smaller
    model.latents[name] = law.latent = conditioning.latent = smaller
