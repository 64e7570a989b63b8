"""A run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from ..models.pretrained import write_atomic

CONFIG_FILE = "config.yaml"

CHOICES = "choices"
"""In a run's config, the option that was chosen for each group."""

FREE = ("run", "resume")
"""Settings that may differ between a run and its continuation."""


def check_run(config: DictConfig, folder: Path) -> None:
    """Refuse a folder that a new run would overwrite, or a continuation that is none.

    Raises:
        ValueError: a run that is there already, one to continue that is not, or one with other settings.
    """
    path = folder / CONFIG_FILE
    if not config.resume:
        if path.is_file():
            raise ValueError(
                f"run={folder}: there is a run in this folder; pass resume=true to go on with it, or another run="
            )
        return
    saved = read_config(folder)
    asked = OmegaConf.to_container(config, resolve=True)
    kept = OmegaConf.to_container(saved, resolve=True)
    assert isinstance(asked, dict)
    assert isinstance(kept, dict)
    changed = [str(key) for key in asked if key not in FREE and asked[key] != kept.get(key)]
    if changed:
        raise ValueError(
            f"resume=true: {changed[0]} is {asked[changed[0]]}, but {folder} was started with "
            f"{kept.get(changed[0])}; give the settings that the run was started with, or start another run"
        )


def write_config(config: DictConfig, folder: Path, choices: Mapping[str, str]) -> None:
    """Keep the resolved config, and the options that it was composed of under ``choices``."""
    settings = OmegaConf.to_container(config, resolve=True)
    assert isinstance(settings, dict)
    own = {group: option for group, option in choices.items() if not group.startswith("hydra/")}
    write_atomic(folder / CONFIG_FILE, OmegaConf.to_yaml(settings | {CHOICES: own}).encode())


def read_config(folder: str | Path) -> DictConfig:
    """The resolved config of a run.

    Raises:
        ValueError: no run there.
    """
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise ValueError(f"run={folder}: no run there; expected {path}, written by stratagem fit")
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    return config
