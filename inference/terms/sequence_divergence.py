"""The information that z and a short continuation share."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ...models import LanguageModel
from ..expectations import Enumerate
from ..log_quantities import LogQuantities
from ..schedules import Schedule
from .latent_jsd import strategy_weights
from .next_tokens import given_prefix, jensen_shannon, per_token
from .response import response_of
from .term import Term


class SequenceDivergence(Term):
    """``I(z; y') = sum_z w_z KL(p(y'|x,z) || m(y'))`` over y' of n tokens, ``m = sum_z w_z p(y'|x,z)``, raised.

    The Jensen-Shannon divergence of the strategies as laws over continuations, in nats per sequence, by rollouts
    ``y' ~ m``. By the chain rule of information [Cover & Thomas 2006, theorem 2.5.2]

        I = E_m[sum_t J_t],    J_t(y'_<t) = the Jensen-Shannon divergence of p(.|x,z,y'_<t), weighted by m(z|y'_<t),

    where the token-level figure ``J_t`` is exact. Both it and the law of the prefix depend on the parameters:

        dI = E_m[sum_t dJ_t + sum_s (sum_{t>s} J_t) d log m(y'_s|y'_<s)],

    the terms ``t <= s`` of the score falling out, as ``E[d log m(y'_s|y'_<s) | y'_<s] = 0``. Value and gradient are
    unbiased, and exact for n = 1. The token-level figure is the control variate of the plain score function
    ``(R - b) d log p(y'|x,z)``, ``R = log p(y'|x,z) - log m(y') = sum_t r_t`` [Williams 1992]: the part of t in ``dI``
    is the conditional expectation of ``r_t d log p(y'_<=t|x,z)`` given ``y'_<t``, free of the noise of z and ``y'_t``.
    The weights are ``p(z|x)``, held fixed: only the decoder raises it.

    Costs the drawing of ``num_rollouts`` continuations of each strategy, and a decoder pass of as many.

    Args:
        weight: as for any term.
        num_tokens: n.
        num_rollouts: for each datum.
        uniform: weigh the strategies alike, and not by the router.

    Raises:
        ValueError: fewer than one token or rollout; in :meth:`value`, continuations that the context has no room for.
    """

    expectations: ClassVar = (Enumerate,)
    pointwise: ClassVar = False

    def __init__(
        self,
        weight: float | Schedule = 1.0,
        num_tokens: int = 4,
        num_rollouts: int = 1,
        uniform: bool = False,
    ) -> None:
        super().__init__(weight)
        if num_tokens < 1 or num_rollouts < 1:
            raise ValueError(
                f"term SequenceDivergence: num_tokens and num_rollouts must be at least 1, got {num_tokens} and "
                f"{num_rollouts}"
            )
        self.num_tokens, self.num_rollouts, self.uniform = num_tokens, num_rollouts, uniform

    def value(self, log: LogQuantities) -> Tensor:
        response = response_of(log)
        seen, shape, n = response.law, response.shape, self.num_tokens
        assert log.scene is not None
        room = seen.backbone.context - log.scene.batch.prompt.shape[-1]
        if n > room:
            raise ValueError(
                f"term SequenceDivergence: num_tokens={n}, but after the longest prompt the context has room for "
                f"{room}; lower num_tokens"
            )
        law = LanguageModel(seen.backbone, seen.prompt, seen.memory, n).expand(shape)
        log_weights = strategy_weights(log, self.uniform)  # (P, B)
        drawn = self.rollouts(law, log_weights)  # (R, B, n)
        every = drawn.reshape(-1, *(1,) * (len(shape) - 1), *drawn.shape[1:])  # (R, 1, ..., B, n)

        def strategies_first(values: Tensor) -> Tensor:
            """``(R, *shape, n, ...)`` as ``(P, R, B, n, ...)``."""
            rest = values.shape[len(shape) + 1 :]
            return values.reshape(len(drawn), len(log_weights), shape[-1], *rest).transpose(0, 1)

        def divergence(hidden: Tensor, log_weights: Tensor) -> Tensor:
            return jensen_shannon(law.logits_of(hidden).log_softmax(-1), log_weights)

        log_p = strategies_first(law.token_log_probs(every))  # (P, R, B, n)
        log_posterior = given_prefix(log_weights[:, None].expand(log_p.shape[:-1]), log_p)
        tokens = per_token(
            divergence,
            law.mask_of(drawn),
            len(log_weights) * law.backbone.vocab_size,
            strategies_first(law.hidden(every)).movedim(0, -2),  # (R, B, n, P, hidden_size)
            log_posterior.movedim(0, -1),  # (R, B, n, P)
        )
        log_m = (log_posterior + log_p).logsumexp(0)  # (R, B, n), log m(y'_t|y'_<t)
        score = prefix_score(tokens, log_m)
        return (tokens.sum(-1) + score - score.detach()).mean(0)

    @torch.no_grad()
    def rollouts(self, law: LanguageModel, log_weights: Tensor) -> Tensor:
        """Continuations of the mixture of the strategies, ``(R, B, n)``: one of each strategy, of which one is kept."""
        each = law.sample((self.num_rollouts,))
        each = each.reshape(self.num_rollouts, *log_weights.shape, self.num_tokens)  # (R, P, B, n)
        kept = torch.multinomial(log_weights.T.exp(), self.num_rollouts, replacement=True).T  # (R, B)
        places = kept[:, None, :, None].expand(-1, 1, -1, self.num_tokens)
        return each.gather(1, places)[:, 0]


def prefix_score(tokens: Tensor, log_m: Tensor) -> Tensor:
    """``sum_s (sum_{t>s} J_t) log m(y'_s|y'_<s)`` with ``J`` held fixed, ``(R, B)``, of ``(R, B, n)`` each."""
    later = tokens.sum(-1, keepdim=True) - tokens.cumsum(-1)
    return (later.detach() * log_m).sum(-1)
