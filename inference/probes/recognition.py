"""What the labels of new responses are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..labels import UNKNOWN
from .chart import Chart
from .space import Space


def recognised(
    space: Space, chart: Chart, label: str, index: Sequence[int], responses: Sequence[str]
) -> np.ndarray:
    """A word for each of R responses to the prompts of R data, ``(R,)``.

    By the task's own parser where it has the label; else what a linear reader, fitted to the space's own texts, reads
    from the z that the guide gives to the response.
    """
    found = chart.coder.named(label, list(index), list(responses))
    if found is not None:
        return np.array(found)
    words = np.array(space.labels[label])
    known = words != UNKNOWN
    reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    return np.asarray(reader.fit(chart.points[known], words[known]).predict(chart.encode(index, responses)))


def frequent(words: Sequence[str], most: int) -> list[str]:
    """The values of a label, the most frequent first, at most ``most``."""
    counts = Counter(word for word in words if word != UNKNOWN)
    return sorted(counts, key=lambda word: (-counts[word], word))[:most]
