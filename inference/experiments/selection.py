"""Restarts, of which one is chosen without labels: how good the choice is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import numpy as np

from ..comparison import EVALUATION
from ..evaluation.meaning import ami
from ..fit import METRICS
from ..inference_data import POSTERIOR, read_probabilities
from ..metrics import read_metrics
from .outcomes import Outcome
from .summary import Summary, check_axis, groups
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
    - early objective: the same after ``start_steps`` steps; that of ``fit.starts`` has the terms' weights of that
      moment, this one those of the end.

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
        check_axis(self.axis, axes, "summary.axis")

    def tables(self, outcomes: Sequence[Outcome]) -> list[Table]:
        """How often each score's choice is good, and every choice.

        Raises:
            ValueError: runs without the figure, or without an objective after ``start_steps`` steps.
        """
        axes = [axis for axis in outcomes[0].cell.labels if axis != self.axis]
        ended = [outcome for outcome in outcomes if outcome.figures]
        if ended and not any(self.figure in outcome.figures for outcome in ended):
            raise ValueError(
                f"summary.figure={self.figure}: no run has it; expected a name of docs/evaluation.md that {EVALUATION} "
                f"of {ended[0].folder} has"
            )
        choices = {
            place: self._choice(group)
            for place, group in groups(outcomes, axes, by_seed=True).items()
            if all(self.figure in outcome.figures for outcome in group)
        }
        return [self._hits(list(choices.values())), _table_of(choices, [*axes, "seed"])]

    def _choice(self, group: Sequence[Outcome]) -> dict[str, float]:
        """The figure of the best restart, the mean of all, the worst one's, and that of each score's choice."""
        truth = [outcome.figures[self.figure] for outcome in group]
        chosen = {name: truth[int(np.argmax(values))] for name, values in self._scores(group).items()}
        return {"best": max(truth), "mean": mean(truth), "worst": min(truth)} | chosen

    def _scores(self, group: Sequence[Outcome]) -> dict[str, list[float]]:
        courses = [_objectives(outcome.folder) for outcome in group]
        for outcome, course in zip(group, courses, strict=True):
            if self.start_steps not in course:
                raise ValueError(
                    f"summary.start_steps={self.start_steps}: {outcome.folder / METRICS} has held-out objectives after "
                    f"{', '.join(map(str, course)) or 'no'} steps; expected one of these (fit.eval_every sets them)"
                )
        labels = [_labels(outcome.folder) for outcome in group]
        return {
            "objective": [course[max(course)] for course in courses],
            "information": [outcome.figures["use/mutual_information"] for outcome in group],
            "agreement": [
                mean([ami(one, other) for j, other in enumerate(labels) if j != i] or [0.0])
                for i, one in enumerate(labels)
            ],
            "early objective": [course[self.start_steps] for course in courses],
        }

    def _hits(self, choices: Sequence[Mapping[str, float]]) -> Table:
        within = f"within {self.within:g} of the best"
        rows, records = [], []
        for name in (*SCORES, "best", "mean", "worst") if choices else ():
            values, below = [c[name] for c in choices], [c["best"] - c[name] for c in choices]
            good = sum(gap <= self.within for gap in below)
            spread = {"median": median(values), "worst": min(values), "below": max(below)}
            rows.append([name, f"{good} of {len(values)}", *(f"{value:.3f}" for value in spread.values())])
            records.append({"score": name, "good": good, "of": len(values)} | spread)
        head = ["chosen by", within, "median", "worst", "furthest below the best"]
        return Table("selection", head, rows, records, f"{self.figure} of the chosen restart")


def _table_of(choices: Mapping[tuple[str, ...], Mapping[str, float]], places: Sequence[str]) -> Table:
    head = [*places, "best", "mean", "worst", *SCORES]
    rows = [[*place, *(f"{value:.3f}" for value in choice.values())] for place, choice in choices.items()]
    records = [
        dict(zip(places, place, strict=True)) | dict(choice.items()) for place, choice in choices.items()
    ]
    return Table("choices", head, rows, records)


def _objectives(folder: Path) -> dict[int, float]:
    """The objective on held-out data by step."""
    lines = [line for line in read_metrics(folder / METRICS) if line["split"] == "test"]
    return {int(line["step"]): line["objective"] for line in lines}


def _labels(folder: Path) -> np.ndarray:
    """The likeliest strategy of each held-out response."""
    return read_probabilities(folder / POSTERIOR).argmax(-1)
