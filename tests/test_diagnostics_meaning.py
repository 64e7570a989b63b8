"""The figures of the evaluation from what a subject has generated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.data import TaskData
from stratagem.inference.diagnosis import Subject, subject
from stratagem.inference.diagnosis.diagnostics.meaning import meaning
from stratagem.inference.evaluation import evaluate
from stratagem.models import Categorical, Generation, KeyValuePrefix, Latent, LatentLM, Normal, PooledRouter
from stratagem.tasks import Sorting

from .fit_fixtures import tiny_backbone

TASK = Sorting()
S = len(TASK.strategies)
DATA = TaskData(TASK, num_train=5, num_test=12, max_new_tokens=6)

LATENTS: dict[str, dict[str, Latent]] = {
    "discrete": {"z": Categorical(S)},
    "two": {"a": Categorical(2), "b": Categorical(2)},
    "continuous": {"z": Normal(2)},
    "mixed": {"z": Categorical(S), "w": Normal(2)},
}

DRAWN = ("alignment", "purity", "coverage", "per_prompt_gap", "accuracy", "calibration")
"""Begin the names of figures of the model's own responses, which evaluation and diagnosis each draw for themselves."""


def parts(latents: Mapping[str, Latent]) -> tuple[LatentLM, AmortizedGuide]:
    torch.manual_seed(0)
    entry = partial(KeyValuePrefix, length=2)
    model = LatentLM(tiny_backbone(words=TASK.vocabulary), latents, PooledRouter, entry)
    return model, AmortizedGuide(model)


def drawn(name: str) -> bool:
    last = name.split("/")[1]
    of_base = last.endswith(("_chance", "_chance_se")) or last.startswith("accuracy_base")
    return last.startswith(DRAWN) and not of_base


@pytest.mark.parametrize("kind", sorted(LATENTS))
def test_names_are_those_of_the_evaluation_and_so_are_figures_of_the_bases_responses(
    kind: str, tmp_path: Path
) -> None:
    model, guide = parts(LATENTS[kind])
    expected = evaluate(model, guide, DATA, 0, tmp_path, batch_size=5).figures
    found = meaning(subject(model, guide, DATA, 0, tmp_path, batch_size=5)).figures
    assert set(found) == {name for name in expected if name.split("/")[0] in ("meaning", "router", "skill")}
    assert {n: v for n, v in found.items() if not drawn(n)} == {n: expected[n] for n in found if not drawn(n)}


def test_nothing_is_generated_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Responses that the subject has are taken as they are: those of a decoder that follows a strategy for each z."""
    said = subject(*parts(LATENTS["discrete"]), DATA, 0, tmp_path)
    rows = [
        [Generation(p, {"z": k}, 1 / S, TASK.trace(p, s, ";")) for p in said.data.prompts]
        for k, s in enumerate(TASK.strategies)
    ]
    said.__dict__.update(forced=rows, greedy=rows[::-1], sampled=rows[0])

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("generated again")

    monkeypatch.setattr(import_module("stratagem.inference.diagnosis.subject"), "generate", refuse)
    found = meaning(said).figures
    for ending in ("", "_greedy"):
        assert found[f"meaning/alignment{ending}"] == found[f"meaning/coverage{ending}"] == 1
    assert found["meaning/alignment_chance"] == 0
    assert found["skill/accuracy"] == found["skill/accuracy_forced_min"] == 1


def test_centres_have_responses_of_their_own(tmp_path: Path) -> None:
    """Each is drawn by itself, so that centres that are one are no better than chance by drawing alike."""
    said = subject(*parts(LATENTS["continuous"]), DATA, 0, tmp_path)
    asked: list[tuple[float, int]] = []

    class Spy(Subject):
        def generated(self, z: object, temperature: float, draw: int) -> list[Generation]:
            asked.append((temperature, draw))
            return super().generated(z, temperature, draw)

    figures = meaning(Spy(**{name: getattr(said, name) for name in said.__dataclass_fields__})).figures
    forced = [draw for temperature, draw in asked if temperature == 1 and draw >= 10]
    assert len(forced) == len(set(forced)) == figures["meaning/clusters"]


def test_without_a_task_nothing_is_said(tmp_path: Path) -> None:
    said = subject(*parts(LATENTS["discrete"]), DATA, 0, tmp_path)
    assert not meaning(replace(said, task=None)).figures
