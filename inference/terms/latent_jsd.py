"""How far the strategies' next-token laws are apart."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ..expectations import Enumerate
from ..log_quantities import LogQuantities
from ..schedules import Schedule
from .base_law import base_law
from .next_tokens import jensen_shannon, per_token
from .response import response_of
from .term import Term


class LatentJSD(Term):
    """``sum_t v_t [H(sum_z w_z p_z) - sum_z w_z H(p_z)]``, ``p_z = p(.|x,z,y_<t)``, nats per sequence, raised.

    The Jensen-Shannon divergence of all strategies [Lin 1991] at each token of the given response: the
    information that z and the next token share after that prefix, were z not yet told by it; exact. The weights
    ``w_z`` are ``p(z|x)``, held fixed, so that only the decoder can raise it. The ``v_t`` are those of
    :class:`~stratagem.inference.terms.ExcessReconstruction`.
    At most ``H(w)`` times the length.

    Args:
        weight: as for any term.
        uniform: weigh the strategies alike, and not by the router.
    """

    expectations: ClassVar = (Enumerate,)
    pointwise: ClassVar = False

    def __init__(self, weight: float | Schedule = 1.0, uniform: bool = False) -> None:
        super().__init__(weight)
        self.uniform = uniform

    def value(self, log: LogQuantities) -> Tensor:
        response, base = response_of(log), base_law(log)
        law, mask = response.law, response.mask

        def divergence(hidden: Tensor, log_weights: Tensor) -> Tensor:
            return jensen_shannon(law.logits_of(hidden).log_softmax(-1), log_weights)

        log_weights = strategy_weights(log, self.uniform)  # (P, B)
        tokens = per_token(
            divergence,
            mask,
            len(log_weights) * law.backbone.vocab_size,
            response.hidden.movedim(0, -2),  # (B, T, P, hidden_size)
            log_weights.T[:, None].expand(*mask.shape, -1),  # (B, T, P)
        )
        return (base.token_weights * tokens).sum(-1)


def strategy_weights(log: LogQuantities, uniform: bool) -> Tensor:
    """``log`` of the weights of the P joint values, ``(P, B)``: the router's, held fixed, or all alike."""
    log_prior = log.log_prior.detach()
    return torch.zeros_like(log_prior).log_softmax(0) if uniform else log_prior
