"""log p less an f-divergence, given by its function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..expectations import Enumerate
from ..log_quantities import LogQuantities, xlogp
from .objective import Objective

Perspective = Callable[[Tensor, Tensor], Tensor]


def _jensen_shannon(log_p: Tensor, log_q: Tensor) -> Tensor:
    # log(p / m) with m = (p + q) / 2
    from_p = xlogp(log_p, math.log(2) - softplus(log_q - log_p))
    return 0.5 * (from_p + xlogp(log_q, math.log(2) - softplus(log_p - log_q)))


PERSPECTIVES: dict[str, Perspective] = {
    "jensen_shannon": _jensen_shannon,
    "hellinger": lambda log_p, log_q: 0.5 * ((log_p / 2).exp() - (log_q / 2).exp()) ** 2,
    "total_variation": lambda log_p, log_q: 0.5 * (log_p.exp() - log_q.exp()).abs(),
    "kl": lambda log_p, log_q: xlogp(log_p, log_p - log_q),
    "reverse_kl": lambda log_p, log_q: xlogp(log_q, log_q - log_p),
    "chi_square": lambda log_p, log_q: (2 * log_p - log_q).exp() - 2 * log_p.exp() + log_q.exp(),
}
"""``q f(p/q)`` by name, of ``log p`` and ``log q``, right at p = 0 and at q = 0."""


class FDivergence(Objective):
    """``log p(y|x) - D_f(p(z|x,y) || q(z|x,y))``, ``D_f(p || q) = sum_z q f(p/q)`` [Csiszar 1967].

    A lower bound of ``log p(y|x)``, tight where the guide is the posterior; exact. The functions of t = p/q by name:

    - ``jensen_shannon``: ``(t log t - (1+t) log((1+t)/2)) / 2``, at most log 2
    - ``hellinger``: ``(sqrt(t) - 1)^2 / 2``, the square of the distance, at most 1
    - ``total_variation``: ``|t - 1| / 2``, at most 1
    - ``kl``: ``t log t``, the forward KL
    - ``reverse_kl``: ``-log t``, which makes the bound the ELBO
    - ``chi_square``: ``(t - 1)^2``, Pearson's

    Args:
        f: a name, or a function of tensors that is convex with ``f(1) = 0``, finite on the positive numbers. A
            function is taken at p and q no smaller than the root of the smallest number of their type, where 0 and
            infinity stand for themselves nearly enough.

    Raises:
        ValueError: a name that is not known, a function that is not convex or not 0 at 1.
    """

    expectations: ClassVar = (Enumerate,)

    def __init__(self, f: str | Callable[[Tensor], Tensor] = "jensen_shannon") -> None:
        if isinstance(f, str):
            if f not in PERSPECTIVES:
                raise ValueError(
                    f"objective FDivergence: f is {f!r}; expected a function or one of {', '.join(PERSPECTIVES)}"
                )
            self.perspective = PERSPECTIVES[f]
        else:
            _check_generator(f)
            self.perspective = _perspective(f)

    def bound(self, log: LogQuantities) -> Tensor:
        log_p, log_q = log.log_posterior, log.log_q
        nowhere = (log_p == -torch.inf) & (log_q == -torch.inf)
        # Any finite number whose exponential is 0, so that no gradient meets the difference of two infinities.
        absent = 4 * math.log(torch.finfo(log_p.dtype).tiny)
        divergence = self.perspective(log_p.masked_fill(nowhere, absent), log_q.masked_fill(nowhere, absent))
        return log.log_marginal - divergence.sum(0)


def _perspective(f: Callable[[Tensor], Tensor]) -> Perspective:
    def of_logs(log_p: Tensor, log_q: Tensor) -> Tensor:
        least = 0.5 * math.log(torch.finfo(log_p.dtype).tiny)
        log_p, log_q = log_p.clamp(min=least), log_q.clamp(min=least)
        return log_q.exp() * f((log_p - log_q).exp())

    return of_logs


def _check_generator(f: Callable[[Tensor], Tensor]) -> None:
    one = torch.ones((), dtype=torch.float64)
    if abs(float(f(one))) > 1e-9:
        raise ValueError(f"objective FDivergence: f(1) must be 0, got {float(f(one))}; subtract it")
    t = torch.logspace(-6, 6, 97, dtype=torch.float64)
    value = f(t)
    chord = (value[1:] + value[:-1]) / 2
    above = f((t[1:] + t[:-1]) / 2) - chord
    if (above > 1e-9 * (1 + chord.abs())).any():
        where = float(t[1:][above.argmax()])
        raise ValueError(
            f"objective FDivergence: f must be convex; it is above its chord near t = {where:.3g}"
        )
