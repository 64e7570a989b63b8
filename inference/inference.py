"""An inference algorithm: objective, expectation, gradient, and terms."""

from __future__ import annotations

from collections.abc import Mapping

from ..models import Batch, Capability, Latent
from .expectations import Enumerate, Expectation, Program, Sample
from .gradients import Exact, Gradient, Pathwise
from .loss import Loss
from .objectives import Objective
from .terms import Term


class Inference:
    """How model and guide are compared.

    Args:
        objective: what is compared.
        expectation: how ``E_q`` is taken.
        gradient: how it is differentiated.
        terms: raised or lowered beside the bound, by name.

    Raises:
        ValueError: choices that do not go together, naming what would.
    """

    def __init__(
        self,
        objective: Objective,
        expectation: Expectation,
        gradient: Gradient,
        terms: Mapping[str, Term] | None = None,
    ) -> None:
        self.objective, self.expectation, self.gradient = objective, expectation, gradient
        self.terms = dict(terms or {})
        parts: list[Objective | Gradient | Term] = [objective, gradient, *self.terms.values()]
        for part in parts:
            if not isinstance(expectation, part.expectations):
                works = " or ".join(e.__name__ for e in part.expectations)
                raise ValueError(
                    f"inference: {type(part).__name__} does not go with expectation {type(expectation).__name__}; "
                    f"it needs {works}"
                )

    def check(self, latents: Mapping[str, Latent]) -> None:
        """Refuse latents that cannot do what the algorithm asks of them, before any forward pass."""
        for name, latent in latents.items():
            for part in (self.expectation, self.gradient):
                if part.needs is not None and part.needs not in latent.capabilities:
                    raise ValueError(
                        f"inference: {type(part).__name__} needs every latent to be {part.needs.value}; {name} is "
                        f"{type(latent).__name__}. Use {_mend(latent)}"
                    )

    def __call__(self, model: Program, guide: Program, batch: Batch, share: float = 1.0) -> Loss:
        """Loss of a batch, a mean over the data, with the terms' weights when ``share`` of the fit is done."""
        log = self.expectation(model, guide, batch)
        bound, differentiated = self.gradient.surrogate(self.objective, log)
        values = {name: term.value(log) for name, term in self.terms.items()}
        gain = sum(
            (term.signed_weight(share) * values[name].mean() for name, term in self.terms.items()),
            bound.new_zeros(()),
        )
        return Loss(
            surrogate=-(differentiated.mean() + gain),
            bound=bound.detach(),
            terms={name: value.detach() for name, value in values.items()},
            objective=bound.detach().mean() + gain.detach(),
            usage=log.log_posterior.detach().exp() if log.enumerated else None,
        )


def _mend(latent: Latent) -> str:
    if Capability.ENUMERABLE in latent.capabilities:
        return f"expectation {Enumerate.__name__} with gradient {Exact.__name__} (inference=marginal, inference=elbo)"
    return f"expectation {Sample.__name__} with gradient {Pathwise.__name__} (inference=elbo_pathwise)"
