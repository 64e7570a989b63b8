"""The fit loop: what it raises, what it leaves when it is stopped, and that it goes on to the same numbers."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stratagem.guides import AmortizedGuide
from stratagem.inference import fit as fit_module
from stratagem.inference.checkpoint import Progress, load_checkpoint, save_checkpoint
from stratagem.inference.commands import main
from stratagem.inference.dataset import Dataset
from stratagem.inference.expectations import Sample
from stratagem.inference.fit import METRICS, STATE, Step, fit
from stratagem.inference.gradients import Pathwise
from stratagem.inference.inference import Inference
from stratagem.inference.loss import Loss
from stratagem.inference.metrics import read_metrics
from stratagem.inference.objectives import ELBO
from stratagem.inference.optim import Optim, part_of
from stratagem.inference.settings import FitSettings
from stratagem.models import Batch, Categorical, KeyValuePrefix, LatentLM, Normal, PooledRouter, Tagged
from stratagem.models.backbone import Full, Lora, low_precision
from stratagem.models.pretrained import WEIGHTS
from torch import Tensor

from .fit_fixtures import (
    marginal,
    own_logging,
    save_tiny_base,
    stratagem_process,
    tiny_backbone,
    tiny_data,
    tiny_fit,
    tiny_step,
)

FAST = Optim(lr={"conditioning": 0.03, "router": 0.003, "posterior": 0.003}, warmup=2)
STEPS, EVERY, SIZE = 10, 4, 6

Rows = list[dict[str, Any]]


def run_fit(
    step: Step,
    folder: Path,
    resume: bool = False,
    optim: Optim = FAST,
    data: tuple[int, int] = (30, 8),
    **settings: Any,
) -> Progress:
    """A fit of a few steps, on data that depend on nothing but their number."""
    backbone = step.model.backbone
    train, test = tiny_data(backbone, data[0], seed=1), tiny_data(backbone, data[1], seed=2)
    all_settings = {"steps": STEPS, "batch_size": SIZE, "eval_every": EVERY, "progress": False} | settings
    return fit(step, train, test, optim, FitSettings(**all_settings), 0, folder, resume)


def sampled_step() -> Step:
    """A continuous latent under a sampled objective, whose numbers depend on the random state."""
    torch.manual_seed(0)
    backbone = tiny_backbone()
    model = LatentLM(backbone, {"z": Normal(2)}, PooledRouter, partial(KeyValuePrefix, length=2))
    return Step(model, AmortizedGuide(model), Inference(ELBO(), Sample(2), Pathwise()))


MAKE: dict[str, Callable[[], Step]] = {
    "marginal": lambda: tiny_step(tiny_backbone()),
    "sampled": sampled_step,
}


def metrics(folder: Path) -> Rows:
    """The lines without what the machine says."""
    cost = ("seconds", "peak_memory")
    return [{k: v for k, v in line.items() if k not in cost} for line in read_metrics(folder / METRICS)]


def assert_same_bits(one: Path, other: Path) -> None:
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


class Killed(BaseException):
    """Ends the program where it stands, as a SIGKILL would: nobody catches it to save anything."""


def stop_at(monkeypatch: pytest.MonkeyPatch, call: int, stop: Callable[[], None]) -> None:
    """Does ``stop`` in the given call of a step's forward, those of the evaluations counted."""
    forward, calls = Step.forward, []

    def counted(self: Step, *arguments: Any) -> Loss:
        calls.append(1)
        if len(calls) == call:
            stop()
        return forward(self, *arguments)

    monkeypatch.setattr(Step, "forward", counted)


def kill() -> None:
    raise Killed


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for name, make in MAKE.items():
        folders[name] = tmp_path_factory.mktemp(name)
        run_fit(make(), folders[name])
    return folders


@pytest.mark.parametrize("call", [2, 4, 6, 9, 14], ids=lambda call: f"call {call}")
@pytest.mark.parametrize("how", ["interrupted", "killed"])
@pytest.mark.parametrize("kind", sorted(MAKE))
def test_a_fit_that_was_stopped_goes_on_to_the_same_numbers(
    kind: str,
    how: str,
    call: int,
    uninterrupted: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before the first checkpoint, in an evaluation, between checkpoints and in the last evaluation."""
    stop = kill if how == "killed" else partial(signal.raise_signal, signal.SIGINT)
    with monkeypatch.context() as patch:
        stop_at(patch, call, stop)
        with pytest.raises(Killed if how == "killed" else KeyboardInterrupt):
            run_fit(MAKE[kind](), tmp_path)
    assert len(metrics(tmp_path)) < len(metrics(uninterrupted[kind])) or how == "interrupted"
    step = MAKE[kind]()
    run_fit(step, tmp_path, resume=True)
    assert metrics(tmp_path) == metrics(uninterrupted[kind])
    assert_same_bits(tmp_path / "model" / WEIGHTS, uninterrupted[kind] / "model" / WEIGHTS)
    assert_same_bits(tmp_path / STATE, uninterrupted[kind] / STATE)


@pytest.mark.parametrize("kind", sorted(MAKE))
def test_a_fit_killed_between_its_best_weights_and_its_state_goes_on_to_the_same_numbers(
    kind: str, uninterrupted: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []

    def save(*arguments: Any) -> None:
        saved.append(1)
        if len(saved) == 2:
            raise Killed
        save_checkpoint(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "save_checkpoint", save)
        with pytest.raises(Killed):
            run_fit(MAKE[kind](), tmp_path)
    run_fit(MAKE[kind](), tmp_path, resume=True)
    assert metrics(tmp_path) == metrics(uninterrupted[kind])
    assert_same_bits(tmp_path / "model" / WEIGHTS, uninterrupted[kind] / "model" / WEIGHTS)


def test_the_two_ways_of_fitting_differ_from_seed_to_seed(uninterrupted: dict[str, Path]) -> None:
    """Otherwise the same numbers above would say nothing."""
    for folder in uninterrupted.values():
        bounds = [line["bound"] for line in metrics(folder) if line["split"] == "train"]
        assert len(set(bounds)) == STEPS


def test_an_interrupt_gives_the_signals_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stop_at(monkeypatch, 2, partial(signal.raise_signal, signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt, match=r"after step 2; the state is in .*state\.safetensors"):
        run_fit(MAKE["marginal"](), tmp_path)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def _own_logging() -> Iterator[None]:
    with own_logging():
        yield


LONG = ("fit.steps=40", "fit.eval_every=5")
OBJECTIVES = {"marginal": (), "elbo_pathwise": ("inference=elbo_pathwise", "latent@latents.z=normal")}


def wait_for_lines(process: subprocess.Popen[str], path: Path, num: int) -> None:
    while not path.is_file() or len(path.read_bytes().splitlines()) < num:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("objective", "number", "status"),
    [("marginal", signal.SIGINT, 130), ("elbo_pathwise", signal.SIGKILL, -signal.SIGKILL)],
    ids=["Ctrl-C", "kill"],
)
@pytest.mark.usefixtures("_own_logging")
def test_a_stopped_command_goes_on_to_the_same_run(
    objective: str, number: signal.Signals, status: int, base: Path, tmp_path: Path
) -> None:
    words = partial(tiny_fit, base)
    run, whole, more = tmp_path / "run", tmp_path / "whole", (*LONG, *OBJECTIVES[objective])
    with stratagem_process(words(run, *more)) as process:
        wait_for_lines(process, run / METRICS, 7)
        process.send_signal(number)
        said = process.communicate(timeout=60)[0]
    assert process.returncode == status, said
    assert "Traceback" not in said
    done = sum(line["split"] == "train" for line in read_metrics(run / METRICS))
    assert 5 < done < 40
    if number == signal.SIGINT:
        assert f"interrupted after step {done}; the state is in" in said
    main(words(run, *more, "resume=true"))
    main(words(whole, *more))
    assert metrics(run) == metrics(whole)
    assert_same_bits(run / "model" / WEIGHTS, whole / "model" / WEIGHTS)
    figures = [json.loads((folder / "evaluation.json").read_text()) for folder in (run, whole)]
    assert figures[0] == figures[1]


def weights_of(step: Step) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in step.named_parameters() if p.requires_grad}


def test_parts_of_a_batch_add_up_to_the_batch(tmp_path: Path) -> None:
    found, norms = [], []
    for parts in (1, 2, 3):
        step = tiny_step(tiny_backbone(dtype=torch.float64))
        start = weights_of(step)
        run_fit(step, tmp_path / str(parts), accumulate=parts)
        found.append(weights_of(step))
        lines = metrics(tmp_path / str(parts))
        norms.append([line["gradient_norm"] for line in lines if line["split"] == "train"])
    assert any((found[0][name] - start[name]).abs().max() > 0.01 for name in start)
    for other, norm in zip(found[1:], norms[1:], strict=True):
        assert norm == pytest.approx(norms[0], rel=1e-6)
        for name, weight in found[0].items():
            torch.testing.assert_close(other[name], weight, rtol=0, atol=1e-6)


def test_an_evaluation_draws_the_same_each_time_and_takes_nothing_from_the_fit() -> None:
    step = sampled_step()
    evaluation = fit_module.Evaluation(step, tiny_data(step.model.backbone, 8, seed=2), 200, SIZE)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert evaluation() == evaluation()
    assert torch.equal(torch.get_rng_state(), before)


class Poisoned(Step):
    """One whose weights turn to NaN in the given call."""

    def __init__(self, step: Step, call: int) -> None:
        super().__init__(step.model, step.guide, step.inference)
        self.calls, self.call = 0, call

    def forward(self, batch: Batch, share: float = 1.0, held: Tensor | None = None) -> Loss:
        self.calls += 1
        if self.calls == self.call:
            self.last = batch.index
            with torch.no_grad():
                self.model.conditionings["z"].shift.fill_(math.nan)
        return super().forward(batch, share, held)


def test_a_loss_that_is_not_finite_stops_the_fit_and_keeps_the_last_checkpoint(
    tmp_path: Path, uninterrupted: dict[str, Path]
) -> None:
    step = Poisoned(MAKE["marginal"](), EVERY + 2 + 2)
    with pytest.raises(ValueError, match=r"the loss of step 6 is nan") as caught:
        run_fit(step, tmp_path)
    index = step.last.tolist()
    prompts = tiny_data(tiny_backbone(), 30, seed=1).prompts
    assert f"on the data {index}" in str(caught.value)
    assert repr(prompts[index[0]]) in str(caught.value)
    assert f"the last good checkpoint is {tmp_path / STATE}" in str(caught.value)
    sound = MAKE["marginal"]()
    progress = load_checkpoint(tmp_path / STATE, sound.parts, FAST.optimizer(sound.all_parts))
    assert progress.step == EVERY
    assert all(weight.isfinite().all() for weight in weights_of(sound).values())
    run_fit(MAKE["marginal"](), tmp_path, resume=True)
    assert_same_bits(tmp_path / "model" / WEIGHTS, uninterrupted["marginal"] / "model" / WEIGHTS)


def test_a_loss_that_is_not_finite_at_once_leaves_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"loss of step 1 is nan.*no checkpoint had been written yet"):
        run_fit(Poisoned(MAKE["marginal"](), 1), tmp_path)
    assert not (tmp_path / STATE).exists()


def test_a_held_out_objective_that_is_not_finite_stops_the_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"held-out objective after step 8 is nan; the last good checkpoint"):
        run_fit(Poisoned(MAKE["marginal"](), 2 * EVERY + 2 + 1), tmp_path)
    tensors = load_file(tmp_path / STATE)
    assert all(t.isfinite().all() for t in tensors.values() if t.is_floating_point())


def test_the_fit_stops_when_nothing_gets_better_and_stays_stopped(tmp_path: Path) -> None:
    still = Optim(lr=dict.fromkeys(("conditioning", "router", "posterior", "other", "backbone"), 0.0))
    settings = {"steps": 50, "eval_every": 2, "patience": 3, "revive": 0.0, "optim": still}
    progress = run_fit(MAKE["marginal"](), tmp_path, **settings)
    assert (progress.step, progress.stale) == (2 + 3 * 2, 3)
    lines = metrics(tmp_path)
    again = run_fit(MAKE["marginal"](), tmp_path, resume=True, **settings)
    assert again.step == progress.step
    assert metrics(tmp_path) == lines


@pytest.mark.parametrize("patience", [0, 100])
def test_the_best_weights_stay_with_patience_and_the_last_without(tmp_path: Path, patience: int) -> None:
    """With a rate at which the objective goes down in the end."""
    step = tiny_step(tiny_backbone())
    optim = Optim(lr={"conditioning": 0.5}, warmup=1)
    progress = run_fit(step, tmp_path, steps=24, eval_every=2, optim=optim, patience=patience, revive=0.0)
    objectives = [line["objective"] for line in metrics(tmp_path) if line["split"] == "test"]
    assert max(objectives) > objectives[-1]
    kept = fit_module.Evaluation(step, tiny_data(step.model.backbone, 8, seed=2), 200, SIZE)()
    assert kept["objective"] == progress.best == (max(objectives) if patience else objectives[-1])


def test_fitting_raises_the_objective_from_a_bad_start(tmp_path: Path) -> None:
    step = tiny_step(tiny_backbone(), init_scale=2.0)
    step.inference = marginal(information=0.1)
    test = tiny_data(step.model.backbone, 8, seed=2)
    evaluation = fit_module.Evaluation(step, test, 200, SIZE)
    before = evaluation()
    near = 0.5  # nats a token from the base
    assert before["fidelity_gap_per_token"] > near, "it must be bad at the start"
    optim = Optim(lr={"conditioning": 0.1}, warmup=2)
    run_fit(step, tmp_path, steps=150, eval_every=50, batch_size=16, data=(200, 8), optim=optim)
    after = evaluation()
    assert after["fidelity_gap_per_token"] < near
    assert after["objective"] > before["objective"] + 1
    gap = tiny_log_base(step, test) - after["bound"]
    assert after["fidelity_gap_per_token"] * mean_length(test) == pytest.approx(gap, abs=1e-4)


def tiny_log_base(step: Step, data: Dataset) -> float:
    batch = data.batch(range(len(data)))
    with torch.no_grad():
        return float(step.model.base(batch).log_prob(batch.response).mean())


def mean_length(data: Dataset) -> float:
    return sum(len(example.response) for example in data.examples) / len(data)


def test_half_precision_runs_and_stays_close(uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    step = MAKE["marginal"]()
    run_fit(step, tmp_path, mixed_precision="bf16")
    assert all(weight.dtype == torch.float32 for weight in weights_of(step).values())
    half, full = metrics(tmp_path), metrics(uninterrupted["marginal"])
    for a, b in zip(half, full, strict=True):
        assert a["bound"] == pytest.approx(b["bound"], rel=0.05)
    assert half[0]["bound"] != full[0]["bound"], "the low precision must have been on"
    assert half[-1]["bound"] > half[EVERY]["bound"] - 0.5


def test_half_precision_is_the_networks_and_not_that_of_the_laws() -> None:
    step = MAKE["marginal"]()
    batch = tiny_data(tiny_backbone(), 5).batch(range(5))
    with low_precision(step, True):
        law = step.model.router(batch)["z"]
        assert law.logits.dtype == torch.float32
        torch.testing.assert_close(law.logits.logsumexp(-1), torch.zeros(5), atol=1e-6, rtol=0)
    assert not step.model.backbone.low_precision


@pytest.mark.parametrize(
    "roles", [{}, {"posterior": Lora(rank=2)}, {"decoder": Full()}], ids=["-", "lora", "full"]
)
def test_the_base_law_is_the_same_to_the_last_bit_after_a_fit(roles: dict[str, Any], tmp_path: Path) -> None:
    backbone = tiny_backbone(roles)
    step, batch = tiny_step(backbone), tiny_data(backbone, 5).batch(range(5))
    with torch.no_grad():
        before = step.model.base(batch).log_prob(batch.response)
    start = weights_of(step)
    run_fit(step, tmp_path, optim=Optim())
    assert all((weight - start[name]).abs().max() > 0 for name, weight in weights_of(step).items())
    with torch.no_grad():
        assert torch.equal(step.model.base(batch).log_prob(batch.response), before)


def test_each_weight_has_its_part() -> None:
    backbone = tiny_backbone({"router": Lora(rank=2), "decoder": Full()})
    model = LatentLM(backbone, {"z": Categorical(3)}, PooledRouter, KeyValuePrefix, Tagged)
    step = Step(model, AmortizedGuide(model, pooling="attention"), marginal())
    groups = {group["part"]: group["params"] for group in Optim().optimizer(step.parts).param_groups}
    expected = {
        "conditioning": [*model.conditionings["z"].parameters(recurse=False), model.template.delimiters],
        "router": list(model.routers["z"].reader.head.parameters()),
        "backbone": [p for p in backbone.parameters() if p.requires_grad],
        "posterior": [
            p for name, p in step.guide.named_parameters() if p.requires_grad and "backbone" not in name
        ],
    }
    assert {k: {id(p) for p in v} for k, v in groups.items()} == {
        k: {id(p) for p in v} for k, v in expected.items()
    }
    assert part_of("model.own.weight") == "other"


def test_the_rate_rises_and_falls_as_told_and_goes_on_where_it_stopped() -> None:
    step, optim = MAKE["marginal"](), Optim(lr={"conditioning": 0.1}, warmup=4, floor=0.1)

    def rates(done: int, num: int) -> list[float]:
        optimizer = optim.optimizer(step.parts)
        schedule = optim.schedule(optimizer, 20, done)
        found = []
        for _ in range(num):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    whole = rates(0, 20)
    assert whole[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1])
    assert all(a > b for a, b in itertools.pairwise(whole[4:]))
    assert whole[12] == pytest.approx(0.1 * (0.1 + 0.9 * 0.5))
    assert rates(20, 1)[0] == pytest.approx(0.01)
    for done in (1, 4, 11):
        assert rates(done, 20 - done) == whole[done:]


def test_what_frozen_roles_compute_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    step = tiny_step(tiny_backbone())
    data, fresh = tiny_data(step.model.backbone, 9), tiny_data(step.model.backbone, 9)
    data.keep_features(step.parts, torch.device("cpu"), size=4)
    assert len(data.features) == 2, "one of the router and one of the guide"
    index = [7, 0, 3]
    kept, anew = data.batch(index), fresh.batch(index)
    for reader in (step.model.routers["z"].reader, step.guide.readers["z"]):
        torch.testing.assert_close(reader.features(kept), reader.features(anew))
        assert reader.name in kept.features
    torch.testing.assert_close(step(kept).surrogate, step(anew).surrogate)
    calls: list[str] = []
    backbone = step.model.backbone
    run = type(backbone).hidden_layers
    monkeypatch.setattr(
        type(backbone),
        "hidden_layers",
        lambda *a, **k: calls.append(a[1]) or run(*a, **k),
    )
    step(kept)
    assert calls == []
    step(anew)
    assert calls == ["router", "posterior"]


def test_what_is_read_alike_is_read_once_and_lands_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    step = tiny_step(tiny_backbone())
    one, other, third = tiny_data(step.model.backbone, 3).examples
    longer = replace(one, response=(*one.response, *other.response))
    examples = [longer, other, one, other, third, replace(one, response=third.response), longer]
    data = Dataset(examples, [""] * 7, [""] * 7, step.model.backbone.pad_id)
    alone = [data.batch([i]) for i in range(7)]
    for reader, different in ((step.model.routers["z"].reader, 3), (step.guide.readers["z"], 5)):
        anew = torch.cat([reader.features(batch) for batch in alone])
        rows: list[int] = []
        features = type(reader).features
        monkeypatch.setattr(
            type(reader), "features", lambda r, b, f=features, n=rows: n.append(len(b)) or f(r, b)
        )
        torch.testing.assert_close(data.pooled(reader, torch.device("cpu"), size=2), anew)
        monkeypatch.undo()
        assert sum(rows) == different


def test_what_a_role_computes_that_trains_is_not_kept() -> None:
    step = tiny_step(tiny_backbone({"router": Lora(rank=2), "posterior": Full()}))
    data = tiny_data(step.model.backbone, 4)
    data.keep_features(step.parts, torch.device("cpu"))
    assert data.features == {}


def test_features_of_a_response_go_with_it() -> None:
    """A guide must not read the features of a response that is no longer there."""
    step = tiny_step(tiny_backbone())
    data = tiny_data(step.model.backbone, 4)
    data.keep_features(step.parts, torch.device("cpu"))
    batch = data.batch([0, 1]).without_response()
    with pytest.raises(ValueError, match="no response"):
        step.guide(batch)


@pytest.mark.parametrize(("num", "size"), [(12, 4), (10, 4), (3, 8)])
def test_each_datum_comes_once_an_epoch(num: int, size: int) -> None:
    data = tiny_data(tiny_backbone(), num)
    epochs = 4 * size
    steps = epochs * num // size
    drawn = [i for step in range(steps) for i in data.index_at(step, size, seed=3)]
    orders = [drawn[start : start + num] for start in range(0, len(drawn), num)]
    assert len(orders) == epochs
    assert all(sorted(order) == list(range(num)) for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    torch.manual_seed(99)
    assert [data.index_at(step, size, seed=3) for step in reversed(range(steps))] == [
        drawn[step * size : (step + 1) * size] for step in reversed(range(steps))
    ]
    assert drawn != [i for step in range(steps) for i in data.index_at(step, size, seed=4)]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"steps": 0}, r"fit\.steps must be at least 1, got 0"),
        ({"batch_size": -1}, r"fit\.batch_size must be at least 1"),
        ({"batch_size": 8, "accumulate": 3}, r"fit\.batch_size=8 must be a multiple of fit\.accumulate=3"),
        ({"patience": -1}, r"fit\.patience must be at least 0, got -1"),
        ({"mixed_precision": "fp8"}, r"fit\.mixed_precision must be no or bf16, got fp8"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        FitSettings(**settings)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lr": {"rooter": 0.1}}, "unknown part rooter; the parts are conditioning"),
        ({"lr": {"router": -0.1}}, r"router=-0\.1"),
        ({"lr": {"router": math.nan}}, "router=nan"),
        ({"floor": 2.0}, r"floor=2\.0"),
        ({"clip": -1.0}, r"clip=-1\.0"),
    ],
)
def test_an_optimizer_out_of_range_is_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Optim(**settings)


@pytest.mark.usefixtures("_own_logging")
def test_two_processes_fit_the_same_weights_as_one(base: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    slow = "optim.lr.router=0.0003"  # Adam turns the rounding of a gradient near zero into steps of this size
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    stratagem = str(Path(sys.executable).with_name("stratagem"))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*launch, "--no-python", stratagem, *tiny_fit(base, two, slow)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    main(tiny_fit(base, one, slow))
    a, b = load_file(one / "model" / WEIGHTS), load_file(two / "model" / WEIGHTS)
    assert a.keys() == b.keys()
    for name, weight in a.items():
        torch.testing.assert_close(b[name], weight, rtol=0, atol=1e-5)
    tests = [[line["bound"] for line in metrics(run) if line["split"] == "test"] for run in (one, two)]
    assert tests[0] == pytest.approx(tests[1], abs=1e-5)
