"""Small experiments, and a fit of no time."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stratagem.inference.experiments import Cell, Experiment, OverSeeds
from stratagem.inference.experiments.record import RECORD

FAKE = """
import json, os, signal, sys, time
from pathlib import Path

command, *words = sys.argv[1:]
given = dict(word.split("=", 1) for word in words)
folder = Path(given["run"])
threads = os.environ.get("OMP_NUM_THREADS")
with (folder / "calls.jsonl").open("a") as file:
    file.write(json.dumps({"command": command, "given": given, "threads": threads}) + "\\n")
if command != "fit":
    sys.exit(f"{command} has broken" if (folder / "break").exists() else 0)
seed = int(given["seed"])
if given.get("refused") == given["seed"]:
    print("an early line\\nno such thing here")
    sys.exit(1)
if (folder / "config.yaml").is_file() != (given.get("resume") == "true"):
    sys.exit("resume is wrong")
(folder / "config.yaml").write_text("{}")
if given.get("wait") and not (folder / "waiting").exists():
    listen = {"yes": lambda *_: sys.exit(130), "to the end": lambda *_: sys.exit(0), "deaf": signal.SIG_IGN}
    signal.signal(signal.SIGTERM, listen[given["wait"]])
    (folder / "waiting").touch()
    for _ in range(3000):
        time.sleep(0.02)
figures = {"meaning/alignment": float(given["level"]) - seed / 10, "fidelity/kl_per_token": seed / 100}
(folder / "evaluation.json").write_text(json.dumps(figures | {"meaning/ami": float("nan")}))
print("a last line")
"""

SUMMARY = OverSeeds({"meaning/alignment": "alignment", "fidelity/kl_per_token": None, "seconds": "time [s]"})

Axes = Mapping[str, Mapping[str, Sequence[str] | None]]
AXES: Axes = {"size": {"s": ["level=0.5"], "l": ["level=0.9"]}}
"""Levels of the made-up alignment."""


def cells_of(axes: Axes = AXES, seeds: Sequence[int] = (0, 1), **more: Any) -> list[Cell]:
    return Experiment(axes, list(seeds), SUMMARY, **more).cells()


def write_program(folder: Path) -> list[str]:
    """In place of ``stratagem``: a fit that writes down how it was called, and figures that it makes up."""
    path = folder / "fake.py"
    path.write_text(FAKE)
    return [sys.executable, "-S", "-E", str(path)]


def calls(folder: Path) -> list[dict[str, Any]]:
    path = folder / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / RECORD).read_text())
