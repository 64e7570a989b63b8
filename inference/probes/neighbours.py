"""Which texts lie next to each other?"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from ..labels import UNKNOWN
from .probe import Probe, Reading
from .space import Space


class Neighbours(Probe):
    """The nearest texts of each text in z, and how often they share a label, beside any two texts.

    Args:
        number: of neighbours, at least 1.
        shown: texts in the table, at least 1.

    Raises:
        ValueError: a smaller number; or, when it is asked, as few texts as neighbours.
    """

    def __init__(self, number: int = 5, shown: int = 10) -> None:
        if number < 1 or shown < 1:
            raise ValueError(
                f"probe neighbours: number and shown must be at least 1, got {number} and {shown}"
            )
        self.number, self.shown = number, shown

    def __call__(self, space: Space) -> Reading:
        total = len(space.points)
        if total <= self.number:
            raise ValueError(
                f"probe neighbours: {total} texts have no {self.number} neighbours each; give a smaller number"
            )
        found = NearestNeighbors(n_neighbors=self.number).fit(space.points)
        near = found.kneighbors(return_distance=False)  # (N, number), the text itself left out
        figures: dict[str, float] = {}
        for name, words in space.labels.items():
            label = np.array(words)
            known = label != UNKNOWN
            if known.sum() < 2:
                continue
            same = [(label[near[i]] == label[i])[known[near[i]]] for i in np.flatnonzero(known)]
            counts = np.unique(label[known], return_counts=True)[1]
            figures[f"neighbours/{name}"] = float(np.concatenate(same).mean())
            pairs = known.sum() * (known.sum() - 1)
            figures[f"neighbours/{name}_chance"] = float((counts * (counts - 1)).sum() / pairs)
        texts = [f"{p} {y}" for p, y in zip(space.data.prompts, space.data.responses, strict=True)]
        rows: list[dict[str, str | float]] = [
            {"text": texts[i], **{f"neighbour {j + 1}": texts[k] for j, k in enumerate(near[i])}}
            for i in range(min(self.shown, total))
        ]
        return Reading(figures, rows)
