"""Whether router and guide are said to be calibrated where they are, and not where they are not."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from stratagem.inference.diagnosis import Readings, Subject
from stratagem.inference.diagnosis.diagnostics.calibration import calibration
from stratagem.inference.diagnosis.own_draws import OwnDraws
from stratagem.inference.diagnosis.ranks import histogram, places, ranks, uniformity
from stratagem.inference.diagnosis.reliability import calibration_error, reliability
from stratagem.inference.log_quantities import LogQuantities
from stratagem.models import Batch, Categorical, Normal
from torch import Tensor, nn

from .finite_law_fixtures import Bayes, Laws, Program, Site, Speak, subject_of


def laws(num: int, P: int, generator: torch.Generator) -> Tensor:
    return (1.5 * torch.randn(num, P, generator=generator, dtype=torch.float64)).softmax(1)


def drawn(law: Tensor, generator: torch.Generator) -> Tensor:
    return nn.functional.one_hot(torch.multinomial(law, 1, generator=generator)[:, 0], law.shape[1])


def test_a_law_that_is_the_same_on_all_data_is_off_by_its_distance_from_the_frequencies() -> None:
    even = torch.full((300, 4), 0.25)
    skewed = torch.tensor([0.7, 0.1, 0.1, 0.1]).expand(300, 4)
    value, error = calibration_error(even, skewed)
    assert value == pytest.approx(0.45, abs=1e-6)
    assert error == pytest.approx(0, abs=1e-6)
    assert calibration_error(even, even) == (0, 0)
    first = nn.functional.one_hot(torch.zeros(300, dtype=torch.long), 4)
    assert calibration_error(even, first)[0] == pytest.approx(0.75)


def test_values_are_not_set_off_against_each_other_nor_bins() -> None:
    """Swapped: of either value as often as is said, and where it is said least."""
    predicted = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.2, 0.8], [0.2, 0.8]]).repeat(50, 1)
    assert calibration_error(predicted, predicted.flip(1))[0] == pytest.approx(0.6, abs=1e-6)
    assert calibration_error(predicted, torch.full_like(predicted, 0.5))[0] == pytest.approx(0.3, abs=1e-6)


def test_a_calibrated_law_has_an_error_of_0_in_the_mean_and_its_spread_is_known() -> None:
    numbers, found = torch.Generator().manual_seed(0), []
    for _ in range(300):
        law = laws(80, 4, numbers)
        found.append(calibration_error(law, drawn(law, numbers)))
    values = torch.tensor([value for value, _ in found])
    assert abs(float(values.mean())) < 3 * float(values.std()) / math.sqrt(300)
    assert float(values.std()) == pytest.approx(np.mean([error for _, error in found]), rel=0.1)


def sharper(law: Tensor, power: float) -> Tensor:
    return law**power / (law**power).sum(1, keepdim=True)


@pytest.mark.parametrize("power", [0.0, 0.5, 2.0])
def test_the_error_is_about_right_where_the_law_is_not_calibrated(power: float) -> None:
    numbers, found = torch.Generator().manual_seed(0), []
    for _ in range(200):
        law = laws(80, 4, numbers)
        found.append(calibration_error(sharper(law, power), drawn(law, numbers)))
    spread = float(torch.tensor([value for value, _ in found]).std())
    assert np.mean([error for _, error in found]) == pytest.approx(spread, rel=0.25)


@pytest.mark.parametrize("power", [0.5, 2.0], ids=["too unsure", "too sure"])
def test_a_law_that_is_not_calibrated_is_told_by_more_than_its_error(power: float) -> None:
    numbers = torch.Generator().manual_seed(0)
    law = laws(400, 4, numbers)
    said = sharper(law, power)
    value, error = calibration_error(said, drawn(law, numbers))
    assert value > 4 * error > 0
    exact, less = calibration_error(said, law)
    assert exact == pytest.approx(value, abs=3 * error)
    assert less < error, "probabilities are less noisy than draws"


def test_reliability_by_hand() -> None:
    predicted = torch.tensor([[0.0, 1.0], [0.1, 0.9], [0.12, 0.88], [0.52, 0.48]])
    target = torch.tensor([[0, 1], [1, 0], [0, 1], [1, 0]])
    found = reliability(predicted, target)
    assert found.shape == (3, 10)
    assert found[2].tolist() == [1, 2, 0, 0, 1, 1, 0, 0, 1, 2]
    assert found[0, [0, 1, 4, 5, 8, 9]] == pytest.approx([0, 0.11, 0.48, 0.52, 0.88, 0.95], abs=1e-6)
    assert found[1, [0, 1, 4, 5, 8, 9]] == pytest.approx([0, 0.5, 0, 1, 1, 0.5])
    assert found[0, [2, 3, 6, 7]] == pytest.approx([0.25, 0.35, 0.65, 0.75]), "the middles of empty bins"


def test_places_by_hand() -> None:
    """Of weights 1, 2, 3, 4: below are 3, in a tie 3 and the last row's own 4."""
    table = torch.tensor([[0.0], [0.0], [5.0], [5.0]], dtype=torch.float64)
    weights = torch.tensor([[1.0], [2.0], [3.0], [4.0]], dtype=torch.float64)
    found = torch.stack([places(table, weights) for _ in range(2000)])
    assert float(found.min()) == pytest.approx(0.3, abs=0.01)
    assert float(found.max()) == pytest.approx(1.0, abs=0.01)
    assert uniformity(histogram((found[:, 0] - 0.3) / 0.7))[0] > 1e-3


def test_bins_are_as_many_as_the_data_fill() -> None:
    uniform = [histogram(torch.rand(num)) for num in (30, 75, 300, 5000)]
    assert [len(counts) for counts in uniform] == [2, 5, 20, 20]
    assert [counts.sum() for counts in uniform] == [30, 75, 300, 5000]


def test_uniformity_by_hand() -> None:
    assert uniformity(np.full(20, 15)) == (pytest.approx(1), 0)
    p, distance = uniformity(np.array([400, 0]))
    assert p < 1e-80
    assert distance == pytest.approx(1, rel=0.01), "a density of 2 and 0"
    assert uniformity(np.array([60, 40])) == (pytest.approx(0.0455, abs=1e-4), pytest.approx(math.sqrt(0.03)))


def finite(num: int, P: int, generator: torch.Generator, guide: str = "posterior") -> OwnDraws:
    """``(z, y)`` where y is one of three symbols, and the guide is the posterior, the router or too sure."""
    prior = laws(num, P, generator)
    lik = (2 * torch.randn(num, P, 3, generator=generator, dtype=torch.float64)).softmax(2)
    z = torch.multinomial(prior, 1, generator=generator)[:, 0]
    data = torch.arange(num)
    y = torch.multinomial(lik[data, z], 1, generator=generator)[:, 0]
    log_lik = lik[data, :, y].log().T  # (P, N)
    log_posterior = (prior.T.log() + log_lik).log_softmax(0)
    log_q = {
        "posterior": log_posterior,
        "router": prior.T.log(),
        "too sure": (2 * log_posterior).log_softmax(0),
    }[guide]
    values = LogQuantities(log_lik, prior.T.log(), log_q, True)
    truth = LogQuantities(
        *(row.gather(0, z[None]) for row in (log_lik, prior.T.log(), log_q)), enumerated=True
    )
    return OwnDraws([], truth, values, z, {"z": z}, {})


def normal(num: int, generator: torch.Generator, guide: str = "posterior") -> OwnDraws:
    """``z ~ N(0, 1)^2``, ``y ~ N(z, 1/4)``."""

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, 2, generator=generator, dtype=torch.float64)

    z = noise(num)
    y = z + 0.5 * noise(num)
    mean, deviation = 0.8 * y, math.sqrt(0.2)
    if guide == "router":
        mean, deviation = torch.zeros_like(y), 1.0
    guesses = mean + deviation * {"too sure": 0.7, "too wide": 1.5}.get(guide, 1.0) * noise(16, num)
    guesses = guesses + (0.15 if guide == "aside" else 0.0)

    def log_lik(at: Tensor) -> Tensor:
        return dist.Normal(at, 0.5).log_prob(y).sum(-1)

    def scored(at: Tensor) -> LogQuantities:
        return LogQuantities(log_lik(at), torch.zeros_like(at[..., 0]), torch.zeros_like(at[..., 0]), False)

    return OwnDraws([], scored(z[None]), scored(guesses), None, {"z": z}, {"z": guesses})


MAKE = {"finite": lambda num, g, guide="posterior": finite(num, 5, g, guide), "normal": normal}


@pytest.mark.parametrize("kind", sorted(MAKE))
def test_places_under_the_posterior_are_uniform(kind: str) -> None:
    """Pooled over 40 samples, and the p-values of the samples are spread as they should be."""
    numbers, found = torch.Generator().manual_seed(0), []
    torch.manual_seed(0)
    for _ in range(40):
        found.append(ranks(MAKE[kind](150, numbers)))
    names = {"finite": ["value", "likelihood"], "normal": ["z/0", "z/1", "likelihood"]}[kind]
    assert list(found[0]) == names
    for name in names:
        counts = [histogram(each[name]) for each in found]
        assert uniformity(np.sum(counts, 0))[0] > 1e-3, name
        p = np.array([uniformity(count)[0] for count in counts])
        assert 0.35 < p.mean() < 0.65, name


@pytest.mark.parametrize(
    ("kind", "guide"),
    [("finite", "too sure"), ("normal", "too sure"), ("normal", "too wide"), ("normal", "aside")],
)
def test_places_under_a_wrong_guide_are_not(kind: str, guide: str) -> None:
    torch.manual_seed(0)
    found = ranks(MAKE[kind](600, torch.Generator().manual_seed(0), guide))
    p, distance = min(uniformity(histogram(at)) for at in found.values())
    assert p < 1e-4
    assert distance > 0.1


@pytest.mark.parametrize("kind", sorted(MAKE))
def test_a_guide_that_is_right_in_the_mean_alone_is_told_by_the_likelihood(kind: str) -> None:
    torch.manual_seed(0)
    found = ranks(MAKE[kind](600, torch.Generator().manual_seed(0), "router"))
    p = {name: uniformity(histogram(at))[0] for name, at in found.items()}
    assert p.pop("likelihood") < 1e-8
    assert min(p.values()) > 1e-3


def test_likelihoods_that_differ_by_rounding_are_the_same() -> None:
    """Of a collapsed model, whose z drawn is always scored a little too low."""
    log_lik = torch.full((16, 300), -20.0, dtype=torch.float64)
    zero = torch.zeros(1, 300, dtype=torch.float64)
    values = LogQuantities(log_lik, torch.zeros_like(log_lik), torch.zeros_like(log_lik), False)
    truth = LogQuantities(log_lik[:1] - 1e-5, zero, zero, False)
    torch.manual_seed(0)
    z = torch.randn(17, 300, 1)
    found = ranks(OwnDraws([], truth, values, None, {"z": z[0]}, {"z": z[1:]}))
    assert uniformity(histogram(found["likelihood"]))[0] > 1e-3


def word_of(wrong: float) -> Speak:
    """One word, which is z but for a share ``wrong``."""

    def speak(program: Program, _: Batch, z: Mapping[str, Tensor]) -> Laws:
        own = nn.functional.one_hot(z["z"], 3).double()
        law = (1 - wrong) * own + wrong / 2 * (1 - own)
        return program.tokens(law[..., None, :])[None], torch.zeros(1, *z["z"].shape)

    return speak


def skewed(_: Program, batch: Batch, __: Mapping[str, Tensor]) -> Tensor:
    return torch.tensor([0.7, 0.2, 0.1]).log().expand(len(batch), 3)


class Sharpened(nn.Module):
    """The posterior to a power."""

    def __init__(self, program: Program, power: float) -> None:
        super().__init__()
        self.program, self.power = [program], power

    def forward(self, batch: Batch) -> None:
        log_joint = self.program[0].log_joint(batch)
        with pyro.plate("data", len(batch), dim=-1):
            pyro.sample("z", dist.Categorical(logits=self.power * log_joint.log_softmax(0).T))


def one_word(guide: float = 1.0, num: int = 400, other: bool = False) -> Subject:
    """The router says 0.7, 0.2, 0.1; the base is the marginal of it, or of the even router."""
    base = Program({"z": Site(Categorical(3))}, word_of(0.2)) if other else None
    program = Program({"z": Site(Categorical(3), skewed)}, word_of(0.2), base)
    return subject_of(program, Sharpened(program, guide), num)


def told(subject: Subject) -> tuple[dict[str, float], Readings]:
    found = calibration(subject)
    return {name.removeprefix("calibration/"): x for name, x in found.figures.items()}, found


def test_a_model_of_its_base_with_its_posterior_for_a_guide_is_calibrated() -> None:
    found, readings = told(one_word())
    assert abs(found["router_ece"]) < 3 * found["router_ece_se"]
    assert found["posterior_ece"] == pytest.approx(0, abs=1e-6)
    assert found["sbc_p"] > 0.01
    assert set(readings.curves) == {
        *(f"calibration/{name}" for name in ("router", "posterior", "sbc", "sbc/value", "sbc/likelihood"))
    }
    assert readings.curves["calibration/sbc"].sum() == 400
    assert readings.curves["calibration/posterior"][2].sum() == 1200
    assert max(readings.curves["calibration/router"][2]) == 400


def test_a_router_that_the_base_does_not_follow_is_off_by_what_its_posterior_says() -> None:
    """Of an even base: by Bayes' rule from the word, under the router's own law."""
    found, _ = told(one_word(other=True))
    prior = np.array([0.7, 0.2, 0.1])
    lik = np.full((3, 3), 0.1) + 0.7 * np.eye(3)
    posterior = prior[:, None] * lik / (prior @ lik)
    expected = np.abs(posterior.mean(1) - prior).sum() / 2
    assert found["router_ece"] == pytest.approx(expected, abs=3 * found["router_ece_se"])
    assert found["router_ece"] > 6 * found["router_ece_se"]
    assert found["posterior_ece"] == pytest.approx(0, abs=1e-6), "which is on the model's own responses"


@pytest.mark.parametrize("power", [0.3, 3.0])
def test_a_guide_that_is_too_sure_or_not_enough_is_told(power: float) -> None:
    found, _ = told(one_word(power))
    assert found["posterior_ece"] > 0.05
    assert found["posterior_ece"] > 8 * found["posterior_ece_se"]
    assert found["sbc_p"] < 1e-3
    assert found["sbc_distance"] > 0.1


def test_the_p_value_counts_the_quantities() -> None:
    """The least of those of the histograms, times their number."""
    found, readings = told(one_word(1.3))
    each = [uniformity(readings.curves[f"calibration/sbc/{name}"]) for name in ("value", "likelihood")]
    assert found["sbc_p"] == min(1.0, 2 * min(each)[0])
    assert found["sbc_distance"] == min(each)[1]


def test_of_a_continuous_latent_the_ranks_alone_are_told() -> None:
    def coin(program: Program, _: Batch, z: Mapping[str, Tensor]) -> Laws:
        p = (2 * z["z"][..., 0]).sigmoid()
        law = torch.stack([p, 1 - p], -1)[..., None, :]
        return program.tokens(law)[None], torch.zeros(1, *p.shape)

    program = Program({"z": Site(Normal(2))}, coin)
    found, readings = told(subject_of(program, Bayes(program, narrow=0.5), 150))
    assert set(found) == {"sbc_p", "sbc_distance"}
    assert found["sbc_p"] < 1e-3
    assert set(readings.curves) == {
        *(f"calibration/{name}" for name in ("sbc", "sbc/z/0", "sbc/z/1", "sbc/likelihood"))
    }
    right, _ = told(subject_of(program, Bayes(program), 150))
    assert right["sbc_p"] > 0.01


def test_of_mixed_latents_each_has_its_ranks() -> None:
    """A strategy among draws of it: ties are broken at random."""

    def word(program: Program, _: Batch, z: Mapping[str, Tensor]) -> Laws:
        p = (3 * (z["c"] - 0.5) + z["z"][..., 0]).sigmoid()
        law = torch.stack([p, 1 - p], -1)[..., None, :]
        return program.tokens(law)[None], torch.zeros(1, *p.shape)

    program = Program({"c": Site(Categorical(2)), "z": Site(Normal(1))}, word)
    found, readings = told(subject_of(program, Bayes(program), 300))
    assert set(readings.curves) == {
        *(f"calibration/{name}" for name in ("sbc", "sbc/c/0", "sbc/z/0", "sbc/likelihood"))
    }
    assert found["sbc_p"] > 0.01
    wrong, _ = told(subject_of(program, Bayes(program, flat=1.0, narrow=0.4), 300))
    assert wrong["sbc_p"] < 1e-3


def test_few_data_have_no_test() -> None:
    found, _ = told(one_word(num=29))
    assert set(found) == {"router_ece", "router_ece_se", "posterior_ece", "posterior_ece_se"}


def test_figures_are_the_same_at_each_call() -> None:
    subject = one_word(num=60)
    first = calibration(subject)
    torch.manual_seed(5)
    again = calibration(subject)
    assert first.figures == again.figures
    assert all(np.array_equal(first.curves[name], again.curves[name]) for name in first.curves)
