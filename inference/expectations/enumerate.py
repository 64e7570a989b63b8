"""E_q as a sum over the whole support."""

from __future__ import annotations

from typing import ClassVar

import torch
from pyro import poutine
from pyro.infer import config_enumerate

from ...models import Batch, Capability
from ..log_quantities import LogQuantities
from .expectation import Expectation, Program, latent_sites, read


class Enumerate(Expectation):
    """All values of all latents at once, in one vectorised run of the model; the guide is scored on the same."""

    needs: ClassVar = Capability.ENUMERABLE

    def __call__(self, model: Program, guide: Program, batch: Batch) -> LogQuantities:
        everywhere = poutine.enum(config_enumerate(model, default="parallel"), first_available_dim=-2)
        model_trace = poutine.trace(everywhere).get_trace(batch)
        sites = latent_sites(model_trace)
        for name, site in sites.items():
            if not site["fn"].has_enumerate_support:
                raise ValueError(
                    f"expectation enumerate: site {name} ({type(site['fn']).__name__}) has no finite support; "
                    "use an inference with expectation sample"
                )
        guide_trace = poutine.trace(poutine.replay(guide, trace=model_trace)).get_trace(batch)
        shape = torch.broadcast_shapes(
            (len(batch),), *(s["value"].shape[: s["value"].dim() - s["fn"].event_dim] for s in sites.values())
        )
        return read(model_trace, guide_trace, shape, enumerated=True)
