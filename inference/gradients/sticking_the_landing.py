"""The gradient through the samples, without the score of the guide."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from torch import Tensor

from ...models import Capability
from ..expectations import Expectation, Sample
from ..log_quantities import LogQuantities
from ..objectives import ELBO, AutoGen, Objective
from .gradient import Gradient
from .rescoring import rescore

LINEAR = (ELBO, AutoGen)
"""Objectives that are linear in the draws' ``log_q``: the score that is left out has mean zero."""


class StickingTheLanding(Gradient):
    """:class:`Pathwise` less the score ``d log q(z|x,y)`` at fixed z, whose mean is zero [Roeder et al. 2017].

    Unbiased, in model and guide, for objectives that are linear in ``log_q``. Where the guide is the posterior the
    ELBO's gradient in it is zero on every draw; away from there its variance may be above or below that of
    :class:`Pathwise`. Costs one more run of the guide.

    Raises:
        ValueError: in :meth:`check`, an objective of another kind.
    """

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.REPARAMETERISED

    def check(self, objective: Objective, expectation: Expectation) -> None:  # noqa: ARG002
        if not (isinstance(objective, LINEAR) and objective.shared):
            works = " or ".join(kind.__name__ for kind in LINEAR)
            raise ValueError(
                f"gradient StickingTheLanding: it leaves out the guide's score, whose mean under "
                f"{type(objective).__name__} is not zero; use objective {works}, or gradient DoublyReparameterised "
                "(for functions of the weights) or Pathwise"
            )

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        z = {name: site.z for name, site in log.sites.items()}
        bound = objective.bound(replace(log, log_q=rescore(log, z, fixed=True)))
        return bound, bound
