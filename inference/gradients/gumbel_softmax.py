"""The gradient through relaxed categorical draws."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from ...models import Capability, Latent
from ..expectations import Expectation, Sample
from ..log_quantities import LogQuantities
from ..objectives import Objective
from ..schedules import Schedule
from .gradient import Gradient
from .relaxed import RelaxedDraws, one_hot_of_largest, perturbed, temperature_schedule


class SoftenedDraws(RelaxedDraws):
    """Mixtures in place of draws; draws in value, but not in gradient, where ``hard``."""

    def __init__(self, gradient: str, temperature: float, hard: bool) -> None:
        super().__init__(gradient)
        self.temperature, self.hard = temperature, hard

    def fill(self, name: str, log_p: Tensor) -> Tensor:  # noqa: ARG002
        logits = perturbed(log_p) / self.temperature
        soft = logits.softmax(-1)
        return one_hot_of_largest(logits) - soft.detach() + soft if self.hard else soft


class GumbelSoftmax(Gradient):
    """``z = softmax((log q + g) / temperature)``, g Gumbel noise, and autograd through it [Jang et al. 2017, eq. 2].

    A strategy is relaxed to a mixture of strategies, which enters the decoder by its features; its log-densities
    are ``sum_k z_k log p_k``. Biased in value and in every gradient, at the rate of the temperature, while the
    variance of the guide's gradient rises as its inverse.

    With ``hard`` the draw is the strategy at the largest weight, a plain draw from q, and the guide's gradient is
    that of the weights: straight-through. The value and the model's gradient are then unbiased, as they are for
    plain draws; the guide's is biased at every temperature, ``sum_k`` of ``f(k) - f(j)`` being replaced by the mean
    of the slopes at its ends as the temperature falls: right for an f that is at most quadratic between strategies.

    Latents that are reparameterised are drawn as by :class:`~stratagem.inference.gradients.Pathwise`.

    Args:
        temperature: above 0, a number or a schedule over the fit.
        hard: straight-through.

    Raises:
        ValueError: a temperature that is not above 0; in :meth:`check`, an objective of which model and guide raise
            a part each; in :meth:`bind`, latents of which none is categorical.
    """

    expectations: ClassVar = (Sample,)

    def __init__(self, temperature: float | Schedule = 0.5, hard: bool = False) -> None:
        super().__init__()
        self.temperature = temperature_schedule(type(self).__name__, temperature)
        self.hard = hard

    def draws(self, share: float) -> RelaxedDraws:
        return SoftenedDraws(type(self).__name__, self.temperature.at(share), self.hard)

    def check(self, objective: Objective, expectation: Expectation) -> None:  # noqa: ARG002
        if not objective.shared:
            raise ValueError(
                f"gradient GumbelSoftmax: of {type(objective).__name__} model and guide raise a part each, and a "
                "gradient through draws is of both; use gradient ScoreFunction"
            )

    def bind(self, model: nn.Module) -> None:
        latents: dict[str, Latent] = getattr(model, "latents", {})
        either = {Capability.RELAXABLE, Capability.REPARAMETERISED}
        for name, latent in latents.items():
            if not latent.capabilities & either:
                raise ValueError(
                    f"gradient GumbelSoftmax: latent {name} is {type(latent).__name__}, neither relaxable nor "
                    "reparameterised; use gradient ScoreFunction (inference=elbo_rloo)"
                )
        if latents and not any(Capability.RELAXABLE in latent.capabilities for latent in latents.values()):
            found = ", ".join(f"{name} is {type(latent).__name__}" for name, latent in latents.items())
            raise ValueError(
                f"gradient GumbelSoftmax: expected a categorical latent, but {found}; use gradient Pathwise "
                "(inference=elbo_pathwise)"
            )

    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        bound = objective.bound(log)
        return bound, bound
