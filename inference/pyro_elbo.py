"""Pyro's own ELBOs, those that are right for a language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from pyro.infer import (
    ELBO,
    Trace_ELBO,
    TraceEnum_ELBO,
    TraceGraph_ELBO,
    TraceMeanField_ELBO,
    TraceTMC_ELBO,
    config_enumerate,
)
from torch import Tensor

from ..models import Batch, Capability, Latent
from .algorithm import Algorithm
from .expectations import latent_sites
from .log_quantities import Program
from .loss import Loss
from .randomness import seeded

PLATES = 1
"""Plates of a program: the data. Given to Pyro, which would run model and guide once more to find out."""


class DifferentiableTraceGraph(TraceGraph_ELBO):
    """Pyro's surrogate, that its ``loss_and_grads`` differentiates on the spot, left to autograd."""

    def differentiable_loss(self, model: Program, guide: Program, *args: Any, **kwargs: Any) -> Tensor:
        elbo, surrogate = self._loss_and_surrogate_loss(model, guide, args, kwargs)
        return surrogate - (surrogate + elbo).detach()


@dataclass(frozen=True)
class Passed:
    """What an ELBO of Pyro asks for.

    Attributes:
        elbo: its class.
        each: what every latent must be, one of these.
        some: what one latent at least must be.
        enumerates: whether the guide's values are laid out beside each other, all of them or, where ``draws``, S.
        draws: whether S counts the values of each site and not the runs of all.
    """

    elbo: type[ELBO]
    each: tuple[Capability, ...] = (Capability.SCORABLE, Capability.REPARAMETERISED)
    some: Capability | None = None
    enumerates: bool = False
    draws: bool = False


PASSED = {
    "Trace_ELBO": Passed(Trace_ELBO),
    "TraceGraph_ELBO": Passed(DifferentiableTraceGraph),
    "TraceMeanField_ELBO": Passed(TraceMeanField_ELBO, (Capability.REPARAMETERISED,)),
    "TraceEnum_ELBO": Passed(TraceEnum_ELBO, some=Capability.ENUMERABLE, enumerates=True),
    "TraceTMC_ELBO": Passed(TraceTMC_ELBO, (Capability.REPARAMETERISED,), enumerates=True, draws=True),
}

REFUSED = {
    "RenyiELBO": (
        "in a categorical guide its gradient is zero at alpha=0 and points the other way at alpha=-1",
        "inference=renyi",
    ),
    "ReweightedWakeSleep": (
        "it forms one weight for the whole batch and not one for each datum",
        "inference=wake_wake or inference=wake_sleep",
    ),
    "TraceTailAdaptive_ELBO": ("its loss is infinite, so that it has no bound", "inference=tail_adaptive"),
    "Trace_MMD": (
        "it compares particles of a datum with the prior and not the aggregate posterior",
        "inference=infovae",
    ),
}
"""Those that are wrong or say nothing here, each with the reason and with what does it rightly."""


class PyroELBO(Algorithm):
    """An ELBO as :mod:`pyro.infer` computes it, its loss divided by the number of data.

    =======================  ==========================================================================================
    ``Trace_ELBO``           S draws; pathwise where reparameterised, else score function without a baseline
                             [Ranganath, Gerrish & Blei 2014]; unbiased
    ``TraceGraph_ELBO``      the same, each score weighted with the costs downstream of it alone [Schulman et al.
                             2015]; unbiased
    ``TraceMeanField_ELBO``  S draws, ``KL(q || p(z|x))`` in closed form where Pyro knows it; unbiased where no latent
                             depends on another
    ``TraceEnum_ELBO``       a sum over all values of the enumerable latents, S draws of the others; exact, or unbiased
    ``TraceTMC_ELBO``        the logarithm of the mean weight over all combinations of S draws of each latent
                             [Aitchison 2019]; for one latent IWAE. A lower bound on ``log p(y|x)`` above the ELBO, for
                             a guide whose sites do not depend on each other, since Pyro would weigh others wrongly;
                             unbiased in gradient. Its cost is two passes of S to the power of the latents, since Pyro
                             scores the response twice, and it gives a categorical guide no gradient
    =======================  ==========================================================================================

    Pyro sums over a batch: the bound is the batch's, spread evenly over its data.

    Args:
        name: the class in :mod:`pyro.infer`.
        num_particles: S, at least 1, and 2 for ``TraceTMC_ELBO``; in one vectorised run.

    Raises:
        ValueError: a class that is wrong here, with the reason and what does it rightly; or too few particles.
    """

    def __init__(self, name: str, num_particles: int = 1) -> None:
        super().__init__()
        if name in REFUSED:
            reason, mend = REFUSED[name]
            raise ValueError(f"inference: Pyro's {name} is not passed through: {reason}. Use {mend}")
        if name not in PASSED:
            raise ValueError(f"inference: no ELBO {name!r} is passed through; there are {', '.join(PASSED)}")
        self.name, self.asks = name, PASSED[name]
        least = 2 if self.asks.draws else 1
        if num_particles < least:
            raise ValueError(
                f"inference: {name} needs num_particles of at least {least}, got {num_particles}"
            )
        self.num_particles = num_particles
        self._checked: list[Program] = []
        self.elbo = self.asks.elbo(
            num_particles=1 if self.asks.draws else num_particles,
            max_plate_nesting=PLATES,
            vectorize_particles=True,
        )

    def check(self, latents: Mapping[str, Latent]) -> None:
        asks = self.asks
        for name, latent in latents.items():
            if not latent.capabilities.intersection(asks.each):
                needed = " or ".join(capability.value for capability in asks.each)
                raise ValueError(
                    f"inference: {self.name} needs every latent to be {needed}; {name} is {type(latent).__name__}. "
                    "Use inference=pyro_trace"
                )
        if asks.some and not any(asks.some in latent.capabilities for latent in latents.values()):
            found = ", ".join(f"{name} is {type(latent).__name__}" for name, latent in latents.items())
            raise ValueError(
                f"inference: {self.name} needs one latent at least to be {asks.some.value}; {found}. "
                "Use inference=pyro_trace"
            )

    def forward(
        self,
        model: Program,
        guide: Program,
        batch: Batch,
        share: float = 1.0,  # noqa: ARG002
        held: Tensor | None = None,  # noqa: ARG002
    ) -> Loss:
        if self.asks.draws and guide not in self._checked:
            _check_independent(self.name, guide, batch)
            self._checked = [guide]
        if self.asks.enumerates:
            draws = {"num_samples": self.num_particles} if self.asks.draws else {}
            guide = config_enumerate(guide, default="parallel", **draws)
        if torch.is_grad_enabled():
            loss = self.elbo.differentiable_loss(model, guide, batch) / len(batch)
        else:
            total = self.elbo.loss(model, guide, batch)
            loss = torch.tensor(total, dtype=torch.float64, device=batch.prompt.device) / len(batch)
        bound = -loss.detach()
        return Loss(surrogate=loss, bound=bound.expand(len(batch)), terms={}, objective=bound)


@torch.no_grad()
def _check_independent(name: str, guide: Program, batch: Batch) -> None:
    """Refuse a guide with a law that differs between values of a site before it.

    Raises:
        ValueError: names the site.
    """
    laid_out = poutine.enum(config_enumerate(guide, default="parallel", num_samples=2), -1 - PLATES)
    with seeded(0, batch.prompt.device):  # takes nothing from the fit
        sites = latent_sites(poutine.trace(laid_out).get_trace(batch))
    for site in sites.values():
        if any(size > 1 for size in site["fn"].batch_shape[:-PLATES]):
            raise ValueError(
                f"inference: {name}: the guide's law of {site['name']} depends on a site before it, and Pyro weighs "
                "its draws as if each belonged to every value of that site, which is no bound; use inference=iwae"
            )
