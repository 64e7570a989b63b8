"""Can labels be read from z?"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier

from .probe import Probe, Reading
from .readers import accuracy, error_of, places_of
from .space import Space


class Readable(Probe):
    """Accuracy of a linear and of a one-layer reader of each label from z, by cross-validation.

    What the first reads is there for a linear decoder to use; what only the second reads is there, and folded up.
    Beside them the share of the most frequent value, which needs no z.

    Args:
        folds: of the cross-validation, at least 2.
        width: of the hidden layer, at least 1.
        seed: of the folds and of the first weights.

    Raises:
        ValueError: fewer folds or a smaller width.
    """

    def __init__(self, folds: int = 5, width: int = 64, seed: int = 0) -> None:
        if folds < 2 or width < 1:
            raise ValueError(
                f"probe readable: folds must be at least 2 and width at least 1, got {folds} and {width}"
            )
        self.folds, self.width, self.seed = folds, width, seed

    def __call__(self, space: Space) -> Reading:
        readers = {
            "linear": LogisticRegression(max_iter=2000),
            "mlp": MLPClassifier((self.width,), max_iter=1000, random_state=self.seed),
        }
        rows: list[dict[str, str | float]] = []
        figures: dict[str, float] = {}
        for name, words in space.known().items():
            known, y = places_of(words, name, self.folds, "readable")
            chance = float(np.bincount(y).max() / len(y))
            row: dict[str, str | float] = {"label": name, "values": float(len(np.unique(y)))}
            row["most frequent"] = figures[f"readable/{name}/chance"] = chance
            for reader, kind in readers.items():
                right = accuracy(kind, space.points[known], y, self.folds, self.seed)
                row[reader] = figures[f"readable/{name}/{reader}"] = right
                row[f"± {reader}"] = figures[f"readable/{name}/{reader}_se"] = error_of(right, len(y))
            rows.append(row)
        return Reading(figures, rows)
