"""What model, guide and base say of held-out data: the tensors that the figures are made of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ...models import Capability, LatentProgram, base_law
from ..dataset import Dataset
from ..expectations import Enumerate, Sample
from ..log_quantities import LogQuantities, xlogp
from .tokens import of_response

PARTICLES = 64

ROWS = 8
"""Draws of the guide for each datum of a batch that are scored at once; of more draws, fewer data are."""


@dataclass(frozen=True)
class Posteriors:
    """Per-datum quantities of N data, in nats per sequence.

    Attributes:
        exact: whether z was summed over; otherwise importance-weighted over draws of the guide.
        log_base: ``log p0(y|x)``, ``(N,)``.
        log_marginal: ``log p(y|x)``, or an estimate that is too low in the mean, ``(N,)``.
        information: ``KL(p(z|x,y) || p(z|x))``, ``(N,)``; self-normalised where not exact.
        kl_router: ``KL(q || p(z|x))``, ``(N,)``.
        gap: ``KL(p(z|x,y) || q)``, ``(N,)``; not known where not exact.
        router_entropy: entropy of ``p(z|x)``, ``(N,)``; not known where not exact.
        posterior: ``p(z|x,y)``, ``(N, P)`` over the joint values of the latents; where exact.
        amortized: ``q(z|x,y)``, ``(N, P)``; where exact.
        router: ``p(z|x)``, ``(N, P)``; where exact.
        draws: by site, ``(S, N, *event)`` draws from the guide; where not exact.
        lengths: tokens of each response, ``(N,)``.
        log_weight: ``log p(y,z|x) - log q``, ``(S, N)``, of the draws; where not exact.
        log_tokens: ``log p(y_t|x,y_<t)``, z summed out, ``(N, T)``, NaN after the end; where asked for, of the
            response of a language model.
    """

    exact: bool
    log_base: Tensor
    log_marginal: Tensor
    information: Tensor
    kl_router: Tensor
    lengths: Tensor
    gap: Tensor | None = None
    router_entropy: Tensor | None = None
    posterior: Tensor | None = None
    amortized: Tensor | None = None
    router: Tensor | None = None
    draws: dict[str, Tensor] | None = None
    log_weight: Tensor | None = None
    log_tokens: Tensor | None = None


@torch.no_grad()
def posteriors(
    model: LatentProgram,
    guide: nn.Module,
    data: Dataset,
    batch_size: int = 64,
    particles: int = PARTICLES,
    tokens: bool = False,
) -> Posteriors:
    """Run model, guide and base over the data, by enumeration where every latent allows it.

    Args:
        model: the latent model.
        guide: its guide.
        data: prompts and responses.
        batch_size: data at a time; of draws of the guide as many rows as :data:`ROWS` times that.
        particles: draws of the guide for each datum, where not enumerated.
        tokens: whether to keep the log-probabilities of tokens.
    """
    exact = all(Capability.ENUMERABLE in latent.capabilities for latent in model.latents.values())
    expectation = Enumerate() if exact else Sample(particles)
    size = batch_size if exact else max(1, batch_size * ROWS // particles)
    parts, of_tokens = [], []
    for batch in data.batches(size):
        here = batch.to(model.backbone.device)
        log = expectation(model, guide, here)
        assert here.response is not None
        assert here.response_mask is not None
        common = {
            "log_base": base_law(model, here).log_prob(here.response),
            "lengths": here.response_mask.sum(1),
        }
        if tokens and (log_p := of_response(log)) is not None:
            of_tokens.append(log_p.masked_fill(~here.response_mask, torch.nan).cpu())
        parts.append({k: v.cpu() for k, v in (common | (_exact(log) if exact else _sampled(log))).items()})
    whole = {name: torch.cat([part[name] for part in parts], -1) for name in parts[0] if "/" not in name}
    for name in ("posterior", "amortized", "router"):
        if name in whole:
            whole[name] = whole[name].T  # (N, P)
    draws = {
        k.removeprefix("z/"): torch.cat([part[k] for part in parts], 1)
        for k in parts[0]
        if k.startswith("z/")
    }
    return Posteriors(exact=exact, **whole, draws=draws or None, log_tokens=_padded(of_tokens))


def _padded(parts: list[Tensor]) -> Tensor | None:
    """``(N, T)`` of ``(B, T)`` each, NaN behind the shorter ones."""
    if not parts:
        return None
    length = max(part.shape[1] for part in parts)
    return torch.cat([pad(part, (0, length - part.shape[1]), value=torch.nan) for part in parts])


def _exact(log: LogQuantities) -> dict[str, Tensor]:
    log_posterior, log_q, log_prior = log.log_posterior, log.log_q, log.log_prior
    return {
        "log_marginal": log.log_marginal,
        "information": xlogp(log_posterior, log_posterior - log_prior).sum(0),
        "kl_router": xlogp(log_q, log_q - log_prior).sum(0),
        "gap": xlogp(log_posterior, log_posterior - log_q).sum(0),
        "router_entropy": -xlogp(log_prior, log_prior).sum(0),
        "posterior": log_posterior.exp(),
        "amortized": log_q.exp(),
        "router": log_prior.exp(),
    }


def _sampled(log: LogQuantities) -> dict[str, Tensor]:
    particles = log.log_w.shape[0]
    log_marginal = log.log_w.logsumexp(0) - torch.tensor(float(particles)).log()
    weight = log.log_w.softmax(0)
    return {
        "log_marginal": log_marginal,
        "information": (weight * log.log_lik).sum(0) - log_marginal,
        "kl_router": (log.log_q - log.log_prior).mean(0),
        "log_weight": log.log_w,
        **{f"z/{name}": site.z for name, site in log.sites.items()},
    }
