"""Do differences of z mean the same everywhere?"""

from __future__ import annotations

from itertools import permutations

import numpy as np

from ..labels import UNKNOWN
from .averages import averaged
from .chart import Chart, chart_of
from .probe import Probe, Reading
from .recognition import frequent, recognised
from .space import Space


class Analogy(Probe):
    """Vector arithmetic in z: does the difference of two groups' means turn a text of one into one of the other?

    - success: the share of texts with value a whose decoding at ``z + mean_b - mean_a``, with their own prompts, has
      value b, over all ordered pairs of values; and the share that has it at z itself (``unmoved``);
    - parallel: the cosine between ``mean_b - mean_a`` among the texts with one value of another label and among those
      with another value, over the pairs;
    - nearest: for texts a, b, c of which b shares a label with a, and c another label, the share in which the text
      nearest to ``z_b - z_a + z_c`` has b's value of the one that b changes and c's of the one that c changes; and the
      share of all texts that have (``nearest_chance``).

    Args:
        latent: that is moved; the only continuous one where not given. The others stay at the text's.
        values: of a label at most, the most frequent ones; at least 2.
        texts: of each value at most, at least 1.
        quadruples: drawn for ``nearest``, at least 1.
        temperature: of the decodings; 0 is greedy.
        seed: of the quadruples.

    Raises:
        ValueError: a smaller number.
    """

    def __init__(
        self,
        latent: str | None = None,
        values: int = 6,
        texts: int = 20,
        quadruples: int = 500,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> None:
        if values < 2 or texts < 1 or quadruples < 1:
            raise ValueError(
                "probe analogy: values must be at least 2, texts and quadruples at least 1, got "
                f"{values}, {texts} and {quadruples}"
            )
        self.latent, self.values, self.texts, self.quadruples = latent, values, texts, quadruples
        self.temperature, self.seed = temperature, seed

    def __call__(self, space: Space) -> Reading:
        chart = chart_of(space, self.latent, "analogy")
        figures: dict[str, float] = {}
        rows: list[dict[str, str | float]] = []
        known = space.known()
        for label in known:
            found, more = self._moved(space, chart, label)
            figures |= found
            rows += more
        for label in known:
            for other in known:
                if other != label and (cosines := self._cosines(space, chart, label, other)):
                    figures[f"analogy/{label}/parallel_over_{other}"] = float(np.mean(cosines))
        for one, two in zip(list(known), list(known)[1:], strict=False):
            figures |= self._nearest(space, chart, one, two)
        return Reading(figures, rows)

    def _moved(
        self, space: Space, chart: Chart, label: str
    ) -> tuple[dict[str, float], list[dict[str, str | float]]]:
        words = np.array(space.labels[label])
        values = frequent(space.labels[label], self.values)
        means = {value: chart.points[words == value].mean(0) for value in values}
        texts = {value: np.flatnonzero(words == value)[: self.texts] for value in values}
        own = np.concatenate([texts[value] for value in values])
        plain = dict(zip(own, self._words(space, chart, label, chart.points[own], own), strict=True))
        pairs = list(permutations(values, 2))
        index = np.concatenate([texts[a] for a, _ in pairs])
        moved = np.concatenate([chart.points[texts[a]] + means[b] - means[a] for a, b in pairs])
        became = self._words(space, chart, label, moved, index)
        wanted = np.concatenate([np.repeat(b, len(texts[a])) for a, b in pairs])
        success, unmoved = became == wanted, np.array([plain[i] for i in index]) == wanted
        figures = averaged(f"analogy/{label}/success", success, index)
        figures |= averaged(f"analogy/{label}/unmoved", unmoved, index)
        rows: list[dict[str, str | float]] = []
        start = 0
        for a, b in pairs:
            here = slice(start, start := start + len(texts[a]))
            row: dict[str, str | float] = {"label": label, "from": a, "to": b, "texts": float(len(texts[a]))}
            rows.append(
                row | {"success": float(success[here].mean()), "unmoved": float(unmoved[here].mean())}
            )
        return figures, rows

    def _words(
        self, space: Space, chart: Chart, label: str, points: np.ndarray, index: np.ndarray
    ) -> np.ndarray:
        texts = chart.decode(points, index.tolist(), self.temperature)
        return recognised(space, chart, label, index.tolist(), texts)

    def _cosines(self, space: Space, chart: Chart, label: str, other: str) -> list[float]:
        words, beside = np.array(space.labels[label]), np.array(space.labels[other])
        means = {
            (a, k): chart.points[here].mean(0)
            for a in frequent(space.labels[label], self.values)
            for k in frequent(space.labels[other], self.values)
            if (here := (words == a) & (beside == k)).sum() > 1
        }
        out = []
        for a, b in permutations(frequent(space.labels[label], self.values), 2):
            offsets = [means[b, k] - means[a, k] for k in set(beside) if (a, k) in means and (b, k) in means]
            units = [offset / length for offset in offsets if (length := np.linalg.norm(offset)) > 0]
            out += [float(u @ v) for i, u in enumerate(units) for v in units[:i] if a < b]
        return out

    def _nearest(self, space: Space, chart: Chart, one: str, two: str) -> dict[str, float]:
        first, second = np.array(space.labels[one]), np.array(space.labels[two])
        known = np.flatnonzero((first != UNKNOWN) & (second != UNKNOWN))
        if not len(known):
            return {}
        rng = np.random.default_rng(self.seed)
        right, chance = [], []
        for _ in range(self.quadruples):
            a = rng.choice(known)
            like_a = known[(second[known] == second[a]) & (first[known] != first[a])]
            but = known[(first[known] == first[a]) & (second[known] != second[a])]
            if not (len(like_a) and len(but)):
                continue
            b, c = rng.choice(like_a), rng.choice(but)
            target = chart.nearest((chart.points[b] - chart.points[a] + chart.points[c])[None])
            others = known[~np.isin(known, (a, b, c))]
            fits = (first[others] == first[b]) & (second[others] == second[c])
            if not fits.any():
                continue
            right.append(fits[np.linalg.norm(chart.points[others] - target, axis=1).argmin()])
            chance.append(fits.mean())
        if not right:
            return {}
        return {
            f"analogy/nearest/{one}_{two}": float(np.mean(right)),
            f"analogy/nearest/{one}_{two}_chance": float(np.mean(chance)),
        }
