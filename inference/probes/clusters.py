"""Do the texts lie in groups, and are these the labels?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_samples

from ..diagnosis.pictures.embedding import scattered, tsne, umap
from ..diagnosis.pictures.labels import named_groups
from ..diagnosis.pictures.style import STYLE, WIDE, panels
from ..labels import UNKNOWN
from .averages import averaged
from .probe import Probe, Reading
from .space import Space


def pca(points: np.ndarray) -> np.ndarray:
    """``(N, 2)``: the two directions of the largest variance."""
    return np.asarray(PCA(2, random_state=0).fit_transform(points))


MAPS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {"pca": pca, "tsne": tsne, "umap": umap}
NAMES = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


class Clusters(Probe):
    """The points in the plane, coloured by each label, and how far the labels are groups in z itself.

    The silhouette of a text is ``(b - a) / max(a, b)``, a its mean distance to the texts of its label's value and b
    that to those of the nearest other value [Rousseeuw 1987]: 1 where values lie apart, 0 where they overlap, below
    where texts lie among others.

    Args:
        maps: of ``pca``, ``tsne`` and ``umap``, at least one; the last needs umap-learn.

    Raises:
        ValueError: another map, or none; UMAP where it is not installed; when it is asked, fewer than three points or
            one coordinate.
    """

    def __init__(self, maps: Sequence[str] = ("pca", "tsne")) -> None:
        wrong = [name for name in maps if name not in MAPS]
        if wrong or not maps:
            raise ValueError(f"probe clusters: maps must be some of {', '.join(MAPS)}, got {list(maps)}")
        if "umap" in maps and find_spec("umap") is None:
            raise ValueError(
                "probe clusters: maps=[umap] needs umap-learn; pip install umap-learn, or leave it out"
            )
        self.maps = list(maps)

    def __call__(self, space: Space) -> Reading:
        points = space.points
        if points.shape[1] < 2 or len(points) < 3:
            raise ValueError(
                f"probe clusters: {len(points)} points of {points.shape[1]} coordinates have no map in the plane; it "
                "takes three points and two coordinates"
            )
        if not np.ptp(points, axis=0).any():
            raise ValueError("probe clusters: all points are the same, so that there is nothing to map")
        known = space.known()
        figures: dict[str, float] = {}
        rows: list[dict[str, str | float]] = []
        for label, words in known.items():
            kept = np.array([word != UNKNOWN for word in words])
            values, place, counts = np.unique(np.array(words)[kept], return_inverse=True, return_counts=True)
            if len(values) == kept.sum():
                continue
            each = silhouette_samples(points[kept], place)
            figures |= averaged(f"clusters/{label}/silhouette", each)
            rows += [
                {
                    "label": label,
                    "value": value,
                    "texts": float(count),
                    "silhouette": float(each[place == k].mean()),
                }
                for k, (value, count) in enumerate(zip(values, counts, strict=True))
            ]
        spread = np.linalg.eigvalsh(np.cov(points.T))[::-1]
        figures["clusters/pca_share"] = float(spread[:2].sum() / spread.sum()) if spread.sum() > 0 else 1.0
        return Reading(figures, rows, _picture(points, self.maps, known))


def _picture(points: np.ndarray, maps: Sequence[str], labels: Mapping[str, Sequence[str]]) -> Figure:
    planes = {name: MAPS[name](points) for name in maps}
    with mpl.rc_context(STYLE):
        width = WIDE * min(1.0, (1 + len(maps)) / 3)
        figure, axes = panels(len(maps), width, 0.4 + 3.4 * len(labels), down=len(labels))
        for row, (label, words) in enumerate(labels.items()):
            groups = named_groups(words)
            assert groups is not None
            for column, (name, plane) in enumerate(planes.items()):
                panel = axes[row * len(maps) + column]
                scattered(panel, plane, groups)
                panel.set(xlabel="first coordinate", ylabel="second coordinate")
                panel.set_title(f"{NAMES[name]}, by {label}")
            axes[(row + 1) * len(maps) - 1].legend(
                loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2
            )
    return figure
