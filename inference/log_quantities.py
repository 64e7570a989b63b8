"""The per-datum log-quantities that every objective is a function of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pyro.distributions import TorchDistribution
from pyro.poutine import Trace
from torch import Tensor

from ..models import Batch

Program = Callable[[Batch], Any]


@dataclass(frozen=True)
class Run:
    """How model and guide are run on a batch.

    Attributes:
        share: of the fit that is done, from 0 to 1.
        draws: a context that the guide draws in; None for plain draws.
        copies: of each particle, that ``draws`` fills in a way of its own.
        guide_batch: what the guide reads in place of the batch; None for the batch.
        held: ``(P, B)`` log-posterior that the first step on the same batch left; None at the first.
        alone: whether the objective alone is differentiated, without terms beside it.
    """

    share: float = 1.0
    draws: AbstractContextManager[Any] | None = None
    copies: int = 1
    guide_batch: Batch | None = None
    held: Tensor | None = None
    alone: bool = False


PLAIN = Run()
"""Plain draws, at the end of a fit."""


@dataclass(frozen=True)
class Site:
    """One latent in one run of model and guide.

    Attributes:
        z: its value as the model read it, ``(P, B, *event)`` or a batch shape that broadcasts to it.
        prior: ``p(z|x)``, given the latents before it.
        posterior: ``q(z|x,y)``, likewise.
        log_prior: ``log p(z|x)``, ``(P, B)``.
        log_q: ``log q(z|x,y)``, ``(P, B)``.
    """

    z: Tensor
    prior: TorchDistribution
    posterior: TorchDistribution
    log_prior: Tensor
    log_q: Tensor


@dataclass(frozen=True)
class Scene:
    """What was run: for terms that ask more than log-quantities.

    Attributes:
        model: the generative program.
        guide: the inference program.
        batch: the data, as the model read them.
        guide_batch: the data, as the guide read them.
        guide_trace: the guide's run.
        model_trace: the model's run; None where the particles were run one by one.
    """

    model: Program
    guide: Program
    batch: Batch
    guide_batch: Batch
    guide_trace: Trace
    model_trace: Trace | None


@dataclass(frozen=True)
class LogQuantities:
    """Log-densities of P joint values of the latents for B data, from traced model and guide.

    Attributes:
        log_lik: ``log p(y|x,z)``, ``(P, B)`` nats per sequence.
        log_prior: ``log p(z|x)``, ``(P, B)``.
        log_q: ``log q(z|x,y)``, ``(P, B)``.
        enumerated: whether the P values are the whole support, rather than draws from q.
        sites: the latents one by one, in the model's order.
        scene: what was run.
        run: how it was run.
    """

    log_lik: Tensor
    log_prior: Tensor
    log_q: Tensor
    enumerated: bool
    sites: Mapping[str, Site] = field(default_factory=dict)
    scene: Scene | None = None
    run: Run = PLAIN

    @property
    def log_joint(self) -> Tensor:
        """``log p(z, y | x)``, ``(P, B)``."""
        return self.log_lik + self.log_prior

    @property
    def log_w(self) -> Tensor:
        """``log p(z, y | x) - log q(z|x,y)``, ``(P, B)``."""
        return self.log_joint - self.log_q

    @property
    def log_marginal(self) -> Tensor:
        """``log p(y|x)``, ``(B,)``; exact where enumerated.

        Raises:
            ValueError: the values are draws.
        """
        if not self.enumerated:
            raise ValueError("log_marginal needs the whole support; use expectation Enumerate")
        return self.log_joint.logsumexp(0)

    @property
    def log_posterior(self) -> Tensor:
        """``log p(z|x,y)``, ``(P, B)``, exact; raises as :attr:`log_marginal`."""
        return self.log_joint - self.log_marginal

    @property
    def log_target(self) -> Tensor:
        """``log`` of the weights that the values have under ``p(z|x,y)``, ``(P, B)``, summing to one over P.

        The exact posterior where enumerated; else the self-normalised importance weights, whose expectations are
        biased at the rate 1/P.
        """
        return self.log_posterior if self.enumerated else self.log_w.log_softmax(0)

    def expect_q(self, values: Tensor) -> Tensor:
        """``E_q`` of ``values`` ``(P, B)``: ``(B,)``; exact where enumerated, else the mean of the draws."""
        if not self.enumerated:
            return values.mean(0)
        return xlogp(self.log_q, values).sum(0)

    def hold_guide(self) -> LogQuantities:
        """The same without gradients in the guide."""
        sites = {name: replace(site, log_q=site.log_q.detach()) for name, site in self.sites.items()}
        return replace(self, log_q=self.log_q.detach(), sites=sites)

    def hold_model(self) -> LogQuantities:
        """The same without gradients in the model."""
        sites = {name: replace(site, log_prior=site.log_prior.detach()) for name, site in self.sites.items()}
        return replace(self, log_lik=self.log_lik.detach(), log_prior=self.log_prior.detach(), sites=sites)


def xlogp(log_p: Tensor, values: Tensor) -> Tensor:
    """``p * values`` where ``p = exp(log_p)``, 0 where p is 0 even if the value is infinite."""
    p = log_p.exp()
    return p * torch.where(p > 0, values, 0.0)
