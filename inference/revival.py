"""Second lives for strategies that are hardly used."""

from __future__ import annotations

import logging

import torch
from torch import nn

from ..models import LatentLM, LinearConditioning
from .dataset import readers

log = logging.getLogger(__name__)

JITTER = 0.3
"""Noise of a copy, as a share of the root mean square of what is copied."""


@torch.no_grad()
def revive(model: nn.Module, guide: nn.Module, usage: list[float], threshold: float, seed: int) -> bool:
    """Start the least used strategy again beside the most used one, where it has less than ``threshold`` of its share.

    A mixture can come to rest with one strategy cut in two by a surface choice while another latent holds two
    strategies; no small step leads out. One of the halves is given up and the crowded latent split: its
    conditioning is copied with noise, and so are the rows of router and guide, so that the guide does not call it
    back [split and merge, Ueda et al. 2000; restarts of unused codes, Dhariwal et al. 2020, section 3.1].

    Args:
        model: acted on where it is a :class:`LatentLM` with one latent and a linear conditioning.
        guide: its guide.
        usage: share of each strategy in the mean posterior, K of them.
        threshold: below 1. Where the true strategies differ more in frequency, it is to be lower.
        seed: of the noise.

    Returns:
        Whether a strategy was started again.
    """
    if not isinstance(model, LatentLM) or len(model.latents) != 1 or len(usage) < 2:
        return False
    ((name, conditioning),) = model.conditionings.items()
    dead, source = (
        min(range(len(usage)), key=usage.__getitem__),
        max(range(len(usage)), key=usage.__getitem__),
    )
    if not isinstance(conditioning, LinearConditioning) or usage[dead] >= threshold * usage[source]:
        return False
    rows = conditioning.weight
    noise = torch.randn(rows.shape[1], generator=torch.Generator().manual_seed(seed)).to(rows)
    rows[dead] = rows[source] + JITTER * rows[source].square().mean().sqrt() * noise
    for reader in readers({"router": model.routers[name], "guide": guide}):
        last = reader.output
        last.weight[dead], last.bias[dead] = last.weight[source], last.bias[source]
    log.info(
        "strategy %s of %s had a share of %.3f: started again beside %s", dead, name, usage[dead], source
    )
    return True
