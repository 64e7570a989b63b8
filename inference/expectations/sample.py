"""E_q as a mean over draws."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ...models import Batch
from ..log_quantities import PLAIN, LogQuantities, Program, Run, Scene, Site
from .expectation import (
    Expectation,
    latent_sites,
    naming_relaxed,
    read_likelihood,
    read_sites,
    same_sites,
    site_log_prob,
    total,
)


class Sample(Expectation):
    """S draws from the guide, in one vectorised run that shares the prompts' encoding.

    Args:
        num_particles: S, at least 1.
        one_by_one: run the model once for each particle and once more on the way back, so that the memory is
            that of one particle, at the price of a second run forward and of S encodings of the prompts: where
            these are as long as the responses, of three times the time. Of a site's laws under the model the first
            particle's is kept.
    """

    def __init__(self, num_particles: int = 1, one_by_one: bool = False) -> None:
        if num_particles < 1:
            raise ValueError(f"expectation sample: num_particles must be at least 1, got {num_particles}")
        self.num_particles, self.one_by_one = num_particles, one_by_one

    def __call__(self, model: Program, guide: Program, batch: Batch, run: Run = PLAIN) -> LogQuantities:
        shape = torch.Size((self.num_particles * run.copies, len(batch)))
        read_by_guide = run.guide_batch or batch
        with run.draws or nullcontext(), pyro.plate("particles", shape[0], dim=-2):
            guide_trace = poutine.trace(guide).get_trace(read_by_guide)
        for site in latent_sites(guide_trace).values():
            # A tensor of its own, so that what the model reads can be told from what the guide drew.
            site["value"] = site["value"].view_as(site["value"])
        if self.one_by_one:
            return self._one_by_one(model, guide, batch, run, guide_trace, shape)
        with naming_relaxed(guide_trace), pyro.plate("particles", shape[0], dim=-2):
            model_trace = poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(batch)
        sites = read_sites(model_trace, guide_trace, shape)
        return LogQuantities(
            read_likelihood(model_trace, shape),
            total([site.log_prior for site in sites.values()], shape),
            total([site.log_q for site in sites.values()], shape),
            False,
            sites,
            Scene(model, guide, batch, read_by_guide, guide_trace, model_trace),
            run,
        )

    def _one_by_one(
        self, model: Program, guide: Program, batch: Batch, run: Run, guide_trace: Trace, shape: torch.Size
    ) -> LogQuantities:
        drawn = latent_sites(guide_trace)
        one = torch.Size((1, shape[1]))
        priors: dict[str, Any] = {}

        def one_run(*values: Tensor) -> tuple[Tensor, ...]:
            given = Trace()
            for (name, site), value in zip(drawn.items(), values, strict=True):
                given.add_node(name, **{**site, "value": value})
            with naming_relaxed(guide_trace), pyro.plate("particles", 1, dim=-2):
                trace = poutine.trace(poutine.replay(model, trace=given)).get_trace(batch)
            same_sites(trace, guide_trace)
            laws = [trace.nodes[name]["fn"] for name in drawn]
            for name, law in zip(drawn, laws, strict=True):
                priors.setdefault(name, law)
            prior = [site_log_prob(*site, one) for site in zip(drawn, laws, values, strict=True)]
            return (read_likelihood(trace, one), *prior)

        rows = [
            checkpoint(one_run, *(site["value"][s : s + 1] for site in drawn.values()), use_reentrant=False)
            for s in range(shape[0])
        ]
        log_lik, *log_prior = (torch.cat(parts) for parts in zip(*rows, strict=True))
        sites = {
            name: Site(
                site["value"],
                priors[name],
                site["fn"],
                prior,
                site_log_prob(name, site["fn"], site["value"], shape),
            )
            for (name, site), prior in zip(drawn.items(), log_prior, strict=True)
        }
        return LogQuantities(
            log_lik,
            total([site.log_prior for site in sites.values()], shape),
            total([site.log_q for site in sites.values()], shape),
            False,
            sites,
            Scene(model, guide, batch, run.guide_batch or batch, guide_trace, None),
            run,
        )
