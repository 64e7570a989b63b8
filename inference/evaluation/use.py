"""Does z matter?"""

from __future__ import annotations

import torch
from torch import Tensor

from .posteriors import Posteriors
from .statistics import mean_se, named

VERDICTS = ("collapsed", "weak", "used")

USED, WEAK = 0.5, 0.05
"""Shares of the ceiling from which the information counts as use, and as weak use."""

ACTIVE = 0.01
"""Variance of the posterior mean from which a dimension is active [Burda et al. 2016, section 5.2]."""


def use(on_base: Posteriors) -> dict[str, float]:
    """Information, its ceiling, usage, and the verdict: 0 collapsed, 1 weak, 2 used.

    The information ``I(z; y|x) = E KL(p(z|x,y) || p(z|x))`` is at most the router's entropy and at most that
    of the responses; the smaller is the ceiling. ``use/usage`` is the number of strategies in effect, the
    exponential of the entropy of the mean posterior; ``use/usage/k`` the share of each.
    """
    information, error = mean_se(on_base.information)
    ceilings = [-on_base.log_base.mean()]
    if on_base.router_entropy is not None:
        ceilings.append(on_base.router_entropy.mean())
    ceiling = float(torch.stack(ceilings).min())
    share = information / ceiling if ceiling > 0 else 0.0
    out = {
        "use/mutual_information": information,
        "use/mutual_information_se": error,
        "use/ceiling": ceiling,
        "use/verdict": 2.0 if share >= USED else 1.0 if share >= WEAK and information > 2 * error else 0.0,
        **named("use/kl_router", mean_se(on_base.kl_router)),
    }
    if on_base.gap is not None:
        out |= named("use/posterior_gap", mean_se(on_base.gap))
    if on_base.posterior is not None:
        usage = on_base.posterior.double().mean(0)
        out["use/usage"] = float(torch.exp(-torch.special.xlogy(usage, usage).sum()))
        out |= {f"use/usage/{k}": float(share) for k, share in enumerate(usage)}
    for name, draws in (on_base.draws or {}).items():
        if draws.is_floating_point():
            out[f"use/active_units/{name}"] = float((spread_of_means(draws) > ACTIVE).sum())
    return out


def spread_of_means(draws: Tensor) -> Tensor:
    """The variance over N data of the mean of each law, from S draws of it: ``(*event)`` of ``(S, N, *event)``.

    Unbiased: that of the means of the draws less a share 1/S of the variance within.
    """
    draws = draws.double()
    return draws.mean(0).var(0) - draws.var(0).mean(0) / len(draws)
