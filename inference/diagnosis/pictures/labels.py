"""The names that a user has for the data, as few groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .style import COLOURS, plain

LONGEST = 24
"""Letters of a name that are shown."""


class Groups(NamedTuple):
    """Data in groups.

    Attributes:
        place: of each datum's group in ``names``, ``(N,)``.
        names: at most as many as there are colours, the largest group first.
    """

    place: np.ndarray
    names: list[str]


def named_groups(labels: Sequence[str]) -> Groups | None:
    """One group a label, the rare ones together as ``other``; None without labels."""
    if not labels:
        return None
    known = [label for label, _ in sorted(Counter(labels).items(), key=lambda item: (-item[1], item[0]))]
    kept = known if len(known) <= len(COLOURS) else known[: len(COLOURS) - 1]
    places = {label: place for place, label in enumerate(kept)}
    names = [plain(label if len(label) <= LONGEST else f"{label[: LONGEST - 1]}…") for label in kept]
    if len(kept) < len(known):
        names.append(f"other ({len(known) - len(kept)} names)")
    return Groups(np.array([places.get(label, len(kept)) for label in labels]), names)
