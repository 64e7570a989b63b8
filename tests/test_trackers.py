"""The cheap figures of a fit, and the trackers that get them beside ``metrics.jsonl``."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import accelerate.tracking
import pytest
import torch
from accelerate import Accelerator, PartialState
from accelerate.tracking import GeneralTracker
from accelerate.utils import LoggerType
from stratagem.guides import AmortizedGuide
from stratagem.inference import trackers as trackers_module
from stratagem.inference.commands import main
from stratagem.inference.corruptions import Denoising
from stratagem.inference.evaluation import posteriors
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.fit import METRICS, Step, fit
from stratagem.inference.gradients import Exact, Gradient, GumbelSoftmax, ScoreFunction
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.loss import Loss
from stratagem.inference.metrics import read_metrics
from stratagem.inference.objectives import ELBO
from stratagem.inference.optim import Optim
from stratagem.inference.schedules import Linear
from stratagem.inference.settings import FitSettings
from stratagem.inference.terms import MutualInformation
from stratagem.inference.trackers import FOLDER, tracked, tracking
from stratagem.models import Batch, Categorical, KeyValuePrefix, LatentLM, PooledRouter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from .fit_fixtures import own_logging, save_tiny_base, tiny_backbone, tiny_data, tiny_fit, tiny_step

STEPS, EVERY = 10, 4
FAST = Optim(lr={"conditioning": 0.03, "router": 0.003, "posterior": 0.003}, warmup=2)


def run_fit(run: Path, *names: str, step: Step | None = None, until: int | None = None) -> None:
    """A fit of ten steps, gone on with where there is one."""
    step = step or tiny_step(tiny_backbone())
    train, test = (tiny_data(step.model.backbone, size, seed=size) for size in (30, 8))
    settings = FitSettings(STEPS, 6, eval_every=EVERY, progress=False, trackers=list(names))
    fit(step, train, test, FAST, settings, 0, run, True, until)


def stop_at(monkeypatch: pytest.MonkeyPatch, call: int, stop: Callable[[], object]) -> None:
    """Does ``stop`` in the given call of a step's forward, those of the evaluations counted."""
    forward, calls = Step.forward, []

    def counted(self: Step, *arguments: Any) -> Loss:
        calls.append(1)
        if len(calls) == call:
            stop()
        return forward(self, *arguments)

    monkeypatch.setattr(Step, "forward", counted)


class Killed(BaseException):
    """Ends the program where it stands."""


def kill() -> None:
    raise Killed


def fail() -> None:
    raise ValueError("the loss is not finite")


STOPS: dict[str, tuple[Callable[[], object], type[BaseException]]] = {
    "interrupted": (partial(signal.raise_signal, signal.SIGINT), KeyboardInterrupt),
    "killed": (kill, Killed),
    "failed": (fail, ValueError),
}

Points = dict[str, list[tuple[int, float]]]


def written(run: Path) -> Points:
    """The figures of ``metrics.jsonl`` as curves."""
    out: Points = {}
    for line in read_metrics(run / METRICS):
        for name, value in line.items():
            if name not in ("split", "step"):
                out.setdefault(f"{line['split']}/{name}", []).append((int(line["step"]), value))
    return out


def assert_same(found: Points, expected: Points) -> None:
    assert found.keys() == expected.keys()
    for name, points in expected.items():
        assert [step for step, _ in found[name]] == [step for step, _ in points], name
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in points], rel=1e-6)


def on_board(run: Path) -> Points:
    """The curves that TensorBoard shows of a run."""
    (folder,) = {path.parent for path in (run / FOLDER).rglob("events.out.tfevents.*")}
    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    return {tag: [(e.step, e.value) for e in board.Scalars(tag)] for tag in board.Tags()["scalars"]}


def test_the_board_has_the_figures_of_the_log(tmp_path: Path) -> None:
    run_fit(tmp_path, "tensorboard")
    assert_same(on_board(tmp_path), written(tmp_path))
    assert {"train/bound", "test/bound", "test/usage/0", "train/weight/information"} <= on_board(
        tmp_path
    ).keys()


@pytest.mark.parametrize("how", sorted(STOPS))
def test_the_board_goes_on_where_the_fit_goes_on(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed or failed in step 8, it goes on from the checkpoint after step 4, and each step is shown once."""
    stop, raised = STOPS[how]
    with monkeypatch.context() as patch:
        stop_at(patch, 10, stop)
        with pytest.raises(raised):
            run_fit(tmp_path, "tensorboard")
    before = on_board(tmp_path)["train/bound"]
    assert [step for step, _ in before] == list(range(1, len(before) + 1))
    assert EVERY < len(before) < STEPS
    run_fit(tmp_path, "tensorboard")
    assert len(list((tmp_path / FOLDER).rglob("events.out.tfevents.*"))) == 2
    assert_same(on_board(tmp_path), written(tmp_path))


def test_a_start_is_not_tracked_and_the_fit_that_goes_on_from_it_is_from_its_first_step(
    tmp_path: Path,
) -> None:
    run_fit(tmp_path, "tensorboard", until=EVERY)
    assert not (tmp_path / FOLDER).exists()
    run_fit(tmp_path, "tensorboard")
    assert [step for step, _ in on_board(tmp_path)["train/bound"]] == list(range(1, STEPS + 1))
    assert_same(on_board(tmp_path), written(tmp_path))


class Fake(GeneralTracker):
    """Keeps what it is told, as Weights & Biases and its like would on their server."""

    name = "fake"
    requires_logging_directory = False
    made: list[Fake]

    def __init__(self, project: str, /, **settings: Any) -> None:
        super().__init__()
        assert project == "stratagem"
        self.settings = settings
        self.points: Points = {}
        self.finished = 0
        self.made.append(self)

    @property
    def tracker(self) -> Any:
        return SimpleNamespace(
            id=f"run-{len(self.made)}", info=SimpleNamespace(run_id=f"run-{len(self.made)}")
        )

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        assert step is not None
        for name, value in values.items():
            self.points.setdefault(name, []).append((step, value))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[Fake]]:
    """Puts a fake in the place of a tracker: all that are made of it."""

    def put(name: str) -> list[Fake]:
        kind = type("FakeTracker", (Fake,), {"name": name, "made": []})
        monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, name, kind)
        monkeypatch.setattr(accelerate.tracking, "_available_trackers", [LoggerType(name)])
        return kind.made

    return put


@pytest.mark.parametrize("how", sorted(STOPS))
def test_a_tracker_is_closed_however_the_fit_ends(
    how: str, fake: Callable[[str], list[Fake]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake("wandb")
    stop, raised = STOPS[how]
    with monkeypatch.context() as patch:
        stop_at(patch, 3, stop)
        with pytest.raises(raised):
            run_fit(tmp_path, "wandb")
    assert [tracker.finished for tracker in made] == [1]
    run_fit(tmp_path, "wandb")
    assert [tracker.finished for tracker in made] == [1, 1]


@pytest.mark.parametrize(("name", "key"), [("wandb", "id"), ("mlflow", "run_id"), ("dvclive", None)])
def test_a_tracker_goes_on_with_its_run_or_is_told_all_of_it(
    name: str,
    key: str | None,
    fake: Callable[[str], list[Fake]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = fake(name)
    with monkeypatch.context() as patch:
        stop_at(patch, 10, STOPS["interrupted"][0])
        with pytest.raises(KeyboardInterrupt):
            run_fit(tmp_path, name)
    run_fit(tmp_path, name)
    first, second = made
    whole = written(tmp_path)
    if key is None:
        assert_same(second.points, whole)
        return
    assert first.settings[key] is None
    assert second.settings[key] == "run-1"
    together = {tag: first.points.get(tag, []) + second.points.get(tag, []) for tag in whole}
    assert_same(together, whole)


def test_only_the_main_process_writes(
    fake: Callable[[str], list[Fake]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fake("wandb")
    accelerator = Accelerator(cpu=True, **tracked(["wandb"], tmp_path))
    monkeypatch.setattr(PartialState, "is_main_process", property(lambda _: False))
    monkeypatch.setattr(PartialState, "use_distributed", property(lambda _: True))
    with tracking(accelerator, tmp_path, 0, []) as send:
        send("train", 1, {"bound": -1.0})
    assert made == []
    assert list(tmp_path.iterdir()) == []


def test_without_trackers_nothing_is_left(tmp_path: Path) -> None:
    run_fit(tmp_path)
    assert not (tmp_path / FOLDER).exists()


def test_a_tracker_that_does_not_start_is_named(
    fake: Callable[[str], list[Fake]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("wandb")

    def refuse(_: Fake) -> None:
        raise RuntimeError("not logged in")

    monkeypatch.setattr(Fake, "start", refuse)
    with pytest.raises(ValueError, match=r"fit\.trackers: one of wandb did not start: not logged in"):
        run_fit(tmp_path, "wandb")
    assert read_metrics(tmp_path / METRICS) == []


def test_a_tracker_that_is_not_installed_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["stratagem"])
    monkeypatch.setattr(trackers_module, "get_available_trackers", list)
    words = tiny_fit(save_tiny_base(tmp_path / "base"), tmp_path / "run", "fit.trackers=[wandb]")
    with own_logging(), pytest.raises(SystemExit, match="1"):
        main(words)
    assert "fit.trackers: wandb is not installed; run pip install wandb" in "".join(capfd.readouterr())
    assert not (tmp_path / "run" / METRICS).exists()


def test_a_tracker_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"fit\.trackers: no tracker 'tensorbord'; there are .*tensorboard"):
        FitSettings(trackers=["tensorbord"])


def test_the_divergences_from_the_router_are_those_of_the_evaluation() -> None:
    step = tiny_step(tiny_backbone())
    data = tiny_data(step.model.backbone, 6)
    with torch.no_grad():
        for name, weight in step.all_parts["guide"].named_parameters():
            if "head" in name:
                weight.normal_(0, 0.5)
    loss = step(data.batch(range(6)))
    seen = posteriors(step.model, step.guide, data)
    assert loss.kl_router is not None
    assert loss.information is not None
    assert not any(found.requires_grad for found in (loss.kl_router, loss.information))
    assert seen.kl_router.min() > 1e-4
    torch.testing.assert_close(loss.kl_router, seen.kl_router, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss.information, seen.information, rtol=1e-4, atol=1e-6)


class Watched(ELBO):
    """Keeps the log-quantities that it is asked of."""

    seen: LogQuantities

    def bound(self, log: LogQuantities) -> torch.Tensor:
        self.seen = log
        return super().bound(log)


def sampled(gradient: Gradient) -> tuple[Watched, Step, Batch]:
    torch.manual_seed(0)
    backbone = tiny_backbone()
    model = LatentLM(backbone, {"z": Categorical(3)}, PooledRouter, partial(KeyValuePrefix, length=2))
    objective = Watched()
    inference = Inference(objective, Sample(4), gradient)
    return objective, Step(model, AmortizedGuide(model), inference), tiny_data(backbone, 4).batch(range(4))


def test_of_draws_the_divergence_is_their_mean_and_relaxed_ones_have_none() -> None:
    objective, step, batch = sampled(ScoreFunction())
    loss = step(batch)
    expected = (objective.seen.log_q - objective.seen.log_prior).mean(0)
    assert loss.kl_router is not None
    torch.testing.assert_close(loss.kl_router, expected.detach())
    assert loss.information is None
    _, step, batch = sampled(GumbelSoftmax())
    assert step(batch).kl_router is None
    with torch.no_grad():
        assert step(batch).kl_router is not None


def test_the_log_has_what_each_schedule_gives_at_its_step(tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = tiny_backbone()
    model = LatentLM(backbone, {"z": Categorical(3)}, PooledRouter, partial(KeyValuePrefix, length=2))
    inference = Inference(
        ELBO(Linear(0.0, 1.0, until=0.5)),
        Enumerate(),
        Exact(),
        {"information": MutualInformation(Linear(0.3, 0.1))},
        {"noise": Denoising(0.25)},
    )
    run_fit(tmp_path, step=Step(model, AmortizedGuide(model), inference))
    curves = written(tmp_path)
    shares = [step / STEPS for step in range(STEPS)]
    expected = {
        "beta": [min(1.0, 2 * share) for share in shares],
        "information": [0.3 - 0.2 * share for share in shares],
        "noise": [0.25] * STEPS,
    }
    assert {name for name in curves if "/weight/" in name} == {f"train/weight/{name}" for name in expected}
    for name, values in expected.items():
        assert [value for _, value in curves[f"train/weight/{name}"]] == pytest.approx(values)
    assert {"train/kl_router", "test/kl_router", "train/information", "test/information"} <= curves.keys()
