"""Where in the LM can labels be read?"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from sklearn.linear_model import LogisticRegression

from ..diagnosis.pictures.style import STYLE, panels, plain, shade
from .chart import coder_of
from .probe import Probe, Reading
from .readers import accuracy, error_of, places_of
from .space import Space


class Depth(Probe):
    """Accuracy of a linear reader of each label from hidden states, by layer and by position, beside that from z.

    Hidden states are those of the LM alone, without z: layer 0 is the embeddings, layer l the states after the l-th.
    Positions are the prompt's last token and equal stretches of the response, over each of which states are averaged.
    The best place is chosen among all by the accuracy itself, so that its accuracy is a little high.

    Args:
        bins: stretches of the response, at least 1.
        folds: of the cross-validation, at least 2.
        seed: of the folds.

    Raises:
        ValueError: a smaller number; when it is asked, a value of a label with fewer data than folds.
    """

    def __init__(self, bins: int = 5, folds: int = 5, seed: int = 0) -> None:
        if bins < 1 or folds < 2:
            raise ValueError(
                f"probe depth: bins must be at least 1 and folds at least 2, got {bins} and {folds}"
            )
        self.bins, self.folds, self.seed = bins, folds, seed

    def __call__(self, space: Space) -> Reading:
        coder = coder_of(space, "depth")
        labels = {name: places_of(words, name, self.folds, "depth") for name, words in space.known().items()}
        layers = coder.hidden(self.bins)
        positions = ["prompt", *(f"{b / self.bins:.0%}-{(b + 1) / self.bins:.0%}" for b in range(self.bins))]
        figures: dict[str, float] = {}
        rows: list[dict[str, str | float]] = []
        maps = {}
        for name, (known, y) in labels.items():
            read = [[self._read(layer[known, p], y) for p in range(len(positions))] for layer in layers]
            maps[name] = np.array(read)  # (layers, positions)
            best = np.unravel_index(maps[name].argmax(), maps[name].shape)
            z = self._read(space.points[known], y)
            figures |= {
                f"depth/{name}/best": float(maps[name][best]),
                f"depth/{name}/best_layer": float(best[0]),
                f"depth/{name}/best_position": float(best[1]),
                f"depth/{name}/z": z,
                f"depth/{name}/z_se": error_of(z, len(y)),
                f"depth/{name}/chance": float(np.bincount(y).max() / len(y)),
            }
            rows += [
                {"label": name, "layer": float(k), **dict(zip(positions, row, strict=True))}
                for k, row in enumerate(read)
            ]
        return Reading(figures, rows, _picture(maps, positions, figures))

    def _read(self, points: np.ndarray, y: np.ndarray) -> float:
        return accuracy(LogisticRegression(max_iter=2000), points, y, self.folds, self.seed)


def _picture(maps: Mapping[str, np.ndarray], positions: list[str], figures: Mapping[str, float]) -> Figure:
    deep = max(map(len, maps.values()))
    with mpl.rc_context(STYLE):
        figure, axes = panels(len(maps), 1.2 + 4.2 * len(maps), 1.8 + 0.32 * deep)
        for panel, (name, read) in zip(axes, maps.items(), strict=True):
            shade(panel, read, numbers=deep <= 32, aspect="auto")
            panel.set_xticks(range(len(positions)), positions)
            panel.set_yticks(range(len(read)))
            panel.invert_yaxis()
            panel.set(xlabel="position in the response", ylabel="layer")
            z, chance = figures[f"depth/{name}/z"], figures[f"depth/{name}/chance"]
            panel.set_title(
                f"{plain(name)}: accuracy of a linear reader\n(from z {z:.2f}, most frequent {chance:.2f})"
            )
    return figure
