"""What does each coordinate of z change?"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..diagnosis.pictures.style import COLOURS, STYLE, panels
from .averages import averaged
from .chart import Chart, chart_of
from .distance import distance_of
from .probe import Probe, Reading
from .space import Space

DRAWS = 64
"""From the router at each prompt."""


class Traversal(Probe):
    """Responses while one coordinate goes through its range and the others stay at a text's.

    The effect of a coordinate is the mean distance between neighbours along it, over the texts.

    Args:
        latent: that is moved; the only continuous one where not given. The others stay at the text's.
        over: whose range: ``router``, draws from p(z|x) at all prompts, or ``posterior``, draws from the guide at all
            texts.
        share: of the draws that lie in the range, in the middle; above 0 and at most 1.
        texts: the first ones, at least 1.
        steps: points of a range, its ends included, at least 2.
        encoder: a local folder or a name on the hub, for distances of embeddings; of tokens where not given.
        temperature: of the decodings; 0 is greedy.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self,
        latent: str | None = None,
        over: str = "router",
        share: float = 0.9,
        texts: int = 5,
        steps: int = 7,
        encoder: str | None = None,
        temperature: float = 0.0,
    ) -> None:
        if over not in ("router", "posterior"):
            raise ValueError(f"probe traversal: over must be router or posterior, got {over}")
        if not 0 < share <= 1 or texts < 1 or steps < 2:
            raise ValueError(
                "probe traversal: share must be above 0 and at most 1, texts at least 1 and steps at least 2, got "
                f"{share}, {texts} and {steps}"
            )
        self.latent, self.over, self.share, self.texts, self.steps = latent, over, share, texts, steps
        self.encoder, self.temperature = encoder, temperature

    def __call__(self, space: Space) -> Reading:
        chart = chart_of(space, self.latent, "traversal")
        distance = distance_of(chart.coder, self.encoder)
        index = np.arange(min(self.texts, len(chart.points)))
        values = self._range(chart)  # (steps, D)
        size = values.shape[1]
        places = np.tile(chart.points[index][:, None, None], (1, size, self.steps, 1))  # (T, D, steps, D)
        for d in range(size):
            places[:, d, :, d] = values[:, d]
        where = np.repeat(index, size * self.steps)
        flat = chart.decode(places.reshape(-1, size), where.tolist(), self.temperature)
        grid = np.array(flat, dtype=object).reshape(len(index), size, self.steps)
        apart = distance(list(grid[..., :-1].flat), list(grid[..., 1:].flat)).reshape(len(index), size, -1)
        figures: dict[str, float] = {}
        for name, column in zip(chart.coordinates, apart.mean(-1).T, strict=True):
            figures |= averaged(f"traversal/{name}", column)
        rows: list[dict[str, str | float]] = [
            {
                "coordinate": chart.coordinates[d],
                "value": float(values[s, d]),
                "response": str(grid[t, d, s]),
                "prompt": space.data.prompts[index[t]],
            }
            for t, d, s in np.ndindex(*grid.shape)
        ]
        return Reading(figures, rows, _picture(chart.coordinates, figures))

    def _range(self, chart: Chart) -> np.ndarray:
        drawn = chart.draws if self.over == "posterior" else chart.router(range(len(chart.points)), DRAWS)
        tail = (1 - self.share) / 2
        low, high = np.quantile(drawn.reshape(-1, drawn.shape[-1]), [tail, 1 - tail], axis=0)
        return np.linspace(low, high, self.steps)


def _picture(coordinates: list[str], figures: Mapping[str, float]) -> Figure:
    with mpl.rc_context(STYLE):
        figure, (panel,) = panels(1, height=1.2 + 0.3 * len(coordinates))
        means = [figures[f"traversal/{name}"] for name in coordinates]
        errors = [figures[f"traversal/{name}_se"] for name in coordinates]
        panel.barh(coordinates, means, xerr=errors, color=COLOURS[0], height=0.6, error_kw={"elinewidth": 1})
        panel.grid(visible=False, axis="y")
        panel.invert_yaxis()
        panel.set(xlabel="distance of neighbours along the coordinate", xlim=(0, None))
    return figure
