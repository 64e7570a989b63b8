"""The marginal kept at the base law."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate
from ..log_quantities import LogQuantities, xlogp
from ..schedules import Schedule
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

    A token that the base all but rules out costs the share that p gives it; times ``reverse``, ``KL(p || p0)`` after
    each prefix makes that share dearer by ``log p - log p0``, and a forced z keeps to what the base can say.

    Args:
        weight: as of every term.
        reverse: share of the divergence the other way round, at least 0.

    Raises:
        ValueError: a negative share.
    """

    expectations: ClassVar = (Enumerate,)
    sign: ClassVar = -1
    pointwise: ClassVar = False

    def __init__(self, weight: float | Schedule = 1.0, reverse: float = 0.0) -> None:
        super().__init__(weight)
        if not 0 <= reverse < float("inf"):
            raise ValueError(f"term BaseFidelity: reverse must be finite and not negative, got {reverse}")
        self.reverse = reverse

    def value(self, log: LogQuantities) -> Tensor:
        response, base = response_of(log), base_law(log)
        law, mask = response.law, response.mask

        def divergence(hidden: Tensor, log_weights: Tensor, hidden_of_base: Tensor) -> Tensor:
            log_p0 = base.law.logits_of(hidden_of_base).log_softmax(-1)
            log_p = mixture(law.logits_of(hidden).log_softmax(-1), log_weights)
            away = xlogp(log_p, log_p - log_p0).sum(-1) if self.reverse else 0.0
            return xlogp(log_p0, log_p0 - log_p).sum(-1) + self.reverse * away

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
