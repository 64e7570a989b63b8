"""The per-datum log-quantities that every objective is a function of."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LogQuantities:
    """Log-densities of P joint values of the latents for B data, from traced model and guide.

    Attributes:
        log_lik: ``log p(y|x,z)``, ``(P, B)`` nats per sequence.
        log_prior: ``log p(z|x)``, ``(P, B)``.
        log_q: ``log q(z|x,y)``, ``(P, B)``.
        enumerated: whether the P values are the whole support, rather than draws from q.
        z: the values by site, of batch shape broadcastable to the particles before flattening.
    """

    log_lik: Tensor
    log_prior: Tensor
    log_q: Tensor
    enumerated: bool
    z: dict[str, Tensor]

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

    def expect_q(self, values: Tensor) -> Tensor:
        """``E_q`` of ``values`` ``(P, B)``: ``(B,)``; exact where enumerated, else the mean of the draws."""
        if not self.enumerated:
            return values.mean(0)
        return xlogp(self.log_q, values).sum(0)


def xlogp(log_p: Tensor, values: Tensor) -> Tensor:
    """``p * values`` where ``p = exp(log_p)``, 0 where p is 0 even if the value is infinite."""
    p = log_p.exp()
    return p * torch.where(p > 0, values, 0.0)
