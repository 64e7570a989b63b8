"""The effect of do(z = k) on the law of the response, and whether z can be inferred back from it."""

from __future__ import annotations

import torch
from torch import Tensor

from ...evaluation.statistics import mean_se, named
from ..diagnostic import Readings
from ..subject import Subject
from .divergence import jensen_shannon, least
from .forcing import given, in_use
from .scoring import as_data, log_laws

ROWS = 2**13
"""Responses that are scored at most, one under one value of z being one: all N under P values are P * P * N."""

LEAST = 8
"""Prompts on which something can be said."""


def intervention(subject: Subject) -> Readings:
    """Divergence between the laws of any two values of z, and self-consistency.

    A response to each prompt is drawn under each value and scored under all: on the first prompts, as many as
    :data:`ROWS` allow. The values of a continuous z are the centres of clusters of the guide's means, between which
    there is no posterior to be consistent with. Says nothing where some latents are discrete and some continuous, and
    of so many values that too few prompts are left.
    """
    chosen = subject.values
    P = 0 if chosen is None else chosen.posterior.shape[1]
    num = min(len(subject.data), ROWS // max(P * P, 1))
    if chosen is None or P < 2 or num < min(LEAST, len(subject.data)):
        return Readings()
    responses = subject.forced
    at = given(chosen, responses)
    laws = [log_laws(subject.model, as_data(subject, row[:num]), at, subject.batch_size) for row in responses]
    log_lik = torch.stack([log_lik for log_lik, _ in laws])  # (P, P, num): generated under, scored under
    divergence = jensen_shannon(log_lik)
    cells = [[mean_se(cell) for cell in row] for row in divergence]
    means, errors = torch.tensor(cells, dtype=torch.float64).unbind(-1)
    curves = {"intervention/divergence": means.numpy(), "intervention/divergence_se": errors.numpy()}
    figures = {"intervention/prompts": float(num)}
    nearest = least(divergence, torch.from_numpy(in_use(chosen)))
    if nearest is not None:
        figures |= named("intervention/divergence_least", mean_se(divergence[nearest]))
    if subject.enumerable:
        log_prior = laws[0][1]
        posterior = (log_lik + log_prior).softmax(1)
        curves["intervention/confusion"] = posterior.mean(-1).numpy()
        figures |= _self_consistency(posterior, log_prior.softmax(0))
    return Readings(figures, curves)


def _self_consistency(posterior: Tensor, router: Tensor) -> dict[str, float]:
    """``E p(z|x,y)`` with ``z ~ p(z|x)`` and ``y ~ p(y|x,z)``, and the same with y of any other z.

    Args:
        posterior: ``p(z=v|x,y_g)``, ``(P, P, N)``, y_g having been generated under g.
        router: ``p(z|x)``, ``(P, N)``.
    """
    back = posterior.diagonal(dim1=0, dim2=1).T  # (P, N)
    return {
        **named("intervention/self_consistency", mean_se((router * back).sum(0))),
        **named("intervention/self_consistency_chance", mean_se(router.square().sum(0))),
    }
