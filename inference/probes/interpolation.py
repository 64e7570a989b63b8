"""What lies between two texts?"""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from ..diagnosis.pictures.style import COLOURS, STYLE, panels
from .averages import averaged
from .chart import chart_of
from .distance import distance_of
from .paths import linear, spherical
from .probe import Probe, Reading
from .space import Space

PATHS = {"linear": linear, "spherical": spherical}


class Interpolation(Probe):
    """Responses to a text's prompt while z goes from that text's to another's.

    - smoothness: of the decodings ``y_1 ... y_S`` of a way ``d(y_1, y_S) / sum_s d(y_s, y_(s+1))``, 1 where each step
      leads from the first to the last, over the ways on which anything changes;
    - changes: the share of decodings that are not their predecessor;
    - quality: 1 less the distance of a text to the decoding of its own z with its own prompt, and the same with the z
      of the other end (``quality_exchanged``), which tells what z has no part in.

    Args:
        latent: that is moved; the only continuous one where not given. The others stay at the first text's.
        path: ``linear`` or ``spherical``; on a sphere always the second.
        pairs: of texts, drawn, at least 1.
        steps: points of a way, its ends included, at least 3.
        encoder: a local folder or a name on the hub, for distances of embeddings; of tokens where not given.
        temperature: of the decodings; 0 is greedy.
        seed: of the pairs.

    Raises:
        ValueError: another path or fewer pairs or steps; or, when it is asked, a space of one text.
    """

    def __init__(
        self,
        latent: str | None = None,
        path: str = "linear",
        pairs: int = 20,
        steps: int = 9,
        encoder: str | None = None,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        if path not in PATHS:
            raise ValueError(f"probe interpolation: path must be linear or spherical, got {path}")
        if pairs < 1 or steps < 3:
            raise ValueError(
                f"probe interpolation: pairs must be at least 1 and steps at least 3, got {pairs} and {steps}"
            )
        self.latent, self.path, self.pairs, self.steps = latent, path, pairs, steps
        self.encoder, self.temperature, self.seed = encoder, temperature, seed

    def __call__(self, space: Space) -> Reading:
        chart = chart_of(space, self.latent, "interpolation")
        distance = distance_of(chart.coder, self.encoder)
        if len(chart.points) < 2:
            raise ValueError(
                "probe interpolation: one text has nothing between it and another; give more data"
            )
        rng = np.random.default_rng(self.seed)
        ends = _pairs(len(chart.points), self.pairs, rng)
        way = PATHS["spherical" if chart.on_sphere else self.path]
        points = way(chart.points[ends[0]], chart.points[ends[1]], self.steps)  # (P, S, D)
        flat = chart.decode(
            points.reshape(-1, points.shape[-1]), np.repeat(ends[0], self.steps).tolist(), self.temperature
        )
        texts = [flat[p * self.steps : (p + 1) * self.steps] for p in range(self.pairs)]

        def apart(first: list[str], second: list[str]) -> np.ndarray:
            return distance(first, second).reshape(self.pairs, -1)

        steps = apart([y for row in texts for y in row[:-1]], [y for row in texts for y in row[1:]])
        from_first = apart([row[0] for row in texts for _ in row], flat)
        from_last = apart([row[-1] for row in texts for _ in row], flat)
        moving = steps.sum(1) > 0
        figures = averaged("interpolation/changes", (steps > 0).mean(1))
        if moving.any():
            smooth = from_first[moving, -1] / steps[moving].sum(1)
            figures |= averaged("interpolation/smoothness", smooth)
        given = [space.data.responses[i] for i in ends.ravel()]
        for name, values in (("quality", ends), ("quality_exchanged", ends[::-1])):
            decoded = chart.decode(chart.points[values.ravel()], ends.ravel().tolist(), self.temperature)
            figures |= averaged(f"interpolation/{name}", 1 - distance(decoded, given), ends.ravel())
        rows: list[dict[str, str | float]] = [
            {"pair": float(p), "way": float(t), "response": y, "prompt": space.data.prompts[ends[0, p]]}
            for p, row in enumerate(texts)
            for t, y in zip(np.linspace(0, 1, self.steps), row, strict=True)
        ]
        return Reading(figures, rows, _picture(from_first, from_last))


def _pairs(texts: int, pairs: int, rng: np.random.Generator) -> np.ndarray:
    """``(2, P)``: two texts for each pair, none of them again before all have been."""
    rounds = -(-pairs // (texts // 2))
    drawn = [rng.permutation(texts)[: texts // 2 * 2].reshape(-1, 2) for _ in range(rounds)]
    return np.concatenate(drawn)[:pairs].T


def _picture(from_first: np.ndarray, from_last: np.ndarray) -> Figure:
    """Mean distances to the ends along the way, and those of each pair."""
    with mpl.rc_context(STYLE):
        figure, (panel,) = panels(1)
        t = np.linspace(0, 1, from_first.shape[1])
        for place, (name, apart) in enumerate((("first", from_first), ("last", from_last))):
            panel.plot(t, apart.T, color=COLOURS[place], alpha=0.12, linewidth=0.8)
            panel.plot(t, apart.mean(0), "o-", color=COLOURS[place], label=f"to the {name} decoding")
        panel.set(
            xlabel="way from the first z to the last", ylabel="distance of the decoding", ylim=(-0.02, None)
        )
        figure.legend(loc="outside upper left", ncols=2)
    return figure
