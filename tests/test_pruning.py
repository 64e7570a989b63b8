"""Which strategies are one: the traces of each task, whatever their marks, and what only looks like a mark."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import linkage
from stratagem.inference import pruning
from stratagem.inference.pruning import (
    Interchange,
    Likeness,
    Output,
    PruneSettings,
    Pruning,
    find,
    interchange,
    likeness,
    record,
)
from stratagem.tasks import (
    Addition,
    BaseConversion,
    Equations,
    Expressions,
    Grid,
    Mixture,
    Sorting,
    StepTask,
    Task,
)
from torch import Tensor

SETTINGS = PruneSettings()

PARTS: list[type[StepTask]] = [Sorting, Addition, Equations, Grid, BaseConversion, Expressions]

TWO, THREE = (";", "|"), (";", "|", "~")


def task_of(place: int, marks: Sequence[str]) -> Task:
    """One of the six, or all of them in one."""
    if place < len(PARTS):
        return PARTS[place](nuisances=marks)
    return Mixture([part(nuisances=marks) for part in PARTS])


class Latents:
    """Strategies of a task, each under several latents that differ in how often they give which mark.

    A latent does what another strategy does on prompts that do not admit its own. It has a probability of ``leak``
    there, times that of a prompt that admits it.

    Args:
        task: the task.
        marks: of each strategy, for each of its latents, the weight of each mark.
        seed: of prompts and marks.
        leak: see above.
        num: prompts of each task.
    """

    def __init__(
        self,
        task: Task,
        marks: Sequence[Sequence[Sequence[float]]],
        seed: int,
        leak: float = 0.0,
        num: int = 60,
    ) -> None:
        rng = random.Random(seed)
        prompts = [p for part in task.parts.values() for p in part.prompts(num, "test", seed)]
        places = {symbol: n for n, symbol in enumerate(task.vocabulary)}
        self.outputs: list[list[Output]] = []
        self.truth: list[set[int]] = []
        columns = []
        for strategy, latents in zip(task.strategies, marks, strict=True):
            self.truth.append(set(range(len(columns), len(columns) + len(latents))))
            for weights in latents:
                rows, column = [], []
                for prompt in prompts:
                    (mark,) = rng.choices(task.nuisances, weights)
                    law = task.admissible(prompt)
                    followed = strategy if strategy in law else rng.choice(list(law))
                    rows.append(tuple(places[s] for s in task.trace(prompt, followed, mark).split()))
                    column.append(law.get(strategy, leak / len(law)) / len(latents))
                self.outputs.append(rows)
                columns.append(torch.tensor(column))
        router = torch.stack(columns, 1)
        self.router = router / router.sum(1, keepdim=True)

    def found(self, settings: PruneSettings = SETTINGS) -> Pruning:
        return pruning.find(self.outputs, self.router, self.router.mean(0).tolist(), settings)


def together(found: Pruning) -> set[frozenset[int]]:
    return {frozenset(group) for group in found.groups}


def assert_strategies_found(latents: Latents) -> None:
    found = latents.found()
    assert together(found) == set(map(frozenset, latents.truth))
    assert found.unused == []


def pure(marks: int) -> list[list[float]]:
    """A latent for each mark, which it gives always."""
    return [[float(m == n) for n in range(marks)] for m in range(marks)]


def law_of_tasks() -> None:
    for place in range(len(PARTS)):
        task = task_of(place, TWO)
        each = [*pure(2), [0.5, 0.5]]
        assert_strategies_found(Latents(task, [each] * len(task.strategies), seed=place))


def law_of_leaks() -> None:
    """A router that leaves something where a strategy is not admissible."""
    task = Grid()
    latents = Latents(task, [pure(2)] * len(task.strategies), seed=0, leak=0.15)
    assert float(latents.router.min()) > SETTINGS.least / 8, "otherwise the threshold is enough"
    assert_strategies_found(latents)


def law_of_answers() -> None:
    """Answers of one symbol have an interchange on every prompt, and no recoding."""
    rng = random.Random(0)
    one, other = ([(20, 21, rng.randrange(10)) for _ in range(60)] for _ in range(2))
    assert all(pruning.interchange(a, b) is not None for a, b in zip(one, other, strict=True))
    assert pruning.likeness(one, other, [1.0] * 60, SETTINGS).agreement < 0.5


def law_of_lengths() -> None:
    """Merging is what its first steps are, and more."""
    task = Sorting(strategies=("merge",))
    long = Latents(task, [pure(2)[:1]], seed=0).outputs[0]
    assert pruning.likeness(long, [row[:-6] for row in long], [1.0] * 60, SETTINGS).agreement == 0


def law_of_order() -> None:
    """Two symbols in another order, and the same end: the same pair on every prompt, and no recoding."""
    one = [(1, 2, n, n, n, 1, 2) for n in range(10, 40)]
    other = [(2, 1, n, n, n, 1, 2) for n in range(10, 40)]
    assert pruning.likeness(one, other, [1.0] * 30, SETTINGS).agreement == 0


def law_of_the_surface() -> None:
    """Ways along the sides of a square are each other's mirror image: three moves exchanged, and most of the path."""
    task = Grid(rows=4, obstacles=2, strategies=("row", "column"))
    latents = Latents(task, [pure(2)[:1]] * 2, seed=0, num=100)
    both = (latents.router > 0).all(1).tolist()
    square = [
        n for n, row in enumerate(latents.outputs[0]) if both[n] and (len(set(row)), len(row)) == (3, 7)
    ]
    one, other = ([rows[n] for n in square] for rows in latents.outputs)
    assert len(square) > 10
    assert pruning.likeness(one, other, [1.0] * len(square), SETTINGS).agreement == 0


def law_of_groups() -> None:
    """Each like the next: of three in a row the ends are not alike, and so not in one group."""
    first = [(n, n, n) for n in range(25)]
    second = [(99, 98, n) if n < 2 else row for n, row in enumerate(first)]
    third = [(99, 98, n) if n in (5, 6) else row for n, row in enumerate(second)]
    usage = [0.3, 0.4, 0.3]
    found = pruning.find([first, second, third], torch.tensor([usage] * 25), usage, SETTINGS)
    assert found.likeness[0, 1].agreement == pytest.approx(0.92)
    assert found.likeness[1, 2].agreement == pytest.approx(0.92)
    assert found.likeness[0, 2].agreement == pytest.approx(0.84)
    assert [len(group) for group in found.groups] == [2, 1]


def few(num: int) -> Pruning:
    """Two strategies with the same outputs, and ``num`` prompts on which both are possible."""
    router = torch.tensor([[0.5, 0.5]] * num + [[1.0, 0.0]] * 20 + [[0.0, 1.0]] * 20)
    rows = [[(n,) for n in range(len(router))]] * 2
    return pruning.find(rows, router, [0.5, 0.5], SETTINGS)


def law_of_the_few() -> None:
    assert few(pruning.COMMON).found == 1
    for num in (0, 9):
        assert few(num).found == 2, num


Law = Callable[[], None]

LAWS: list[Law] = [
    law_of_tasks,
    law_of_leaks,
    law_of_answers,
    law_of_lengths,
    law_of_order,
    law_of_the_surface,
    law_of_groups,
    law_of_the_few,
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_strategies_are_told_from_surfaces(law: Law) -> None:
    law()


def cut_off(one: Output, other: Output) -> Interchange | None:
    shorter = min(len(one), len(other))
    return interchange(one[:shorter], other[:shorter])


def where_they_differ(one: Output, other: Output) -> Interchange | None:
    """Pairs of the tokens that differ alone."""
    if len(one) != len(other):
        return None
    places = [n for n, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    kept = [-n - 1 for n in range(len(places))]
    return interchange([one[n] for n in places] + kept, [other[n] for n in places] + kept)


def whatever_changes(one: Output, other: Output) -> Interchange | None:
    if len(one) != len(other):
        return None
    kept = [-n - 1 for n in range(len(one))]
    return interchange([*one, *kept], [*other, *kept])


def all_alike(
    one: Sequence[Output], other: Sequence[Output], weight: Sequence[float], settings: PruneSettings
) -> Likeness:
    return likeness(one, other, [1.0] * len(weight), settings)


def blind(
    outputs: Sequence[Sequence[Output]], router: Tensor, usage: Sequence[float], settings: PruneSettings
) -> Pruning:
    return find(outputs, torch.ones_like(router), usage, settings)


def single(distance: Sequence[float], method: str) -> np.ndarray:
    assert method == "complete"
    return linkage(distance, "single")


MUTANTS: dict[str, tuple[str, object, Law]] = {
    "any interchange on any prompt": ("SYMBOLS", 10**6, law_of_answers),
    "no interchange": ("SYMBOLS", 1, law_of_tasks),
    "length ignored": ("interchange", cut_off, law_of_lengths),
    "an interchange where they differ": ("interchange", where_they_differ, law_of_order),
    "an interchange of most": ("interchange", whatever_changes, law_of_the_surface),
    "single linkage": ("linkage", single, law_of_groups),
    "one prompt in common": ("COMMON", 1, law_of_the_few),
    "possible or not": ("likeness", all_alike, law_of_leaks),
    "blind to the router": ("find", blind, law_of_tasks),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_tell_wrong_versions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    attribute, wrong, law = MUTANTS[name]
    monkeypatch.setattr(pruning, attribute, wrong)
    with pytest.raises(AssertionError):
        law()


@given(st.data())
@settings(deadline=None, max_examples=25)
def test_whatever_the_marks_the_groups_are_the_strategies(data: st.DataObject) -> None:
    """Any task, two marks or three, latents that give one mark or several, in any shares."""
    marks = data.draw(st.sampled_from([TWO, THREE]))
    task = task_of(data.draw(st.integers(0, len(PARTS))), marks)
    weights = st.lists(st.floats(0.0, 1.0), min_size=len(marks), max_size=len(marks)).filter(any)
    most = 3 if len(task.strategies) < 10 else 1
    each = [data.draw(st.lists(weights, min_size=1, max_size=most)) for _ in task.strategies]
    latents = Latents(task, each, seed=data.draw(st.integers(0, 99)))
    assert_strategies_found(latents)
    assert all(len(pruning.symbols(pair.recoding)) <= 3 for pair in latents.found().likeness.values())


def test_without_recoding_only_what_is_equal_is_one() -> None:
    for place in range(len(PARTS) + 1):
        task = task_of(place, TWO)
        latents = Latents(task, [[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]] * len(task.strategies), seed=1)
        found = latents.found(PruneSettings(recoding=False))
        expected = [
            frozenset(pair) for k in range(0, 3 * len(task.strategies), 3) for pair in ((k, k + 2), (k + 1,))
        ]
        assert together(found) == set(expected)
        assert not any(pair.recoding for pair in found.likeness.values())


INVOLUTIONS = [p for p in permutations(range(4)) if all(p[p[n]] == n for n in range(4))]

words = st.lists(st.integers(0, 3), max_size=6)


@given(words, st.data())
@settings(deadline=None, max_examples=300)
def test_an_interchange_is_what_trying_all_of_them_finds(one: list[int], data: st.DataObject) -> None:
    swap = data.draw(st.sampled_from(INVOLUTIONS))
    other = data.draw(st.one_of(words, st.just([swap[n] for n in one])))
    able = [p for p in INVOLUTIONS if [p[n] for n in one] == other]
    moved = sum(a != b for a, b in zip(one, other, strict=False))
    found = interchange(one, other)
    if not able or 2 * moved > len(one):
        assert found is None
    else:
        assert found == frozenset(frozenset({n, p[n]}) for p in able for n in one if p[n] != n)
    assert found == interchange(other, one)


CORNERS: dict[str, tuple[list[Output], list[Output], float]] = {
    "both empty": ([()] * 20, [()] * 20, 1.0),
    "one empty": ([()] * 20, [(1,)] * 20, 0.0),
    "one of them at times": ([()] * 20, [()] * 10 + [(1,)] * 10, 0.5),
    "one token, always the other": ([(1,)] * 20, [(2,)] * 20, 0.0),
    "one token of two": ([(n, 50) for n in range(20)], [(n, 51) for n in range(20)], 1.0),
    "three marks, one to each": (
        [(n, 50 + n % 3, n) for n in range(20)],
        [(n, 50 + (n + 1) % 3, n) for n in range(20)],
        1.0,
    ),
    "four": ([(n, 50 + n % 4, n) for n in range(20)], [(n, 50 + (n + 1) % 4, n) for n in range(20)], 0.5),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corners(name: str) -> None:
    one, other, agreement = CORNERS[name]
    found = likeness(one, other, [1.0] * len(one), SETTINGS)
    assert found.agreement == pytest.approx(agreement)
    assert found.common == pytest.approx(20)


def test_prompts_count_by_their_weights() -> None:
    found = likeness([(1,), (1,)], [(1,), (2,)], [0.3, 0.1], SETTINGS)
    assert found.agreement == pytest.approx(0.75)
    assert found.common == pytest.approx(0.4**2 / (0.3**2 + 0.1**2))
    assert likeness([], [], [], SETTINGS) == Likeness(0.0, 0.0)


@pytest.mark.parametrize("agreement", [0.1, 0.3, 0.7, 0.9, 1.0])
def test_the_share_that_is_asked_for_is_enough(agreement: float) -> None:
    for num in (10, 20, 30, 70):
        same = round(agreement * num)
        one: list[Output] = [(n,) for n in range(num)]
        two = one[:same] + [(-1,)] * (num - same)
        three = one[: same - 1] + [(-1,)] * (num - same + 1)
        router, settings = torch.full((num, 2), 0.1), PruneSettings(agreement=agreement)
        assert find([one, two], router, [0.5, 0.5], settings).found == 1
        assert find([one, three], router, [0.5, 0.5], settings).found == 2


def test_what_is_hardly_used_is_dropped_and_the_most_used_is_kept() -> None:
    """Whatever it does; the most used of a group comes first, the groups in the order of these."""
    rows: dict[str, list[Output]] = {
        name: [(place, n, n) for n in range(12)] for place, name in enumerate("abc")
    }
    usage = [0.05, 0.2, 0.3, 0.019, 0.431]
    router = torch.tensor([usage] * 12)
    found = find([rows[name] for name in "abbca"], router, usage, SETTINGS)
    assert found.groups == [[2, 1], [4, 0]]
    assert found.unused == [3]
    assert find([rows[name] for name in "abbca"], router, usage, replace(SETTINGS, least=0.09)).unused == []


def test_one_strategy_is_left_where_all_are_one_and_where_one_is_used() -> None:
    router = torch.full((12, 3), 1 / 3)
    same: list[list[Output]] = [[(n,) for n in range(12)]] * 3
    assert find(same, router, [0.3, 0.4, 0.3], SETTINGS).groups == [[1, 0, 2]]
    assert find(same, router, [0.01, 0.98, 0.01], SETTINGS).groups == [[1]]


def test_what_is_found_is_told() -> None:
    marks = {50: ";", 51: "|"}
    rows: list[list[Output]] = [
        [(place, n, mark, n) for n in range(12)]
        for place, mark in ((1, 50), (2, 50), (3, 50), (1, 51), (4, 50))
    ]
    rows.append(rows[1])
    usage = [0.2, 0.3, 0.01, 0.19, 0.1, 0.2]
    found = find(rows, torch.full((12, 6), 1 / 6), usage, SETTINGS)
    told = record(found, marks.__getitem__)
    assert told["summary"] == "6 strategies: 0+3 (the same up to ; <-> |), 1+5, 2 unused; 3 left"
    assert (told["strategies"], told["found"], told["groups"]) == (6, 3, [[0, 3], [1, 5], [4]])
    assert told["recodings"] == {"0+3": "; <-> |"}
    assert told["agreement"][3][0] == told["agreement"][0][3] == 1.0
    assert told["agreement"][0][2] is None
    assert told["common"][1][5] == pytest.approx(12)
    alone = record(find(rows[:2], torch.full((12, 2), 0.5), [0.5, 0.5], SETTINGS), marks.__getitem__)
    assert alone["summary"] == "2 strategies: nothing to prune; 2 left"
    one = record(find(rows[1::4], torch.full((12, 2), 0.5), [0.5, 0.5], SETTINGS), marks.__getitem__)
    assert one["summary"] == "2 strategies: 0+1; 1 left, which is the base itself: the run stays as it was"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"agreement": 0.0}, "agreement must be above 0 and at most 1, got 0.0"),
        ({"agreement": 1.1}, "agreement must be above 0"),
        ({"least": 1.0}, "least must be at least 0 and below 1"),
        ({"steps": 0}, "steps must be at least 1, or null"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, float], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        PruneSettings(**wrong)
