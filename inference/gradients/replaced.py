"""Bounds of draws of which one is another."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..log_quantities import LogQuantities
from .baseline import Bound


def bounds_with(bound: Bound, log: LogQuantities, other: LogQuantities) -> Tensor:
    """``(S, B)``: the bound of the S draws of ``log``, the s-th of them replaced by the s-th of ``other``.

    The bound is a function of log-quantities alone; all are taken at once, as data of their own.
    """
    size = log.log_lik.shape[0]
    replaced = torch.eye(size, dtype=torch.bool, device=log.log_lik.device)[:, :, None]  # (S, S, 1)

    def swap(values: Tensor, others: Tensor) -> Tensor:
        return torch.where(replaced, others[:, None], values[:, None]).flatten(1)  # (S, S * B)

    sites = {
        name: replace(
            site,
            log_prior=swap(site.log_prior, other.sites[name].log_prior),
            log_q=swap(site.log_q, other.sites[name].log_q),
        )
        for name, site in log.sites.items()
    }
    bounds = bound(
        LogQuantities(
            swap(log.log_lik, other.log_lik),
            swap(log.log_prior, other.log_prior),
            swap(log.log_q, other.log_q),
            enumerated=False,
            sites=sites,
            run=log.run,
        )
    )
    return bounds.unflatten(0, (size, -1))
