"""The guide is not the posterior."""

from __future__ import annotations

from ..diagnostic import Diagnosis
from ..finding import Finding
from .evidence import estimate, percent
from .verdict import BIT, in_use, verdict

WEIGHT = 0.4

FAR = 0.2
"""Share of the information that the guide may miss.

A guide that ignores the response misses all of it, the posterior itself nothing; an amortised guide of a good fit
misses up to a tenth.
"""

CHANCE, UNEVEN = 0.001, 0.5
"""Of simulation-based calibration: p-value, and deviation of the ranks' density, from which a guide is far off.

A guide that covers half of the posterior has ranks at twice the density in one half of their range and none in the
other, a deviation of 1.
"""

ENUMERABLE = (
    "Let the guide read more of the response, `guide.pooling=attention guide.width=128`, or give it weights of "
    "its own, `role@roles.posterior=lora`. Or use Bayes' rule instead of a network, `guide=exact` (models with "
    "independent latents), at the cost of one pass of the decoder for each value."
)
SAMPLED = (
    "Let the guide read more of the response, `guide.pooling=attention guide.width=128`, or give it weights of "
    "its own, `role@roles.posterior=lora`. Or fit it with more draws: `inference=iwae_dreg "
    "inference.expectation.num_particles=16` (continuous latents only), `inference=wake_wake "
    "inference.expectation.num_particles=16` (any latents)."
)


def guide_far(diagnosis: Diagnosis) -> Finding | None:
    """The divergence between guide and posterior is more than a fifth of the information, or ranks are off."""
    seen = (_exact if diagnosis.subject.enumerable else _sampled)(diagnosis)
    if seen is None:
        return None
    return Finding(
        "guide far from the posterior",
        WEIGHT,
        seen,
        "What `stratagem infer` and the guide's figures say about a response is not what the model implies"
        + (
            "; if the guide took part in training the model, it has held it back as well."
            if diagnosis.subject.enumerable
            else ". What is estimated from the guide's draws is off, fidelity included, and the bound that it was "
            "fitted by is loose."
        ),
        ENUMERABLE if diagnosis.subject.enumerable else SAMPLED,
    )


def _exact(diagnosis: Diagnosis) -> str | None:
    found = verdict(diagnosis)
    gap = estimate(diagnosis, "posterior/gap") or estimate(diagnosis, "use/posterior_gap")
    if found is None or gap is None or not in_use(diagnosis):
        return None
    most = found.information.value
    if not gap.above(FAR * most):
        return None
    return (
        f"The divergence KL(posterior || guide) is {gap.told('nats')}, {percent(gap.value / most)} of the "
        "information about z in the response."
    )


def _sampled(diagnosis: Diagnosis) -> str | None:
    """By the bounds, which do not see what the guide leaves out, and by ranks, which do."""
    found, gap = verdict(diagnosis), estimate(diagnosis, "posterior/iwae_elbo_gap")
    if found is not None and gap is not None:
        most = max(found.information.value, BIT)
        if gap.above(FAR * most):
            return (
                f"The importance-weighted bound is {gap.told('nats')} above the ELBO, {percent(gap.value / most)} of "
                + ("the information about z in the response." if most > BIT else "a bit.")
            )
    p, distance = estimate(diagnosis, "calibration/sbc_p"), estimate(diagnosis, "calibration/sbc_distance")
    if p is None or distance is None or p.value >= CHANCE or distance.value <= UNEVEN:
        return None
    return (
        "Simulation-based calibration fails: when z and a response are drawn from the model, the rank of that z "
        f"under the guide is not uniform (p = {p.value:.1g}; its density is off by {percent(distance.value)} in "
        "the root mean square)."
    )
