"""Which latents, and which of their coordinates, carry something."""

from __future__ import annotations

import numpy as np
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import Independent, kl_divergence

from ....models.generation import in_order
from ...evaluation.statistics import mean_se, named
from ...evaluation.use import ACTIVE, spread_of_means
from ...expectations import Sample, latents_alone
from ...log_quantities import Site
from ...randomness import seeded
from ..diagnostic import Readings
from ..subject import Subject

DRAWS = 2
"""Of the guide: divergences have a closed form, as a rule."""


def dimensions(subject: Subject) -> Readings:
    """``KL(q(z|x,y) || p(z|x))`` of each latent and each coordinate, and active units, on responses of the base.

    A latent's share of ``use/kl_router`` is ``E_q KL(q(z_i|z_<i,x,y) || p(z_i|z_<i,x))``, in the order of the program:
    exact where z is enumerable, else a mean over draws of the guide. Coordinates are those of continuous latents whose
    laws under guide and router have independent ones; of others there is nothing. A unit is active where the mean of
    its posterior has a variance above 0.01 over the data [Burda et al. 2016, section 5.2], of which the part that comes
    from taking the mean over draws is taken off.
    """
    if subject.enumerable:
        return Readings(_by_latent(subject))
    figures, curves = _by_coordinate(subject)
    assert subject.seen.draws is not None
    for name, draws in subject.seen.draws.items():
        if draws.is_floating_point():
            figures[f"dimension/active/{name}"] = float((spread_of_means(draws) > ACTIVE).sum())
    return Readings(figures, curves)


def _by_latent(subject: Subject) -> dict[str, float]:
    """From the joint laws ``(N, P)``, by the chain rule."""
    seen, device = subject.seen, subject.model.backbone.device
    assert seen.amortized is not None
    assert seen.router is not None
    latents = in_order(subject.model, subject.data.batch([0]).to(device))
    shape = (-1, *(latent.num_values for latent in reversed(latents.values())))
    q, p = seen.amortized.double().reshape(shape), seen.router.double().reshape(shape)
    out: dict[str, float] = {}
    before = torch.zeros(len(q), dtype=torch.float64)
    for i, name in enumerate(latents):
        later = tuple(range(1, len(latents) - i))
        here_q, here_p = (law.sum(later) if later else law for law in (q, p))
        here = (torch.special.xlogy(here_q, here_q) - torch.special.xlogy(here_q, here_p)).flatten(1).sum(1)
        out |= named(f"dimension/kl/{name}", mean_se(here - before))
        before = here
    return out


@torch.no_grad()
def _by_coordinate(subject: Subject) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """From the laws of model and guide, run again."""
    whole: dict[str, list[Tensor]] = {}
    parts: dict[str, list[Tensor]] = {}
    model = latents_alone(subject.model)
    with seeded(subject.seed + 49_979_687, subject.model.backbone.device):
        for batch in subject.data.batches(subject.batch_size):
            log = Sample(DRAWS)(model, subject.guide, batch.to(subject.model.backbone.device))
            for name, site in log.sites.items():
                each = divergences(site, torch.Size(log.log_q.shape))
                here = (site.log_q - site.log_prior).mean(0) if each is None else each.sum(1)
                whole.setdefault(name, []).append(here.cpu())
                if each is not None:
                    parts.setdefault(name, []).append(each.cpu())
    figures: dict[str, float] = {}
    curves = {}
    for name, rows in whole.items():
        figures |= named(f"dimension/kl/{name}", mean_se(torch.cat(rows)))
    for name, rows in parts.items():
        table = torch.cat(rows)  # (N, D)
        for d, column in enumerate(table.T):
            figures |= named(f"dimension/kl/{name}/{d}", mean_se(column))
        curves[f"dimension/kl/{name}"] = table.double().mean(0).numpy()
    return figures, curves


def divergences(site: Site, shape: torch.Size) -> Tensor | None:
    """``KL(q || p)`` of each coordinate of a continuous latent, ``(B, D)``; None where they are not independent.

    Of laws that have no closed form, a mean of ``log q - log p`` over the draws.

    Args:
        site: the latent.
        shape: ``(S, B)``, of the draws.
    """
    q, p = (_by_itself(law.expand(shape)) for law in (site.posterior, site.prior))
    if q is None or p is None or not site.z.is_floating_point():
        return None
    try:
        found = kl_divergence(q, p)
    except NotImplementedError:
        found = q.log_prob(site.z) - p.log_prob(site.z)
    return found.expand(*shape, *found.shape[2:]).mean(0).reshape(shape[1], -1)


def _by_itself(law: TorchDistribution) -> TorchDistribution | None:
    """The laws of the coordinates of an event, one for each; None where it is not made of such."""
    while isinstance(law, Independent):
        law = law.base_dist
    return law if law.event_dim == 0 else None
