"""``stratagem probe``: what the latent space of a run says of the texts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from ...models.pretrained import write_atomic
from ..build import node
from ..experiments.table import comma_separated
from ..figures import write_figure
from ..probes import Probe, space_of
from ..randomness import seeded
from .load import load_for_figures

SHOWN = 40
"""Rows of a table that are printed."""


def run(config: DictConfig) -> None:
    """Print the reading, and write it as ``.json``, ``.csv`` and pictures into ``probes/`` of the run's folder."""
    probe: Probe = instantiate(node(config, "probe"))
    model, guide, data, seed = load_for_figures(config)
    folder = Path(config.run)
    labels = node(config, "labels")
    labels = [labels] if isinstance(labels, str) else labels
    space = space_of(model, guide, data, seed, folder / "data", config.batch_size, config.limit, labels)
    with seeded(seed, model.backbone.device):
        found = probe(space)
    path = folder / "probes" / HydraConfig.get().runtime.choices["probe"]
    path.parent.mkdir(exist_ok=True)
    write_atomic(path.with_suffix(".json"), json.dumps(dict(found.figures), indent=2).encode())
    write_atomic(path.with_suffix(".csv"), comma_separated(found.rows).encode())
    if found.picture is not None:
        write_figure(path, found.picture)
    if found.rows:
        print(table(found.rows[:SHOWN]))
    if len(found.rows) > SHOWN:
        print(f"... {len(found.rows) - SHOWN} more rows in {path.with_suffix('.csv')}")
    width = max(map(len, found.figures), default=0)
    print("\n".join(f"{name:{width}} {value:8.4f}" for name, value in found.figures.items()))


def table(rows: Sequence[Mapping[str, str | float]], width: int = 40) -> str:
    """The rows below their headings, long texts cut."""
    shown = [[_cell(value) for value in row.values()] for row in rows]
    lines = [[cell[:width] for cell in line] for line in ([*rows[0]], *shown)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.3f}".rstrip("0").rstrip(".")
