"""What each draw is worth to the guide, written out, for the tests of the terms that fit it."""

from __future__ import annotations

import torch
from stratagem.inference.terms import ForwardChiSquare, ForwardKL, Term, VarGrad
from torch import Tensor

GUIDE = [ForwardKL, ForwardChiSquare, VarGrad]


def pull(term: Term, log_w: Tensor) -> Tensor:
    """What each draw's ``log q`` is raised by, ``(S, B)``, written out."""
    w = log_w.exp()
    if isinstance(term, ForwardKL):
        return w / w.sum(0)
    if isinstance(term, ForwardChiSquare):
        return w**2 / (w**2).sum(0)
    rows = range(len(log_w))
    others = torch.stack([log_w[[t for t in rows if t != s]].mean(0) for s in rows])
    return (log_w - others) / len(log_w)


def datum(seed: int = 0, tight: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """``log p(y|x,z)``, ``log p(z|x)`` and the logits of q for one datum and three z; q the posterior if ``tight``."""
    numbers = torch.Generator().manual_seed(seed)
    lik, prior, logits = torch.randn(3, 3, dtype=torch.float64, generator=numbers)
    prior = prior.log_softmax(0)
    return lik, prior, (lik + prior if tight else logits).clone().requires_grad_()
