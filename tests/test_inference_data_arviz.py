"""What a person expects of ArviZ works on a file of one run and of several, of discrete and continuous latents."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from stratagem.inference.inference_data import (
    merge,
    read_inference_data,
    to_inference_data,
    write_inference_data,
)

from .fit_fixtures import tiny_data
from .inference_data_fixtures import OLD, az, latent_lm, plot_posterior, quiet

matplotlib.use("Agg")

N = 5

KINDS = ("two", "normal")

IN_FULL = {"round_to": "none"}
"""Of tables, which are rounded otherwise."""

THEIR_OWN = (
    "invalid value encountered",
    "Passing a dict or None as alias_mapping",
    "The inplace keyword in DataFrame.sort_values",
)
"""Warnings of ArviZ about r-hat where all draws are the same, and of libraries about ArviZ."""


@cache
def made(kind: str, weights: int) -> Any:
    """A run, on the same data whatever its weights."""
    model, guide = latent_lm(kind, weights)
    data = tiny_data(model.backbone, N)
    return to_inference_data(model, guide, data.batches(N), predictive=3, max_new_tokens=6, seed=weights)


@pytest.fixture(
    scope="module", params=[f"{kind}, {runs}" for kind in KINDS for runs in ("one run", "two runs")]
)
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The file of a run, or of two, read again."""
    kind, runs = request.param.split(", ")
    path = tmp_path_factory.mktemp("data") / "posterior.nc"
    one = made(kind, 1)
    write_inference_data(path, one if runs == "one run" else merge({"1": one, "2": made(kind, 2)}))
    return read_inference_data(path)


@pytest.fixture(autouse=True)
def as_a_person() -> Iterator[None]:
    """Pictures are closed, and warnings of others are theirs."""
    with quiet(*THEIR_OWN):
        yield
    plt.close("all")


def drawn(picture: Any) -> int:
    """Panels of a picture of ArviZ that something was drawn in."""
    if hasattr(picture, "viz"):
        figure = picture.viz["figure"].item()
    else:
        figure = np.ravel(np.asarray(picture, dtype=object))[0].figure
    figure.canvas.draw()
    return sum(axes.has_data() for axes in figure.axes)


def first(found: Any) -> dict[str, Any]:
    """Settings that choose the first latent and two data."""
    return {"var_names": [next(iter(found["posterior"].data_vars))], "coords": {"datum": [0, 1]}}


def panels(found: Any) -> int:
    """Numbers that :func:`first` chooses."""
    settings = first(found)
    return int(found["posterior"][settings["var_names"][0]].isel(chain=0, draw=0, datum=[0, 1]).size)


def test_summary(found: Any) -> None:
    table = az.summary(found, **IN_FULL)
    posterior = found["posterior"]
    assert len(table) == sum(v.isel(chain=0, draw=0).size for v in posterior.data_vars.values())
    name = first(found)["var_names"][0]
    where = next(label for label in table.index if label.startswith(f"{name}[0"))
    values = posterior[name].values[:, :, 0].reshape(*posterior[name].shape[:2], -1)[..., 0]
    assert table.loc[where, "mean"] == pytest.approx(values.mean(), abs=1e-3)
    assert (table["ess_bulk"] > 0).all()
    several = len(posterior.chain) > 1
    varies = table["sd"] > 0
    assert table["r_hat"][varies].notna().all() == several


def test_forest(found: Any) -> None:
    assert drawn(az.plot_forest(found, **first(found))) >= 1


def test_forest_of_the_usage() -> None:
    both = merge({"1": made("two", 1), "2": made("two", 2)})
    assert drawn(az.plot_forest(both, var_names=["joint_usage"])) >= 1


def test_posterior(found: Any) -> None:
    assert drawn(plot_posterior(found, **first(found))) == panels(found)


def test_trace(found: Any) -> None:
    assert drawn(az.plot_trace(found, **first(found))) >= (2 if OLD else panels(found))


def test_pair(found: Any) -> None:
    assert drawn(az.plot_pair(found, **first(found))) >= 1


def test_rank(found: Any) -> None:
    if not OLD and len(found["posterior"].chain) < 2:
        pytest.skip("plot_rank of ArviZ 1 compares chains, and there is one")
    assert drawn(az.plot_rank(found, **first(found))) == panels(found)


def test_predictive_lengths() -> None:
    one = made("two", 1)
    picture = az.plot_ppc(one, var_names=["length"]) if OLD else az.plot_ppc_tstat(one, var_names=["length"])
    assert drawn(picture) >= 1


def test_loo_is_the_log_probability_of_the_data(found: Any) -> None:
    """With the latents summed out and the weights held, nothing is learnt from the datum that is left out."""
    loo = az.loo(found, pointwise=True)
    marginal = found["sample_stats"]["log_marginal"].values
    pointwise = (loo.loo_i if OLD else loo.elpd_i).values
    if len(marginal) == 1:
        np.testing.assert_allclose(pointwise, marginal[0], atol=1e-5)
        assert float(loo.elpd_loo if OLD else loo.elpd) == pytest.approx(marginal.sum(), abs=1e-4)
        assert not loo.warning
        assert (loo.pareto_k.values < 0.5).all()
    else:
        assert (pointwise >= marginal.min(0) - 1e-3).all()
        assert (pointwise <= marginal.max(0) + 1e-3).all()


@pytest.mark.parametrize("kind", KINDS)
def test_models_are_compared_by_the_log_probability_of_the_data(kind: str) -> None:
    runs = {str(weights): made(kind, weights) for weights in (1, 2)}
    totals = {name: run["sample_stats"]["log_marginal"].values.sum() for name, run in runs.items()}
    table = az.compare(runs, **({} if OLD else IN_FULL))
    assert list(table.index) == sorted(totals, key=lambda name: -totals[name])
    elpd = table["elpd_loo"] if OLD else table["elpd"]
    np.testing.assert_allclose(elpd, [totals[name] for name in table.index], atol=1e-3)
    if OLD:
        assert not table["warning"].any()


def test_importance_weights_can_be_smoothed(found: Any) -> None:
    weights = found["sample_stats"]["log_weight"]
    if OLD:
        smoothed, k = az.psislw(weights.stack(__sample__=("chain", "draw")))
        total = np.exp(smoothed).sum("__sample__")
    else:
        smoothed, k = (-weights).azstats.psislw(dim=["chain", "draw"])
        total = np.exp(smoothed).sum(("chain", "draw"))
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    assert np.isfinite(k).all()
    if found.attrs["posterior"] == "exact" and len(weights.chain) == 1:
        np.testing.assert_allclose(np.exp(smoothed), 1 / weights.sizes["draw"], rtol=1e-4)
    elif len(weights.chain) == 1:
        np.testing.assert_allclose(found["sample_stats"]["pareto_k"].values[0], k, rtol=1e-3)
