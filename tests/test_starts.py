"""Of several starts the best goes on, to the same numbers as if it had been the only one."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from safetensors.torch import load_file
from stratagem.inference.commands import main
from stratagem.inference.fit import METRICS, STATE, Step, fit
from stratagem.inference.held_out import Evaluation
from stratagem.inference.metrics import read_metrics
from stratagem.inference.optim import Optim
from stratagem.inference.settings import FitSettings
from stratagem.inference.starts import FOLDER, SCORES, pick_start
from stratagem.models.pretrained import WEIGHTS

from .fit_fixtures import (
    own_logging,
    save_tiny_base,
    stratagem_process,
    tiny_backbone,
    tiny_data,
    tiny_fit,
    tiny_step,
)

OPTIM = Optim(lr={"conditioning": 0.03, "router": 0.003, "posterior": 0.003}, warmup=2)
SETTINGS = FitSettings(
    steps=12, batch_size=6, eval_every=4, progress=False, starts=3, start_steps=6, revive=0
)


class Starts:
    """Three starts on a tiny base, counted as they begin."""

    def __init__(self) -> None:
        backbone = tiny_backbone()
        self.train, self.test = tiny_data(backbone, 30, seed=1), tiny_data(backbone, 8, seed=2)
        self.begun: list[int] = []

    def make(self, draw: int) -> Step:
        self.begun.append(draw)
        return tiny_step(tiny_backbone(), seed=10 + draw)

    def fit(self, step: Step, run: Path, until: int | None = None) -> None:
        fit(step, self.train, self.test, OPTIM, SETTINGS, 0, run, True, until)

    def score(self, step: Step) -> float:
        held_out = Evaluation(step, self.test, SETTINGS.eval_size, SETTINGS.batch_size)
        return held_out(SETTINGS.start_steps / SETTINGS.steps)["objective"]

    def pick(self, run: Path) -> None:
        begin = partial(self.fit, until=SETTINGS.start_steps)
        pick_start(self.make, begin, self.test, SETTINGS, run)


def lines(run: Path) -> list[dict[str, float]]:
    machine = {"seconds", "peak_memory"}
    return [{k: v for k, v in line.items() if k not in machine} for line in read_metrics(run / METRICS)]


def assert_same_bits(one: Path, other: Path) -> None:
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not a[name].equal(b[name])] == []


def test_the_best_start_goes_on_as_if_it_had_been_alone(tmp_path: Path) -> None:
    three = Starts()
    three.pick(tmp_path / "three")
    found = json.loads((tmp_path / "three" / SCORES).read_text())
    assert found["chosen"] == max(range(3), key=found["scores"].__getitem__)
    assert len(set(found["scores"])) == 3, "otherwise the choice says nothing"
    assert not (tmp_path / "three" / FOLDER).exists()
    three.fit(three.make(0), tmp_path / "three")
    alone = Starts()
    step = alone.make(found["chosen"])
    alone.fit(step, tmp_path / "alone", SETTINGS.start_steps)
    assert alone.score(step) == found["scores"][found["chosen"]]
    alone.fit(step, tmp_path / "alone")
    assert lines(tmp_path / "three") == lines(tmp_path / "alone")
    assert_same_bits(tmp_path / "three" / STATE, tmp_path / "alone" / STATE)
    assert_same_bits(tmp_path / "three" / "model" / WEIGHTS, tmp_path / "alone" / "model" / WEIGHTS)


def test_a_fit_that_stops_on_the_way_is_the_fit_that_does_not(tmp_path: Path) -> None:
    """What is done until the starts are compared is the head of the whole, its schedules included."""
    parts, whole = Starts(), Starts()
    for until in (SETTINGS.eval_every, None):
        parts.fit(parts.make(0), tmp_path / "parts", until)
    whole.fit(whole.make(0), tmp_path / "whole")
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")
    assert_same_bits(tmp_path / "parts" / STATE, tmp_path / "whole" / STATE)


def test_the_score_has_the_weights_of_its_moment(tmp_path: Path) -> None:
    starts, shares = Starts(), list[float]()

    def make(draw: int) -> Step:
        step = starts.make(draw)
        step.register_forward_pre_hook(lambda _step, given: shares.append(given[1]))
        return step

    begin = partial(starts.fit, until=SETTINGS.start_steps)
    pick_start(make, begin, starts.test, SETTINGS, tmp_path)
    assert shares[-1] == SETTINGS.start_steps / SETTINGS.steps == 0.5


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def _own_logging() -> Iterator[None]:
    with own_logging():
        yield


THREE = (
    "fit.steps=36",
    "fit.eval_every=6",
    "fit.starts=3",
    "fit.start_steps=24",
    "role@roles.decoder=lora",
)


@pytest.fixture(scope="module")
def whole(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three starts that nothing has stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    with own_logging():
        main(tiny_fit(base, run, *THREE))
    return run


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "kill"])
@pytest.mark.usefixtures("_own_logging")
def test_a_command_stopped_in_its_second_start_goes_on_to_the_same_run(
    how: signal.Signals, base: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with stratagem_process(tiny_fit(base, run, *THREE)) as process:
        begun = run / FOLDER / "1" / METRICS
        while not begun.is_file() or len(begun.read_bytes().splitlines()) < 8:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.002)
        process.send_signal(how)
        process.communicate(timeout=60)
    assert not (run / STATE).exists()
    main(tiny_fit(base, run, *THREE, "resume=true"))
    assert json.loads((run / SCORES).read_text()) == json.loads((whole / SCORES).read_text())
    assert lines(run) == lines(whole)
    assert_same_bits(run / "model" / WEIGHTS, whole / "model" / WEIGHTS)


def test_one_start_leaves_no_scores(base: Path, tmp_path: Path) -> None:
    with own_logging():
        main(tiny_fit(base, tmp_path / "run", "fit.starts=1", "fit.start_steps=6"))
    assert not (tmp_path / "run" / SCORES).exists()
