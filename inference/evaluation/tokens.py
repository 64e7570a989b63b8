"""The law of the next token, z summed out."""

from __future__ import annotations

from torch import Tensor

from ...models import LanguageModel
from ..expectations import observed_sites
from ..log_quantities import LogQuantities
from ..terms.response import response_of


def next_tokens(log_p: Tensor, log_start: Tensor) -> Tensor:
    """``log p(y_t | x, y_<t) = log sum_z p(z|x,y_<t) p(y_t|x,z,y_<t)``, ``(B, T)`` nats.

    Over weighted draws of z the posterior given the tokens before is self-normalised: biased at the rate 1/S.

    Args:
        log_p: ``log p(y_t|x,z,y_<t)`` of all values of z, or of S draws, ``(P, B, T)``.
        log_start: ``log p(z|x)`` of these, up to a constant, or their log-weights before the first token, ``(P, B)``.
    """
    before = log_start[..., None] + log_p.cumsum(-1) - log_p
    return (before.log_softmax(0) + log_p).logsumexp(0)


def of_response(log: LogQuantities) -> Tensor | None:
    """The same of a run's response, as of shape ``(B, T)``; None where it is not one language model's."""
    assert log.scene is not None
    assert log.scene.model_trace is not None
    laws = [site["fn"] for site in observed_sites(log.scene.model_trace).values()]
    if sum(isinstance(law, LanguageModel) for law in laws) != 1:
        return None
    log_p = response_of(log).log_p
    return next_tokens(log_p, log.log_prior if log.enumerated else log.log_w - log_p.sum(-1))
