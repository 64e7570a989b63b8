"""Restarts, of which one is chosen without labels: how good the choice is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import numpy as np

from ..evaluation.meaning import ami
from ..fit import METRICS
from ..inference_data import POSTERIOR, read_probabilities
from ..metrics import read_metrics
from .outcomes import Outcome
from .summary import Summary
from .table import Table

SCORES = ("objective", "information", "agreement", "early objective")


@dataclass(frozen=True)
class Selection(Summary):
    """The restart that each score chooses, held against the best one by a figure that knows the labels.

    Restarts are the labels of one axis; a choice is made in each cell of the others and each seed. The scores, all
    without labels, higher is better:

    - objective: the fit's own, on held-out data, at the end;
    - information: ``I(z; y|x)`` in nats per sequence;
    - agreement: mean over the other restarts of the AMI of the likeliest strategies of the same held-out
      responses, the stability of a clustering [Lange, Roth, Braun & Buhmann 2004];
    - early objective: the objective after ``start_steps`` steps, what ``fit.starts`` goes by.

    Args:
        axis: of the restarts.
        figure: of ``evaluation.json``, higher is better.
        within: how far below the best restart a choice may lie to count as good.
        start_steps: steps of the early objective.
    """

    axis: str
    figure: str = "meaning/alignment"
    within: float = 0.02
    start_steps: int = 300

    def check(self, axes: Sequence[str]) -> None:
        """Refuse an axis that is none."""
        if self.axis not in axes:
            raise ValueError(f"summary.axis: no axis {self.axis}; there are {', '.join(axes) or 'none'}")

    def tables(self, outcomes: Sequence[Outcome]) -> list[Table]:
        """How often each score's choice is good, and every choice."""
        groups: dict[tuple[str, ...], list[Outcome]] = {}
        for outcome in outcomes:
            others = [label for axis, label in outcome.cell.labels.items() if axis != self.axis]
            groups.setdefault((*others, f"seed{outcome.cell.seed}"), []).append(outcome)
        whole = {
            place: group for place, group in groups.items() if all(self.figure in o.figures for o in group)
        }
        axes = [axis for axis in outcomes[0].cell.labels if axis != self.axis]
        choices: list[dict[str, object]] = []
        for place, group in whole.items():
            truth = [outcome.figures[self.figure] for outcome in group]
            choice: dict[str, object] = dict(zip([*axes, "seed"], place, strict=True))
            choice |= {"best": max(truth), "mean": mean(truth), "worst": min(truth)}
            choice |= {name: truth[int(np.argmax(values))] for name, values in self._scores(group).items()}
            choices.append(choice)
        return [self._hits(choices), self._choices(choices, [*axes, "seed"])]

    def _scores(self, group: Sequence[Outcome]) -> dict[str, list[float]]:
        ends = [_objectives(outcome.folder) for outcome in group]
        labels = [_labels(outcome.folder) for outcome in group]
        return {
            "objective": [end[max(end)] for end in ends],
            "information": [outcome.figures["use/mutual_information"] for outcome in group],
            "agreement": [
                mean([ami(one, other) for j, other in enumerate(labels) if j != i] or [0.0])
                for i, one in enumerate(labels)
            ],
            "early objective": [end[self.start_steps] for end in ends],
        }

    def _hits(self, choices: Sequence[dict[str, object]]) -> Table:
        head = [
            "chosen by",
            f"within {self.within:g} of the best",
            "median",
            "worst",
            "furthest below the best",
        ]
        rows, records = [], []
        for name in (*SCORES, "best", "mean", "worst"):
            values = [(float(str(c[name])), float(str(c["best"]))) for c in choices]
            if not values:
                continue
            good = sum(value >= best - self.within for value, best in values)
            below = max(best - value for value, best in values)
            middle, least = median(value for value, _ in values), min(value for value, _ in values)
            rows.append([name, f"{good} of {len(values)}", f"{middle:.3f}", f"{least:.3f}", f"{below:.3f}"])
            records.append(
                {
                    "score": name,
                    "good": good,
                    "of": len(values),
                    "median": middle,
                    "worst": least,
                    "below": below,
                }
            )
        return Table("selection", head, rows, records, f"{self.figure} of the chosen restart")

    def _choices(self, choices: Sequence[dict[str, object]], places: Sequence[str]) -> Table:
        head = [*places, "best", "mean", "worst", *SCORES]
        rows = [
            [f"{value:.3f}" if isinstance(value, float) else str(value) for value in choice.values()]
            for choice in choices
        ]
        return Table("choices", head, rows, choices)


def _objectives(folder: Path) -> dict[int, float]:
    """The objective on held-out data by step."""
    lines = [line for line in read_metrics(folder / METRICS) if line["split"] == "test"]
    return {int(line["step"]): line["objective"] for line in lines}


def _labels(folder: Path) -> np.ndarray:
    """The likeliest strategy of each held-out response."""
    return read_probabilities(folder / POSTERIOR).argmax(-1)
