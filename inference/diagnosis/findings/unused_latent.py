"""One latent of several tells nothing, while another does."""

from __future__ import annotations

from ..diagnostic import Diagnosis
from ..finding import Finding
from .each_latent import idle_latents
from .evidence import listed

WEIGHT = 0.7

ENUMERABLE = "`inference=marginal inference.terms.information.weight=0.3` (default 0.12)."
SAMPLED = (
    "`inference=elbo_nvil "
    "'+inference.terms.information={_target_: stratagem.inference.terms.MinibatchInformation, weight: 1.0}'`."
)


def unused_latent(diagnosis: Diagnosis) -> Finding | None:
    """Of several latents: those that tell less than a twentieth of what each of them could."""
    idle = idle_latents(diagnosis)
    if not idle:
        return None
    return Finding(
        "unused latent",
        WEIGHT,
        f"The response tells {listed([f'{found.told()} nats about {name}' for name, found in idle.items()])}, "
        "though it does tell about the latents together.",
        "The response has the same law under all values of such a latent: it adds passes of the decoder and "
        "nothing else.",
        f"Drop {listed(list(idle))} from the model, or reward information, "
        + (ENUMERABLE if diagnosis.subject.enumerable else SAMPLED),
    )
