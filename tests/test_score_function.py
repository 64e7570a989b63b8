"""The score-function gradient and its baselines, against sums over all tuples of draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from safetensors.torch import load_file
from stratagem.guides import AmortizedGuide
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.fit import METRICS, STATE, Step, fit
from stratagem.inference.gradients import NVIL, LeaveOneOut, Pathwise, ScoreFunction
from stratagem.inference.gradients.baseline import Baseline, Bound
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities, Run
from stratagem.inference.loss import Loss
from stratagem.inference.metrics import read_metrics
from stratagem.inference.objectives import ELBO, IWAE, PIWAE, FreeBitsPerDimension, Objective, Renyi
from stratagem.inference.optim import Optim
from stratagem.inference.settings import FitSettings
from stratagem.models import Batch, Categorical, KeyValuePrefix, LatentLM, Lora, PooledRouter
from torch import Tensor

from .fit_fixtures import tiny_backbone, tiny_data
from .gradient_fixtures import Gradients, truth
from .inference_fixtures import (
    EXACT,
    Forced,
    GaussianGuide,
    LinearGaussian,
    Toy,
    close,
    expected_gradient,
    gaussian_batch,
    gaussian_elbo,
    tuples_of,
)

S = 2

OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "elbo": ELBO,
    "beta": lambda: ELBO(beta=0.3),
    "iwae": IWAE,
    "piwae": lambda: PIWAE(groups=2),
    "chi-square": lambda: Renyi(-1.0),
}


def test_the_mean_of_the_others_is_that_of_the_others_where_a_draw_cannot_be() -> None:
    values = torch.tensor([[1.0, 1.0], [2.0, -torch.inf], [6.0, 3.0]])
    expected = torch.tensor([[4.0, -torch.inf], [3.5, 2.0], [1.5, -torch.inf]])
    assert torch.equal(LeaveOneOut.of_others(values), expected)


def losses(gradients: Gradients) -> Gradients:
    """Of what is lowered, from those of what is raised."""
    return {name: -gradient for name, gradient in gradients.items()}


def check(toy: Toy, gradient: Any, objective: Objective, particles: int = S) -> None:
    """The law: value and gradient, averaged over all tuples of draws, are those of the expected bound."""
    value, found = expected_gradient(toy, Inference(objective, Sample(particles), gradient), particles)
    expected, gradients = truth(toy, objective, particles)
    gradients = losses(gradients)
    torch.testing.assert_close(value, expected, **EXACT)
    assert all(
        gradients[f"guide.readers.{name}.head.0.weight"].abs().max() > 1e-4 for name in toy.model.latents
    )
    close(found, gradients)


@pytest.mark.parametrize(
    ("objective", "baseline"),
    [*((objective, LeaveOneOut()) for objective in OBJECTIVES), ("elbo", None), ("piwae", None)],
    ids=[*(f"{objective}, leave-one-out" for objective in OBJECTIVES), "elbo", "piwae"],
)
def test_the_expected_gradient_is_that_of_the_expected_bound(
    toy: Toy, objective: str, baseline: Baseline | None
) -> None:
    check(toy, ScoreFunction(baseline), OBJECTIVES[objective]())


def test_a_single_draw_will_do(toy: Toy) -> None:
    check(toy, ScoreFunction(), ELBO(), 1)


def test_the_gradient_of_the_elbo_is_the_enumerated_one(toy: Toy) -> None:
    """Which the tables above must agree with."""
    bound = ELBO().bound(Enumerate()(toy.model, toy.guide, toy.rows[0]))
    close(truth(toy, ELBO(), S)[1], toy.gradients(bound.sum()))


class WrongSign(ScoreFunction):
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        bound, differentiated = super().surrogate(objective, log)
        return bound, 2 * bound - differentiated


class NoScore(ScoreFunction):
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        bound = objective.bound(log)
        return bound, bound


class NotDetached(ScoreFunction):
    def surrogate(self, objective: Objective, log: LogQuantities) -> tuple[Tensor, Tensor]:
        bound = objective.bound(log)
        return bound, bound + (bound * log.log_q).sum(0)


class MeanOfAll(LeaveOneOut):
    @staticmethod
    def of_others(values: Tensor) -> Tensor:
        return values.mean(0).expand_as(values)


class FirstAlone(LeaveOneOut):
    """The first draw's baseline for all."""

    def forward(self, value: Tensor, bound: Bound, log: LogQuantities) -> tuple[Tensor, Tensor]:
        signal, beside = super().forward(value, bound, log)
        return signal[:1].expand_as(signal), beside


@pytest.mark.parametrize(
    ("toy", "objective"), [("one", ELBO()), ("two", IWAE())], indirect=["toy"], ids=["elbo", "iwae"]
)
@pytest.mark.parametrize(
    "wrong",
    [
        WrongSign(LeaveOneOut()),
        NoScore(),
        NotDetached(),
        ScoreFunction(MeanOfAll()),
        ScoreFunction(FirstAlone()),
    ],
    ids=["sign", "no score", "not detached", "its own draw in the baseline", "another draw's baseline"],
)
def test_a_wrong_estimator_does_not_pass(toy: Toy, wrong: ScoreFunction, objective: Objective) -> None:
    with pytest.raises(AssertionError, match=r"^(guide|model)\."):
        check(toy, wrong, objective)


def numbers(particles: int = 4, data: int = 5) -> LogQuantities:
    lik, prior, log_q = torch.randn(3, particles, data, dtype=torch.float64).unbind(0)
    return LogQuantities(lik - 3, prior, log_q, False)


def test_leave_one_out_is_rloo_for_the_elbo_and_vimco_for_the_iwae() -> None:
    log = numbers()
    for objective in (ELBO(), IWAE()):
        value = objective.bound(log)
        signal, _ = LeaveOneOut()(value, objective.bound, log)
        for s in range(4):
            others = torch.cat([log.log_w[:s], log.log_w[s + 1 :]])
            if isinstance(objective, ELBO):
                expected = (log.log_w[s] - others.mean(0)) / 4
            else:
                mean = (others.exp().sum(0) + others.mean(0).exp()) / 4  # the geometric mean in its place
                expected = value - mean.log()
            torch.testing.assert_close(signal[s], expected, **EXACT)


def second_moment(toy: Toy, inference: Inference, particles: int) -> float:
    """``E |gradient in the guide|^2`` for the first datum, summed over all tuples of draws."""
    laws = toy.guide.posterior(toy.rows[0])
    total = 0.0
    for z in tuples_of({name: latent.K for name, latent in toy.model.latents.items()}, particles):
        p = sum(laws[name].log_prob(drawn[:, None]).sum() for name, drawn in z.items()).exp().item()
        with Forced(z):
            found = toy.gradients(inference(toy.model, toy.guide, toy.rows[0]).surrogate)
        total += p * sum(float((g**2).sum()) for name, g in found.items() if name.startswith("guide."))
    return total


@pytest.mark.parametrize(
    ("toy", "objective"), [("two", ELBO()), ("one", IWAE())], indirect=["toy"], ids=["elbo", "iwae"]
)
def test_leaving_one_out_takes_variance_away(toy: Toy, objective: Objective) -> None:
    """The means are the same, so that the second moments say it."""
    plain, left_out = (
        second_moment(toy, Inference(objective, Sample(S), ScoreFunction(baseline)), S)
        for baseline in (None, LeaveOneOut())
    )
    assert left_out < 0.5 * plain


def test_one_by_one_is_the_same(toy: Toy) -> None:
    z = next(z for i, z in enumerate(tuples_of({n: v.K for n, v in toy.model.latents.items()}, S)) if i == 3)
    found = []
    for one_by_one in (False, True):
        with Forced(z):
            inference = Inference(IWAE(), Sample(S, one_by_one), ScoreFunction(LeaveOneOut()))
            found.append(toy.gradients(inference(toy.model, toy.guide, toy.batch).surrogate))
    close(found[1], found[0])


def test_a_datum_does_not_feel_its_neighbours(toy: Toy) -> None:
    z = next(z for i, z in enumerate(tuples_of({n: v.K for n, v in toy.model.latents.items()}, S)) if i == 4)
    inference = Inference(IWAE(), Sample(S), ScoreFunction(LeaveOneOut()))
    with Forced(z):
        whole = toy.gradients(inference(toy.model, toy.guide, toy.batch).surrogate)
        rows = [toy.gradients(inference(toy.model, toy.guide, row).surrogate) for row in toy.rows]
    close(whole, {name: torch.stack([row[name] for row in rows]).mean(0) for name in whole})


class AtNoise(Messenger):
    """Gives a normal site its value at standard noise ``(S, B)``."""

    def __init__(self, noise: Tensor) -> None:
        super().__init__()
        self.noise = noise

    def _pyro_sample(self, msg: Message) -> None:
        if msg["name"] == "z" and msg["value"] is None:
            msg["value"] = msg["fn"].mean + msg["fn"].stddev * self.noise
            msg["done"] = True


@pytest.mark.parametrize(
    ("gradient", "biased"),
    [
        (ScoreFunction(), False),
        (ScoreFunction(LeaveOneOut()), False),
        (ScoreFunction(NVIL(normalise=False, reads=False)), False),
        (ScoreFunction(MeanOfAll()), True),
    ],
    ids=["plain", "leave-one-out", "nvil", "wrong"],
)
def test_a_continuous_latent_by_quadrature(gradient: ScoreFunction, biased: bool) -> None:
    """Gauss-Hermite in the noise of two draws: the estimator is a polynomial in it, of degree 4 in each."""
    model, guide, y = LinearGaussian(), GaussianGuide(), gaussian_batch().features["y"][:1]
    nodes, weights = hermite(6)
    noise = torch.cartesian_prod(nodes, nodes).T  # (2, 36)
    weight = torch.cartesian_prod(weights, weights).prod(1)
    size = len(weight)
    batch = Batch(
        torch.zeros(size, 1, dtype=torch.long),
        torch.ones(size, 1, dtype=torch.bool),
        features={"y": y.expand(size)},
    )
    with AtNoise(noise):
        log = Sample(2)(model, guide, batch, Run(draws=gradient.draws(0.0)))
    bound, differentiated = gradient.surrogate(ELBO(), log)
    parameters = [*model.parameters(), *guide.parameters()]
    found = torch.stack(torch.autograd.grad((weight * differentiated).sum(), parameters))
    closed = gaussian_elbo(model, guide, y).sum()
    expected = torch.stack(torch.autograd.grad(closed, parameters))
    torch.testing.assert_close((weight * bound).sum(), closed, rtol=0, atol=1e-9)
    assert torch.allclose(found, expected, rtol=0, atol=1e-9) is not biased


def hermite(num: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights for the mean under a standard normal, by the Jacobi matrix [Golub & Welsch 1969]."""
    off = torch.arange(1, num, dtype=torch.float64).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    return nodes, vectors[0] ** 2


def warmed(toy: Toy, baseline: NVIL) -> NVIL:
    """A baseline in the middle of a fit."""
    baseline.bind(toy.model)
    with torch.no_grad():
        baseline.mean.fill_(-3.0)
        baseline.variance.fill_(6.25)
        for weight in baseline.reader.head.parameters():
            weight.normal_(0, 0.1)
    return baseline


class Standing(Inference):
    """The same running moments at every call."""

    def forward(self, *arguments: Any) -> Loss:
        assert isinstance(self.gradient.baseline, NVIL)
        state = {name: value.clone() for name, value in self.gradient.baseline.named_buffers(recurse=False)}
        loss = super().forward(*arguments)
        for name, value in state.items():
            getattr(self.gradient.baseline, name).copy_(value)
        return loss


def test_nvil_has_no_bias_but_the_scale(toy: Toy) -> None:
    expected = losses(truth(toy, ELBO(), 1)[1])
    for normalise, scale in ((False, 1.0), (True, 2.5)):
        gradient = ScoreFunction(warmed(toy, NVIL(normalise=normalise)))
        found = expected_gradient(toy, Standing(ELBO(), Sample(1), gradient), 1)[1]
        of_guide = {n for n in found if n.startswith("guide.") or ".posterior." in n}
        close(found, {n: g / scale if n in of_guide else g for n, g in expected.items()})


class AfterTheUpdate(NVIL):
    """The running mean has the batch in it."""

    def forward(self, value: Tensor, bound: Bound, log: LogQuantities) -> tuple[Tensor, Tensor]:
        super().forward(value, bound, log)
        return super().forward(value, bound, log)


def test_a_running_mean_that_has_the_draw_in_it_does_not_pass(toy: Toy) -> None:
    gradient = ScoreFunction(warmed(toy, AfterTheUpdate(normalise=False)))
    found = expected_gradient(toy, Standing(ELBO(), Sample(1), gradient), 1)[1]
    with pytest.raises(AssertionError, match=r"^guide\."):
        close(found, losses(truth(toy, ELBO(), 1)[1]), ("guide.",))


def test_the_running_moments_are_those_of_the_batches() -> None:
    baseline, log = NVIL(decay=0.75), numbers()
    means, variances = 0.0, 0.0
    for step in range(7):
        value = 3 * torch.randn(8, dtype=torch.float64) - 20
        signal, beside = baseline(value, ELBO().bound, log)
        scale = max(1.0, math.sqrt(variances))
        torch.testing.assert_close(signal, (value - means) / scale, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(beside, -0.5 * signal**2)
        rate = max(0.25, 1 / (step + 1))
        variances += rate * (float(value.var(correction=0)) - variances)
        means += rate * (float(value.mean()) - means)
        assert float(baseline.mean) == pytest.approx(means, rel=1e-5)
        assert float(baseline.variance) == pytest.approx(variances, rel=1e-5)


def test_the_reading_baseline_learns_what_the_bound_of_each_datum_is(toy: Toy) -> None:
    """And its least squares move nothing but itself."""
    baseline = NVIL(decay=0.5)
    baseline.bind(toy.model)
    log = Sample(1)(toy.model, toy.guide, toy.batch)
    exact = ELBO().bound(Enumerate()(toy.model, toy.guide, toy.batch)).detach()
    assert exact.std() > 0.5, "data whose bounds differ"
    own = [
        p
        for p in baseline.parameters()
        if p.requires_grad and not any(p is q for q in toy.parameters.values())
    ]
    optimizer = torch.optim.Adam(own, 0.01)
    for _ in range(150):
        beside = baseline(exact, ELBO().bound, log)[1]
        others = torch.autograd.grad(
            beside.sum(), list(toy.parameters.values()), allow_unused=True, retain_graph=True
        )
        assert all(gradient is None for gradient in others)
        beside.sum().neg().backward()
        optimizer.step()
        optimizer.zero_grad()
    left = exact - baseline.mean - baseline.reader(toy.batch)[:, 0]
    assert left.abs().max() < 0.1 * exact.std()


def test_the_baseline_reads_the_base_whatever_the_guide_reads(toy: Toy) -> None:
    assert isinstance(toy.model.backbone.roles["posterior"], Lora)
    gradient = ScoreFunction(NVIL())
    gradient.bind(toy.model)
    reader = gradient.baseline.reader
    assert reader.name is not None, "kept once for the fit"
    kept = Batch(**{**vars(toy.batch), "features": {reader.name: reader.features(toy.batch)}})
    torch.testing.assert_close(reader(kept), reader(toy.batch), **EXACT)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (
            lambda: Inference(ELBO(), Sample(1), ScoreFunction(LeaveOneOut())),
            r"LeaveOneOut needs .*num_particles of at least 2, got 1; .*NVIL",
        ),
        (
            lambda: Inference(FreeBitsPerDimension(), Sample(2), ScoreFunction()),
            r"ScoreFunction: needs .* FreeBitsPerDimension is not; use gradient GumbelSoftmax",
        ),
        (
            lambda: Inference(ELBO(), Enumerate(), ScoreFunction()),
            r"ScoreFunction .* Enumerate; it needs Sample",
        ),
        (lambda: NVIL(decay=1.0), r"NVIL: decay must be at least 0 and below 1, got 1\.0"),
        (
            lambda: ScoreFunction(NVIL()).bind(LinearGaussian()),
            r"NVIL: .* LinearGaussian has none; set reads=False",
        ),
    ],
    ids=["one draw", "not pointwise", "enumerated", "decay", "no backbone"],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()
    ScoreFunction(NVIL(reads=False)).bind(LinearGaussian())


STEPS = 8


def nvil_step() -> Step:
    torch.manual_seed(0)
    backbone = tiny_backbone()
    model = LatentLM(backbone, {"z": Categorical(3)}, PooledRouter, partial(KeyValuePrefix, length=2))
    inference = Inference(ELBO(), Sample(1), ScoreFunction(NVIL()))
    inference.gradient.bind(model)
    return Step(model, AmortizedGuide(model), inference)


def run_fit(step: Step, folder: Path, resume: bool = False) -> None:
    backbone = step.model.backbone
    settings = FitSettings(steps=STEPS, batch_size=6, eval_every=3, progress=False)
    optim = Optim(lr={"conditioning": 0.03, "other": 0.02}, warmup=2)
    fit(
        step,
        tiny_data(backbone, 30, seed=1),
        tiny_data(backbone, 8, seed=2),
        optim,
        settings,
        0,
        folder,
        resume,
    )


class Killed(BaseException):
    """Ends the program where it stands."""


def test_a_fit_with_a_learned_baseline_that_was_killed_goes_on_to_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    step = nvil_step()
    start = {name: p.detach().clone() for name, p in step.inference.named_parameters() if p.requires_grad}
    run_fit(step, whole)
    assert float(step.inference.gradient.baseline.mean) < -1
    own = {name: p for name, p in step.inference.named_parameters() if name in start and "baseline" in name}
    assert any((p - start[name]).abs().max() > 0.01 for name, p in own.items())

    forward, calls = Step.forward, []

    def killed(self: Step, *arguments: Any) -> Loss:
        calls.append(1)
        if len(calls) == 8:
            raise Killed
        return forward(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Step, "forward", killed)
        with pytest.raises(Killed):
            run_fit(nvil_step(), cut)
    run_fit(nvil_step(), cut, resume=True)
    a, b = load_file(whole / STATE), load_file(cut / STATE)
    assert a.keys() == b.keys()
    assert {
        "weight/inference.gradient.baseline.mean",
        "weight/inference.gradient.baseline.variance",
    } <= a.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    lines = [
        [
            {k: v for k, v in line.items() if k not in ("seconds", "peak_memory")}
            for line in read_metrics(run / METRICS)
        ]
        for run in (whole, cut)
    ]
    assert lines[0] == lines[1]


def test_no_gradient_flows_through_the_draws() -> None:
    model, guide, batch = LinearGaussian(), GaussianGuide(), gaussian_batch()
    for gradient, flows in ((ScoreFunction(), False), (Pathwise(), True)):
        log = Sample(3)(model, guide, batch, Run(draws=gradient.draws(0.0)))
        assert log.sites["z"].z.requires_grad is flows
