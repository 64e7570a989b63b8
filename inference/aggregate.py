"""Divergences between the aggregate posterior and the aggregate prior of a minibatch."""

from __future__ import annotations

import torch
from torch import Tensor

from .laws import Law, Values, stacked
from .log_quantities import LogQuantities

KERNELS = ("imq", "rbf")


def aggregate_kl(log: LogQuantities) -> Tensor:
    """``KL(mean_j q(z|x_j,y_j) || mean_j p(z|x_j))`` in nats, as each datum's share ``E_q[log mean q - log mean p]``.

    ``(B,)``, whose mean is the divergence. Exact for the batch where z has a finite support; otherwise unbiased for
    it, in value and gradient. In the mean over batches above the figure of the data, by convexity, at the rate 1/B.
    """
    values = Values.under(Law.POSTERIOR, log)
    return values.expect(values.mean_law(Law.POSTERIOR) - values.mean_law(Law.PRIOR))


def aggregate_mmd(log: LogQuantities, kernel: str = "imq", width: float | None = None) -> Tensor:
    """``MMD^2(mean_j q(z|x_j,y_j), mean_j p(z|x_j))``, as each datum's share of the pairs of different data.

    ``(B,)``, whose mean is ``E k(z,z') + E k(v,v') - 2 E k(z,v)`` for z from q and v, drawn afresh, from the router: a
    U-statistic, unbiased in value and gradient for the aggregates of the data, and so negative at times
    [Gretton et al. 2012, lemma 6]. Where z has a finite support the kernel is ``1[z = z']`` and the sums over z are
    exact. 0 where the batch is a single datum.

    Args:
        log: the log-quantities of the minibatch.
        kernel: of continuous latents: ``imq``, ``h / (h + |z-z'|^2)``, or ``rbf``, ``exp(-|z-z'|^2 / h)``.
        width: h; where not given ``2 D``, the mean squared distance of two draws from ``N(0, 1)^D``.
    """
    of_q, of_p = (Values.under(law, log) for law in Law)
    if of_q.z is None:
        gap = of_q.own(Law.POSTERIOR).exp() - of_p.own(Law.PRIOR).exp()  # (P, B)
        pairs = gap.mT @ gap
    else:
        assert of_p.z is not None, "guide and router draw from one support"
        q, p = stacked(of_q.z), stacked(of_p.z)
        width = width or 2.0 * q.shape[-1]
        between = _mean_kernel(q, p, kernel, width)
        pairs = _mean_kernel(q, q, kernel, width) + _mean_kernel(p, p, kernel, width) - between - between.mT
    others = ~torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)
    return (pairs * others).sum(1) / max(len(pairs) - 1, 1)


def _mean_kernel(a: Tensor, b: Tensor, kernel: str, width: float) -> Tensor:
    """``(B, B)`` of ``(S, B, D)`` and ``(S', B, D)``, a mean over the draws of the two data."""
    distance = ((a[:, :, None, None] - b) ** 2).sum(-1)  # (S, B, S', B)
    value = width / (width + distance) if kernel == "imq" else (-distance / width).exp()
    return value.mean((0, 2))
