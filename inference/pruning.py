"""How many strategies a latent model has: those hardly used, and those that are one up to a recoding of the surface."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

Output = Sequence[int]

Interchange = frozenset[frozenset[int]]
"""Pairs of symbols that change places."""

SYMBOLS = 3
"""Symbols that a recoding may exchange: of two marks both, of three marks all."""

COMMON = 10
"""Prompts, in effect, on which two strategies are compared at the least."""

ROUNDING = 1e-9


@dataclass(frozen=True)
class PruneSettings:
    """When strategies are dropped or merged, and what follows.

    Attributes:
        agreement: share of the prompts on which two strategies give the same, from which they are one; above 0.
        recoding: the same up to a recoding; otherwise exactly the same.
        least: share of 1/K. A strategy used less is dropped, and one less likely on a prompt not possible there.
        steps: of the run's fit that are made again, the last ones; as many as those of a start where not given.
    """

    agreement: float = 0.9
    recoding: bool = True
    least: float = 0.1
    steps: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.agreement <= 1:
            raise ValueError(f"agreement must be above 0 and at most 1, got {self.agreement}")
        if not 0 <= self.least < 1:
            raise ValueError(f"least must be at least 0 and below 1, got {self.least}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, or null, got {self.steps}")


@dataclass(frozen=True)
class Likeness:
    """How alike two strategies are.

    Attributes:
        common: prompts that they are compared on, in effect, ``(sum w)^2 / sum w^2`` of the weights [Kish 1965].
        agreement: share of them with the same output up to the recoding; 0 where there are none.
        recoding: pairs of symbols of which one stands for the other, on whatever prompt; empty where none is needed.
    """

    common: float
    agreement: float
    recoding: Interchange = frozenset()


@dataclass(frozen=True)
class Pruning:
    """What is left of K strategies.

    Attributes:
        groups: strategies that are one, the most used first, which is the one that is kept; in the order of these.
        unused: strategies hardly used.
        usage: share of each of the K strategies in the mean posterior.
        likeness: of each two that are used, the smaller number first.
    """

    groups: list[list[int]]
    unused: list[int]
    usage: list[float]
    likeness: dict[tuple[int, int], Likeness]

    @property
    def found(self) -> int:
        """The number of strategies."""
        return len(self.groups)

    def recoding(self, group: Sequence[int]) -> Interchange:
        """The pairs that are exchanged between any two of a group."""
        return frozenset().union(*(self.likeness[pair].recoding for pair in combinations(sorted(group), 2)))


def interchange(one: Output, other: Output) -> Interchange | None:
    """The pairs whose interchange makes one output the other: none of them where both are the same.

    It holds for the whole output: ``1 ; 2 ; 3`` and ``1 | 2 | 3`` are related, ``1 ; 2 ; 3`` and ``1 | 2 ; 3`` are
    not, nor are two orders of the same digits that end alike. None where there is no such interchange, where the
    lengths differ, and where less than half of the tokens stay as they are: what changes most of a response is not
    its surface.
    """
    if len(one) != len(other) or 2 * sum(a != b for a, b in zip(one, other, strict=True)) > len(one):
        return None
    swap: dict[int, int] = {}
    for a, b in zip(one, other, strict=True):
        if swap.setdefault(a, b) != b or swap.setdefault(b, a) != a:
            return None
    return frozenset(frozenset(pair) for pair in swap.items() if pair[0] != pair[1])


def likeness(
    one: Sequence[Output], other: Sequence[Output], weight: Sequence[float], settings: PruneSettings
) -> Likeness:
    """How alike two strategies are by their outputs on the same prompts.

    An interchange on one prompt says nothing: ``x = 3`` and ``x = 5`` have one. A recoding is the same whatever the
    prompt. The interchanges that occur are taken from the most frequent on, each that leaves it at :data:`SYMBOLS`
    symbols, until the same outputs and those that they explain are ``settings.agreement`` of all.

    Args:
        one: outputs of one strategy.
        other: those of the other.
        weight: of each prompt, above 0.
        settings: what counts as one.
    """
    if not weight:
        return Likeness(0.0, 0.0)
    counts: dict[Interchange | None, float] = defaultdict(float)
    for a, b, w in zip(one, other, weight, strict=True):
        counts[interchange(a, b)] += w / sum(weight)
    alike, recoding = counts.pop(frozenset(), 0.0), Interchange()
    for pairs, share in sorted(counts.items(), key=lambda item: -item[1]) if settings.recoding else ():
        if _enough(alike, settings):
            break
        if pairs is not None and len(symbols(recoding | pairs)) <= SYMBOLS:
            recoding, alike = recoding | pairs, alike + share
    return Likeness(sum(weight) ** 2 / sum(w * w for w in weight), min(alike, 1.0), recoding)


def symbols(pairs: Interchange) -> frozenset[int]:
    """The symbols of some pairs."""
    return frozenset().union(*pairs)


def find(
    outputs: Sequence[Sequence[Output]], router: Tensor, usage: Sequence[float], settings: PruneSettings
) -> Pruning:
    """The strategies that are hardly used, and the groups of those that are one.

    Two strategies j and k are compared on the prompts on which both are possible, with the weights ``p(j|x) p(k|x)``,
    so that it matters little what a strategy does where it is hardly chosen. They are not one where these are less
    than :data:`COMMON` in effect: they are strategies of different prompts. Likeness is not transitive; groups are
    joined by complete linkage, the most alike first, so that any two of a group are one.

    Args:
        outputs: greedy outputs without end tokens, of each of K strategies those to each of N prompts.
        router: ``p(z|x)``, ``(N, K)``.
        usage: share of each strategy in the mean posterior.
        settings: what counts as one, and as no use.
    """
    K = len(outputs)
    least = settings.least / K
    unused = [k for k in range(K) if usage[k] < least]
    used = [k for k in range(K) if k not in unused]
    law = router.double().T.tolist()
    found = {}
    for j, k in combinations(used, 2):
        common = {n: p * q for n, (p, q) in enumerate(zip(law[j], law[k], strict=True)) if min(p, q) > least}
        one, other = ([outputs[i][n] for n in common] for i in (j, k))
        found[j, k] = likeness(one, other, list(common.values()), settings)
    groups: dict[int, list[int]] = {}
    for k, label in zip(used, _labels(list(found.values()), settings), strict=True):
        groups.setdefault(label, []).append(k)
    first = [sorted(group, key=lambda k: (-usage[k], k)) for group in groups.values()]
    return Pruning(sorted(first), unused, list(usage), found)


def _labels(pairs: Sequence[Likeness], settings: PruneSettings) -> list[int]:
    """The group of each strategy, from the pairs in the order of :func:`itertools.combinations`."""
    if not pairs:
        return [0]
    one = [pair.common >= COMMON - ROUNDING and _enough(pair.agreement, settings) for pair in pairs]
    distance = [1 - pair.agreement if same else 2.0 for pair, same in zip(pairs, one, strict=True)]
    labels: list[int] = fcluster(linkage(distance, "complete"), 1.0, "distance").tolist()
    return labels


def _enough(share: float, settings: PruneSettings) -> bool:
    return share >= settings.agreement - ROUNDING


def record(found: Pruning, text: Callable[[int], str]) -> dict[str, Any]:
    """What was found, for ``prune.json``; ``text`` gives that of a token."""
    K = len(found.usage)
    matrices: dict[str, list[list[float | None]]] = {
        name: [[None] * K for _ in range(K)] for name in ("agreement", "common")
    }
    for (j, k), pair in found.likeness.items():
        for a, b in ((j, k), (k, j)):
            matrices["agreement"][a][b] = pair.agreement if pair.common else None
            matrices["common"][a][b] = pair.common
    recodings = {}
    for group in found.groups:
        pairs = sorted(sorted(map(text, pair)) for pair in found.recoding(group))
        recodings["+".join(map(str, sorted(group)))] = ", ".join(" <-> ".join(pair) for pair in pairs)
    merged = [
        f"{group} (the same up to {pairs})" if pairs else group
        for group, pairs in recodings.items()
        if "+" in group
    ]
    unused = [f"{', '.join(map(str, found.unused))} unused"] if found.unused else []
    said = ", ".join([*merged, *unused]) or "nothing to prune"
    base = ", which is the base itself: the run stays as it was" if found.found == 1 else ""
    return {
        "summary": f"{K} strategies: {said}; {found.found} left{base}",
        "strategies": K,
        "found": found.found,
        "groups": found.groups,
        "unused": found.unused,
        "usage": found.usage,
        "recodings": {group: pairs for group, pairs in recodings.items() if pairs},
        **matrices,
    }
