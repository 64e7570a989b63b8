"""Bounds by contrast and aggregates with their jackknife, on Gaussian laws and against what is left of the data."""

from __future__ import annotations

import math

import pyro.distributions as dist
import pytest
import torch
from stratagem.inference.diagnosis.bracket import bracket
from stratagem.inference.diagnosis.diagnostics.information import allowed, settled
from stratagem.inference.diagnosis.mixtures import (
    Statistic,
    crossed,
    jackknife,
    mean_log_mixture,
    mean_log_table,
    mean_of,
)
from stratagem.inference.evaluation.statistics import mean_se
from torch import Tensor

EXACT = {"rtol": 0.0, "atol": 1e-9}

GAUSSIAN = [0.1, 0.3, 1.0, 2.0, 4.0, 8.0]
"""Information of ``z ~ N(0, 1)``, ``y ~ N(z, v)``: 1/2 log(1 + 1/v)."""


def gaussian_pairs(truth: float, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
    spread = math.sqrt(1 / math.expm1(2 * truth))
    z = torch.randn(num, generator=generator, dtype=torch.float64)
    return z, z + spread * torch.randn(num, generator=generator, dtype=torch.float64), spread


@pytest.mark.parametrize("truth", GAUSSIAN)
@pytest.mark.parametrize("count", [3, 63, 2047])
def test_contrasts_hold_the_information_between_two_bounds(truth: float, count: int) -> None:
    """The lower never above the log of the number of contrasts; trusted only where it is right, and there if it can."""
    numbers = torch.Generator().manual_seed(count)
    z, y, spread = gaussian_pairs(truth, 500, numbers)
    other = torch.randn(count, 500, generator=numbers, dtype=torch.float64)
    log_lik, log_w = (dist.Normal(at, spread).log_prob(y) for at in (z, other))
    found = bracket(log_lik, log_lik, log_w)
    ceiling = math.log(count + 1)
    assert found.low[0] <= ceiling
    assert found.low[0] - 4 * found.low[1] <= truth <= found.high[0] + 4 * found.high[1]
    trusted = settled(*found.low, found.width)
    if trusted:
        assert abs(found.low[0] - truth) <= allowed(truth)
    assert trusted or count < 4 * math.exp(truth), found
    assert not trusted or truth < ceiling, found


def test_contrasts_from_the_posterior_itself_leave_nothing_open() -> None:
    truth, numbers = 6.0, torch.Generator().manual_seed(0)
    z, y, spread = gaussian_pairs(truth, 2000, numbers)
    whole = 1 + spread**2
    posterior = dist.Normal(y / whole, spread / math.sqrt(whole))
    draws = posterior.mean + posterior.stddev * torch.randn(4, 2000, generator=numbers, dtype=torch.float64)

    def log_w(at: Tensor) -> Tensor:
        return (
            dist.Normal(0.0, 1.0).log_prob(at) + dist.Normal(at, spread).log_prob(y) - posterior.log_prob(at)
        )

    found = bracket(dist.Normal(z, spread).log_prob(y), log_w(z), log_w(draws))
    assert found.width == pytest.approx(0, abs=1e-9)
    assert found.low[0] == pytest.approx(truth, abs=4 * found.low[1])


@pytest.mark.parametrize("truth", GAUSSIAN)
@pytest.mark.parametrize("num", [20, 400])
@pytest.mark.parametrize("of_prompt", [False, True])
def test_an_aggregate_is_trusted_only_where_it_is_right(truth: float, num: int, of_prompt: bool) -> None:
    """Beyond ``log N`` nats no two posteriors overlap, nor where the prompt settles z but for a little."""
    numbers = torch.Generator().manual_seed(num)
    _, y, spread = gaussian_pairs(truth, num, numbers)
    whole = 1 + spread**2
    shift = 1e4 * torch.randn(num, generator=numbers, dtype=torch.float64) if of_prompt else torch.zeros(num)
    torch.manual_seed(0)
    q = dist.Normal(shift + y / whole, spread / math.sqrt(whole)).expand((4, num))
    p = dist.Normal(shift, 1.0).expand((4, num))
    z = {"z": q.sample()}
    under_q, under_p = crossed([{"z": q}], z), crossed([{"z": p}], z)
    own = (under_q - under_p).diagonal(dim1=1, dim2=2).mean(0)
    found = jackknife((1, mean_of(own)), (-1, mean_log_mixture(under_q)), (1, mean_log_mixture(under_p)))
    trusted = settled(found.value, found.error, found.width)
    if trusted:
        assert abs(found.value - truth) <= allowed(truth)
    assert trusted or of_prompt or num == 20 or truth == 8, found
    assert not (trusted and (of_prompt or truth >= math.log(num))), found


def rows(num: int, P: int, generator: torch.Generator) -> Tensor:
    return (2 * torch.randn(num, P, generator=generator, dtype=torch.float64)).softmax(1)


def uneven(num: int, generator: torch.Generator) -> Tensor:
    """Laws of which the mean is far from even."""
    tilted = rows(num, 3, generator) ** 2 * torch.tensor([8.0, 2.0, 1.0])
    return tilted / tilted.sum(1, keepdim=True)


def without_each(statistic: Statistic, again: list[Statistic]) -> None:
    """Each statistic is of all but one datum, in order."""
    torch.testing.assert_close(
        statistic.without, torch.tensor([s.whole for s in again], dtype=torch.float64), **EXACT
    )


def test_what_is_left_without_a_datum_is_the_statistic_of_the_rest() -> None:
    numbers = torch.Generator().manual_seed(0)
    q, p = rows(6, 3, numbers), rows(6, 3, numbers)
    log_p = 3 * torch.randn(2, 6, 6, generator=numbers, dtype=torch.float64)
    kept = [[j for j in range(6) if j != k] for k in range(6)]
    without_each(mean_of(q[:, 0]), [mean_of(q[rest, 0]) for rest in kept])
    without_each(mean_log_table(q, p), [mean_log_table(q[rest], p[rest]) for rest in kept])
    without_each(mean_log_mixture(log_p), [mean_log_mixture(log_p[:, rest][..., rest]) for rest in kept])
    assert mean_log_table(q, p).whole == pytest.approx(float((q.mean(0) * p.mean(0).log()).sum()))
    assert mean_log_mixture(log_p).whole == pytest.approx(float(log_p.exp().mean(-1).log().mean()))


def test_what_the_number_of_data_leaves_open_is_told_by_leaving_each_out_of_its_aggregate() -> None:
    numbers = torch.Generator().manual_seed(0)
    q, p = rows(6, 3, numbers), rows(6, 3, numbers)
    log_p = 3 * torch.randn(2, 6, 6, generator=numbers, dtype=torch.float64)
    others = [[j for j in range(6) if j != n] for n in range(6)]
    table = [(q[n] * p[others[n]].mean(0).log()).sum() for n in range(6)]
    mixture = [log_p[:, n, others[n]].exp().mean(1).log().mean() for n in range(6)]
    parts = mean_of(q[:, 0]), mean_log_table(q, p), mean_log_mixture(log_p)
    assert parts[0].apart == parts[0].whole
    for part, by_hand in zip(parts[1:], (table, mixture), strict=True):
        assert part.apart == pytest.approx(float(sum(by_hand)) / 6)
    found = jackknife((1, parts[0]), (-1, parts[1]), (1, parts[2]))
    assert found.width == pytest.approx(sum(abs(part.whole - part.apart) for part in parts))


def test_of_a_mean_the_jackknife_has_the_mean_and_its_standard_error() -> None:
    values = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = jackknife((1, mean_of(values)))
    assert (found.value, found.error) == pytest.approx(mean_se(values))
    assert found.width == 0


def test_the_jackknife_takes_off_the_bias_and_knows_the_error() -> None:
    """Of the entropy of a mean of 40 laws, over 400 samples."""
    numbers, plain, found = torch.Generator().manual_seed(0), [], []
    mean = uneven(400 * 40, numbers).mean(0)
    truth = float(-(mean * mean.log()).sum())
    numbers.manual_seed(0)
    for _ in range(400):
        law = uneven(40, numbers)
        part = mean_log_table(law, law)
        plain.append(-part.whole)
        found.append(jackknife((-1, part)))
    values = torch.tensor([e.value for e in found])
    spread = float(values.std())
    assert abs(float(torch.tensor(plain).mean()) - truth) > 8 * spread / 20
    assert abs(float(values.mean()) - truth) < 3 * spread / 20
    assert sum(e.error for e in found) / 400 == pytest.approx(spread, rel=0.1)


def test_every_draw_meets_every_law() -> None:
    """Of a vector and of a strategy at once, over batches of different sizes."""
    torch.manual_seed(0)
    loc, logits = torch.randn(5, 2), torch.randn(5, 3)
    laws = [
        {
            "v": dist.Normal(loc[part], 1.0).to_event(1).expand((3, len(loc[part]))),
            "c": dist.Categorical(logits=logits[part]).expand((3, len(loc[part]))),
        }
        for part in (slice(0, 2), slice(2, 5))
    ]
    z = {"v": torch.randn(3, 5, 2), "c": torch.randint(3, (3, 5))}
    found = crossed(laws, z)
    for s, n, j in ((0, 0, 4), (2, 3, 1), (1, 4, 4)):
        expected = (
            dist.Normal(loc[j], 1.0).log_prob(z["v"][s, n]).sum() + logits[j].log_softmax(0)[z["c"][s, n]]
        )
        assert float(found[s, n, j]) == pytest.approx(float(expected), abs=1e-5)
