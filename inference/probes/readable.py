"""Can labels be read from z?"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from .probe import Probe, Reading
from .space import UNKNOWN, Space


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
            known = np.array([word != UNKNOWN for word in words])
            values, y = np.unique(np.array(words)[known], return_inverse=True)
            least = int(np.bincount(y).min())
            if least < self.folds:
                raise ValueError(
                    f"probe readable: label {name}: {values[np.bincount(y).argmin()]} is that of {least} data, fewer "
                    f"than the {self.folds} folds; give fewer folds, more data, or leave the label out"
                )
            row: dict[str, str | float] = {"label": name, "values": float(len(values))}
            row["most frequent"] = figures[f"readable/{name}/chance"] = float(np.bincount(y).max() / len(y))
            for reader, kind in readers.items():
                folds = StratifiedKFold(self.folds, shuffle=True, random_state=self.seed)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", ConvergenceWarning)
                    found = cross_val_predict(
                        make_pipeline(StandardScaler(), kind), space.points[known], y, cv=folds
                    )
                right = (found == y).mean()
                row[reader] = figures[f"readable/{name}/{reader}"] = float(right)
                row[f"± {reader}"] = figures[f"readable/{name}/{reader}_se"] = float(
                    np.sqrt(right * (1 - right) / len(y))
                )
            rows.append(row)
        return Reading(figures, rows)
