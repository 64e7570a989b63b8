"""How the fit went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..diagnostic import Diagnosis
from .style import COLOURS, MARKERS, NARROW, WIDE, panels, plain, styled

CURVES = (
    ("bound (nats per sequence)", ("bound",)),
    ("KL(q || router) (nats per sequence)", ("kl_router",)),
    ("information (nats per sequence)", ("information", "term/information")),
    ("log p0 - bound (nats per token)", ("fidelity_gap_per_token",)),
)
"""Of each panel its axis and the names that its curve may have in ``metrics.jsonl``, the first that is there."""

USAGE, WEIGHT = "usage/", "weight/"

WINDOWS = 100
"""Points of a curve over the batches, each the mean of a stretch."""

Records = Sequence[Mapping[str, Any]]


@styled
def course(diagnosis: Diagnosis) -> Figure | None:
    """A panel for each curve that was logged: batches of training, smoothed, and held-out data."""
    records = diagnosis.course
    known = [
        (heading, name)
        for heading, names in CURVES
        if (name := next((n for n in names if any(n in record for record in records)), None))
    ]
    families = [
        (names, heading, split)
        for heading, split, names in (
            ("usage of each strategy", "test", _family(records, USAGE)),
            ("weights that are scheduled", "train", _moving(records, _family(records, WEIGHT))),
        )
        if names
    ]
    count = len(known) + len(families)
    if not count:
        return None
    across = {1: 1, 2: 2, 4: 2}.get(count, 3)
    down = -(-count // across)
    figure, axes = panels(across, WIDE if across > 1 else NARROW, 2.7 * down + 0.3, down)
    for panel, (heading, name) in zip(axes, known, strict=False):
        _curve(panel, records, name)
        panel.set_ylabel(heading)
    for panel, (names, heading, split) in zip(axes[len(known) :], families, strict=False):
        _together(panel, records, names, split)
        panel.set_ylabel(heading)
    for panel in axes[:count]:
        panel.set_xlabel("step")
        panel.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    for panel in axes[count:]:
        panel.remove()
    found = [panel.get_legend_handles_labels() for panel in axes[: len(known)]]
    keys = {label: key for both in found for key, label in zip(*both, strict=True)}
    if keys:
        figure.legend(list(keys.values()), list(keys), loc="outside upper left", ncols=len(keys))
    return figure


def _curve(panel: Axes, records: Records, name: str) -> None:
    train, test = (_points(records, split, name) for split in ("train", "test"))
    if len(train):
        panel.plot(*_smooth(train), color=COLOURS[7], linewidth=1, label="training batches")
    if len(test):
        panel.plot(*test.T, color=COLOURS[0], marker="o", label="held-out data")


def _together(panel: Axes, records: Records, names: Sequence[str], split: str) -> None:
    """Curves of one family, named where they are few."""
    for place, name in enumerate(names):
        points, look = _points(records, split, name), place % len(COLOURS)
        marker = MARKERS[look] if split == "test" else None
        panel.plot(*points.T, color=COLOURS[look], marker=marker, label=plain(name.partition("/")[2]))
    panel.set_ylim(min(0.0, panel.get_ylim()[0]))
    if len(names) <= len(COLOURS):
        panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, columnspacing=1.0, borderaxespad=0.2)


def _family(records: Records, start: str) -> list[str]:
    names = {
        name
        for record in records
        for name, value in record.items()
        if name.startswith(start) and np.isfinite(value)
    }
    return sorted(names, key=lambda name: (len(name), name))


def _moving(records: Records, names: Sequence[str]) -> list[str]:
    """Those that are not the same throughout, and beta, which is told even where it is."""
    return [
        name for name in names if name == f"{WEIGHT}beta" or np.ptp(_points(records, "train", name)[:, 1]) > 0
    ]


def _points(records: Records, split: str, name: str) -> np.ndarray:
    """Steps and finite values, ``(T, 2)``."""
    found = [(r["step"], r[name]) for r in records if r.get("split") == split and name in r]
    points = np.array(found, float).reshape(-1, 2)
    return points[np.isfinite(points).all(1)]


def _smooth(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over :data:`WINDOWS` stretches at most."""
    parts = np.array_split(points, min(WINDOWS, len(points)))
    steps, values = np.array([part.mean(0) for part in parts]).T
    return steps, values
