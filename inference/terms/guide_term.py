"""The contract of a term that fits the guide to the posterior."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Expectation, Sample
from ..gradients import Gradient
from ..gradients.relaxed import RelaxedDraws
from ..gradients.rescoring import rescore
from ..log_quantities import LogQuantities
from .term import Term


class GuideTerm(Term):
    """A divergence between ``p(z|x,y)`` and ``q(z|x,y)`` that is lowered in q alone.

    The model and the draws are held fixed, whatever the gradient of the objective: where draws carry a gradient the
    guide is run once more on their values. A subclass is its formula, :meth:`divergence`.
    """

    expectations: ClassVar = (Enumerate, Sample)
    sign: ClassVar = -1

    def check(self, expectation: Expectation, gradient: Gradient) -> None:
        name = type(self).__name__
        if isinstance(expectation, Sample) and expectation.num_particles < 2:
            raise ValueError(
                f"term {name}: a single draw says nothing of where q should go, got num_particles="
                f"{expectation.num_particles}; use 2 or more, or the term Sleep"
            )
        if gradient.copies > 1 or isinstance(gradient.draws(0.0), RelaxedDraws):
            raise ValueError(
                f"term {name}: needs plain draws from q, for their weights under p(z|x,y), and "
                f"{type(gradient).__name__} draws others; use gradient Held"
            )

    def value(self, log: LogQuantities) -> Tensor:
        return self.divergence(replace(log.hold_model(), log_q=_at_fixed_values(log)))

    @abstractmethod
    def divergence(self, log: LogQuantities) -> Tensor:
        """``(B,)`` nats per sequence, differentiable in ``log.log_q``, the one thing that is not held fixed."""


def log_density(log: LogQuantities) -> Tensor:
    """``log p(z|x,y)`` ``(P, B)``, held fixed; where the values are draws, ``p(y|x)`` is their mean weight."""
    if log.enumerated:
        return log.log_posterior.detach()
    return (log.log_target + log.log_q).detach() + math.log(len(log.log_q))


def _at_fixed_values(log: LogQuantities) -> Tensor:
    """``log q`` ``(P, B)`` as a function of the guide's parameters alone, and not of the draws through them."""
    if not any(site.z.requires_grad for site in log.sites.values()):
        return log.log_q
    return rescore(log, {name: site.z.detach() for name, site in log.sites.items()}, fixed=False)
