"""Enumerated objectives against their formulas written out, in value and in gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from stratagem.inference.expectations import Enumerate
from stratagem.inference.gradients import Exact
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities, Run
from stratagem.inference.objectives import (
    ELBO,
    EM,
    AutoGen,
    Capacity,
    FDivergence,
    FreeBits,
    KLThreshold,
    Objective,
    Renyi,
)
from stratagem.inference.schedules import Linear
from torch import Tensor

from .inference_fixtures import LATENTS, Tables, Toy

Formula = Callable[[Tables], Tensor]


def q(t: Tables) -> Tensor:
    return t.log_q.exp()


def joint(t: Tables) -> Tensor:
    return (t.log_prior + t.log_lik).exp()


def reconstruction(t: Tables) -> Tensor:
    return (q(t) * t.log_lik).sum(0)


def kl(t: Tables) -> Tensor:
    return (q(t) * (t.log_q - t.log_prior)).sum(0)


def site_kl(t: Tables) -> Tensor:
    """``(sites, B)``, from the marginals of the tables; the latents are independent under both laws."""
    sizes = [z.num_features for z in LATENTS["one" if len(t.log_q) == 3 else "two"].values()]
    out = []
    for i in range(len(sizes)):
        p, r = (
            values.exp().unflatten(0, sizes[::-1]).movedim(len(sizes) - 1 - i, 0)
            for values in (t.log_prior, t.log_q)
        )
        p, r = (v.flatten(1, -2).sum(1) if v.dim() > 2 else v for v in (p, r))
        out.append((r * (r / p).log()).sum(0))
    return torch.stack(out)


def between(values: Tensor) -> float:
    """A threshold with values on both sides."""
    low, high = values.sort().values[len(values) // 2 - 1 : len(values) // 2 + 1].tolist()
    assert high - low > 1e-3
    return (low + high) / 2


def renyi(alpha: float) -> Formula:
    return lambda t: (q(t) ** alpha * joint(t) ** (1 - alpha)).sum(0).log() / (1 - alpha)


def less(f: Callable[[Tensor], Tensor]) -> Formula:
    """``log p`` less the f-divergence."""
    return lambda t: t.log_p - (q(t) * f(t.log_posterior.exp() / q(t))).sum(0)


F: dict[str, Callable[[Tensor], Tensor]] = {
    "jensen_shannon": lambda t: (t * t.log() - (t + 1) * ((t + 1) / 2).log()) / 2,
    "hellinger": lambda t: (t.sqrt() - 1) ** 2 / 2,
    "total_variation": lambda t: (t - 1).abs() / 2,
    "kl": lambda t: t * t.log(),
    "reverse_kl": lambda t: -t.log(),
    "chi_square": lambda t: (t - 1) ** 2,
}


@dataclass
class Case:
    """An objective, which may read a threshold off the tables, and what model and guide raise."""

    objective: Objective | Callable[[Tables], Objective]
    model: Formula
    guide: Formula | None = None


def thresholded(t: Tables, threshold: float, values: Tensor) -> Tensor:
    return reconstruction(t) - values.where(values > threshold, torch.full_like(values, threshold)).sum(0)


CASES = {
    "elbo": Case(ELBO(), lambda t: (q(t) * (joint(t) / q(t)).log()).sum(0)),
    "beta": Case(ELBO(0.3), lambda t: reconstruction(t) - 0.3 * kl(t)),
    "beta 0": Case(ELBO(0.0), reconstruction),
    "autogen": Case(AutoGen(1.5), lambda t: 2.5 * reconstruction(t) - kl(t)),
    "em": Case(EM(), lambda t: t.log_p),
    "capacity": Case(
        lambda t: Capacity(3.0, between(kl(t))),
        lambda t: reconstruction(t) - 3 * (kl(t) - between(kl(t))).abs(),
    ),
    "free bits": Case(
        lambda t: FreeBits(between(site_kl(t).flatten())),
        lambda t: thresholded(t, between(site_kl(t).flatten()), site_kl(t)),
    ),
    "threshold": Case(
        lambda t: KLThreshold(between(kl(t))), lambda t: thresholded(t, between(kl(t)), kl(t)[None])
    ),
    **{f"renyi {alpha}": Case(Renyi(alpha), renyi(alpha)) for alpha in (0.0, 0.3, 0.99, 1.7)},
    **{
        f"renyi {alpha}": Case(Renyi(alpha), lambda t: t.log_p, lambda t, alpha=alpha: -renyi(alpha)(t))
        for alpha in (-1.0, -0.4)
    },
    **{name: Case(FDivergence(name), less(f)) for name, f in F.items()},
    **{f"{name} by function": Case(FDivergence(f), less(f)) for name, f in F.items()},
}


def of_guide(name: str) -> bool:
    return name.startswith("guide.") or ".posterior." in name


def check(toy: Toy, t: Tables, case: Case, gradient: Exact | None = None) -> None:
    """The law: value and gradients are those of the formulas, the guide's being of what the guide raises."""
    objective = case.objective if isinstance(case.objective, Objective) else case.objective(t)
    loss = Inference(objective, Enumerate(), gradient or Exact())(toy.model, toy.guide, toy.batch)
    value = case.model(t)
    torch.testing.assert_close(loss.bound, value.detach(), rtol=1e-12, atol=1e-10)
    raised = value if case.guide is None else case.guide(t)
    by_model, by_guide = (
        torch.autograd.grad(-v.mean(), list(toy.parameters.values()), allow_unused=True, retain_graph=True)
        for v in (value, raised)
    )
    found = toy.gradients(loss.surrogate)
    largest = max(float(g.abs().max()) for g in found.values())
    for name, a, b in zip(toy.parameters, by_model, by_guide, strict=True):
        expected = b if of_guide(name) else a
        expected = torch.zeros_like(found[name]) if expected is None else expected
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-9 * max(1.0, largest))


def test_values_and_gradients_are_those_of_the_sums_written_out(toy: Toy) -> None:
    t = toy.tables()
    for name, case in CASES.items():
        try:
            check(toy, t, case)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error


class WrongPower(Renyi):
    def bound(self, log: LogQuantities) -> Tensor:
        return (log.log_q + self.alpha * log.log_w).logsumexp(0) / (1 - self.alpha)


class NoDistance(Capacity):
    def bound(self, log: LogQuantities) -> Tensor:
        gap = log.expect_q(log.log_q - log.log_prior) - self.capacity.at(1.0)
        return log.expect_q(log.log_lik) - self.gamma * gap


class Capped(FreeBits):
    def bound(self, log: LogQuantities) -> Tensor:
        kl = [log.expect_q(s.log_q - s.log_prior).clamp(max=self.bits) for s in log.sites.values()]
        return log.expect_q(log.log_lik) - sum(kl)


class Stopped(FDivergence):
    def bound(self, log: LogQuantities) -> Tensor:
        return super().bound(replace(log, log_q=log.log_q.detach())) + 0 * log.log_q.sum(0)


class ForgetsTheGuide(Exact):
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        bound = objective.bound(log)
        return bound, bound


class PullsTheModel(Exact):
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        bound, raised = objective.bound(log), objective.guide_bound(log)
        return bound, bound + raised - raised.detach()


class Upward(Renyi):
    def guide_bound(self, log: LogQuantities) -> Tensor:
        return self.value(log)


MUTANTS: list[tuple[str, Objective | Callable[[Tables], Objective], Exact]] = [
    ("renyi 0.3", WrongPower(0.3), Exact()),
    ("renyi -1.0", Upward(-1.0), Exact()),
    ("renyi -1.0", Renyi(-1.0), ForgetsTheGuide()),
    ("renyi -1.0", Renyi(-1.0), PullsTheModel()),
    ("kl", FDivergence("reverse_kl"), Exact()),
    ("hellinger", Stopped("hellinger"), Exact()),
    ("capacity", lambda t: NoDistance(3.0, between(kl(t))), Exact()),
    ("free bits", lambda t: Capped(between(site_kl(t).flatten())), Exact()),
]


def test_wrong_objectives_are_found_out(toy: Toy) -> None:
    t = toy.tables()
    for name, objective, gradient in MUTANTS:
        with pytest.raises(AssertionError):
            check(toy, t, replace(CASES[name], objective=objective), gradient)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.75, 1.0])
def test_beta_and_capacity_follow_their_schedules(toy: Toy, share: float) -> None:
    t, along = toy.tables(), max(0.0, 2 * share - 1)
    for objective, expected in (
        (ELBO(Linear(0.0, 2.0, 0.5)), reconstruction(t) - 2 * along * kl(t)),
        (Capacity(3.0, Linear(0.0, 9.0, 0.5)), reconstruction(t) - 3 * (kl(t) - 9 * along).abs()),
    ):
        loss = Inference(objective, Enumerate(), Exact())(toy.model, toy.guide, toy.batch, share)
        torch.testing.assert_close(loss.bound, expected.detach(), rtol=0, atol=1e-10)


def test_each_latent_is_held_at_its_own_capacity(toy: Toy) -> None:
    t, names = toy.tables(), list(toy.model.latents)
    targets = [0.3 + place for place in range(len(names))]
    objective = Capacity(3.0, dict(zip(names, targets, strict=True)))
    loss = Inference(objective, Enumerate(), Exact())(toy.model, toy.guide, toy.batch)
    away = (site_kl(t) - torch.tensor(targets, dtype=torch.float64)[:, None]).abs().sum(0)
    torch.testing.assert_close(loss.bound, (reconstruction(t) - 3 * away).detach(), rtol=0, atol=1e-10)
    with pytest.raises(
        ValueError, match=rf"capacities of the latents {', '.join(names)}, got w; give one for each"
    ):
        Inference(Capacity(3.0, {"w": 1.0}), Enumerate(), Exact())(toy.model, toy.guide, toy.batch)


def check_em(toy: Toy, objective: EM) -> None:
    """The law of the M-steps after the first: the responsibilities stay those of the model at the first."""
    inference = Inference(objective, Enumerate(), Exact())
    r = toy.tables().log_posterior.detach()
    first = inference(toy.model, toy.guide, toy.batch)
    with torch.no_grad():
        for router in toy.model.routers.parameters():
            router.add_(0.5)
        for entry in toy.model.conditionings.parameters():
            entry.mul_(-1.0)
    t = toy.tables()
    second = inference(toy.model, toy.guide, toy.batch, held=first.held)
    expected = (r.exp() * (joint(t).log() - r)).sum(0)
    assert ((t.log_p - expected) > 1e-4).all(), "the posterior must have moved for this to say anything"
    torch.testing.assert_close(second.bound, expected.detach(), rtol=0, atol=1e-10)
    torch.testing.assert_close(second.held, r, rtol=0, atol=1e-10)
    found, truth = toy.gradients(second.surrogate), toy.gradients(-expected.mean())
    for name, gradient in truth.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-9)


def test_later_m_steps_keep_the_responsibilities_of_the_first(toy: Toy) -> None:
    assert Inference(EM(3), Enumerate(), Exact()).updates == 3
    check_em(toy, EM())


class Refreshed(EM):
    def bound(self, log: LogQuantities) -> Tensor:
        return super().bound(replace(log, run=Run()))


def test_responsibilities_that_are_refreshed_are_found_out(toy: Toy) -> None:
    with pytest.raises(AssertionError):
        check_em(toy, Refreshed())
