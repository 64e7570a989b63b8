"""A description of an object from which it can be built again."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from hydra.utils import get_object, instantiate

TRUSTED = "stratagem."


def spec_of(value: Any) -> Any:
    """The Hydra node that builds ``value``: a class, a partial of one, or an object that keeps its arguments.

    Raises:
        ValueError: a function without an importable name, or an object that does not keep its arguments as
            attributes of their names.
    """
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {key: spec_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [spec_of(item) for item in value]
    if isinstance(value, partial):
        if value.args:
            raise ValueError(f"{value}: only keyword arguments of a partial can be saved")
        return {**spec_of(value.func), **{k: spec_of(v) for k, v in value.keywords.items()}}
    if inspect.isclass(value):
        return {"_target_": target_of(value), "_partial_": True}
    if callable(value) and hasattr(value, "__qualname__"):
        raise ValueError(
            f"{target_of(value)}: expected a class or functools.partial of one, so that it can be saved"
        )
    names = list(inspect.signature(type(value)).parameters)
    missing = [n for n in names if not hasattr(value, n)]
    if missing:
        raise ValueError(
            f"{target_of(type(value))}: keeps no attribute {missing[0]}, so that it cannot be saved"
        )
    return {"_target_": target_of(type(value)), **{n: spec_of(getattr(value, n)) for n in names}}


def build(node: Any, trust_remote_code: bool = False, **extra: Any) -> Any:
    """The object of a Hydra node.

    Args:
        node: as made by :func:`spec_of` or read from a config.
        trust_remote_code: allow targets outside this package.
        extra: further arguments of the outermost call.

    Raises:
        ValueError: a target outside this package that is not trusted.
    """
    if not trust_remote_code:
        for target in _targets(node):
            if not _is_ours(target):
                raise ValueError(
                    f"the saved model is built by {target}, which is no class of stratagem; "
                    "pass trust_remote_code=true to run it"
                )
    return instantiate(node, **extra)


def _is_ours(target: str) -> bool:
    """Whether a target is a class of this package, and not what one of its modules has imported or can call."""
    if not target.startswith(TRUSTED):
        return False
    try:
        found = get_object(target)
    except (ImportError, ValueError):
        return False
    return inspect.isclass(found) and found.__module__.startswith(TRUSTED)


def _targets(node: Any) -> list[str]:
    if isinstance(node, Mapping):
        own = [str(node["_target_"])] if "_target_" in node else []
        return own + [t for item in node.values() for t in _targets(item)]
    if isinstance(node, list | tuple):
        return [t for item in node for t in _targets(item)]
    return []


def target_of(value: Any) -> str:
    """The importable name of a class or function."""
    return f"{value.__module__}.{value.__qualname__}"
