"""Divergences between what data share and what they have of their own: means of laws, and their jackknife."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

SINGLE = 1e-12
"""The least that is left of a mixture when one of its parts is taken away, as a share of it."""


@dataclass(frozen=True)
class Statistic:
    """A number that N data give, and what fewer of them give.

    Attributes:
        whole: of all data.
        apart: the same, the data being held against aggregates of the others alone.
        without: ``(N,)``, of all but one.
    """

    whole: float
    apart: float
    without: Tensor


@dataclass(frozen=True)
class Estimate:
    """A sum of statistics, free of bias at the rate 1/N.

    Attributes:
        value: the estimate.
        error: its standard error.
        width: what the number of data leaves open: how far the statistics are from what they are when no datum is
            part of the aggregate that it is held against, none of them set off against another. Without its own part
            an aggregate is too small where the datum is, with it too large [Poole et al. 2019, eq. 12, 13].
    """

    value: float
    error: float
    width: float


def jackknife(*parts: tuple[int, Statistic]) -> Estimate:
    """The sum of the statistics, each with its sign, by the jackknife.

    Its error is too large in the mean rather than too small [Efron & Stein 1981].
    """
    whole = sum(sign * part.whole for sign, part in parts)
    without = torch.stack([sign * part.without for sign, part in parts]).sum(0)
    count, mean = len(without), float(without.mean())
    error = math.sqrt((count - 1) / count * float(((without - mean) ** 2).sum()))
    width = sum(abs(part.apart - part.whole) for _, part in parts)
    return Estimate(count * whole - (count - 1) * mean, error, width)


def mean_of(values: Tensor) -> Statistic:
    """The mean of ``(N,)``."""
    values = values.double()
    mean = float(values.mean())
    return Statistic(mean, mean, (values.sum() - values) / (len(values) - 1))


def mean_log_table(p: Tensor, q: Tensor) -> Statistic:
    """``sum_z P(z) log Q(z)`` of the means P and Q over the data of laws ``(N, K)`` each."""
    p, q = p.double(), q.double()
    count = len(p)
    less_p, less_q = ((law.sum(0) - law).clamp(min=0) / (count - 1) for law in (p, q))
    whole = _expected_log(p.mean(0), q.mean(0))
    return Statistic(float(whole), float(_expected_log(p, less_q).mean()), _expected_log(less_p, less_q))


def _expected_log(p: Tensor, q: Tensor) -> Tensor:
    return torch.special.xlogy(p, q.clamp(min=torch.finfo(q.dtype).tiny)).sum(-1)


def mean_log_mixture(log_p: Tensor) -> Statistic:
    """``E log (1/N) sum_j p_j(z)``, z being a draw for datum n and j running over all data, n among them.

    The estimate of an aggregate by stratified sampling where the batch is all data [Chen et al. 2018, appendix C].

    Args:
        log_p: log-density under the law of datum j of draw s for datum n, ``(S, N, N)`` at ``[s, n, j]``.
    """
    count = log_p.shape[-1]
    whole, apart, without = 0.0, 0.0, torch.zeros(count, dtype=torch.float64)
    for row in log_p:
        total = row.logsumexp(1, keepdim=True)  # (N, 1)
        less = total + torch.log1p(-(row - total).exp().clamp(max=1 - SINGLE))  # (N, N), without datum j
        whole += float(total.mean())
        apart += float(less.diagonal().mean())
        without += (less.sum(0) - less.diagonal()) / (count - 1)
    draws, log_less = len(log_p), math.log(count - 1)
    return Statistic(whole / draws - math.log(count), apart / draws - log_less, without / draws - log_less)


def crossed(laws: Sequence[Mapping[str, TorchDistribution]], z: Mapping[str, Tensor]) -> Tensor:
    """The log-density of every draw under the law of every datum, ``(S, N, N)`` at ``[s, n, j]``; float64, CPU.

    Args:
        laws: of consecutive batches of data, by site, of batch shape ``(S, B)``, the same for all S.
        z: draws, ``(S, N, *event)`` by site.
    """
    columns = []
    for batch in laws:
        parts = [law.log_prob(z[name].transpose(0, 1).unsqueeze(2)) for name, law in batch.items()]
        columns.append(sum(parts[1:], parts[0]).transpose(0, 1).double().cpu())  # (S, N, B)
    return torch.cat(columns, -1)
