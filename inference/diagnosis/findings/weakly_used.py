"""z tells less than half of what it could."""

from __future__ import annotations

import torch

from ...evaluation.use import USED
from ..diagnostic import Diagnosis
from ..finding import Finding
from .each_latent import acting
from .evidence import percent
from .verdict import verdict

WEIGHT = 0.8

ENUMERABLE = (
    "Give information more weight, `inference=marginal inference.terms.information.weight=0.3` (default 0.12), "
    "give z more room in the decoder, `conditioning.length=8` (default 4), or fit longer, `fit.steps=2000` "
    "(default 800)."
)
SAMPLED = (
    "Let z have more nats for free, `inference=free_bits_per_dimension inference.objective.bits=0.5` (continuous "
    "latents only), give it more room in the decoder, `conditioning.length=8` (default 4), or fit longer, "
    "`fit.steps=2000` (default 800)."
)


def weakly_used(diagnosis: Diagnosis) -> Finding | None:
    """The information is below half of its ceiling for sure, and above collapse; latents that do not act aside."""
    found = verdict(diagnosis)
    if found is None or found.word != "weak" or not found.share.below(USED):
        return None
    if diagnosis.subject.enumerable and not found.information.below(USED * _of_those_that_act(diagnosis)):
        return None
    return Finding(
        "weakly used",
        WEIGHT,
        f"z carries {found.information.told('nats')} about the response, {percent(found.share.value)} of the "
        f"{found.ceiling:.2f} nats that it could carry.",
        "The strategies overlap: much of what they say is common to several, so choosing one changes little, and "
        "reading one off a response is uncertain.",
        ENUMERABLE if diagnosis.subject.enumerable else SAMPLED,
    )


def _of_those_that_act(diagnosis: Diagnosis) -> float:
    """The entropy of the router over the latents that act on the response, in nats."""
    router = diagnosis.subject.seen.router
    assert router is not None
    law = torch.zeros_like(router.double()).index_add_(
        1, torch.from_numpy(acting(diagnosis)), router.double()
    )
    return float(-torch.special.xlogy(law, law).sum(1).mean())
