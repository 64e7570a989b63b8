"""Several runs in one: labels matched, so that what compares chains compares strategies."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from stratagem.inference.inference_data import Texts, merge, to_inference_data
from stratagem.inference.inference_data.arviz_front import groups_of
from stratagem.inference.inference_data.merge import matched

from .fit_fixtures import tiny_data
from .inference_data_fixtures import az, groups, latent_lm, quiet

CONSTANT = ("invalid value encountered", "divide by zero encountered")
"""What ArviZ warns of where a datum has one label in all draws."""


def run_of(kind: str, seed: int = 0, weights: int = 1, order: dict[str, list[int]] | None = None) -> Any:
    """A run whose draws come from ``seed``; value k of a site is what ``order[k]`` is without."""
    model, guide = latent_lm(kind, weights)
    for name, places in (order or {}).items():
        heads = [model.routers[name].reader.output, guide.readers[name].output]
        rows = [model.conditionings[name].weight, *(p for head in heads for p in head.parameters())]
        with torch.no_grad():
            for weight in rows:
                weight.copy_(weight[places].clone())
    data = tiny_data(model.backbone, 8)
    return to_inference_data(
        model,
        guide,
        data.batches(8),
        draws=200,
        predictive=1,
        max_new_tokens=3 + seed,
        seed=seed,
        attributes={"seed": str(seed), "recipe": "r"},
    )


def r_hat(merged: Any, name: str) -> np.ndarray:
    """Of each datum; NaN where its draws are all the same."""
    with quiet(*CONSTANT):
        return np.asarray(az.rhat(groups_of(merged)["posterior"][[name]])[name])


def test_a_latent_of_values_beside_one_of_numbers() -> None:
    first, other = run_of("mixed"), run_of("mixed", 1)
    both = merge({"first": first, "other": other})
    assert both["posterior"]["z"].shape == (2, 200, 8)
    assert both["prior"]["style"].shape == (2, 200, 8, 2)


def test_values_under_other_names_are_found_again() -> None:
    first, renamed = run_of("categorical"), run_of("categorical", 1, order={"z": [2, 0, 1]})
    law = first["posterior"]["z_probability"].values[0]
    assert np.abs(renamed["posterior"]["z_probability"].values[0] - law).max() > 0.2
    both = merge({"first": first, "renamed": renamed})
    for group in ("posterior", "prior"):
        one, other = both[group]["z_probability"].values
        np.testing.assert_allclose(one, other, atol=1e-5)
        share = np.stack([(both[group]["z"].values[1] == k).mean(0) for k in range(3)], 1)
        # 4.5 standard errors on 48 shares: a false alarm once in 3000 seeds, of which this is one.
        assert (np.abs(share - other) <= 4.5 * np.sqrt(other * (1 - other) / 200) + 1e-6).all()
    usage = both["posterior"]["z_usage"]
    shares = (both["posterior"]["z"] == both["posterior"]["strategy"]).mean("datum")
    np.testing.assert_allclose(usage.values, shares.transpose(*usage.dims).values)
    np.testing.assert_array_equal(both["posterior"]["z"].values[0], first["posterior"]["z"].values[0])


def test_sites_have_the_values_that_the_joint_value_stands_for() -> None:
    """Matched as a whole, so that a value of one site may be told by another site's value."""
    order = {"a": [1, 2, 0], "b": [1, 0]}
    both = merge({"first": run_of("two"), "renamed": run_of("two", 1, order=order)})
    posterior, table = both["posterior"], both["constant_data"]["strategy_value"]
    for name in ("joint", "a", "b"):
        for ending in ("", "_guide"):
            one, other = posterior[f"{name}_probability{ending}"].values
            np.testing.assert_allclose(one, other, atol=1e-5)
    for group in ("posterior", "prior"):
        for site in ("a", "b"):
            values = table.sel(site=site).values[both[group]["joint"].values]
            np.testing.assert_array_equal(both[group][site].values, values)


def test_convergence_figures_compare_the_runs_and_not_their_labels() -> None:
    """Near 1, with as many draws in effect as there are, where runs are the same; large where they are not."""
    same = merge({"0": run_of("categorical"), "1": run_of("categorical", 1, order={"z": [1, 2, 0]})})
    found = r_hat(same, "z")
    assert np.nanmax(found) < 1.05
    with quiet(*CONSTANT):
        ess = np.asarray(az.ess(groups_of(same)["posterior"][["z_usage"]], method="mean")["z_usage"])
    assert (ess > 200).all()
    other = merge({"0": run_of("categorical"), "1": run_of("categorical", 1, weights=2)})
    assert np.nanmax(r_hat(other, "z")) > 1.2
    assert r_hat(same, "z_usage").max() < 1.05 < 1.1 < r_hat(other, "z_usage").max()
    for one in (same, other):
        agreement = (
            one["posterior"]["z_probability"].values.argmax(-1)[0]
            == one["posterior"]["z_probability"].values.argmax(-1)[1]
        ).mean()
        assert (agreement == 1) == (one is same)


def test_without_the_matching_the_same_runs_look_different() -> None:
    first, renamed = run_of("categorical"), run_of("categorical", 1, order={"z": [1, 2, 0]})
    z = np.concatenate([run["posterior"]["z"].values for run in (first, renamed)])
    with quiet(*CONSTANT):
        found = az.rhat(az.convert_to_dataset({"z": z}))["z"].values
    assert np.nanmax(found) > 1.5


def laws(num: int, P: int = 4, seed: int = 0, runs: int = 3, noise: float = 0.3) -> list[np.ndarray]:
    """One law ``(N, P)`` and noisy copies of it, the values of each in an order of its own."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(num, P))
    out = []
    for _ in range(runs):
        p = np.exp(logits + noise * rng.normal(size=(num, P)))
        out.append((p / p.sum(1, keepdims=True))[:, rng.permutation(P)])
    return out


def test_the_matching_is_the_best_of_all() -> None:
    for seed in range(5):
        one, other = laws(30, seed=seed, runs=2, noise=2.0)
        new = matched([one, other])[1]
        agreement = {p: (one[:, list(p)] * other).sum() for p in permutations(range(4))}
        assert new.tolist() == list(max(agreement, key=lambda p: agreement[p]))


def test_names_are_those_of_the_first_run_whatever_the_order() -> None:
    made = laws(40)
    for order in permutations(range(3)):
        here = [made[i] for i in order]
        new = matched(here)
        assert new[0].tolist() == [0, 1, 2, 3]
        aligned = [law[:, np.argsort(names)] for law, names in zip(here, new, strict=True)]
        assert all((law.argmax(1) == aligned[0].argmax(1)).mean() > 0.8 for law in aligned)


def test_a_run_that_is_out_of_line_does_not_part_the_others() -> None:
    """The pivot is the run that agrees best with all others, though the one out of line comes first."""
    one, other = laws(40, runs=2, noise=0.1)
    odd = np.random.default_rng(5).dirichlet([0.1] * 4, size=40)
    _, *new = matched([odd, one, other])
    np.testing.assert_allclose(one[:, np.argsort(new[0])], other[:, np.argsort(new[1])], atol=0.15)


def test_continuous_latents_stay_as_they_are() -> None:
    runs = [run_of("normal", seed) for seed in (0, 1)]
    both = merge(dict(zip("ab", runs, strict=True)))
    for chain, run in enumerate(runs):
        np.testing.assert_array_equal(both["posterior"]["z"].values[chain], run["posterior"]["z"].values[0])
    assert (r_hat(both, "z") < 1.05).all()


def test_a_merged_file_has_what_all_runs_have() -> None:
    first, second = run_of("two"), run_of("two", 1)
    both = merge({"x": first, "y": second})
    assert both["constant_data"]["run"].values.tolist() == ["x", "y"]
    assert both["constant_data"]["run"].dims == ("chain",)
    assert json.loads(both.attrs["seed"]) == ["0", "1"]
    assert both.attrs["recipe"] == "r"
    new = both["posterior_predictive"]
    lengths = [run["posterior_predictive"].sizes["token"] for run in (first, second)]
    assert (lengths, new.sizes["token"]) == ([3, 4], 4)
    assert (new["y"].values[0, ..., 3] == -1).all()
    np.testing.assert_array_equal(new["y"].values[1], second["posterior_predictive"]["y"].values[0])
    assert both["posterior"]["chain"].values.tolist() == [0, 1]
    for name, group in groups(both).items():
        chained = [v for v in group.data_vars if "chain" in group[v].dims]
        assert all(group[v].sizes["chain"] == 2 for v in chained), name
    three = merge({"both": both, "x again": first})
    assert three["constant_data"]["run"].values.tolist() == ["both", "both", "x again"]
    np.testing.assert_array_equal(three["posterior"]["a"].values[2], first["posterior"]["a"].values[0])


def test_fewer_draws_and_groups_are_what_is_kept() -> None:
    model, guide = latent_lm("categorical")
    data = tiny_data(model.backbone, 4)
    whole = to_inference_data(model, guide, data.batches(4), predictive=1, max_new_tokens=2)
    short = to_inference_data(
        model, guide, data.batches(4), draws=30, tokens=False, per_datum={"k": np.ones(4)}
    )
    both = merge({"whole": whole, "short": short})
    assert both["posterior"].sizes["draw"] == 30
    assert set(groups(both)) == set(groups(short))
    assert "k" not in both["sample_stats"]
    np.testing.assert_array_equal(both["posterior"]["z"].values[0], whole["posterior"]["z"].values[0, :30])


def test_runs_that_have_nothing_in_common_are_refused() -> None:
    model, guide = latent_lm("categorical")
    data = tiny_data(model.backbone, 4)
    one = to_inference_data(model, guide, data.batches(4), tokens=False)
    fewer = to_inference_data(model, guide, [data.batch([0, 1, 2])], tokens=False)
    with pytest.raises(
        ValueError, match=r"runs a and b: observed_data/y differs; expected runs on the same data"
    ):
        merge({"a": one, "b": fewer})
    asked = Texts(["?"] * 4, data.responses)
    with pytest.raises(ValueError, match=r"runs a and b: constant_data/prompt differs"):
        merge({"a": one, "b": to_inference_data(model, guide, data.batches(4), texts=asked, tokens=False)})
    model, guide = latent_lm("normal")
    with pytest.raises(ValueError, match="expected the same names and sizes"):
        merge({"a": one, "b": to_inference_data(model, guide, data.batches(4), tokens=False)})
