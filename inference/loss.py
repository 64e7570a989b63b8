"""What an inference algorithm gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """One evaluation of an inference algorithm on a batch.

    Attributes:
        surrogate: scalar; its gradient is the estimator of the loss's, its value means nothing by itself.
        bound: ``(B,)`` nats per sequence, detached; higher is better.
        terms: each term by name, ``(B,)`` and detached, before its weight.
        objective: scalar, detached: mean bound plus weighted terms, what training raises.
        usage: ``(P, B)`` exact posterior of the P joint values of the latents, where enumerated.
        log_lik: ``(P, B)`` log-likelihood of the joint values, nats per sequence, detached; where enumerated.
        held: ``(P, B)`` log-posterior of the first step on this batch, for those that follow it; where enumerated.
        kl_router: ``(B,)`` ``KL(q || p(z|x))``, detached; a mean over the draws where not enumerated, None where these
            are relaxed.
        information: ``(B,)`` ``KL(p(z|x,y) || p(z|x))``, detached; where enumerated.
        weights: what the schedules gave, by name.
    """

    surrogate: Tensor
    bound: Tensor
    terms: dict[str, Tensor]
    objective: Tensor
    usage: Tensor | None = None
    log_lik: Tensor | None = None
    held: Tensor | None = None
    kl_router: Tensor | None = None
    information: Tensor | None = None
    weights: dict[str, float] = field(default_factory=dict)
