"""Model and guide run over the data for their laws of the latents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from ...models import Batch, base_law
from ..expectations import Enumerate, Sample, latent_sites, site_log_prob
from ..expectations.expectation import total
from ..log_quantities import Program, xlogp
from .inferred import Inferred, enumerated, sampled


@torch.no_grad()
def supports(model: Program, batch: Batch) -> tuple[dict[str, Tensor], bool]:
    """The values of each enumerable latent, ``(K, *event)``, in the program's order; and whether all latents are.

    Where some are not, of those alone whose values are 0, 1, ..., K - 1.
    """
    sites = latent_sites(poutine.trace(model).get_trace(batch))
    found = {
        name: site["fn"].enumerate_support(expand=False).reshape(-1, *site["fn"].event_shape)
        for name, site in sites.items()
        if site["fn"].has_enumerate_support
    }
    if len(found) == len(sites):
        return found, True
    return {name: k for name, k in found.items() if k.dim() == 1 and k.tolist() == [*range(len(k))]}, False


@torch.no_grad()
def infer(
    model: Program,
    guide: Program,
    batches: Sequence[Batch],
    sizes: Mapping[str, int],
    exact: bool,
    draws: int,
) -> Inferred:
    """All latents enumerated where that is ``exact``, else weighted draws of the guide."""
    expectation = Enumerate() if exact else Sample(draws)
    parts: list[dict[str, Tensor]] = []
    for batch in batches:
        log = expectation(model, guide, batch)
        part = {"log_p_base": _log_base(model, batch)}
        if exact:
            part |= {"posterior": log.log_posterior, "guide": log.log_q, "router": log.log_prior}
            part |= {"log_marginal": log.log_marginal}
        else:
            log_marginal = log.log_w.logsumexp(0) - math.log(draws)
            part |= {"log_weight": log.log_w, "log_q": log.log_q, "log_marginal": log_marginal}
            part |= {"information": xlogp(log.log_target, log.log_lik).sum(0) - log_marginal}
            part |= {"kl_router": (log.log_q - log.log_prior).mean(0)}
            part |= {f"z/{name}": site.z.expand(draws, *site.z.shape[1:]) for name, site in log.sites.items()}
        parts.append({name: value.cpu() for name, value in part.items()})
    whole = {k: torch.cat([p[k] for p in parts], 1 if k.startswith("z/") else -1) for k in parts[0]}
    if exact:
        posterior, guide_law, router = (whole[name].T for name in ("posterior", "guide", "router"))
        return enumerated(
            posterior, guide_law, router, whole["log_marginal"], whole["log_p_base"], sizes, draws
        )
    stats = {name: whole[name] for name in ("log_p_base", "information", "kl_router")}
    z = {k.removeprefix("z/"): value for k, value in whole.items() if k.startswith("z/")}
    return sampled(z, whole["log_weight"], whole["log_marginal"], stats, sizes, whole["log_q"])


def _log_base(model: Program, batch: Batch) -> Tensor:
    """``log p0(y|x)``, ``(B,)``; NaN where the model has no base."""
    if not hasattr(model, "base") and not hasattr(model, "backbone"):
        return torch.full((len(batch),), math.nan)
    assert batch.response is not None
    return base_law(model, batch).log_prob(batch.response)


@torch.no_grad()
def router_draws(model: Program, batches: Sequence[Batch], draws: int) -> dict[str, Tensor]:
    """S draws of the latents given the prompt alone, by site ``(S, N, *event)``."""
    parts = []
    for batch in batches:
        sites = latent_sites(given(model, batch, {}, draws))
        parts.append({k: v["value"].expand(draws, *v["value"].shape[1:]).cpu() for k, v in sites.items()})
    return {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]}


@torch.no_grad()
def guide_log_q(guide: Program, batches: Sequence[Batch], draws: Mapping[str, Tensor]) -> Tensor:
    """``log q(z|x,y)`` of draws of all latents ``(S, N, *event)``: ``(S, N)``."""
    rows, parts, start = len(next(iter(draws.values()))), [], 0
    for batch in batches:
        here = {name: z[:, start : start + len(batch)].to(batch.prompt.device) for name, z in draws.items()}
        nodes, shape = given(guide, batch, here, rows).nodes, torch.Size((rows, len(batch)))
        of_sites = [site_log_prob(name, nodes[name]["fn"], here[name], shape) for name in here]
        parts.append(total(of_sites, shape).cpu())
        start += len(batch)
    return torch.cat(parts, 1)


def given(program: Program, batch: Batch, z: Mapping[str, Tensor], rows: int) -> Trace:
    """The trace of ``rows`` runs side by side, with the latents of ``z``, ``(rows, 1 or B, *event)``, as they are."""
    with pyro.plate("rows", rows, dim=-2):
        return poutine.trace(poutine.condition(program, data=dict(z))).get_trace(batch)
