"""The tables of experiments in the documents, from what their cells came to: ``benchmarks/cells/NAME``.

Each stands between ``<!-- cells: NAME -->`` and ``<!-- end -->``. ``python docs/cells.py`` writes them anew; a test
compares them. ``stratagem experiment NAME run=benchmarks/cells/NAME``
prints the same, and runs the cells that are not there.
"""

from __future__ import annotations

import re
from pathlib import Path

from hydra import compose, initialize_config_module
from stratagem.inference.commands.experiment import make_experiment
from stratagem.inference.experiments import read_outcomes

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
CELLS = ROOT / "benchmarks" / "cells"


def tables(name: str) -> str:
    """The tables of an experiment as the command prints them."""
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        experiment = make_experiment(compose("experiment", [f"experiment={name}"]))
    outcomes = [
        outcome for outcome in read_outcomes(experiment.cells(), CELLS / name) if outcome.folder.is_dir()
    ]
    return "\n\n".join(table.markdown() for table in experiment.summary.tables(outcomes))


def renewed(page: str) -> str:
    """The page with its tables made anew."""
    return re.sub(
        r"(<!-- cells: (\w+) -->\n).*?(?=<!-- end -->)",
        lambda found: f"{found[1]}{tables(found[2])}\n",
        page,
        flags=re.DOTALL,
    )


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(renewed(path.read_text()))
