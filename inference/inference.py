"""An inference algorithm: objective, expectation, gradient, and terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ..models import Backbone, Batch, Capability, Latent
from .algorithm import Algorithm
from .corruptions import Corruption
from .dataset import Dataset
from .expectations import Enumerate, Expectation, Sample
from .expectations.expectation import is_relaxed
from .gradients import Exact, Gradient, Pathwise, ScoreFunction
from .log_quantities import LogQuantities, Program, Run, xlogp
from .loss import Loss
from .objectives import Objective
from .part import Part
from .schedules import Schedule
from .terms import Term


class Inference(Algorithm):
    """How model and guide are compared.

    Args:
        objective: what is compared.
        expectation: how ``E_q`` is taken.
        gradient: how it is differentiated.
        terms: raised or lowered beside the bound, by name.
        corruptions: of what decoder or guide read while training, by name.

    Raises:
        ValueError: choices that do not go together, naming what would.
    """

    def __init__(
        self,
        objective: Objective,
        expectation: Expectation,
        gradient: Gradient,
        terms: Mapping[str, Term] | None = None,
        corruptions: Mapping[str, Corruption] | None = None,
    ) -> None:
        super().__init__()
        self.objective, self.expectation, self.gradient = objective, expectation, gradient
        self.terms, self.corruptions = dict(terms or {}), dict(corruptions or {})
        parts: list[Part] = [objective, gradient, *self.terms.values()]
        for part in parts:
            if not isinstance(expectation, part.expectations):
                works = " or ".join(e.__name__ for e in part.expectations)
                raise ValueError(
                    f"inference: {type(part).__name__} does not go with expectation {type(expectation).__name__}; "
                    f"it needs {works}"
                )
        objective.check(expectation)
        gradient.check(objective, expectation)
        for term in self.terms.values():
            term.check(expectation, gradient)

    @property
    def updates(self) -> int:
        return self.objective.updates

    def bind(self, model: nn.Module) -> None:
        self.gradient.bind(model)

    def check(self, latents: Mapping[str, Latent]) -> None:
        asking: list[tuple[Part | Expectation, str]] = [
            (part, f"Use {_mend(latents.values())}")
            for part in (self.expectation, self.gradient, self.objective)
        ]
        asking += [(term, f"Leave it out: ~inference.terms.{name}") for name, term in self.terms.items()]
        for name, latent in latents.items():
            for part, mend in asking:
                if part.needs is not None and part.needs not in latent.capabilities:
                    raise ValueError(
                        f"inference: {type(part).__name__} needs every latent to be {part.needs.value}; {name} is "
                        f"{type(latent).__name__}. {mend}"
                    )

    def prepare(
        self, model: Program, guide: Program, backbone: Backbone, data: Sequence[Dataset], seed: int
    ) -> None:
        values = 0
        if any(term.reads for term in self.terms.values()):
            with torch.no_grad():
                values = len(self.expectation(model, guide, data[0].batch([0]).to(backbone.device)).log_lik)
        for term in self.terms.values():
            term.prepare(backbone, data, values, seed)

    def led(self, share: float) -> bool:
        rest = [share + (1 - share) * hundredths / 100 for hundredths in range(101)]
        return any(term.signed_weight(s) for term in self.terms.values() if term.reads for s in rest)

    def go_on(self) -> None:
        self.terms = {name: term for name, term in self.terms.items() if not term.reads}

    def forward(
        self, model: Program, guide: Program, batch: Batch, share: float = 1.0, held: Tensor | None = None
    ) -> Loss:
        """Loss of a batch, a mean over the data, with the terms' weights when ``share`` of the fit is done.

        Without gradients the draws are plain and nothing is corrupted, so that figures compare across algorithms.

        Args:
            model: the generative program.
            guide: the inference program.
            batch: the data.
            share: of the fit that is done.
            held: what an earlier step on the same batch left in :attr:`Loss.held`.
        """
        if torch.is_grad_enabled():
            guide_batch = batch
            for corruption in self.corruptions.values():
                guide_batch = corruption.of_guide(guide_batch, model, share)
                model = corruption.of_model(model, share)
            alone = not self.terms
            run = Run(share, self.gradient.draws(share), self.gradient.copies, guide_batch, held, alone)
            log = self.expectation(model, guide, batch, run)
            bound, differentiated = self.gradient.surrogate(self.objective, log)
            log = self.gradient.drawn(log)
        else:
            log = self.expectation(model, guide, batch, Run(share, held=held))
            bound = differentiated = self.objective.bound(log)
        weights = {name: term.signed_weight(share) for name, term in self.terms.items()}
        values = {}
        for name, term in self.terms.items():
            if weights[name] or batch.features.keys() >= set(term.reads):
                with torch.set_grad_enabled(torch.is_grad_enabled() and bool(weights[name])):
                    values[name] = term.value(log)
        kl_router, information = _divergences(log)
        gain = sum((weights[n] * v.mean() for n, v in values.items() if weights[n]), bound.new_zeros(()))
        return Loss(
            surrogate=-(differentiated.mean() + gain),
            bound=bound.detach(),
            terms={name: value.detach() for name, value in values.items()},
            objective=bound.detach().mean() + gain.detach(),
            usage=log.log_posterior.detach().exp() if log.enumerated else None,
            log_lik=log.log_lik.detach() if log.enumerated else None,
            held=log.log_posterior.detach() if log.enumerated and held is None else held,
            kl_router=kl_router,
            information=information,
            weights=self.scheduled(share),
        )

    def scheduled(self, share: float) -> dict[str, float]:
        """What every schedule gives when ``share`` of the fit is done.

        The weights of the terms and the rates of the corruptions have their names; what objective and gradient
        schedule, such as ``beta`` or ``temperature``, has the name of its setting.
        """
        own = [*vars(self.objective).items(), *vars(self.gradient).items()]
        found = {name: value for name, value in own if isinstance(value, Schedule)}
        found |= {name: corruption.rate for name, corruption in self.corruptions.items()}
        found |= {name: term.weight for name, term in self.terms.items()}
        return {name: schedule.at(share) for name, schedule in found.items()}


@torch.no_grad()
def _divergences(log: LogQuantities) -> tuple[Tensor | None, Tensor | None]:
    """``KL(q || p(z|x))`` and ``KL(p(z|x,y) || p(z|x))``, each None where the values do not tell."""
    if log.enumerated:
        gain = xlogp(log.log_posterior, log.log_posterior - log.log_prior).sum(0)
        return log.expect_q(log.log_q - log.log_prior), gain
    relaxed = any(is_relaxed(site.posterior, site.z) for site in log.sites.values())
    return None if relaxed else (log.log_q - log.log_prior).mean(0), None


def _mend(latents: Iterable[Latent]) -> str:
    """What goes with all of them."""
    common = frozenset.intersection(*(frozenset(latent.capabilities) for latent in latents))
    if Capability.ENUMERABLE in common:
        return f"expectation {Enumerate.__name__} with gradient {Exact.__name__} (inference=marginal, inference=elbo)"
    if Capability.REPARAMETERISED in common:
        return f"expectation {Sample.__name__} with gradient {Pathwise.__name__} (inference=elbo_pathwise)"
    return f"expectation {Sample.__name__} with gradient {ScoreFunction.__name__} (inference=elbo_rloo)"
