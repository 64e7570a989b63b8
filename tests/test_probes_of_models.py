"""What probes ask of a model and its guide, held against both; and the command on probes that decode."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.commands import main
from stratagem.inference.data import TaskData
from stratagem.inference.dataset import Dataset
from stratagem.inference.evaluation import posteriors
from stratagem.inference.probes.model_coder import ModelCoder
from stratagem.models import Categorical, KeyValuePrefix, Latent, LatentLM, Normal, PooledRouter, generate
from stratagem.models.backbone import BASE
from stratagem.tasks import Sorting
from torch import nn

from .fit_fixtures import own_logging, save_tiny_base, tiny_backbone, tiny_data, tiny_fit

Made = tuple[ModelCoder, LatentLM, AmortizedGuide, Dataset]


@pytest.fixture
def make_coder(randomise: Callable[..., None]) -> Callable[..., Made]:
    def make(**latents: Latent) -> Made:
        torch.manual_seed(0)
        backbone = tiny_backbone()
        model = LatentLM(backbone, latents, PooledRouter, partial(KeyValuePrefix, length=2, init_scale=1.0))
        guide = AmortizedGuide(model)
        randomise(nn.ModuleDict({"model": model, "guide": guide}))
        test = tiny_data(backbone, 7)
        seen = posteriors(model, guide, test)
        return (
            ModelCoder(model, guide, test, TaskData(Sorting(), max_new_tokens=6), seen, 3),
            model,
            guide,
            test,
        )

    return make


def test_each_request_is_decoded_at_its_own_value(make_coder: Callable[..., Made]) -> None:
    coder, model, _, test = make_coder(z=Normal(2), k=Categorical(2))
    z, index = 2 * torch.randn(5, 2), [4, 0, 4, 6, 1]
    found = coder.decode({"z": z}, index)
    for value, i, text in zip(z, index, found, strict=True):
        given = {"z": value, "k": coder.own["k"][i]}
        (alone,) = generate(model, [test.prompts[i]], given, max_new_tokens=6, temperature=0)
        assert alone.text == text
    assert len(set(found)) > 1


def test_the_datas_own_values_are_those_of_the_guide(make_coder: Callable[..., Made]) -> None:
    coder, _, guide, test = make_coder(z=Normal(2), k=Categorical(3))
    with torch.no_grad():
        law = guide.posterior(test.batch(range(7)))
    assert set(coder.draws) == {"z"}
    assert coder.own["k"].shape == (7,)
    error = law["z"].stddev / 64**0.5
    assert ((coder.own["z"] - law["z"].mean).abs() < 5 * error).all()
    again = coder.encode([3, 5], [test.responses[3], test.responses[5]])["z"]
    assert ((again - law["z"].mean[[3, 5]]).abs() < 5 * error[[3, 5]]).all()
    assert coder.encode([3], [" "])["z"].isfinite().all()


def test_own_values_of_several_enumerable_latents_are_the_likeliest(make_coder: Callable[..., Made]) -> None:
    coder, _, guide, test = make_coder(j=Categorical(2), k=Categorical(3))
    with torch.no_grad():
        law = guide.posterior(test.batch(range(7)))
    assert coder.draws == {}
    for name in ("j", "k"):
        torch.testing.assert_close(coder.own[name], law[name].logits.argmax(-1))


def test_draws_from_the_router_are_its_law(make_coder: Callable[..., Made]) -> None:
    coder, model, _, test = make_coder(z=Normal(2), k=Categorical(2))
    drawn = coder.router([5, 0, 2, 6], 2000)
    with torch.no_grad():
        law = model.router(test.batch([5, 0, 2, 6]))
    assert drawn["z"].shape == (2000, 4, 2)
    assert drawn["k"].shape == (2000, 4)
    assert ((drawn["z"].mean(0) - law["z"].mean).abs() < 5 * law["z"].stddev / 2000**0.5).all()


def test_hidden_states_are_those_of_the_text_alone(make_coder: Callable[..., Made]) -> None:
    coder, model, _, test = make_coder(z=Normal(2))
    layers = coder.hidden(2)
    assert [layer.shape for layer in layers] == [(7, 3, 16)] * 3
    for i, example in enumerate(test.examples):
        ids = torch.tensor([example.prompt + example.response])
        expected = [
            model.backbone.embed(ids, BASE),
            *model.backbone.hidden_layers(BASE, ids, torch.ones_like(ids) > 0),
        ]
        first, length = len(example.prompt), len(example.response)
        half = first + max(1, length // 2)
        for layer, alone in zip(layers, expected, strict=True):
            states = alone[0].detach().numpy()
            np.testing.assert_allclose(layer[i, 0], states[first - 1], atol=1e-5)
            np.testing.assert_allclose(layer[i, 1], states[first:half].mean(0), atol=1e-5)
            np.testing.assert_allclose(layer[i, 2], states[first + length // 2 :].mean(0), atol=1e-5)


def test_labels_of_new_responses_are_the_tasks(make_coder: Callable[..., Made]) -> None:
    coder, _, _, test = make_coder(z=Normal(2))
    prompt = "sort 9 8 6 9 0 :"
    test.prompts[:2] = [prompt, prompt]
    task = Sorting()
    texts = [task.trace(prompt, "bubble", ";"), "nothing"]
    assert coder.named("nuisance", [0, 1], texts) == [";", "unknown"]
    assert coder.named("colour", [0, 1], texts) is None


def test_the_command_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stratagem"])
    (tmp_path / "rewards.py").write_text("def long(prompt, response):\n    return len(response)\n")
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    normal = ("latent@latents.z=normal", "latents.z.D=2", "inference=elbo_pathwise")
    probe = ["probe", f"run={run}", "device=cpu"]
    with own_logging():
        main([*map(str, tiny_fit(save_tiny_base(tmp_path / "base"), run, *normal))])
        capfd.readouterr()
        main([*probe, "probe=interpolation", "probe.pairs=5"])
        said = capfd.readouterr().out
        main([*probe, "probe=traversal", "probe.texts=2", "probe.steps=3"])
        main([*probe, "probe=search", "probe.reward=rewards.long", "probe.texts=2", "probe.rounds=2"])
        with pytest.raises(SystemExit):
            main([*probe, "probe=search"])
    assert "probe.reward=module.function" in "".join(capfd.readouterr())
    assert f"... 5 more rows in {run / 'probes' / 'interpolation.csv'}" in said
    for name, rows in (("interpolation", 45), ("traversal", 12), ("search", 2)):
        table = (run / "probes" / f"{name}.csv").read_text().splitlines()
        assert len(list(csv.DictReader(table))) == rows
        assert (run / "probes" / f"{name}.png").is_file()
    figures = json.loads((run / "probes" / "search.json").read_text())
    assert figures["search/found"] >= 0
    assert figures["search/decodings"] == 32
