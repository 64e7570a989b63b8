"""The mixture of all tasks, their YAMLs, and a base that is trained on them."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from stratagem.inference.build import node
from stratagem.inference.commands import main
from stratagem.inference.data import TaskData
from stratagem.inference.pretrain import TaskReport
from stratagem.tasks import Addition, Mixture, Sorting, StepTask, Task

from .fit_fixtures import own_logging
from .task_fixtures import CLASSES, UNEQUAL, as_given, assert_frequencies, resized


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], r"different words, got \[\]"),
        ([Sorting(), Sorting(4)], r"different words, got \['sorting', 'sorting'\]"),
        ([Sorting(), Addition(nuisances=("a", "b"))], "same nuisances .*sorting ; |, addition a b"),
    ],
)
def test_what_a_mixture_refuses(parts: list[StepTask], says: str) -> None:
    with pytest.raises(ValueError, match=f"^task all: expected .*{says}"):
        Mixture(parts)


@pytest.mark.parametrize("prompt", ["", "sing a song :"])
def test_a_prompt_of_no_task_of_a_mixture(prompt: str) -> None:
    with pytest.raises(ValueError, match="no prompt of a task here; expected one that begins with sort, add"):
        Mixture([Sorting(), Addition()]).admissible(prompt)


def test_a_mixture_is_its_tasks() -> None:
    mixture, rng = Mixture(resized(), (3, 1, 1, 1, 1, 1)), random.Random(0)
    drawn = [mixture.draw_prompt(rng) for _ in range(2000)]
    shares = dict(zip(mixture.tasks, (3 / 8, *[1 / 8] * 5), strict=True))
    assert_frequencies(Counter(p.split()[0] for p in drawn), shares)
    for prompt in drawn[:100]:
        part = mixture.tasks[prompt.split()[0]]
        assert mixture.task_of(prompt) is part
        assert mixture.law(prompt) == part.law(prompt)
        assert mixture.entropy(prompt) == part.entropy(prompt)
        law = part.admissible(prompt)
        assert mixture.admissible(prompt) == {f"{part.name}/{s}": p for s, p in law.items()}
        for strategy in law:
            assert mixture.trace(prompt, f"{part.name}/{strategy}", "|") == part.trace(prompt, strategy, "|")
    assert sum(mixture.strategy_weights) == pytest.approx(1)
    assert mixture.nuisance_weights == pytest.approx(UNEQUAL)
    own = {f"{part.name}/{s}" for part in mixture.tasks.values() for s in part.strategies}
    assert set(mixture.strategies) == own
    assert {len(part.strategies) for part in mixture.tasks.values()} == {4}


def composed(*overrides: str) -> Task:
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        return instantiate(node(compose("pretrain", list(overrides)), "task"))


@pytest.mark.parametrize("made", CLASSES)
def test_a_yaml_says_the_defaults_of_its_class(made: type[StepTask]) -> None:
    task, default = composed(f"task={made.name}"), made()
    assert type(task) is made
    assert vars(task) == vars(default)


def test_the_yaml_of_all_has_every_task_and_can_be_changed() -> None:
    task = composed("task=all", "task.tasks.sorting.length=4", "task.weights=[5,1,1,1,1,1]")
    assert isinstance(task, Mixture)
    assert {type(part) for part in task.tasks.values()} == set(CLASSES)
    assert task.weights[0] == 0.5
    assert vars(task.tasks["sort"])["length"] == 4


def test_data_of_the_mixture() -> None:
    texts = TaskData(Mixture(as_given()), num_train=60, num_test=20, responses="task").texts("train", 0)
    assert all(r in Mixture(as_given()).law(p) for p, r in zip(texts.prompts, texts.responses, strict=True))


def test_a_base_is_trained_on_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["stratagem"])
    sizes = ["size.hidden=16", "size.layers=1", "size.heads=2", "context=48", "rows=2", "test_size=6"]
    with own_logging():
        main(["pretrain", f"run={tmp_path}", "steps=2", "device=cpu", *sizes])
    card = (tmp_path / "README.md").read_text()
    for task in as_given():
        assert f"`{task.prompts(1, 'test', 0)[0]}` ({task.name})" in card
        assert all(f"| {task.name} | {strategy} |" in card for strategy in task.strategies)


def test_the_loss_above_a_floor_of_nothing_is_infinite() -> None:
    assert TaskReport(0.1, 0.0, 1.0, {}).excess == math.inf
    assert TaskReport(1.1, 1.0, 1.0, {}).excess == pytest.approx(0.1)
