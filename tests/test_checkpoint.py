"""What is saved comes back to the last bit, what does not belong is refused, and nothing is written half."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from stratagem.guides import AmortizedGuide
from stratagem.inference.checkpoint import Progress, load_checkpoint, save_checkpoint
from stratagem.inference.fit import Step
from stratagem.inference.inference_data import write_inference_data
from stratagem.inference.metrics import MetricsLog, read_metrics
from stratagem.inference.optim import Optim
from stratagem.models import (
    Backbone,
    Categorical,
    KeyValuePrefix,
    LatentLM,
    Lora,
    Normal,
    PooledRouter,
    SlotTokens,
    Tagged,
    UniformPrior,
    load_backbone,
)
from stratagem.models.pretrained import (
    CONFIG,
    WEIGHTS,
    describe,
    load_pretrained,
    read_tensors,
    trainable_state,
    write_atomic,
    write_tensors,
)
from stratagem.models.spec import build, spec_of
from stratagem.tasks import write_rows
from torch import Tensor
from torch.optim import AdamW

from .fit_fixtures import WORDS, save_tiny_base, tiny_backbone, tiny_data, tiny_step


class Disk:
    """What ``az.InferenceData`` is to :func:`write_inference_data`, on a disk with room for half of it."""

    def to_netcdf(self, path: str, **_: Any) -> None:
        Path(path).write_bytes(b"half")
        raise full()


def full() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


WRITERS: dict[str, Callable[[Path], None]] = {
    "bytes": lambda path: write_atomic(path, b"new"),
    "tensors": lambda path: write_tensors(path, {"w": torch.ones(3)}),
    "rows": lambda path: write_rows(path.with_suffix(".csv"), [{"a": 1}]),
    "metrics": lambda path: MetricsLog(path, after=0) and None,
}


def fails(*_: Any, **__: Any) -> None:
    raise full()


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("kind", sorted(WRITERS))
def test_a_full_disk_leaves_the_file_as_it_was(
    kind: str, call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("file", "file.csv"):
        (tmp_path / name).write_text('{"old": 1, "step": 0}\n')
    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match="No space left"):
        WRITERS[kind](tmp_path / "file")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("file", "file.csv"), '{"old": 1, "step": 0}\n'
    )


def test_a_full_disk_leaves_the_posterior_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "posterior.nc"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"):
        write_inference_data(path, Disk())
    assert [p.name for p in tmp_path.iterdir()] == ["posterior.nc"]
    assert path.read_bytes() == b"old"


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from stratagem.inference.checkpoint import Progress, save_checkpoint
path = Path(sys.argv[1])
module = torch.nn.Linear(2, 2)
optimizer = torch.optim.AdamW(module.parameters())
def save(step):
    torch.nn.init.constant_(module.weight, step)
    save_checkpoint(path, {"model": module}, optimizer, Progress(step))
save(1)
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
save(2)
"""


def test_a_process_killed_while_it_saves_leaves_the_previous_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 2, "it must have been killed between the write and the rename"
    module = torch.nn.Linear(2, 2)
    progress = load_checkpoint(path, {"model": module}, AdamW(module.parameters()))
    assert progress == Progress(1)
    assert (module.weight == 1).all()


def test_metrics_that_a_killed_process_left_half_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path, after=0)
    for step in (1, 2, 3):
        log.write("train", step, {"bound": -1.5})
    path.write_text(path.read_text() + '{"split": "train", "step": 4, "bo')
    assert [line["step"] for line in read_metrics(path)] == [1, 2, 3]
    MetricsLog(path, after=2).write("train", 3, {"bound": -1.0})
    assert [line["bound"] for line in read_metrics(path)] == [-1.5, -1.5, -1.0]


def steps(step: Step, optimizer: AdamW, num: int) -> None:
    data = tiny_data(step.model.backbone, 6)
    for _ in range(num):
        step(data.batch(range(6))).surrogate.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_checkpoint_restores_weights_optimizer_and_random_state(tmp_path: Path) -> None:
    path, optim = tmp_path / "state.safetensors", Optim(lr={"conditioning": 0.1})
    first = tiny_step(tiny_backbone())
    optimizer = optim.optimizer(first.parts)
    steps(first, optimizer, 3)
    torch.manual_seed(17)
    save_checkpoint(path, first.parts, optimizer, Progress(3, -2.5, 1))
    drawn = torch.rand(5)
    second = tiny_step(tiny_backbone(), seed=1)
    other = optim.optimizer(second.parts)
    assert load_checkpoint(path, second.parts, other) == Progress(3, -2.5, 1)
    assert torch.equal(torch.rand(5), drawn)
    assert same(trainable_state(first.parts), trainable_state(second.parts))
    steps(first, optimizer, 2)
    steps(second, other, 2)
    assert same(trainable_state(first.parts), trainable_state(second.parts))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    step = tiny_step(tiny_backbone())
    save_checkpoint(path, step.parts, Optim().optimizer(step.parts), Progress())
    shape = tiny_step(tiny_backbone(), K=4)
    with pytest.raises(
        ValueError, match=r"state.safetensors: its weights do not fit .*guide\.readers\.z\.head"
    ):
        load_checkpoint(path, shape.parts, Optim().optimizer(shape.parts))
    names = tiny_step(tiny_backbone({"decoder": Lora(rank=2)}))
    with pytest.raises(ValueError, match=r"do not fit the model; .*lora_A\.decoder"):
        load_checkpoint(path, names.parts, Optim().optimizer(names.parts))


def test_files_that_are_no_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="no such file; expected weights saved by stratagem"):
        read_tensors(path)
    write_tensors(path, {"w": torch.ones(100)})
    whole = path.read_bytes()
    for content in (whole[:-8], whole[:5], b"", pickle.dumps({"w": torch.ones(3)})):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            read_tensors(path)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"), WORDS)


@pytest.fixture(scope="module")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("other"), WORDS, seed=1)


def rich(base: Path, dtype: str = "float32") -> LatentLM:
    """Two latents of different families in the slot of the tagged template, adapters in two roles."""
    backbone = load_backbone(str(base), {"decoder": Lora(rank=2), "posterior": Lora(rank=3)}, dtype)
    latents = {"z": Categorical(3), "style": Normal(2)}
    entry = partial(SlotTokens, length=3)
    model = LatentLM(
        backbone, latents, partial(PooledRouter, pooling="attention"), entry, partial(Tagged, strength=0.5)
    )
    numbers = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in trainable_state({"model": model}).values():
            weight.add_(0.2 * torch.randn(weight.shape, generator=numbers))
    return model


def laws(model: LatentLM, guide: AmortizedGuide | None = None) -> list[Tensor]:
    """Log-densities of router, decoder, base and guide at fixed values."""
    data = tiny_data(tiny_backbone(), 5)
    batch = data.batch(range(5))
    z = {"z": torch.tensor([0, 1, 2, 1, 0]), "style": torch.linspace(-1, 1, 10).reshape(5, 2)}
    found = [law.log_prob(z[name]) for name, law in model.router(batch).items()]
    found += [lm.log_prob(batch.response) for lm in (model.decoder(batch, z), model.base(batch))]
    if guide is not None:
        found += [law.log_prob(z[name]) for name, law in guide.posterior(batch).items()]
    return found


@torch.no_grad()
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_comes_back_to_the_last_bit(dtype: str, base: Path, tmp_path: Path) -> None:
    model = rich(base, dtype)
    model.save_pretrained(tmp_path / "saved")
    torch.manual_seed(3)
    before = torch.get_rng_state()
    again = LatentLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(torch.get_rng_state(), before)
    assert same(trainable_state({"m": model}), trainable_state({"m": again}))
    for one, other in zip(laws(model), laws(again), strict=True):
        assert torch.equal(one, other)
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == [CONFIG, WEIGHTS]
    names = load_file(tmp_path / "saved" / WEIGHTS)
    assert not [
        name for name in names if name.endswith(("q_proj.weight", "base_layer.weight", "embed_tokens.weight"))
    ]


@torch.no_grad()
def test_a_run_brings_its_guide(base: Path, tmp_path: Path) -> None:
    model = rich(base)
    guide = AmortizedGuide(model, pooling="attention", width=5)
    for weight in guide.parameters():
        if weight.requires_grad:
            weight.add_(0.1)
    model.save_pretrained(tmp_path)
    about = json.loads((tmp_path / CONFIG).read_text())
    about["guide"] = {"_target_": "stratagem.guides.AmortizedGuide", "pooling": "attention", "width": 5}
    run = tmp_path / "run" / "model"
    write_atomic(run / CONFIG, json.dumps(about).encode())
    write_tensors(run / WEIGHTS, trainable_state({"model": model, "guide": guide}))
    again, its_guide = load_pretrained(tmp_path / "run")
    for one, other in zip(laws(model, guide), laws(again, its_guide), strict=True):
        assert torch.equal(one, other)


class Plain(LatentLM):
    """A class of one's own, made as :class:`LatentLM` is."""


def test_a_class_of_ones_own_is_not_turned_into_another(base: Path, tmp_path: Path) -> None:
    Plain(load_backbone(str(base)), {"z": Categorical(2)}, UniformPrior, KeyValuePrefix).save_pretrained(
        tmp_path
    )
    with pytest.raises(ValueError, match=r"built by .*Plain, which is no class of stratagem"):
        Plain.from_pretrained(tmp_path)
    assert type(Plain.from_pretrained(tmp_path, trust_remote_code=True)) is Plain
    rich(base).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a LatentLM, expected a Plain"):
        Plain.from_pretrained(tmp_path)


def test_another_base_is_refused_naming_both(base: Path, other_base: Path, tmp_path: Path) -> None:
    model = rich(base)
    model.save_pretrained(tmp_path)
    theirs = load_backbone(str(other_base)).fingerprint
    with pytest.raises(ValueError, match="trained on the base") as caught:
        LatentLM.from_pretrained(tmp_path, lm=str(other_base))
    for part in (str(base), str(other_base), model.backbone.fingerprint, theirs):
        assert part in str(caught.value)


@torch.no_grad()
def test_a_base_that_was_moved_is_found_where_one_says(base: Path, tmp_path: Path) -> None:
    model = rich(base)
    model.save_pretrained(tmp_path / "saved")
    about = json.loads((tmp_path / "saved" / CONFIG).read_text())
    about["lm"]["name"] = str(tmp_path / "gone")
    write_atomic(tmp_path / "saved" / CONFIG, json.dumps(about).encode())
    with pytest.raises(ValueError, match="gone"):
        LatentLM.from_pretrained(tmp_path / "saved")
    again = LatentLM.from_pretrained(tmp_path / "saved", lm=str(base))
    for one, other in zip(laws(model), laws(again), strict=True):
        assert torch.equal(one, other)


def test_a_folder_without_a_model_of_ours_is_refused(base: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere", base):
        with pytest.raises(ValueError, match=r"no saved latent model there; expected .*model/config\.json"):
            LatentLM.from_pretrained(folder)


FOREIGN = [
    "os.mkdir",
    "stratagem.models.pretrained.os.mkdir",
    "stratagem.models.load_backbone",
    "stratagem.models.spec.build",
    "stratagem.models.pretrained.write_atomic",
    "stratagem.models.pretrained.Path",
    "stratagem.nothing.there",
    "stratagemevil.Model",
]


@pytest.mark.parametrize("target", FOREIGN)
@pytest.mark.parametrize("place", ["model", "latents", "roles", "guide"])
def test_nothing_foreign_is_run_unasked(target: str, place: str, base: Path, tmp_path: Path) -> None:
    model = rich(base)
    model.save_pretrained(tmp_path)
    about = json.loads((tmp_path / CONFIG).read_text())
    node = {"_target_": target, "path": str(tmp_path / "evil")}
    if place == "roles":
        about["lm"]["roles"]["router"] = node
    elif place == "latents":
        about["model"]["latents"]["z"] = node
    else:
        about[place] = node
    write_atomic(tmp_path / CONFIG, json.dumps(about).encode())
    with pytest.raises(ValueError, match=f"built by {target}, .*; pass trust_remote_code=true"):
        load_pretrained(tmp_path)
    assert not (tmp_path / "evil").exists()


def test_what_is_foreign_runs_where_it_is_asked_for(tmp_path: Path) -> None:
    build({"_target_": "os.mkdir", "path": str(tmp_path / "made")}, trust_remote_code=True)
    assert (tmp_path / "made").is_dir()


def make_router(backbone: Backbone, latent: Any) -> UniformPrior:
    return UniformPrior(backbone, latent)


class Forgetful:
    """Keeps not what it was made with."""

    def __init__(self, size: int) -> None:
        self._size = size


@pytest.mark.parametrize(
    ("factory", "named"),
    [
        (
            lambda backbone, latent: UniformPrior(backbone, latent),
            r"<lambda>: expected a class or functools\.partial",
        ),
        (make_router, r"make_router: expected a class or functools\.partial"),
        (partial(UniformPrior, None), "only keyword arguments of a partial"),
        (partial(PooledRouter, width=Forgetful(3)), "Forgetful: keeps no attribute size"),
    ],
    ids=["lambda", "function", "positional", "forgetful"],
)
def test_factories_that_cannot_be_built_again_are_refused_before_anything_is_written(
    factory: Any, named: str, tmp_path: Path
) -> None:
    model = LatentLM(tiny_backbone(), {"z": Categorical(2)}, UniformPrior, KeyValuePrefix)
    model._factories["router"] = factory
    with pytest.raises(ValueError, match=named):
        model.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_description_builds_what_it_describes(base: Path) -> None:
    model = rich(base)
    about = describe(model.backbone, None, None)["lm"]
    assert about["name"] == str(base)
    made = {name: build(node) for name, node in about["roles"].items()} | dict(build(spec_of(model.latents)))
    kept = dict(model.backbone.roles) | dict(model.latents)
    assert {k: (type(v), vars(v)) for k, v in made.items()} == {
        k: (type(v), vars(v)) for k, v in kept.items()
    }
