"""E_q as a sum over the whole support."""

from __future__ import annotations

from contextlib import nullcontext
from typing import ClassVar

import torch
from pyro import poutine
from pyro.infer import config_enumerate

from ...models import Batch, Capability
from ..log_quantities import PLAIN, LogQuantities, Program, Run, Scene
from .expectation import Expectation, latent_sites, read_likelihood, read_sites, total


class Enumerate(Expectation):
    """All values of all latents at once, in one vectorised run of the model; the guide is scored on the same."""

    needs: ClassVar = Capability.ENUMERABLE

    def __call__(self, model: Program, guide: Program, batch: Batch, run: Run = PLAIN) -> LogQuantities:
        assert run.copies == 1, "nothing is drawn"
        read_by_guide = run.guide_batch or batch
        everywhere = poutine.enum(config_enumerate(model, default="parallel"), first_available_dim=-2)
        model_trace = poutine.trace(everywhere).get_trace(batch)
        found = latent_sites(model_trace)
        for name, site in found.items():
            if not site["fn"].has_enumerate_support:
                raise ValueError(
                    f"expectation enumerate: site {name} ({type(site['fn']).__name__}) has no finite support; "
                    "use an inference with expectation sample"
                )
        with run.draws or nullcontext():
            guide_trace = poutine.trace(poutine.replay(guide, trace=model_trace)).get_trace(read_by_guide)
        shape = torch.broadcast_shapes(
            (len(batch),), *(s["value"].shape[: s["value"].dim() - s["fn"].event_dim] for s in found.values())
        )
        sites = read_sites(model_trace, guide_trace, shape)
        flat_shape = torch.Size((shape[:-1].numel(), shape[-1]))
        return LogQuantities(
            read_likelihood(model_trace, shape),
            total([site.log_prior for site in sites.values()], flat_shape),
            total([site.log_q for site in sites.values()], flat_shape),
            True,
            sites,
            Scene(model, guide, batch, read_by_guide, guide_trace, model_trace),
            run,
        )
