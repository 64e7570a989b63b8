"""Do coordinates of z stand for what is known of the texts, one for one?"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..diagnosis.pictures.style import STYLE, panels, plain, shade
from .disentanglement import dci, info_mec, mig, modularity, sap, z_diff, z_min_var
from .disentanglement.information import binned, entropies, mutual_information
from .probe import Probe, Reading
from .space import UNKNOWN, Space


class Disentangled(Probe):
    """Every measure of disentanglement, of the labels as factors, and how much of each a coordinate tells.

    Over the data all of whose labels are known. Modularity, z-diff and z-min-var need two labels or more.

    Args:
        seed: of splits, forests and draws.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

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
        figures = mig(z, factors) | info_mec(z, factors, self.seed)
        figures |= sap(z, factors, self.seed) | dci(z, factors, self.seed)
        if len(labels) > 1:
            figures |= (
                modularity(z, factors) | z_diff(z, factors, self.seed) | z_min_var(z, factors, self.seed)
            )
        share = mutual_information(binned(z), factors) / entropies(factors)
        rows: list[dict[str, str | float]] = [
            {"coordinate": name, **dict(zip(labels, map(float, row), strict=True))}
            for name, row in zip(space.coordinates, share, strict=True)
        ]
        return Reading(figures, rows, _picture(share, space.coordinates, list(labels)))


def _picture(share: np.ndarray, coordinates: list[str], labels: list[str]) -> Figure:
    with mpl.rc_context(STYLE):
        figure, (panel,) = panels(1, 2.5 + 1.1 * len(labels), 1.5 + 0.35 * len(coordinates))
        shade(panel, share, numbers=len(coordinates) <= 32, aspect="auto")
        panel.set_xticks(range(len(labels)), [plain(name) for name in labels])
        panel.set_yticks(range(len(coordinates)), coordinates)
        panel.set_title("I(coordinate; label) / H(label)")
    return figure
