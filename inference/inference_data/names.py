"""Names of variables and axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

AXES = ("chain", "draw", "datum", "strategy", "token", "latent_dim", "site")


@dataclass(frozen=True)
class Names:
    """What the latents of a program are called in a file.

    Attributes:
        sites: variable of each site: its name, with ``_`` after it where an axis has that name.
        joint: variable of the joint value of the enumerable sites; of a single one its own; None where there is none.
        axes: of each site, those of its events.
        strategy: of each enumerable site, the axis of its values; ``strategy`` is that of the joint values.
    """

    sites: dict[str, str]
    joint: str | None
    axes: dict[str, tuple[str, ...]]
    strategy: dict[str, str]


def names_of(events: Mapping[str, int], enumerable: Iterable[str]) -> Names:
    """The names, of sites with their numbers of event dimensions, some of them enumerable.

    An axis that is one site's alone, ``latent_dim`` or ``strategy``, has the site before it where several sites have
    one, and a number after it where the site has several.
    """
    sites = {name: plain(f"{name}_" if name in AXES else name) for name in events}
    discrete = [name for name in events if name in set(enumerable)]
    joint = None
    if discrete:
        joint = sites[discrete[0]] if len(discrete) == 1 else "joint"
        while len(discrete) > 1 and joint in sites.values():
            joint += "_"
    vectors = [name for name, dims in events.items() if dims]
    axes = {}
    for name, dims in events.items():
        axis = f"{sites[name]}_latent_dim" if len(vectors) > 1 else "latent_dim"
        axes[name] = (axis,) if dims == 1 else tuple(f"{axis}_{i}" for i in range(dims))
    alone = len(discrete) == 1
    strategy = {name: "strategy" if alone else f"{sites[name]}_strategy" for name in discrete}
    return Names(sites, joint, axes, strategy)


def plain(name: str) -> str:
    """A name without ``/``, which parts groups in a file."""
    return name.replace("/", "_")
