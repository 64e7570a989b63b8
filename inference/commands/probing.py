"""Probes by name, and their answers for the report of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import matplotlib as mpl
import torch
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import ListConfig

from ..build import node
from ..diagnosis.pictures.style import STYLE
from ..diagnosis.report import Answer
from ..probes import Probe, Space
from ..randomness import seeded

GROUP = "probe"


def probes_named(asked: Any) -> dict[str, Probe | ValueError]:
    """The probes of these names with the settings of their YAMLs, or why one cannot be made of these.

    Args:
        asked: a name, a list of names, or None.

    Raises:
        ValueError: a name that no YAML of the group has.
    """
    names = [str(name) for name in (asked if isinstance(asked, ListConfig) else [asked]) if name is not None]
    if not names:
        return {}
    known = GlobalHydra.instance().config_loader().get_group_options(GROUP, ObjectType.CONFIG)
    for name in names:
        if name not in known:
            raise ValueError(f"probes: no probe {name}; there are {', '.join(known)}")
    return {name: _made(name) for name in names}


def _made(name: str) -> Probe | ValueError:
    try:
        probe: Probe = instantiate(node(compose(GROUP, [f"{GROUP}={name}"]), GROUP))
    except InstantiationException as error:
        if isinstance(error.__cause__, ValueError):
            return error.__cause__
        raise
    return probe


def answers(
    probes: Mapping[str, Probe | ValueError],
    space: Space,
    seed: int,
    device: torch.device,
    begins: Callable[[str], object],
) -> list[Answer]:
    """What each probe says of a space, or why it says nothing.

    Args:
        probes: by name, as :func:`probes_named` gives them.
        space: of the run.
        seed: of the draws, the same for each.
        device: of the model.
        begins: is told the name of each when it begins.
    """
    found = []
    for name, probe in probes.items():
        begins(f"{GROUP} {name}")
        found.append(_answer(name, probe, space, seed, device))
    return found


def _answer(name: str, probe: Probe | ValueError, space: Space, seed: int, device: torch.device) -> Answer:
    if isinstance(probe, ValueError):
        return Answer(name, refusal=str(probe))
    about = " ".join((type(probe).__doc__ or "").partition("\n\n")[0].split())
    try:
        with seeded(seed, device), mpl.rc_context(STYLE):
            reading = probe(space)
    except ValueError as error:
        return Answer(name, about, refusal=str(error))
    figures = {
        f"{GROUP}/{name}/{key.removeprefix(f'{name}/')}": value for key, value in reading.figures.items()
    }
    return Answer(name, about, figures, reading.rows, reading.picture)
