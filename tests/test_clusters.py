"""The meaning of continuous latents by clusters, on posteriors whose answer is known and through the decoder."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.commands import main
from stratagem.inference.data import TaskData
from stratagem.inference.dataset import Dataset
from stratagem.inference.evaluation import Posteriors, evaluate
from stratagem.inference.evaluation import clusters as clusters_module
from stratagem.inference.evaluation.clusters import Clusters, clusters
from stratagem.inference.evaluation.meaning import posterior_figures, strategy_labels, telling
from stratagem.models import Categorical, KeyValuePrefix, Latent, LatentLM, Normal, PooledRouter
from stratagem.models.generation import Generation, generate
from stratagem.tasks import Sorting
from torch import Tensor

from .fit_fixtures import own_logging, save_tiny_base, tiny_backbone, tiny_fit
from .known_law_fixtures import every_pair

evaluate_module = import_module("stratagem.inference.evaluation.evaluate")

TASK = Sorting()
S = len(TASK.strategies)

some = TASK.prompts(60, "test", 0)
PAIRS = every_pair(TASK, [p for p, row in zip(some, telling(TASK, some), strict=True) if row.all()][:12])
"""Twelve prompts, each with the responses of all strategies in both nuisances."""

LABELS = torch.from_numpy(strategy_labels(TASK, PAIRS.prompts, PAIRS.responses))

CORNERS = torch.tensor([[3.0, 0, 0], [0, -3, 0], [0, 0, 3], [-3, 3, -3]])
"""Where the strategies' posteriors lie."""


def blobs(centres: Tensor, seed: int = 0) -> Tensor:
    """64 draws about ``centres`` ``(N, D)`` whose means differ a little from datum to datum."""
    numbers = torch.Generator().manual_seed(seed)
    means = centres + 0.3 * torch.randn(centres.shape, generator=numbers)
    return means + 0.5 * torch.randn(64, *centres.shape, generator=numbers)


def nothing(D: int = 3) -> Tensor:
    return blobs(torch.zeros(len(PAIRS), D))


def figures_of(found: Clusters) -> dict[str, float]:
    figures = posterior_figures(TASK, PAIRS.prompts, PAIRS.responses, found.posterior)
    return {name.removeprefix("meaning/"): value for name, value in figures.items()}


def test_all_strategies_are_there_alike() -> None:
    assert LABELS.bincount().tolist() == [len(PAIRS) // S] * S


def test_separated_blobs_are_the_strategies() -> None:
    found = clusters({"z": blobs(CORNERS[LABELS])}, S)
    figures = figures_of(found)
    assert figures["posterior_accuracy"] == 1
    assert figures["ami"] == pytest.approx(1)
    assert figures["ari"] == pytest.approx(1)
    assert figures["nuisance_ami"] < 0.03
    centres = torch.stack([value["z"] for value in found.values])
    assert torch.cdist(CORNERS, centres).min(1).values.max() < 0.3


def test_one_blob_is_chance() -> None:
    """The best matching of four clusters that have nothing to do with four strategies gets a little over a quarter."""
    figures = figures_of(clusters({"z": nothing()}, S))
    assert 1 / S <= figures["posterior_accuracy"] < 0.45
    assert abs(figures["ami"]) < 0.06
    assert abs(figures["ari"]) < 0.06
    assert abs(figures["nuisance_ami"]) < 0.06


def test_latents_count_side_by_side() -> None:
    """Where each tells two pairs of strategies apart, it takes both to tell all four."""
    a, b = (blobs(3.0 * bit[:, None].float(), seed) for seed, bit in enumerate((LABELS % 2, LABELS // 2)))
    assert figures_of(clusters({"a": a, "b": b}, S))["posterior_accuracy"] == 1
    for site in (a, b):
        assert figures_of(clusters({"z": site}, S))["posterior_accuracy"] < 0.7


def test_a_centre_is_the_mean_of_its_data_latent_by_latent() -> None:
    draws = {"a": blobs(CORNERS[LABELS]), "b": nothing(2)}
    found = clusters(draws, S)
    assert found.posterior.shape == (len(PAIRS), S)
    assert found.posterior.sum(1).eq(1).all()
    share = found.posterior / found.posterior.sum(0)
    for name, site in draws.items():
        centres = torch.stack([value[name] for value in found.values])
        torch.testing.assert_close(centres, share.T @ site.mean(0))


def check_order(draws: Mapping[str, Tensor]) -> None:
    found = clusters(draws, S)
    for seed in range(3):
        order = torch.randperm(len(PAIRS), generator=torch.Generator().manual_seed(seed))
        again = clusters({name: site[:, order] for name, site in draws.items()}, S)
        assert again.posterior.equal(found.posterior[order])
        for value, other in zip(found.values, again.values, strict=True):
            assert all(value[name].equal(other[name]) for name in draws)


@pytest.mark.parametrize("draws", [nothing(), blobs(CORNERS[LABELS])], ids=["one blob", "separated"])
def test_the_order_of_the_data_does_not_matter(draws: Tensor) -> None:
    check_order({"z": draws})


def test_in_the_order_of_the_data_it_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters_module.np, "lexsort", lambda keys: np.arange(keys.shape[1]))
    with pytest.raises(AssertionError):
        check_order({"z": nothing()})


@pytest.mark.parametrize("different", [1, 3])
def test_of_fewer_different_data_there_are_fewer_clusters(different: int) -> None:
    labels = LABELS.clamp(max=different - 1)
    found = clusters({"z": CORNERS[labels].expand(64, -1, -1)}, S)
    assert found.posterior.shape == (len(PAIRS), different)
    assert {tuple(v["z"].tolist()) for v in found.values} == {tuple(c) for c in CORNERS[:different].tolist()}


def latent_lm(latents: Mapping[str, Latent]) -> tuple[LatentLM, AmortizedGuide]:
    torch.manual_seed(0)
    entry = partial(KeyValuePrefix, length=2)
    model = LatentLM(tiny_backbone(words=TASK.vocabulary), latents, PooledRouter, entry)
    return model, AmortizedGuide(model)


DATA = TaskData(TASK, num_train=5, num_test=12, max_new_tokens=6)


@pytest.fixture
def _on_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations on the pairs, in place of responses of a base that knows no strategies."""

    def pairs(*_: object) -> Dataset:
        return PAIRS

    monkeypatch.setattr(evaluate_module, "on_base", pairs)


Figures = Callable[[Tensor, Callable[[Tensor], str]], dict[str, float]]


@pytest.fixture
def evaluated(_on_pairs: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Figures:
    """The figures of given draws from the guide and of a decoder that follows a strategy for each z."""

    def figures(draws: Tensor, strategy: Callable[[Tensor], str]) -> dict[str, float]:
        zeros = torch.zeros(len(PAIRS))
        seen = Posteriors(False, zeros - 3, zeros - 3, zeros, zeros, zeros + 5, draws={"z": draws})
        rng = random.Random(0)

        def respond(
            _model: object, prompts: Sequence[str], z: dict[str, Tensor] | None, **_: object
        ) -> list[Generation]:
            chosen = [rng.choice(TASK.strategies) if z is None else strategy(z["z"]) for _ in prompts]
            marks = [rng.choice(TASK.nuisances) for _ in prompts]
            texts = map(TASK.trace, prompts, chosen, marks)
            return [Generation(p, {}, 1.0, text) for p, text in zip(prompts, texts, strict=True)]

        monkeypatch.setattr(evaluate_module, "posteriors", lambda *_: seen)
        monkeypatch.setattr(evaluate_module, "generate", respond)
        return evaluate(*latent_lm({"z": Normal(3)}), DATA, 0, tmp_path).figures

    return figures


def nearest(z: Tensor) -> str:
    return TASK.strategies[int((CORNERS - z).norm(dim=1).argmin())]


def test_a_decoder_that_follows_the_blobs_is_aligned(evaluated: Figures) -> None:
    found = evaluated(blobs(CORNERS[LABELS]), nearest)
    assert found["meaning/clusters"] == S
    for name in ("alignment", "alignment_greedy", "purity", "coverage", "posterior_accuracy"):
        assert found[f"meaning/{name}"] == 1, name
    assert found["meaning/per_prompt_gap"] == pytest.approx(0)
    assert found["meaning/alignment_chance"] == 0, "the base of random weights follows nothing"
    assert [found[f"skill/accuracy_forced/{k}"] for k in range(S)] == [1] * S
    assert found["skill/accuracy_forced_min"] == 1


def test_a_decoder_that_does_not_read_z_is_not(evaluated: Figures) -> None:
    rng = random.Random(1)
    found = evaluated(blobs(CORNERS[LABELS]), lambda _: rng.choice(TASK.strategies))
    assert found["meaning/posterior_accuracy"] == 1
    assert found["meaning/alignment"] < 0.5
    assert found["meaning/per_prompt_gap"] > 0.2


def test_a_decoder_of_strategies_whose_posteriors_are_one_has_one_centre(evaluated: Figures) -> None:
    found = evaluated(CORNERS[:1].expand(64, len(PAIRS), -1), nearest)
    assert found["meaning/clusters"] == 1
    assert found["meaning/alignment"] == pytest.approx(1 / S)
    assert found["meaning/coverage"] == pytest.approx(1 / S)
    assert found["meaning/posterior_accuracy"] == pytest.approx(1 / S)


@pytest.mark.usefixtures("_on_pairs")
def test_the_centres_reach_the_decoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, guide = latent_lm({"a": Normal(2), "b": Normal(3)})
    forced: list[tuple[float, ...]] = []
    decoder = LatentLM.decoder

    def spy(self: LatentLM, batch: Any, z: Mapping[str, Tensor], *args: Any, **settings: Any) -> Any:
        if z["a"].shape[:2] == (1, 1):
            forced.append(tuple(torch.cat([z["a"], z["b"]], -1).flatten().tolist()))
        return decoder(self, batch, z, *args, **settings)

    monkeypatch.setattr(LatentLM, "decoder", spy)
    result = evaluate(model, guide, DATA, 0, tmp_path, batch_size=len(PAIRS) // 2, draws=3)
    assert result.on_base.draws is not None
    expected = [
        tuple(torch.cat([value["a"], value["b"]]).tolist())
        for value in clusters(result.on_base.draws, S).values
    ]
    assert len(set(expected)) == S
    assert forced == [value for value in expected for _ in range(2)] * 4, (
        "each centre for every batch, in every draw, and again greedy"
    )


def test_outputs_change_with_the_centre() -> None:
    model, _ = latent_lm({"z": Normal(3)})
    texts = [
        [g.text for g in generate(model, PAIRS.prompts, {"z": 5 * c}, max_new_tokens=4, temperature=0)]
        for c in CORNERS
    ]
    assert len({tuple(row) for row in texts}) > 1


@pytest.mark.usefixtures("_on_pairs")
def test_the_names_are_those_of_a_discrete_latent(tmp_path: Path) -> None:
    cases: dict[str, dict[str, Latent]] = {
        "discrete": {"z": Categorical(S)},
        "continuous": {"z": Normal(2)},
        "mixed": {"z": Categorical(S), "w": Normal(2)},
    }
    names = {}
    for case, latents in cases.items():
        figures = evaluate(*latent_lm(latents), DATA, 0, tmp_path / case).figures
        assert np.isfinite(list(figures.values())).all()
        names[case] = {name for name in figures if name.split("/")[0] in ("meaning", "skill", "router")}
    by_enumeration = {n for n in names["discrete"] if "_amortized" in n or n.startswith("router/")}
    assert by_enumeration
    assert names["continuous"] == names["discrete"] - by_enumeration | {"meaning/clusters"}
    assert {name for name in names["mixed"] if not name.startswith("skill/")} == set()


def test_a_fit_ends_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["stratagem"])
    base, run = save_tiny_base(tmp_path / "base"), tmp_path / "run"
    with own_logging():
        main(tiny_fit(base, run, "latent@latents.z=normal", "latents.z.D=2", "inference=elbo_pathwise"))
    figures = json.loads((run / "evaluation.json").read_text())
    assert figures["meaning/clusters"] == S
    assert {"meaning/alignment", "meaning/alignment_greedy", "meaning/alignment_chance"} <= set(figures)
    assert {"skill/accuracy_forced_min", "use/active_units/z"} <= set(figures)
    assert "use/usage" not in figures
