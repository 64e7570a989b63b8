"""Joint values of enumerable latents: their names, and how to fit with more or fewer of them."""

from __future__ import annotations

from collections.abc import Iterable

from ....models import LatentLM
from ..subject import Subject
from .evidence import sizes


def value_names(subject: Subject, values: Iterable[int]) -> list[str]:
    """Joint values in words: ``z=3``, or ``a=1 b=0`` of two latents."""
    found, out = sizes(subject), []
    for joint in values:
        rest, parts = joint, []
        for name, size in found.items():
            rest, place = divmod(rest, size)
            parts.append(f"{name}={place}")
        out.append(" ".join(parts))
    return out


def override(subject: Subject, count: int) -> str | None:
    """What sets the number of values in a fit, and lets ``stratagem prune`` take the model.

    None where several latents have it between them, or a program of the user's own has a setting of its own.
    """
    model = subject.model
    if not isinstance(model, LatentLM) or len(model.latents) > 1:
        return None
    (name,) = model.latents
    return f"`latents.{name}.K={max(count, 2)}`"


def fewer(subject: Subject, verb: str, count: int) -> str:
    """``Merge them, `stratagem prune run=DIR`, or fit with fewer values, `latents.z.K=3`.``

    Args:
        subject: whose latents are enumerable.
        verb: what is to be done to values.
        count: joint values that are left.
    """
    setting = override(subject, count)
    if setting is None:
        return f"{verb} them: give the latents fewer values in the model, {count} joint values are left."
    return f"{verb} them, `stratagem prune run=DIR`, or fit with fewer values, {setting}."
