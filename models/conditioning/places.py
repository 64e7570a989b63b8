"""Where in the decoder an edit is made."""

from __future__ import annotations

from collections.abc import Sequence

from ..backbone import Backbone

Layers = str | Sequence[int]


def layers_of(backbone: Backbone, layers: Layers, option: str) -> list[int]:
    """Numbers of the layers that a setting names: ``all``, ``middle``, ``first``, or a list of their numbers.

    Raises:
        ValueError: a word that is none of these, or a layer that is not there.
    """
    num = backbone.num_layers
    words = {"all": [*range(num)], "middle": [num // 2], "first": [0]}
    found = words.get(layers) if isinstance(layers, str) else [int(i) for i in layers]
    if not found or len(set(found)) < len(found) or min(found) < 0 or max(found) >= num:
        raise ValueError(
            f"conditioning {option}: layers={layers}: expected all, middle, first, or a list of different numbers "
            f"from 0 to {num - 1}"
        )
    return found
