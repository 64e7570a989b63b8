"""The command that prunes a run, on a tiny one whose strategies are told apart by their weights."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from stratagem.inference import refit
from stratagem.inference.commands import main
from stratagem.inference.commands import prune as module
from stratagem.inference.comparison import read_run
from stratagem.inference.fit import METRICS, STATE, fit
from stratagem.inference.metrics import read_metrics
from stratagem.models.pretrained import WEIGHTS

from .fit_fixtures import Command, own_logging, save_tiny_base, tiny_fit

Say = Callable[..., str]

SMALL = (
    "latents.z.K=5",
    "fit.steps=8",
    "fit.start_steps=3",
    "fit.starts=1",
    "fit.revive=0",
    "router.width=0",
)

UNUSED = -20.0
"""Logit of a strategy that the router never takes."""

SCALE = 4.0
"""Of conditionings under which a random LM says something else on most prompts."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def say(command: Command) -> Say:
    """Runs a command in this process; what it says, on either stream."""

    def run(*words: object, status: int = 0) -> str:
        said = command(*words)
        assert said.status == status, said.out
        return said.out

    return run


@pytest.fixture
def prune(say: Say) -> Say:
    """The command on a run."""
    return lambda folder, *more, status=0: say("prune", f"run={folder}", "device=cpu", *more, status=status)


@pytest.fixture(scope="module")
def fitted(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fitted") / "run"
    with own_logging():
        main(tiny_fit(base, folder, *SMALL))
    return folder


def set_weights(folder: Path, same: tuple[int, int] | None = None, unused: int | None = None) -> None:
    """Five strategies that do what they do by weights drawn at random, but for two that do the same."""
    path = folder / "model" / WEIGHTS
    weights = load_file(path)
    rows = weights["model.conditionings.z.weight"]
    rows.copy_(SCALE * torch.randn(rows.shape, generator=torch.Generator().manual_seed(1)))
    for head in ("model.routers.z.reader.head.0", "guide.readers.z.head.0"):
        weights[f"{head}.weight"].zero_()
        weights[f"{head}.bias"].zero_()
    if same:
        rows[same[1]] = rows[same[0]]
        weights["model.routers.z.reader.head.0.bias"][same[0]] = 0.1
    if unused is not None:
        weights["model.routers.z.reader.head.0.bias"][unused] = UNUSED
    save_file(weights, path)


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    """A run of five strategies, of which 1 and 3 do the same, and 0 is not used."""
    shutil.copytree(fitted, tmp_path / "run")
    set_weights(tmp_path / "run", same=(1, 3), unused=0)
    return tmp_path / "run"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def assert_same_bits(one: Path, other: Path) -> None:
    a, b = load_file(one), load_file(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not a[name].equal(b[name])] == []


def test_a_run_of_the_number_found(run: Path, prune: Say) -> None:
    figures = read(run / "evaluation.json")
    summary = "5 strategies: 1+3, 0 unused; 3 left"
    said = prune(run)
    assert f"{summary}; the last 3 steps of the fit again" in said
    assert re.search(r"fidelity/kl_per_token +-?[\d.]+ -> -?[\d.]+", said)
    out = run / "pruned"
    told = read(out / "prune.json")
    assert (told["summary"], told["found"], told["groups"]) == (summary, 3, [[1, 3], [2], [4]])
    assert told["agreement"][1][3] == 1.0
    assert max(told["agreement"][j][k] for j, k in ((1, 2), (1, 4), (2, 4))) < 0.9
    assert told["usage"][0] < 0.02
    after, beside = read(out / "evaluation.json"), read(run / "evaluation.json")
    assert after["prune/found"] == beside["prune/found"] == 3
    assert "use/usage/2" in after
    assert "use/usage/3" not in after
    assert len(told["before"]) == len(told["after"]) > 4
    assert told["before"].items() <= figures.items()
    assert told["after"].items() <= after.items()
    own = {name: value for name, value in after.items() if name != "prune/found"}
    assert beside == figures | {"prune/found": 3.0} | {f"pruned/{name}": value for name, value in own.items()}


def test_the_end_of_the_fit_is_made_again(run: Path, prune: Say) -> None:
    prune(run, "steps=2")
    out = run / "pruned"
    old, new = ([x for x in read_metrics(f / METRICS) if x["split"] == "train"] for f in (run, out))
    assert [line["step"] for line in new] == [7, 8]
    rates = [[line["lr/conditioning"] for line in lines] for lines in (old[6:], new)]
    assert rates[0] == rates[1]
    before, after = (OmegaConf.to_container(OmegaConf.load(folder / "config.yaml")) for folder in (run, out))
    for config in (before, after):
        assert config["latents"]["z"]["K"] == config["model"]["latents"]["z"].pop("K")
    assert (before["latents"]["z"].pop("K"), after["latents"]["z"].pop("K")) == (5, 3)
    assert (before.pop("run"), after.pop("run")) == (OmegaConf.load(run / "config.yaml").run, str(out))
    assert before == after


def test_other_commands_take_the_pruned_run(whole: Path, tmp_path: Path, say: Say) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    said = say("generate", f"run={out}", "prompt=sort 3 1 2 5 4 :", "z=all", "max_new_tokens=4", "device=cpu")
    assert re.findall(r"^z=(\d)", said, re.MULTILINE) == ["0", "1", "2"]
    figures = read(out / "evaluation.json")
    assert read_run(out).figures.items() > figures.items()
    say("evaluate", f"run={out}", "device=cpu")
    assert read(out / "evaluation.json") == {n: v for n, v in figures.items() if n != "prune/found"}
    say("position", f"run={out}", "device=cpu", "limit=4")
    assert (out / "position.csv").is_file()


def test_a_folder_of_ones_own(run: Path, tmp_path: Path, prune: Say) -> None:
    out = tmp_path / "elsewhere"
    assert f"written to {out}" in prune(run, f"out={out}", "recoding=false")
    assert not (run / "pruned").exists()
    assert read(out / "prune.json")["settings"] == {
        "agreement": 0.9,
        "recoding": False,
        "least": 0.1,
        "steps": None,
        "limit": 300,
    }


def test_what_is_there_is_told_again(run: Path, prune: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prune(run)
    made = contents(run)
    monkeypatch.setattr(module, "find", None)
    assert prune(run).splitlines()[-1] == first.splitlines()[-1] == f"written to {run / 'pruned'}"
    assert contents(run) == made


def test_another_run_in_the_way_is_left(run: Path, prune: Say) -> None:
    prune(run)
    made = contents(run)
    for more in (["agreement=0.8"], ["limit=15"], [f"out={run}"]):
        assert "there is another run in this folder" in prune(run, *more, status=1)
    assert contents(run) == made
    set_weights(run)
    assert "there is another run in this folder" in prune(run, status=1)
    assert contents(run / "pruned") == {
        name.removeprefix("pruned/"): content for name, content in made.items() if name.startswith("pruned/")
    }


@pytest.fixture(scope="module")
def whole(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pruned run of a run like ``run``."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    shutil.copytree(fitted, folder)
    set_weights(folder, same=(1, 3), unused=0)
    with own_logging():
        main(["prune", f"run={folder}", "device=cpu"])
    return folder / "pruned"


@pytest.mark.parametrize("where", ["the fit", "evaluate", "write_config"])
def test_stopped_on_the_way_it_is_made_again_to_the_same(
    where: str, run: Path, whole: Path, tmp_path: Path, prune: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where what was stopped was of another run."""
    shutil.copytree(run, tmp_path / "other")
    set_weights(tmp_path / "other", same=(2, 4), unused=3)
    out = tmp_path / "out"

    def stop(*given: Any, **named: Any) -> None:
        if where == "the fit":
            fit(*given, **named, until=7)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(*((refit, "fit") if where == "the fit" else (module, where)), stop)
        prune(tmp_path / "other", f"out={out}", status=130)
    assert (out / STATE).is_file()
    assert not (out / "config.yaml").exists()
    prune(run, f"out={out}")
    for name in (f"model/{WEIGHTS}", STATE):
        assert_same_bits(out / name, whole / name)
    assert read(out / "evaluation.json") == read(whole / "evaluation.json")
    assert len(read_metrics(out / METRICS)) == len(read_metrics(whole / METRICS))


@pytest.mark.parametrize(
    ("until", "more", "mend"),
    [(1.0, (), "Fit anew with latents.z.K=3"), (0.5, ("steps=5",), "Pass steps=4")],
)
def test_what_clusters_lead_is_not_made_again(
    until: float, more: tuple[str, ...], mend: str, run: Path, prune: Say
) -> None:
    config = OmegaConf.load(run / "config.yaml")
    weight = {"_target_": "stratagem.inference.schedules.Linear", "start": 1.0, "end": 0.0, "until": until}
    config.inference.terms.distillation = {
        "_target_": "stratagem.inference.terms.Distillation",
        "partition": {"_target_": "stratagem.inference.partitions.HiddenStates"},
        "weight": weight if until < 1 else 1.0,
    }
    OmegaConf.save(config, run / "config.yaml")
    said = prune(run, *more, status=1)
    assert re.search(
        f"3 left; but up to {8 * (1 - until):.0f} steps .* clusters of 5 parts .* {mend}", said
    ), said
    assert not (run / "pruned/config.yaml").exists()


def test_where_nothing_is_to_prune_the_run_is_carried_over(
    run: Path, prune: Say, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_weights(run)
    monkeypatch.setattr(module, "refit", None)
    figures = read(run / "evaluation.json")
    assert "5 strategies: nothing to prune; 5 left" in prune(run)
    out = run / "pruned"
    told = read(out / "prune.json")
    assert told["found"] == 5
    assert told["before"] == told["after"]
    assert read(out / "evaluation.json") == figures | {"prune/found": 5.0}
    for name in (f"model/{WEIGHTS}", "model/config.json", METRICS):
        assert (out / name).read_bytes() == (run / name).read_bytes()
    say("evaluate", f"run={out}", "limit=4", "device=cpu")


def test_where_one_is_left_the_run_stays_as_it_was(
    run: Path, prune: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run / "model" / WEIGHTS
    weights = load_file(path)
    weights["model.conditionings.z.weight"][:] = weights["model.conditionings.z.weight"][:1].clone()
    save_file(weights, path)
    monkeypatch.setattr(module, "refit", None)
    assert "1 left, which is the base itself: the run stays as it was" in prune(run)
    assert read(run / "pruned/prune.json")["found"] == 1
    assert (run / "pruned/model" / WEIGHTS).read_bytes() == path.read_bytes()


def test_a_fit_can_prune_at_its_end(base: Path, tmp_path: Path, say: Say, prune: Say) -> None:
    """What the command makes of the run."""
    folder, again = tmp_path / "run", tmp_path / "again"
    said = say(*tiny_fit(base, folder, *SMALL, "fit.start_cost=0", "fit.prune=true"))
    assert "; the last 3 steps of the fit again" in said
    assert 1 < read(folder / "pruned/prune.json")["found"] < 5
    assert re.search(r"5 strategies: .* left", (folder / "log.txt").read_text())
    prune(folder, f"out={again}")
    assert_same_bits(again / "model" / WEIGHTS, folder / "pruned/model" / WEIGHTS)
    assert read(again / "evaluation.json") == read(folder / "pruned/evaluation.json")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["+latent@latents.w=categorical"], r"expected one categorical latent.*z \(Categorical\), w \(Cat"),
        (["latent@latents.z=normal", "inference=elbo_pathwise"], r"the model has z \(Normal\)"),
        (["inference=led"], "clusters of as many parts as there are strategies lead the fit to its end"),
    ],
)
def test_a_fit_that_cannot_be_pruned_is_refused_before_its_first_step(
    words: list[str], named: str, base: Path, tmp_path: Path, say: Say
) -> None:
    said = say(*tiny_fit(base, tmp_path / "run", "fit.prune=true", *words), status=1)
    assert re.search(named, said), said
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["agreement=2"], "agreement must be above 0 and at most 1, got 2.0"),
        (["agreement=much"], "agreement: Value 'much'"),
        (["recoding=perhaps"], "recoding: Value 'perhaps'"),
        (["steps=9"], "steps=9: the fit of run=.* had 8"),
        (["limit=0"], "limit=0: expected a whole number, at least 1"),
        (["batch_size=true"], "batch_size=True: expected a whole number"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_a_line(
    more: list[str], named: str, run: Path, prune: Say
) -> None:
    said = prune(run, *more, status=1)
    assert len(said.splitlines()) == 1
    assert re.search(named, said), said
    assert not (run / "pruned").exists()


def test_a_run_that_has_not_ended_is_refused(run: Path, prune: Say) -> None:
    (run / "evaluation.json").unlink()
    assert "no evaluation.json; end the fit, or run stratagem evaluate" in prune(run, status=1)
    assert not (run / "pruned").exists()
