"""The score-function gradient with a relaxation as control variate."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from pyro.distributions import Categorical
from torch import Tensor

from ...models import Capability
from ..expectations import Expectation, Sample
from ..log_quantities import LogQuantities, Site
from ..objectives import Objective
from ..schedules import Schedule
from .gradient import Gradient
from .relaxed import RelaxedDraws, one_hot_of_largest, perturbed, temperature_schedule
from .replaced import bounds_with
from .score_function import bounds_of, check_pointwise


class CoupledDraws(RelaxedDraws):
    """Three copies of each particle: a draw, its relaxation, and that by the path which is left given the draw."""

    mixes: ClassVar = False

    def __init__(self, gradient: str, temperature: float) -> None:
        super().__init__(gradient)
        self.temperature = temperature

    def fill(self, name: str, log_p: Tensor) -> Tensor:
        log_p, *copies = log_p.chunk(3)
        if not all(torch.equal(log_p, copy) for copy in copies):
            raise ValueError(
                f"gradient {self.gradient}: the guide's law of site {name} depends on sites that are drawn before "
                "it; use gradient ScoreFunction, or a guide whose sites are independent given x and y"
            )
        g = perturbed(log_p)
        z = one_hot_of_largest(g)
        path = 1 - (g - g.amax(-1, keepdim=True)).exp().detach()
        g_given_z = g.detach() + path * (log_p - log_p.detach())
        return torch.cat([z, (g / self.temperature).softmax(-1), (g_given_z / self.temperature).softmax(-1)])


class Rebar(Gradient):
    """REINFORCE with a relaxation of the draw as control variate [Tucker et al. 2017, eq. 7].

    With ``g = log q + Gumbel noise`` of a draw, ``z`` its largest place, ``c = softmax(g / temperature)`` and ``c~``
    the same for ``g`` drawn again given z, the guide's gradient of the bound F is

        sum_s (F(z) - eta F(c~_s)) d log q(z_s|x,y) + eta d(F(c_s) - F(c~_s)) + dF(z)

    where ``F(c_s)`` is F with the s-th draw alone relaxed. The noise of ``c~`` is that of ``c`` seen from z, the
    common random numbers under which ``c~ = c`` in value while their paths differ:
    ``d g~_k = (1 - exp(g_k - g_z)) d log q_k`` against ``d g_k = d log q_k``. What else the parameters do to
    ``F(c_s) - F(c~_s)`` cancels draw by draw, so that the model's gradient is that of the plain draws. Unbiased in
    model and guide for any eta and temperature; REINFORCE at eta 0.

    Model and guide are run on 3 S rows at once; the bound that is reported is that of the S plain draws. The
    categorical sites of the guide must be independent given x and y.

    Args:
        eta: weight of the control variate.
        temperature: of the relaxation, above 0, a number or a schedule over the fit.

    Raises:
        ValueError: an eta that is not finite, a temperature that is not above 0; in :meth:`check`, an objective that
            is no function of each datum's log-quantities by themselves.
    """

    expectations: ClassVar = (Sample,)
    needs: ClassVar = Capability.RELAXABLE
    copies: ClassVar = 3

    def __init__(self, eta: float = 1.0, temperature: float | Schedule = 0.5) -> None:
        super().__init__()
        if not abs(eta) < float("inf"):
            raise ValueError(f"gradient Rebar: eta must be finite, got {eta}")
        self.eta, self.temperature = eta, temperature_schedule("Rebar", temperature)

    def draws(self, share: float) -> RelaxedDraws:
        return CoupledDraws("Rebar", self.temperature.at(share))

    def check(self, objective: Objective, expectation: Expectation) -> None:  # noqa: ARG002
        check_pointwise(self, objective)

    def drawn(self, log: LogQuantities) -> LogQuantities:
        plain = _copy(log, 0)
        return replace(
            plain, sites={name: _plain(site, len(plain.log_q)) for name, site in log.sites.items()}
        )

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        plain, soft, given_z = (_copy(log, i) for i in range(self.copies))
        bound, direct, value = bounds_of(objective, plain)
        fixed = plain.hold_guide().hold_model()
        of_soft = bounds_with(objective.guide_bound, fixed, soft)  # (S, B)
        of_given_z = bounds_with(objective.guide_bound, fixed, given_z)
        signal = (value - self.eta * of_given_z).detach()
        score = (signal * plain.log_q).sum(0)
        return bound, direct + score + self.eta * (of_soft - of_given_z).sum(0)


def _copy(log: LogQuantities, place: int) -> LogQuantities:
    """One of the three copies, its log-quantities alone."""

    def part(values: Tensor) -> Tensor:
        return values.chunk(Rebar.copies)[place]

    sites = {
        name: replace(site, log_prior=part(site.log_prior), log_q=part(site.log_q))
        for name, site in log.sites.items()
    }
    return replace(
        log, log_lik=part(log.log_lik), log_prior=part(log.log_prior), log_q=part(log.log_q), sites=sites
    )


def _plain(site: Site, size: int) -> Site:
    """The draws of a site as integers, with their laws."""
    of_draws = site.z.dim() - 1  # a router's law may be that of the data alone
    prior, posterior = (
        Categorical(logits=law.logits[:size] if len(law.batch_shape) == of_draws else law.logits)
        for law in (site.prior, site.posterior)
    )
    return Site(site.z[:size].argmax(-1), prior, posterior, site.log_prior[:size], site.log_q[:size])
