"""Restarts held against each other: do they find the same strategies?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean, median

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from ..evaluation.meaning import ami
from ..inference_data import POSTERIOR, read_probabilities
from .outcomes import Outcome
from .summary import Summary, check_axis, check_figures, groups
from .table import Table, readable


@dataclass(frozen=True)
class Agreement(Summary):
    """NMI and AMI of the likeliest strategies of the same held-out responses, over the pairs of restarts.

    Normalised mutual information, by the arithmetic mean of the entropies, and the same adjusted for chance [Vinh,
    Epps & Bailey 2010]; 1 where two restarts cut the responses into the same parts, whatever they call them. Other
    figures of the runs, as their median, stand beside them.

    Args:
        axis: of the restarts.
        figures: names of figures, each with its heading, null for the name itself.
    """

    axis: str
    figures: Mapping[str, str | None]

    def check(self, axes: Sequence[str]) -> None:
        """Refuse an axis that is none, and figures without their names."""
        check_axis(self.axis, axes, "summary.axis")
        check_figures(self.figures)

    def tables(self, outcomes: Sequence[Outcome]) -> list[Table]:
        """A row for each cell of the other axes and each seed."""
        axes = [axis for axis in outcomes[0].cell.labels if axis != self.axis]
        records = [
            dict(zip([*axes, "seed"], place, strict=True)) | self._record([o for o in group if o.figures])
            for place, group in groups(outcomes, axes, by_seed=True).items()
        ]
        names = ["NMI", "NMI, least", "AMI", "AMI, least", *(h or n for n, h in self.figures.items())]
        head = [*axes, "seed", "runs", *names]
        rows = [
            [
                *(str(record[name]) for name in [*axes, "seed", "runs"]),
                *(readable(value) if isinstance(value := record.get(name), float) else "-" for name in names),
            ]
            for record in records
        ]
        return [Table("agreement", head, rows, records)]

    def _record(self, group: Sequence[Outcome]) -> dict[str, object]:
        labels = [read_probabilities(outcome.folder / POSTERIOR).argmax(-1) for outcome in group]
        record: dict[str, object] = {"runs": len(group)}
        for name, measure in (("NMI", nmi), ("AMI", ami)):
            if values := [measure(one, other) for one, other in combinations(labels, 2)]:
                record |= {name: mean(values), f"{name}, least": min(values)}
        for name, heading in self.figures.items():
            if found := [outcome.figures[name] for outcome in group if name in outcome.figures]:
                record[heading or name] = median(found)
        return record


def nmi(one: np.ndarray, other: np.ndarray) -> float:
    """Normalised mutual information; 0 where either is the same for all, since a constant tells nothing."""
    if len(np.unique(one)) < 2 or len(np.unique(other)) < 2:
        return 0.0
    return float(normalized_mutual_info_score(one, other))
