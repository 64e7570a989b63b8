"""Restarts chosen without labels, and held against each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from stratagem.inference.dataset import Dataset
from stratagem.inference.evaluation import Posteriors
from stratagem.inference.experiments import Agreement, Cell, Outcome, Selection
from stratagem.inference.fit import METRICS
from stratagem.inference.inference_data import (
    POSTERIOR,
    from_posteriors,
    read_probabilities,
    write_inference_data,
)
from stratagem.models import Batch, Example

LABELS = np.arange(40) % 4


def posteriors(labels: np.ndarray) -> Posteriors:
    law = torch.nn.functional.one_hot(torch.tensor(labels), 4) * 0.96 + 0.01
    one = torch.zeros(len(labels))
    whole = dict.fromkeys(("posterior", "amortized", "router"), law)
    return Posteriors(True, one, one, one, one, one + 3, gap=one, router_entropy=one, **whole)


def four_values(batch: Batch) -> None:
    with pyro.plate("data", len(batch), dim=-1):
        pyro.sample("z", dist.Categorical(torch.ones(4)))


def outcome(
    folder: Path, restart: str, seed: int, figure: float, objective: float, labels: np.ndarray
) -> Outcome:
    """A run as a fit leaves it; its objective after 300 steps is the opposite of that at the end."""
    cell = Cell({"task": "sorting", "restart": restart}, seed, [["fit"]])
    path = folder / cell.name
    path.mkdir(parents=True)
    lines = [
        {"split": "test", "step": 300, "objective": -objective},
        {"split": "train", "step": 301, "objective": 99.0},
        {"split": "test", "step": 1000, "objective": objective},
    ]
    (path / METRICS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = Dataset([Example((1,), (2,))] * len(labels), ["p"] * len(labels), ["r"] * len(labels), 0)
    write_inference_data(path / POSTERIOR, from_posteriors(four_values, posteriors(labels), data, {}))
    return Outcome(cell, path, {"meaning/alignment": figure, "use/mutual_information": -figure})


@pytest.fixture
def outcomes(tmp_path: Path) -> list[Outcome]:
    """Two seeds of three restarts: two that agree up to the names of the strategies, and one for itself."""
    renamed, other = (LABELS + 1) % 4, np.random.default_rng(0).permutation(LABELS)
    made = []
    for seed in (0, 1):
        made += [
            outcome(tmp_path, "0", seed, 0.99, 1.0, LABELS),
            outcome(tmp_path, "1", seed, 0.98, 2.0, renamed),
            outcome(tmp_path, "2", seed, 0.50, 0.5, other),
        ]
    return made


def test_the_probabilities_of_a_file(outcomes: list[Outcome]) -> None:
    found = read_probabilities(outcomes[0].folder / POSTERIOR)
    assert found.shape == (40, 4)
    assert (found.argmax(1) == LABELS).all()


def test_each_score_chooses_by_what_it_says(outcomes: list[Outcome]) -> None:
    hits, choices = Selection("restart").tables(outcomes)
    found = {str(record["score"]): record for record in hits.records}
    assert found["objective"]["median"] == 0.98
    assert found["objective"]["good"] == 2
    assert found["early objective"]["median"] == 0.50
    assert found["early objective"]["good"] == 0
    assert found["early objective"]["below"] == pytest.approx(0.49)
    assert found["information"]["median"] == 0.50
    assert found["agreement"]["good"] == 2
    assert found["best"]["median"] == 0.99
    assert [record["seed"] for record in choices.records] == ["seed0", "seed1"]
    assert "2 of 2" in hits.markdown()


def test_how_far_below_the_best_still_counts(outcomes: list[Outcome]) -> None:
    hits, _ = Selection("restart", within=0.005).tables(outcomes)
    assert {str(r["score"]): r["good"] for r in hits.records}["objective"] == 0


def test_a_choice_is_made_where_every_restart_has_ended(outcomes: list[Outcome]) -> None:
    unfinished = Outcome(outcomes[0].cell, outcomes[0].folder, {})
    hits, choices = Selection("restart").tables([unfinished, *outcomes[1:]])
    assert len(choices.records) == 1
    assert {r["of"] for r in hits.records} == {1}
    nothing, _ = Selection("restart").tables([Outcome(o.cell, o.folder, {}) for o in outcomes])
    assert nothing.records == []


def test_settings_that_no_run_goes_with_say_so(outcomes: list[Outcome]) -> None:
    with pytest.raises(ValueError, match=r"summary.figure=meaning/alinement: no run has it"):
        Selection("restart", figure="meaning/alinement").tables(outcomes)
    expected = r"summary.start_steps=200: .*metrics.jsonl has held-out objectives after 300, 1000 steps"
    with pytest.raises(ValueError, match=expected):
        Selection("restart", start_steps=200).tables(outcomes)
    with pytest.raises(ValueError, match=r"summary.figures=\['use/ceiling'\]: expected names"):
        Agreement("restart", ["use/ceiling"]).check(["restart"])  # type: ignore[arg-type]


def test_an_axis_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"summary.axis: no axis draw; there are task, restart"):
        Selection("draw").check(["task", "restart"])


def test_agreement_is_of_the_partitions_whatever_their_names(outcomes: list[Outcome]) -> None:
    shown = {"use/mutual_information": "information"}
    (all_three,) = Agreement("restart", shown).tables(outcomes)
    (two,) = Agreement("restart", shown).tables([o for o in outcomes if o.cell.labels["restart"] != "2"])
    assert two.records[0]["NMI"] == pytest.approx(1)
    assert two.records[0]["AMI, least"] == pytest.approx(1)
    assert two.records[0]["information"] == pytest.approx(-0.985)
    least = all_three.records[0]["NMI, least"]
    assert isinstance(least, float)
    assert least < 0.3
    assert all_three.records[0]["NMI"] == pytest.approx((1 + 2 * least) / 3)
    (alone,) = Agreement("restart", shown).tables(outcomes[:1])
    assert alone.rows == [["sorting", "seed0", "1", "-", "-", "-", "-", "-0.99"]]


def test_one_part_agrees_with_nothing(tmp_path: Path) -> None:
    constant = np.zeros(40, dtype=int)
    made = [outcome(tmp_path, restart, 0, 0.5, 1.0, constant) for restart in ("0", "1")]
    assert Agreement("restart", {}).tables(made)[0].records[0]["NMI"] == 0
