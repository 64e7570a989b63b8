"""Second lives for strategies that are hardly used."""

from __future__ import annotations

import logging

import torch
from torch import nn

from ..models import Categorical, GroupedRouter, LatentLM, LinearConditioning
from .dataset import readers

log = logging.getLogger(__name__)

JITTER = 0.3
"""Noise of a copy, as a share of the root mean square of what is copied."""

DEAD = 0.01
"""Share of the mean posterior below which a strategy is not used."""


@torch.no_grad()
def revive(
    model: nn.Module,
    guide: nn.Module,
    usage: list[float],
    entropy: list[float],
    threshold: float,
    seed: int,
) -> bool:
    """Start a strategy that is half of one, or not used, again beside one that is two.

    A mixture can come to rest with one strategy cut in two by a surface choice while another latent holds two
    strategies; no small step leads out, and the information of both cuts is the same. What tells them apart is what
    is left open once z is known: nothing in a half, the surface in a strategy, surface and strategy where two are
    in one, however frequent each is. The half is given up and the crowded latent split: its conditioning is
    copied with noise, and so are the rows of router and guide, so that the guide does not call it back [split and
    merge, Ueda et al. 2000; restarts of unused codes, Dhariwal et al. 2020, section 3.1].

    Args:
        model: acted on where it is a :class:`LatentLM` with one categorical latent, a linear conditioning, and a router
            whose share of each strategy is known.
        guide: its guide.
        usage: share of each strategy in the mean posterior, K of them.
        entropy: of the responses of each, nats per sequence.
        threshold: share of the largest entropy, below which the smallest is that of a half; 0 never. A whole strategy
            beside others that have not yet formed has a third of theirs.
        seed: of the noise.

    Returns:
        Whether a strategy was started again.
    """
    if not isinstance(model, LatentLM) or len(model.latents) != 1 or len(usage) < 2 or not threshold:
        return False
    ((name, conditioning),) = model.conditionings.items()
    half = min(range(len(usage)), key=lambda k: (usage[k] >= DEAD, entropy[k]))
    source = max(range(len(usage)), key=lambda k: (usage[k] >= DEAD, entropy[k]))
    alive = usage[half] >= DEAD and entropy[half] >= threshold * entropy[source]
    router = model.routers[name]
    if not isinstance(model.latents[name], Categorical) or not isinstance(router, GroupedRouter):
        return False
    if not isinstance(conditioning, LinearConditioning) or alive:
        return False
    rows = conditioning.weight
    noise = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(seed)).to(rows)
    rows[half] = rows[source] + JITTER * rows[source].square().mean().sqrt() * noise
    copied = torch.eye(len(usage), dtype=torch.double)
    copied[half] = copied[source]
    router.regroup(copied, torch.zeros(len(usage), dtype=torch.double), ())
    for reader in readers({"guide": guide}):
        reader.regroup(copied)
    log.info(
        "strategy %s of %s, used in %.3f with responses of %.2f nats, started again beside %s, of %.2f nats",
        half,
        name,
        usage[half],
        entropy[half],
        source,
        entropy[source],
    )
    return True
