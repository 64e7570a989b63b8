"""The ELBO with the divergence to the prior held at a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from ..expectations import Enumerate, Sample
from ..log_quantities import LogQuantities
from ..schedules import Schedule, finite, scheduled
from .objective import Objective


class Capacity(Objective):
    """``E_q[log p(y|x,z)] - gamma |KL(q || p(z|x)) - C|`` [Burgess et al. 2018].

    C is the information in nats that z is to carry of each response: a target KL, that a schedule may raise. Exact
    where enumerated. Where sampled the KL is a mean over S draws, and the penalty biased upward at the rate
    1/sqrt(S) where the KL is at its target, and vanishingly away from it.

    With a capacity for each latent, each KL is held at its own: ``sum_i gamma |KL_i - C_i|``, ``KL_i`` given the
    latents before i [JointVAE, Dupont 2018, equation 7].

    Args:
        gamma: what a nat away from the target costs, at least 0.
        capacity: C, a number or a schedule over the fit, at least 0; or one for each latent by its name.

    Raises:
        ValueError: a gamma or a capacity that is negative or not finite; in :meth:`bound`, capacities of other latents
            than there are.
    """

    expectations: ClassVar = (Enumerate, Sample)

    def __init__(
        self, gamma: float = 10.0, capacity: float | Schedule | Mapping[str, float | Schedule] = 1.0
    ) -> None:
        self.gamma = gamma
        self.capacity: Schedule | dict[str, Schedule] = (
            {name: scheduled(c) for name, c in capacity.items()}
            if isinstance(capacity, Mapping)
            else scheduled(capacity)
        )
        every = self.capacity.values() if isinstance(self.capacity, dict) else [self.capacity]
        for name, schedule in (("gamma", scheduled(gamma)), *(("capacity", schedule) for schedule in every)):
            schedule.check(f"objective Capacity: {name}", finite, "finite and not negative")

    def bound(self, log: LogQuantities) -> Tensor:
        share, fit = log.run.share, log.expect_q(log.log_lik)
        if isinstance(self.capacity, Schedule):
            return (
                fit - self.gamma * (log.expect_q(log.log_q - log.log_prior) - self.capacity.at(share)).abs()
            )
        if set(self.capacity) != set(log.sites):
            raise ValueError(
                f"objective Capacity: expected capacities of the latents {', '.join(log.sites)}, got "
                f"{', '.join(self.capacity)}; give one for each, or one number for all together"
            )
        for name, site in log.sites.items():
            kl = log.expect_q(site.log_q - site.log_prior)
            fit = fit - self.gamma * (kl - self.capacity[name].at(share)).abs()
        return fit
