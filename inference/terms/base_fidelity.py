"""The marginal kept at the base law."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate
from ..log_quantities import LogQuantities, xlogp
from .base_law import base_law
from .next_tokens import given_prefix, mixture, per_token
from .response import response_of
from .term import Term


class BaseFidelity(Term):
    """``sum_t KL(p0(.|x,y_<t) || p(.|x,y_<t))`` on the given response, nats per sequence, lowered.

    The marginal's next-token law is ``p(.|x,y_<t) = sum_z p(z|x,y_<t) p(.|x,z,y_<t)``, exact by enumeration. By
    the chain rule of the KL [Cover & Thomas 2006, theorem 2.5.3] its mean over ``y ~ p0`` is ``KL(p0 || p)``, which
    ``log p0(y|x) - log p(y|x)`` estimates with more variance, since it takes one token where this sums over
    all. On other responses it still asks for the base's law after each prefix. Model and router both lower it.
    """

    expectations: ClassVar = (Enumerate,)
    sign: ClassVar = -1
    pointwise: ClassVar = False

    def value(self, log: LogQuantities) -> Tensor:
        response, base = response_of(log), base_law(log)
        law, mask = response.law, response.mask

        def divergence(hidden: Tensor, log_weights: Tensor, hidden_of_base: Tensor) -> Tensor:
            log_p0 = base.law.logits_of(hidden_of_base).log_softmax(-1)
            log_p = mixture(law.logits_of(hidden).log_softmax(-1), log_weights)
            return xlogp(log_p0, log_p0 - log_p).sum(-1)

        log_weights = given_prefix(log.log_prior, response.log_p)  # (P, B, T)
        tokens = per_token(
            divergence,
            mask,
            (len(log_weights) + 1) * law.backbone.vocab_size,
            response.hidden.movedim(0, -2),  # (B, T, P, hidden_size)
            log_weights.movedim(0, -1),  # (B, T, P)
            base.hidden,  # (B, T, hidden_size)
        )
        return tokens.sum(-1)
