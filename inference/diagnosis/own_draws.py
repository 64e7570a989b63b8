"""Draws of z and y from the model itself, and what model and guide say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from ...models import Batch, LanguageModel
from ...models.generation import RESPONSE
from ..expectations import Enumerate, Sample, latent_sites, observed_sites
from ..expectations.expectation import flat
from ..log_quantities import LogQuantities
from ..randomness import seeded
from .subject import Subject

PARTICLES = 16
"""Draws from the guide for each pair, where z is not enumerable."""


@dataclass(frozen=True)
class OwnDraws:
    """``z ~ p(z|x)``, ``y ~ p(y|x,z)``, once for each of N prompts; nats per sequence, float64, on the CPU.

    Attributes:
        batches: the prompts with the responses drawn, in order.
        truth: of the z drawn, ``(1, N)``.
        values: of the same responses under all joint values of enumerable latents, else under draws of the guide,
            ``(P, N)``.
        place: which of these values the z drawn is, ``(N,)``; None where z is not enumerable.
        z: the z drawn, ``(N, *event)`` by site.
        guesses: the draws of the guide, ``(P, N, *event)`` by site; empty where z is enumerable.
    """

    batches: list[Batch]
    truth: LogQuantities
    values: LogQuantities
    place: Tensor | None
    z: Mapping[str, Tensor]
    guesses: Mapping[str, Tensor]

    @property
    def log_lik(self) -> Tensor:
        """``log p(y|x,z)`` of the z drawn, ``(N,)``."""
        return self.truth.log_lik[0]

    def __len__(self) -> int:
        return self.truth.log_lik.shape[1]


def own_draws(subject: Subject) -> OwnDraws | None:
    """Draws from the model of a subject: the same at each call, and made at the first.

    Token ids are those that were drawn, rather than those of a text. Responses have at most
    ``subject.max_new_tokens`` tokens; one that was cut there is scored as the response that it is.

    None where the program does not say how y is drawn given its latents alone: where without a response it draws
    anything beside its latents and y, or with one observes anything beside y.
    """
    kept = vars(subject)
    if _KEPT not in kept:
        with torch.no_grad(), seeded(subject.seed + 104_729, subject.model.backbone.device):
            kept[_KEPT] = _draw(subject)
    found: OwnDraws | None = kept[_KEPT]
    return found


_KEPT = "_own_draws"


def _draw(subject: Subject) -> OwnDraws | None:
    model, guide, parts = subject.model, subject.guide, []
    for asked in subject.data.batches(subject.batch_size):
        prompts = asked.to(model.backbone.device).without_response(subject.max_new_tokens)
        dream = poutine.trace(model).get_trace(prompts)
        if set(latent_sites(dream)) != {*model.latents, RESPONSE}:
            return None
        batch = _answered(prompts, dream)
        truth = Sample(1)(model, poutine.replay(guide, trace=dream), batch)
        values = (Enumerate() if subject.enumerable else Sample(PARTICLES))(model, guide, batch)
        assert values.scene is not None
        assert values.scene.model_trace is not None
        if set(observed_sites(values.scene.model_trace)) != {RESPONSE}:
            return None
        z = {name: dream.nodes[name]["value"] for name in values.sites}
        place = _place(values, z) if subject.enumerable else None
        parts.append((batch.to("cpu"), _kept(truth), _kept(values), place, z, _guesses(values)))
    batches, truths, tables, places, drawn, guessed = zip(*parts, strict=True)
    return OwnDraws(
        list(batches),
        _joined(truths),
        _joined(tables),
        torch.cat(places).cpu() if subject.enumerable else None,
        {name: torch.cat([z[name] for z in drawn]).cpu() for name in drawn[0]},
        {name: torch.cat([z[name] for z in guessed], 1).cpu() for name in guessed[0]},
    )


def _answered(prompts: Batch, dream: Trace) -> Batch:
    """The batch with the responses of a run, without the columns that none of them fills."""
    y, law = dream.nodes[RESPONSE]["value"], dream.nodes[RESPONSE]["fn"]
    mask = law.mask_of(y) if isinstance(law, LanguageModel) else torch.ones_like(y, dtype=torch.bool)
    width = int(mask.sum(1).max())
    return replace(prompts, response=y[:, :width], response_mask=mask[:, :width], max_length=width)


def _place(values: LogQuantities, z: Mapping[str, Tensor]) -> Tensor:
    """``(B,)``: which of the joint values ``z`` is."""
    same = torch.ones((), dtype=torch.bool, device=values.log_lik.device)
    for name, site in values.sites.items():
        event = site.prior.event_dim
        equal = site.z == z[name]  # (K, 1, ..., B, *event)
        same = same & (equal.flatten(-event).all(-1) if event else equal)
    return flat(same).long().argmax(0)


def _guesses(values: LogQuantities) -> dict[str, Tensor]:
    if values.enumerated:
        return {}
    shape = values.log_q.shape
    return {
        name: site.z.expand(*shape, *site.z.shape[site.z.dim() - site.prior.event_dim :])
        for name, site in values.sites.items()
    }


def _kept(log: LogQuantities) -> LogQuantities:
    log_lik, log_prior, log_q = (row.double().cpu() for row in (log.log_lik, log.log_prior, log.log_q))
    return LogQuantities(log_lik, log_prior, log_q, log.enumerated)


def _joined(parts: Sequence[LogQuantities]) -> LogQuantities:
    columns = zip(*((log.log_lik, log.log_prior, log.log_q) for log in parts), strict=True)
    log_lik, log_prior, log_q = (torch.cat(column, 1) for column in columns)
    return LogQuantities(log_lik, log_prior, log_q, parts[0].enumerated)
