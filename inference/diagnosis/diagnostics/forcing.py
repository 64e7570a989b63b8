"""Responses under finitely many values of the latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ....models import Generation
from ...evaluation.values import Values

IN_USE = 0.01
"""Share of the mean posterior from which a value of z is in use."""


def given(chosen: Values, responses: Sequence[Sequence[Generation]]) -> list[Mapping[str, Any]]:
    """The value of each latent by name, of each of P values."""
    return list(chosen.given) if chosen.centres else [row[0].z for row in responses]


def in_use(chosen: Values) -> np.ndarray:
    """Places of the values in use, in order."""
    return np.flatnonzero(chosen.posterior.double().mean(0).numpy() >= IN_USE)
