"""Saving and loading a latent model beside the base it belongs to."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .backbone import Backbone, load_backbone
from .spec import build, spec_of

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def trainable_state(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Every trainable weight, shared ones once, and every buffer outside the base, by ``<module>.<name>``."""
    both = nn.ModuleDict(modules)
    weights = {name: p for name, p in both.named_parameters() if p.requires_grad}
    return weights | {name: b for name, b in both.named_buffers() if ".backbone." not in name}


def load_state(modules: Mapping[str, nn.Module], saved: Mapping[str, Tensor], origin: str) -> None:
    """Copy saved weights into the modules.

    Raises:
        ValueError: weights that are missing, left over or of another shape.
    """
    own = trainable_state(modules)
    wrong = sorted(set(own) ^ set(saved)) or sorted(n for n in own if own[n].shape != saved[n].shape)
    if wrong:
        raise ValueError(f"{origin}: its weights do not fit the model; the first that differs is {wrong[0]}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(saved[name])


def write_atomic(path: Path, content: bytes) -> None:
    """Write aside and rename, so that a reader sees the old file or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """A safetensors file, written atomically."""
    flat = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    write_atomic(path, save(flat, dict(metadata or {})))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        ValueError: no such file, or not a safetensors file.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file; expected weights saved by stratagem")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error


def describe(backbone: Backbone, model: Any, guide: Any) -> dict[str, Any]:
    """What ``config.json`` holds: the base by name and digest, and the nodes that build model and guide."""
    return {
        "lm": {
            "name": backbone.name,
            "revision": backbone.revision,
            "dtype": str(backbone.dtype).removeprefix("torch."),
            "fingerprint": backbone.fingerprint,
            "roles": spec_of(backbone.roles),
        },
        "model": model,
        "guide": guide,
    }


def model_folder(run: str | Path) -> Path:
    """The folder with the weights: ``run/model`` of a run, or ``run`` itself.

    Raises:
        ValueError: neither has a ``config.json`` of ours.
    """
    for folder in (Path(run) / "model", Path(run)):
        if (folder / CONFIG).is_file() and "lm" in json.loads((folder / CONFIG).read_text()):
            return folder
    raise ValueError(
        f"run={run}: no saved latent model there; expected {Path(run) / 'model' / CONFIG}; {_unfinished(Path(run))}"
    )


def _unfinished(folder: Path) -> str:
    """What to do about a folder, a run's or that of its model, that lacks something."""
    if any((part / "config.yaml").is_file() for part in (folder, folder.parent)):
        return "its fit has not ended, go on with it by its command and resume=true"
    return "pass a folder made by stratagem fit"


def load_pretrained(
    run: str | Path, lm: str | None = None, device: str = "cpu", trust_remote_code: bool = False
) -> tuple[Any, Any]:
    """Model and guide of a run or of a folder made by ``save_pretrained``; the guide is None where none was saved.

    Args:
        run: the folder.
        lm: where the base lies now, if it was moved.
        device: where to.
        trust_remote_code: allow a base or programs that bring their own code.

    Raises:
        ValueError: nothing there, another base than the one it was trained on, or weights that do not fit.
    """
    folder = model_folder(run)
    config = json.loads((folder / CONFIG).read_text())
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder}: no {WEIGHTS}; {_unfinished(folder)}")
    saved, _ = read_tensors(folder / WEIGHTS)
    about = dict(config["lm"])
    name, fingerprint, roles = lm or about["name"], about["fingerprint"], about["roles"]
    with torch.random.fork_rng(devices=[]):
        made = {role: build(node) for role, node in roles.items()}
        try:
            backbone = load_backbone(name, made, about["dtype"], about["revision"], trust_remote_code, device)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{folder}: its base {name} cannot be loaded; pass lm= with where it lies now ({error})"
            ) from error
        if backbone.fingerprint != fingerprint:
            raise ValueError(
                f"{folder}: trained on the base {about['name']} (digest {fingerprint}), but {name} is another "
                f"(digest {backbone.fingerprint}); pass lm= with the base it belongs to"
            )
        model = build(config["model"], trust_remote_code, backbone=backbone)
        guide = None if config["guide"] is None else build(config["guide"], trust_remote_code, model=model)
    modules = {"model": model} | ({} if guide is None else {"guide": guide})
    for module in modules.values():
        module.to(device)
    load_state(modules, saved, str(folder))
    return model, guide
