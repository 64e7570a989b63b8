"""The information between z and y, by every way of estimating it, and which of them can be trusted."""

from __future__ import annotations

import math

import pyro
import torch
from pyro import poutine
from torch import Tensor

from ...evaluation.statistics import mean_se, named
from ...expectations import Sample, latents_alone
from ...expectations.expectation import read_likelihood
from ...laws import Law, laws_given_datum
from ...log_quantities import xlogp
from ...randomness import seeded
from ..bracket import Bracket, bracket
from ..diagnostic import Readings
from ..mixtures import Estimate, crossed, jackknife, mean_log_mixture, mean_log_table, mean_of
from ..own_draws import OwnDraws, own_draws
from ..subject import Subject

LOOKED_UP, SCORED = 511, 15
"""Draws of the router that each pair is contrasted with: of an enumerable z, where they cost nothing, and of others."""

DRAWS = 4
"""Of each datum's law, for the aggregates of laws without a finite support."""

NATS, SHARE = 0.1, 0.2
"""What an estimate that is trusted may leave open, in nats, or as a share of itself where that is more."""


def information(subject: Subject) -> Readings:
    """``I(z; y|x)`` of the model's own law, x being held-out prompts, ``z ~ p(z|x)`` and ``y ~ p(y|x,z)``.

    All estimates are on the same draws (z, y), one for each prompt, so that they can be held against each other;
    ``use/mutual_information`` is on responses of the base. Where z is enumerable the exact sum over it leaves the
    draws of y alone to chance. Where it is not, two bounds hold it, the better of those by contrast with draws of the
    guide, as importance samples, and by InfoNCE.

    - InfoNCE contrasts the z of each pair with draws of the router for the same prompt.
    - The aggregate-posterior estimate is ``E KL(q(z|x,y) || p(z|x)) - KL(E q(z|x,y) || E p(z|x))``
      [Hoffman & Johnson 2016, with a router for the prior]: the information where the guide is the posterior.
      Aggregates are means over the data, its error and its correction for bias the jackknife's.
    - ``information/prompt`` is ``I(z; x)``: ``E KL(p(z|x) || E p(z|x))``, likewise.

    An estimate is trusted where what the number of contrasts or of data leaves open, with two standard errors, is at
    most a tenth of a nat or a fifth of the estimate; that of the aggregate posterior, which believes the guide, if
    beside that it agrees with the exact sum, or with both bounds, as closely.

    Nothing where the program does not say how y is drawn given its latents alone. The aggregate-posterior estimate
    and ``information/prompt`` are left out for a single datum, and where a law depends on the draws of other latents
    that cannot be enumerated.
    """
    own = own_draws(subject)
    if own is None:
        return Readings()
    contrasts = _contrasts(subject, own)
    infonce = bracket(own.log_lik, own.log_lik, contrasts)
    figures = {
        **named("information/infonce", infonce.low),
        "information/infonce_ceiling": math.log(len(contrasts) + 1),
        "information/infonce_width": infonce.width,
        "information/infonce_trusted": float(settled(*infonce.low, infonce.width)),
        **named("information/guide", mean_se(_read_by_guide(own))),
    }
    if own.values.enumerated:
        exact = mean_se(_exact(own))
        known = Bracket(exact, exact)
        figures |= named("information/exact", exact)
    else:
        known = bracket(own.log_lik, own.truth.log_w[0], own.values.log_w).within(infonce)
        figures |= named("information/lower", known.low) | named("information/upper", known.high)
    if len(own) > 1 and (found := _aggregates(subject, own)) is not None:
        aggregate, prompt = found
        agrees = all(
            abs(aggregate.value - bound) <= allowed(aggregate.value) for bound, _ in (known.low, known.high)
        )
        trusted = agrees and settled(aggregate.value, aggregate.error, aggregate.width)
        figures |= {
            **named("information/aggregate", (aggregate.value, aggregate.error)),
            "information/aggregate_width": aggregate.width,
            "information/aggregate_trusted": float(trusted),
            **named("information/prompt", (prompt.value, prompt.error)),
            "information/prompt_trusted": float(settled(prompt.value, prompt.error, prompt.width)),
        }
    return Readings(figures)


def allowed(value: float) -> float:
    """How far from the truth a trusted estimate may be, in nats."""
    return max(NATS, SHARE * value)


def settled(value: float, error: float, width: float) -> bool:
    """Whether the sample is large enough for an estimate: its standard error and what is left open, in nats."""
    return width + 2 * error <= allowed(value)


def _contrasts(subject: Subject, own: OwnDraws) -> Tensor:
    """``log p(y|x,z')`` of draws z' of the router for the same prompts, ``(S, N)``."""
    with torch.no_grad(), seeded(subject.seed + 15_485_863, subject.model.backbone.device):
        if own.values.enumerated:
            places = torch.multinomial(own.values.log_prior.exp().T, LOOKED_UP, replacement=True)
            return own.values.log_lik.gather(0, places.T)
        parts = []
        for batch in own.batches:
            with pyro.plate("contrasts", SCORED, dim=-2):
                here = batch.to(subject.model.backbone.device)
                trace = poutine.trace(subject.model).get_trace(here)
            parts.append(read_likelihood(trace, torch.Size((SCORED, len(batch)))).double().cpu())
        return torch.cat(parts, 1)


def _exact(own: OwnDraws) -> Tensor:
    """``KL(p(z|x,y) || p(z|x))``, ``(N,)``."""
    log_posterior = own.values.log_posterior
    return xlogp(log_posterior, log_posterior - own.values.log_prior).sum(0)


def _read_by_guide(own: OwnDraws) -> Tensor:
    """``E_{p(z|x,y)}[log q(z|x,y) - log p(z|x)]``, ``(N,)``, a lower bound [Barber & Agakov 2003, eq. 3].

    A sum over z where that can be, else at the z drawn, which is a draw of the posterior.
    """
    if not own.values.enumerated:
        return (own.truth.log_q - own.truth.log_prior)[0]
    return xlogp(own.values.log_posterior, own.values.log_q - own.values.log_prior).sum(0)


def _aggregates(subject: Subject, own: OwnDraws) -> tuple[Estimate, Estimate] | None:
    """The aggregate-posterior estimate, and the information of the prompt."""
    if own.values.enumerated:
        log_q, log_p = own.values.log_q, own.values.log_prior
        q, p = log_q.exp().T, log_p.exp().T
        return (
            jackknife(
                (1, mean_of(xlogp(log_q, log_q - log_p).sum(0))),
                (-1, mean_log_table(q, q)),
                (1, mean_log_table(q, p)),
            ),
            jackknife((1, mean_of(xlogp(log_p, log_p).sum(0))), (-1, mean_log_table(p, p))),
        )
    return _sampled_aggregates(subject, own)


@torch.no_grad()
def _sampled_aggregates(subject: Subject, own: OwnDraws) -> tuple[Estimate, Estimate] | None:
    """The same over draws of each datum's laws; None where a law is not one given the datum alone."""
    guides, routers, of_q, of_p = [], [], [], []
    model = latents_alone(subject.model)
    with seeded(subject.seed + 32_452_843, subject.model.backbone.device):
        for batch in own.batches:
            log = Sample(DRAWS)(model, subject.guide, batch.to(subject.model.backbone.device))
            try:
                guide, router = (laws_given_datum(log, law) for law in (Law.POSTERIOR, Law.PRIOR))
            except ValueError:
                return None
            guides.append(guide)
            routers.append(router)
            of_q.append({name: law.sample() for name, law in guide.items()})
            of_p.append({name: law.sample() for name, law in router.items()})
    z, v = (
        {name: torch.cat([part[name] for part in parts], 1) for name in parts[0]} for parts in (of_q, of_p)
    )
    under_q, under_p, prior = crossed(guides, z), crossed(routers, z), crossed(routers, v)
    own_q, own_p, own_prior = (
        table.diagonal(dim1=-2, dim2=-1).mean(0) for table in (under_q, under_p, prior)
    )
    return (
        jackknife(
            (1, mean_of(own_q - own_p)), (-1, mean_log_mixture(under_q)), (1, mean_log_mixture(under_p))
        ),
        jackknife((1, mean_of(own_prior)), (-1, mean_log_mixture(prior))),
    )
