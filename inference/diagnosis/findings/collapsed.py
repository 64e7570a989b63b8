"""z tells nothing of the response."""

from __future__ import annotations

from dataclasses import replace

from ..diagnostic import Diagnosis
from ..finding import Finding
from .evidence import percent
from .verdict import NOTHING, Verdict, verdict

WEIGHT = 1.0

ENUMERABLE = (
    "Fit with `inference=marginal`, which starts from clusters of hidden states and rewards information. If that "
    "was the fit, give information more weight, `inference=marginal inference.terms.information.weight=0.3` "
    "(default 0.12), or try several random starts, `inference=marginal ~inference.terms.distillation "
    "fit.starts=3`."
)
SAMPLED = (
    "Let z have some nats for free, `inference=free_bits_per_dimension inference.objective.bits=0.5` (continuous "
    "latents only), or reward information, `inference=elbo_nvil "
    "'+inference.terms.information={_target_: stratagem.inference.terms.MinibatchInformation, weight: 1.0}'` "
    "(any latents). More room for z in the decoder helps both: `conditioning.length=8` (default 4)."
)
OPEN_ROUTER = (
    "Use a router that leaves z open: `router=learned`, one law for all prompts, or `router=uniform`."
)
OTHER_PROMPTS = (
    "Use prompts that the base answers in several ways, `data=self path=FILE`, or another base, `lm=NAME`."
)


def collapsed(diagnosis: Diagnosis) -> Finding | None:
    """The information is below a twentieth of its ceiling, or there is none to have."""
    found = verdict(diagnosis)
    if found is None or found.word != "collapsed":
        return None
    if found.ceiling < NOTHING:
        return _nothing_to_tell(diagnosis, found)
    carried = replace(found.information, value=max(found.information.value, 0.0))
    return Finding(
        "collapsed",
        WEIGHT,
        f"z carries {carried.told('nats')} about the response, {percent(max(found.share.value, 0))} of the "
        f"{found.ceiling:.2f} nats that it could carry.",
        "The response has the same law whatever z is: there is no strategy to choose or to read off, and other "
        "figures about strategies mean nothing.",
        ENUMERABLE if diagnosis.subject.enumerable else SAMPLED,
    )


def _nothing_to_tell(diagnosis: Diagnosis, found: Verdict) -> Finding:
    """Whose entropy is nothing: the base's, or the router's."""
    seen = diagnosis.subject.seen
    responses = float(-seen.log_base.double().mean())
    if seen.router_entropy is None or responses < NOTHING:
        return Finding(
            "collapsed",
            WEIGHT,
            f"There is nothing for z to explain: given the prompt, the base's responses have an entropy of "
            f"{max(responses, 0):.3f} nats.",
            "A base that answers each prompt in one way has one strategy.",
            OTHER_PROMPTS,
        )
    return Finding(
        "collapsed",
        WEIGHT,
        f"The prompt alone decides z: given the prompt, the router has an entropy of {max(found.ceiling, 0):.3f} "
        "nats.",
        "z sorts prompts, or is always the same. A response cannot tell anything more about it, and there is no "
        "choice of strategy on a given prompt.",
        OPEN_ROUTER,
    )
