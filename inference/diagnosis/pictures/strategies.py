"""What the values of the latents are called in pictures and tables."""

from __future__ import annotations

import numpy as np

from ..findings.evidence import sizes
from ..subject import Subject


def strategy_names(subject: Subject) -> list[str]:
    """A name for each value that is forced: ``2`` for one latent, ``2, 0`` for two, in the order of the program.

    Of continuous latents the numbers of the clusters whose centres stand for them; empty where some are continuous
    and some are not.
    """
    if subject.seen.posterior is None:
        chosen = subject.values
        return [] if chosen is None else [str(k) for k in range(chosen.posterior.shape[1])]
    latents = list(sizes(subject).values())
    places = np.unravel_index(np.arange(subject.seen.posterior.shape[1]), latents, order="F")
    return [", ".join(map(str, row)) for row in zip(*places, strict=True)]


def strategy_axis(subject: Subject) -> str:
    """What an axis of these names is called."""
    return f"strategy ({', '.join(sizes(subject))})" if subject.enumerable else "cluster of z"


def strategy_headings(subject: Subject) -> list[str]:
    """The names with what they are of: ``z = 2``, ``family = 2, variant = 0`` or ``cluster 2``."""
    names = strategy_names(subject)
    if not subject.enumerable:
        return [f"cluster {name}" for name in names]
    latents = list(sizes(subject))
    return [
        ", ".join(f"{latent} = {value}" for latent, value in zip(latents, name.split(", "), strict=True))
        for name in names
    ]
