"""Do coordinates of z stand for what is known of the texts, one for one?"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..diagnosis.pictures.style import STYLE, panels, plain, shade
from ..labels import UNKNOWN
from .disentanglement import dci, info_mec, mig, modularity, sap, z_diff, z_min_var
from .disentanglement.information import binned, entropies, mutual_information
from .probe import Probe, Reading
from .space import Space


class Disentangled(Probe):
    """Every measure of disentanglement, of the labels as factors, and how much of each a coordinate tells.

    Over the data all of whose labels are known. Modularity, z-diff and z-min-var need two labels or more. Most measures
    are above 0 on few data where z tells nothing: what each is on the same points in other orders is beside it, with
    ``_chance`` at the end of its name.

    Args:
        shuffles: orders of the points, whose mean is chance.
        seed: of splits, forests, draws and orders.

    Raises:
        ValueError: no order.
    """

    def __init__(self, shuffles: int = 3, seed: int = 0) -> None:
        if shuffles < 1:
            raise ValueError(f"probe disentangled: shuffles must be at least 1, got {shuffles}")
        self.shuffles, self.seed = shuffles, seed

    def __call__(self, space: Space) -> Reading:
        labels = space.known()
        kept = np.all([[word != UNKNOWN for word in words] for words in labels.values()], 0)
        alike = [label for label, words in labels.items() if len(set(np.array(words)[kept])) < 2]
        if alike:
            raise ValueError(
                f"probe disentangled: {kept.sum()} data have all of the labels {', '.join(labels)}, and "
                f"{', '.join(alike)} the same value on them; leave it out of labels, or give more data"
            )
        factors = np.stack([np.unique(words, return_inverse=True)[1] for words in labels.values()], 1)[kept]
        z = space.points[kept]
        rng = np.random.default_rng(self.seed)
        shuffled = [rng.permutation(z) for _ in range(self.shuffles)]
        figures = self._measures(z, factors)
        by_chance = [self._measures(points, factors) for points in shuffled]
        figures |= {f"{name}_chance": float(np.mean([f[name] for f in by_chance])) for name in figures}
        share = _share(z, factors)
        chance = np.mean([_share(points, factors).mean(0) for points in shuffled], 0)
        rows: list[dict[str, str | float]] = [
            {"coordinate": name, **dict(zip(labels, map(float, row), strict=True))}
            for name, row in zip([*space.coordinates, "by chance"], [*share, chance], strict=True)
        ]
        return Reading(figures, rows, _picture(share, space.coordinates, list(labels)))

    def _measures(self, z: np.ndarray, factors: np.ndarray) -> dict[str, float]:
        found = mig(z, factors) | info_mec(z, factors, self.seed)
        found |= sap(z, factors, self.seed) | dci(z, factors, self.seed)
        if factors.shape[1] > 1:
            found |= modularity(z, factors) | z_diff(z, factors, self.seed) | z_min_var(z, factors, self.seed)
        return found


def _share(z: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """``(D, F)``: of each factor's entropy what each coordinate tells."""
    return mutual_information(binned(z), factors) / entropies(factors)


def _picture(share: np.ndarray, coordinates: list[str], labels: list[str]) -> Figure:
    with mpl.rc_context(STYLE):
        figure, (panel,) = panels(1, 2.5 + 1.1 * len(labels), 1.5 + 0.35 * len(coordinates))
        shade(panel, share, numbers=len(coordinates) <= 32, aspect="auto")
        panel.set_xticks(range(len(labels)), [plain(name) for name in labels])
        panel.set_yticks(range(len(coordinates)), coordinates)
        panel.set_title("I(coordinate; label) / H(label)")
    return figure
