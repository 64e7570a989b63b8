"""The file of inference data comes back as it went, texts and attributes with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stratagem.inference.commands.report import write_evaluation
from stratagem.inference.evaluation import Evaluation, posteriors
from stratagem.inference.inference_data import (
    POSTERIOR,
    Texts,
    from_posteriors,
    merge,
    psislw,
    read_inference_data,
    read_probabilities,
    to_inference_data,
    write_inference_data,
)

from .fit_fixtures import tiny_data
from .inference_data_fixtures import EXACT, KINDS, SAMPLED, az, groups, latent_lm

TEXTS = ["", "zwei\nZeilen\t", "日本語 🙂 é", 'he said "no"; a=b', "0" * 500, " "]


def written(kind: str, path: Path, **settings: Any) -> Any:
    model, guide = latent_lm(kind)
    data = tiny_data(model.backbone, len(TEXTS))
    made = to_inference_data(model, guide, data.batches(4), max_new_tokens=4, **settings)
    write_inference_data(path, made)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_everything_comes_back(kind: str, tmp_path: Path) -> None:
    texts = Texts(TEXTS, TEXTS[::-1], TEXTS)
    made = written(
        kind, tmp_path / "p.nc", texts=texts, predictive=2, attributes={"config": "a: é\n" * 30_000}
    )
    found = read_inference_data(tmp_path / "p.nc")
    assert found.attrs == made.attrs
    assert set(groups(found)) == set(groups(made))
    for name, group in groups(made).items():
        assert group.identical(groups(found)[name]), name
    assert found["constant_data"]["prompt"].values.tolist() == TEXTS
    assert found["observed_data"]["response"].values.tolist() == TEXTS[::-1]
    again = az.from_netcdf(str(tmp_path / "p.nc"))
    again.load()
    again.close()
    assert again["posterior"].identical(found["posterior"])
    assert [p.name for p in tmp_path.iterdir()] == ["p.nc"]


def test_text_that_no_file_can_keep_is_marked(tmp_path: Path) -> None:
    texts = Texts(["a\0b", "half \ud83d", "c", "d", "e", "f"], TEXTS)
    written("categorical", tmp_path / "p.nc", texts=texts, tokens=False)
    found = read_inference_data(tmp_path / "p.nc")
    assert found["constant_data"]["prompt"].values.tolist()[:3] == ["a␀b", "half ?", "c"]


def test_several_runs_come_back_too(tmp_path: Path) -> None:
    made = written("two", tmp_path / "p.nc", predictive=1)
    write_inference_data(tmp_path / "both.nc", merge({"a": made, "ü": made}))
    found = read_inference_data(tmp_path / "both.nc")
    assert found["constant_data"]["run"].values.tolist() == ["a", "ü"]
    assert found["posterior"]["joint_probability"].shape[0] == 2


@pytest.mark.parametrize("kind", EXACT)
def test_probabilities_can_be_read_alone(kind: str, tmp_path: Path) -> None:
    made = written(kind, tmp_path / "p.nc", tokens=False)
    joint = "joint" if kind == "two" else "z"
    expected = made["posterior"][f"{joint}_probability"].values[0]
    np.testing.assert_array_equal(read_probabilities(tmp_path / "p.nc"), expected)


def test_latents_that_cannot_be_enumerated_have_no_probabilities(tmp_path: Path) -> None:
    written("normal", tmp_path / "p.nc", tokens=False)
    with pytest.raises(ValueError, match=r"p\.nc: no probabilities of strategies"):
        read_probabilities(tmp_path / "p.nc")


@pytest.mark.parametrize("kind", KINDS)
def test_an_evaluation_leaves_a_file_with_its_config_that_the_next_one_replaces(
    kind: str, tmp_path: Path
) -> None:
    model, guide = latent_lm(kind)
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    for num in (5, 7):
        data = tiny_data(model.backbone, num)
        seen = posteriors(model, guide, data, 8)
        write_evaluation(tmp_path, model, Evaluation({"use/verdict": 2.0}, data, seen))
    found = read_inference_data(tmp_path / POSTERIOR)
    assert found["posterior"].sizes["datum"] == 7
    assert found.attrs["config"] == "seed: 3\n"
    assert found.attrs["base_fingerprint"] == model.backbone.fingerprint
    assert found["observed_data"]["response"].values.tolist() == data.responses
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"use/verdict": 2.0}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.yaml", "evaluation.json", POSTERIOR]


@pytest.mark.parametrize("kind", SAMPLED)
def test_a_cheap_file_of_continuous_latents_has_what_the_evaluation_has(kind: str, tmp_path: Path) -> None:
    model, guide = latent_lm(kind)
    data = tiny_data(model.backbone, 5)
    torch.manual_seed(0)
    seen = posteriors(model, guide, data, 8)
    write_inference_data(tmp_path / "p.nc", from_posteriors(model, seen, data, {}))
    found = read_inference_data(tmp_path / "p.nc")
    assert seen.log_weight is not None
    np.testing.assert_array_equal(found["sample_stats"]["log_weight"].values[0], seen.log_weight)


def test_pareto_smoothing_finds_the_shape_of_a_tail_and_leaves_the_rest() -> None:
    """The largest of weights ``u^-k``, u uniform, have a tail of shape k."""
    uniform = np.random.default_rng(0).random((2, 3, 8000))
    for k in (0.3, 0.9):
        raw = -k * np.log(uniform)
        smoothed, found = psislw(raw)
        assert found.shape == (2, 3)
        assert np.abs(found - k).max() < 0.25
        np.testing.assert_allclose(np.exp(smoothed).sum(-1), 1)
        body = raw < np.quantile(raw, 0.9, axis=-1, keepdims=True)
        shift = (smoothed - raw).mean(-1, where=body, keepdims=True)
        np.testing.assert_allclose(np.where(body, smoothed - raw - shift, 0), 0, atol=1e-9)
        assert smoothed.max() <= (raw + shift).max() + 1e-9
        np.testing.assert_allclose(psislw(raw + 7)[1], found)


def test_weights_without_a_tail_are_not_smoothed() -> None:
    few = np.random.default_rng(0).normal(size=20)
    for raw, k in ((np.full(100, -3.0), np.nan), (few, np.inf), (np.repeat([0.0, 1.0], 50), np.inf)):
        smoothed, found = psislw(raw)
        np.testing.assert_equal(found, k)
        np.testing.assert_allclose(smoothed, raw - np.logaddexp.reduce(raw))
