"""The marginal is no longer the base law."""

from __future__ import annotations

import math

import torch

from ..diagnostic import Diagnosis
from ..finding import Finding
from ..subject import Subject
from .evidence import Estimate, estimate
from .guide_far import guide_far
from .heavy_tails import heavy_tails

WEIGHT = 0.9

KEPT = 0.01
"""Nats a token within which the base law counts as kept: a perplexity of its own responses one per cent higher."""

ENUMERABLE = (
    "Hold the marginal to the base during the fit, `inference=marginal`, and if that was the fit, with more weight, "
    "`inference=marginal inference.terms.fidelity.weight.end=3.0` (default 1.0). Or ask for "
    "less information, `inference=marginal inference.terms.information.weight=0.05 "
    "inference.terms.readable_information.weight=0.2` (defaults 0.12 and 0.48), or fit longer, `fit.steps=2000`. "
    "Fit on the base's own responses, `data=self path=FILE`: pairs from elsewhere move the law by themselves."
)
SAMPLED = (
    "Fit longer, `fit.steps=2000`, or by a tighter bound, `inference=iwae_dreg "
    "inference.expectation.num_particles=16` (continuous latents only). Fit on the base's own responses, "
    "`data=self path=FILE`: pairs from elsewhere move the law by themselves."
)


def drifted(diagnosis: Diagnosis) -> Finding | None:
    """KL(p0 || p) is above a hundredth of a nat a token."""
    found = divergence(diagnosis)
    if found is None or not found.above(KEPT):
        return None
    whole = estimate(diagnosis, "fidelity/kl_per_sequence")
    sequence = "" if whole is None else f", {whole.told('nats a response')}"
    return Finding(
        "base law drifted",
        WEIGHT,
        f"KL(p0 || p) is {found.told('nats a token')}{sequence}: the base's own responses have a perplexity that is "
        f"{100 * math.expm1(found.value):.1f} % higher than under the base.",
        "Summed over z, the model is meant to be the base. It has become another law, which the strategies then "
        "explain instead, and its answers may be worse.",
        ENUMERABLE if diagnosis.subject.enumerable else SAMPLED,
    )


def divergence(diagnosis: Diagnosis) -> Estimate | None:
    """KL(p0 || p) in nats a token, without the bias of importance weights; None where these are not to be trusted."""
    found = estimate(diagnosis, "fidelity/kl_per_token")
    if found is None:
        return None
    if not diagnosis.subject.enumerable and (heavy_tails(diagnosis) or guide_far(diagnosis)):
        return None
    tokens = float(diagnosis.subject.seen.lengths.double().mean())
    return Estimate(found.value - importance_bias(diagnosis.subject) / tokens, found.error)


def importance_bias(subject: Subject) -> float:
    """Nats by which importance weighting puts ``log p(y|x)`` too low in the mean; 0 where z is summed over.

    To first order ``Var[w] / (2 S E[w]^2)`` of each datum's S weights [Nowozin 2018, section 2].
    """
    log_weight = subject.seen.log_weight
    if log_weight is None:
        return 0.0
    share = log_weight.double().softmax(0)  # (S, N)
    draws = len(share)
    variance = draws * (share**2).sum(0) - 1  # of w / E[w]
    return float((variance / (2 * draws)).mean()) if torch.isfinite(variance).all() else math.inf
