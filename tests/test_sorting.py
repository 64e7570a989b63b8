"""The sorting task: traces against independent sorts, parsers, laws and splits."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stratagem.tasks import Sorting, Task, Trace, split_of
from stratagem.tasks.sorting import ALGORITHMS
from stratagem.tasks.task import check_weights

MARKS = (";", "|", "then")

FALSE_ALARM_Z = 5.0
"""Standard errors allowed for a frequency: a right sampler exceeds them once in 1.7 million, seeds aside."""


unhurried = settings(deadline=None)


def insertion_sort(digits: Sequence[int]) -> Iterator[list[int]]:
    work = list(digits)
    for i in range(1, len(work)):
        held, j = work[i], i
        while j > 0 and work[j - 1] > held:
            work[j] = work[j - 1]
            j -= 1
        work[j] = held
        yield list(work)


def selection_sort(digits: Sequence[int]) -> Iterator[list[int]]:
    work = list(digits)
    for i in range(len(work) - 1):
        place = i + work[i:].index(min(work[i:]))
        held = work[place]
        work[place] = work[i]
        work[i] = held
        yield list(work)


def carried_right(stretch: Sequence[int]) -> list[int]:
    """One pass of neighbour swaps: the largest so far is carried to the right, the others fall behind it."""
    out, carried = [], stretch[0]
    for digit in stretch[1:]:
        out.append(min(carried, digit))
        carried = max(carried, digit)
    return [*out, carried]


def bubble_sort(digits: Sequence[int]) -> Iterator[list[int]]:
    work: list[int] = list(digits)
    done: list[int] = []
    while len(work) > 1:
        *work, largest = carried_right(work)
        done.insert(0, largest)
        yield work + done


def cocktail_sort(digits: Sequence[int]) -> Iterator[list[int]]:
    low: list[int] = []
    work: list[int] = list(digits)
    high: list[int] = []
    rightwards = True
    while len(work) > 1:
        if rightwards:
            *work, largest = carried_right(work)
            high.insert(0, largest)
        else:
            mirrored = carried_right([-digit for digit in reversed(work)])
            smallest, *work = [-digit for digit in reversed(mirrored)]
            low.append(smallest)
        rightwards = not rightwards
        yield low + work + high


def merge_sort(digits: Sequence[int]) -> Iterator[list[int]]:
    runs = [[digit] for digit in digits]
    while len(runs) > 1:
        runs = [list(heapq.merge(*runs[i : i + 2])) for i in range(0, len(runs), 2)]
        yield [digit for run in runs for digit in run]


INDEPENDENT: dict[str, Callable[[Sequence[int]], Iterator[list[int]]]] = {
    "insertion": insertion_sort,
    "selection": selection_sort,
    "bubble": bubble_sort,
    "merge": merge_sort,
    "cocktail": cocktail_sort,
}


def prompt_of(digits: Sequence[int]) -> str:
    return f"sort {' '.join(map(str, digits))} :"


def task_of(length: int, **settings: Any) -> Sorting:
    return Sorting(length, **{"strategies": tuple(ALGORITHMS), "nuisances": MARKS, **settings})


def followed(task: Task, prompt: str, response: str) -> set[str]:
    """By brute force over everything the task can say."""
    return {s for s in task.strategies for n in task.nuisances if task.trace(prompt, s, n) == response}


digit_lists = st.lists(st.integers(0, 9), min_size=3, max_size=9)
names = st.sampled_from(sorted(ALGORITHMS))
marks = st.sampled_from(MARKS)


def test_every_algorithm_has_an_independent_twin() -> None:
    assert INDEPENDENT.keys() == ALGORITHMS.keys()


@pytest.mark.parametrize("name", sorted(INDEPENDENT))
@unhurried
@given(digits=st.lists(st.integers(0, 9), min_size=2, max_size=12))
def test_steps_are_those_of_an_independent_sort(name: str, digits: list[int]) -> None:
    steps = [list(step) for step in ALGORITHMS[name](tuple(digits))]
    assert steps == list(INDEPENDENT[name](digits))
    assert steps[-1] == sorted(digits)
    assert all(sorted(step) == sorted(digits) for step in steps)


def test_traces_by_hand() -> None:
    task = task_of(5)
    expected = {
        "insertion": "1 3 4 1 5 ; 1 3 4 1 5 ; 1 1 3 4 5 ; 1 1 3 4 5",
        "selection": "1 3 4 1 5 ; 1 1 4 3 5 ; 1 1 3 4 5 ; 1 1 3 4 5",
        "bubble": "1 3 1 4 5 ; 1 1 3 4 5 ; 1 1 3 4 5 ; 1 1 3 4 5",
        "merge": "1 3 1 4 5 ; 1 1 3 4 5 ; 1 1 3 4 5",
        "cocktail": "1 3 1 4 5 ; 1 1 3 4 5 ; 1 1 3 4 5 ; 1 1 3 4 5",
    }
    assert {name: task.trace("sort 3 1 4 1 5 :", name, ";") for name in expected} == expected
    assert task.strategies_of("sort 3 1 4 1 5 :", expected["bubble"]) == {"bubble", "cocktail"}


@unhurried
@given(digits=digit_lists, name=names, mark=marks)
def test_every_trace_is_recognised_and_correct(digits: list[int], name: str, mark: str) -> None:
    task, prompt = task_of(len(digits)), prompt_of(digits)
    response = task.trace(prompt, name, mark)
    assert name in task.strategies_of(prompt, response) == followed(task, prompt, response)
    assert task.nuisance_of(response) == mark
    assert task.is_correct(prompt, response)
    assert set(prompt.split()) | set(response.split()) <= set(task.vocabulary)


@unhurried
@given(digits=digit_lists, name=names, mark=marks, data=st.data())
def test_one_digit_changed(digits: list[int], name: str, mark: str, data: st.DataObject) -> None:
    task, prompt = task_of(len(digits)), prompt_of(digits)
    symbols = task.trace(prompt, name, mark).split()
    place = data.draw(st.sampled_from([i for i, symbol in enumerate(symbols) if symbol.isdigit()]))
    symbols[place] = data.draw(st.sampled_from([str(d) for d in range(10) if str(d) != symbols[place]]))
    # No step of a sort gains or loses a digit, so that this is nobody's trace.
    assert task.strategies_of(prompt, " ".join(symbols)) == frozenset()
    assert task.is_correct(prompt, " ".join(symbols)) == (place < len(symbols) - len(digits))


@unhurried
@given(digits=digit_lists, name=names, mark=marks, data=st.data())
def test_a_list_dropped(digits: list[int], name: str, mark: str, data: st.DataObject) -> None:
    task, prompt = task_of(len(digits)), prompt_of(digits)
    lists = task.trace(prompt, name, mark).split(f" {mark} ")
    place = data.draw(st.integers(0, len(lists) - 1))
    left = lists[:place] + lists[place + 1 :]
    response = f" {mark} ".join(left)
    recognised = task.strategies_of(prompt, response)
    assert name not in recognised
    assert recognised == followed(task, prompt, response)
    assert task.is_correct(prompt, response) == (left[-1] == " ".join(map(str, sorted(digits))))


def test_a_trace_cut_to_anothers_is_recognised_as_that_one() -> None:
    task = task_of(4)
    bubble = task.trace("sort 1 2 3 4 :", "bubble", ";")
    assert task.strategies_of("sort 1 2 3 4 :", bubble.removesuffix(" ; 1 2 3 4")) == {"merge"}


@unhurried
@given(digits=digit_lists, name=names, mark=marks, data=st.data())
def test_marks_mixed(digits: list[int], name: str, mark: str, data: st.DataObject) -> None:
    task, prompt = task_of(max(4, len(digits))), prompt_of([*digits, 0] if len(digits) == 3 else digits)
    symbols = task.trace(prompt, name, mark).split()
    places = [i for i, symbol in enumerate(symbols) if symbol == mark]
    other = data.draw(st.sampled_from([n for n in (*MARKS, ",", ":") if n != mark]))
    symbols[data.draw(st.sampled_from(places))] = other
    response = " ".join(symbols)
    recognised = task.strategies_of(prompt, response)
    assert recognised == followed(task, prompt, response)
    assert task.nuisance_of(response) == (other if len(places) == 1 and other in MARKS else None)
    if len(places) > 1 or other not in MARKS:
        assert not recognised
    assert task.is_correct(prompt, response)


@unhurried
@given(digits=digit_lists, name=names, mark=marks)
def test_only_the_exact_text_is_a_trace(digits: list[int], name: str, mark: str) -> None:
    task, prompt = task_of(len(digits)), prompt_of(digits)
    response = task.trace(prompt, name, mark)
    for wrong in ("", mark, f"{response} {mark}", f"{mark} {response}", f"{response} 0", response[:-2]):
        assert task.strategies_of(prompt, wrong) == frozenset()
        assert task.is_correct(prompt, wrong) == (wrong == f"{mark} {response}")


@pytest.mark.parametrize(
    ("response", "correct"),
    [
        ("1 2 3", True),
        ("3 2 1 ; 1 2 3", True),
        ("9 9 9 9 ; 1 2 3", True),
        ("0 1 2 3", False),
        ("1 2 3 ; 3 2 1", False),
        ("2 3", False),
        ("", False),
    ],
)
def test_the_answer_is_the_last_list(response: str, correct: bool) -> None:
    assert task_of(3).is_correct("sort 3 1 2 :", response) is correct


def test_only_admissible_strategies_count() -> None:
    task = Sorting(4, strategies=("bubble", "merge"))
    trace = task_of(4).trace("sort 4 3 2 1 :", "selection", ";")
    assert task_of(4).strategies_of("sort 4 3 2 1 :", trace) == {"selection"}
    assert task.strategies_of("sort 4 3 2 1 :", trace) == frozenset()


class Picky(Sorting):
    """Bubbles alone where the first digit is even."""

    def admissible(self, prompt: str) -> Mapping[str, float]:
        return {"bubble": 1.0} if int(prompt.split()[1]) % 2 == 0 else {"bubble": 0.25, "merge": 0.75}


def test_strategies_that_depend_on_the_prompt() -> None:
    task, rng = Picky(4, strategies=("bubble", "merge")), random.Random(0)
    merge = task.trace("sort 4 3 2 1 :", "merge", ";")
    assert task.strategies_of("sort 4 3 2 1 :", merge) == frozenset()
    assert {task.sample("sort 4 3 2 1 :", rng).strategy for _ in range(50)} == {"bubble"}
    assert set(task.law("sort 4 3 2 1 :").values()) == {0.5}
    assert sorted(task.law("sort 3 4 2 1 :").values()) == pytest.approx([0.125, 0.125, 0.375, 0.375])


weights = st.lists(st.floats(0.01, 100.0), min_size=3, max_size=3)


@unhurried
@given(digits=digit_lists, of_strategies=weights, of_marks=weights)
def test_law_and_entropy_by_brute_force(
    digits: list[int], of_strategies: list[float], of_marks: list[float]
) -> None:
    chosen = ("selection", "bubble", "cocktail")
    task = Sorting(len(digits), chosen, of_strategies, MARKS, of_marks)
    prompt = prompt_of(digits)
    law = task.law(prompt)
    total = sum(of_strategies) * sum(of_marks)
    responses = {task.trace(prompt, s, n) for s in chosen for n in MARKS}
    assert law.keys() == responses
    entropy = 0.0
    for response in responses:
        p = (
            sum(
                w * v
                for s, w in zip(chosen, of_strategies, strict=True)
                for n, v in zip(MARKS, of_marks, strict=True)
                if task.trace(prompt, s, n) == response
            )
            / total
        )
        assert law[response] == pytest.approx(p, rel=1e-12)
        entropy += p * math.log(1 / p)
    assert sum(law.values()) == pytest.approx(1.0, abs=1e-12)
    assert task.entropy(prompt) == pytest.approx(entropy, abs=1e-12)


def test_entropy_where_all_strategies_agree_is_the_marks_alone() -> None:
    task = Sorting(4, ("insertion", "selection", "bubble"), nuisance_weights=(3.0, 1.0))
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert task.entropy("sort 1 2 3 4 :") == pytest.approx(expected, abs=1e-12)
    assert task.entropy("sort 4 3 1 2 :") > expected + 0.5


def assert_frequencies(counts: Mapping[str, int], law: Mapping[str, float]) -> None:
    draws = sum(counts.values())
    assert counts.keys() <= law.keys()
    for outcome, p in law.items():
        error = math.sqrt(p * (1 - p) / draws)
        assert counts.get(outcome, 0) / draws == pytest.approx(p, abs=FALSE_ALARM_Z * error), outcome


def test_sample_respects_unequal_weights() -> None:
    task = Sorting(5, ("insertion", "bubble", "merge"), (0.7, 0.25, 0.05), ("a", "b"), (9.0, 1.0))
    prompt, rng = "sort 5 1 4 1 0 :", random.Random(0)
    draws = [task.sample(prompt, rng) for _ in range(20_000)]
    assert all(d.response == task.trace(prompt, d.strategy, d.nuisance) for d in draws)
    assert_frequencies(Counter(d.strategy for d in draws), task.admissible(prompt))
    assert_frequencies(Counter(d.nuisance for d in draws), {"a": 0.9, "b": 0.1})
    assert_frequencies(Counter(d.response for d in draws), task.law(prompt))
    both = Counter(f"{d.strategy}/{d.nuisance}" for d in draws)
    expected = {
        f"{s}/{n}": p * q for s, p in task.admissible(prompt).items() for n, q in (("a", 0.9), ("b", 0.1))
    }
    assert_frequencies(both, expected)


def test_digits_of_prompts_are_uniform() -> None:
    rng = random.Random(0)
    digits = Counter(d for _ in range(4000) for d in task_of(5).draw_prompt(rng).split()[1:-1])
    assert_frequencies(digits, {str(d): 0.1 for d in range(10)})


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(), num=st.integers(0, 60))
def test_prompts_are_distinct_reproducible_and_of_their_split(seed: int, num: int) -> None:
    task = task_of(5)
    for split in ("train", "test"):
        prompts = task.prompts(num, split, seed)
        assert len(set(prompts)) == len(prompts) == num
        assert prompts == task_of(5).prompts(num, split, seed)
        assert prompts == task.prompts(num + 7, split, seed)[:num]
        assert all(split_of(prompt) == split for prompt in prompts)
        assert all(len(prompt.split()) == 7 for prompt in prompts)


def test_splits_are_disjoint_between_seeds() -> None:
    task = task_of(4)
    train = {p for seed in range(10) for p in task.prompts(400, "train", seed)}
    test = {p for seed in range(10) for p in task.prompts(400, "test", seed)}
    assert not train & test
    assert len(train) > 2000
    assert task.prompts(20, "train", 0) != task.prompts(20, "train", 1)


def test_one_prompt_in_five_is_held_out() -> None:
    prompts = [
        prompt_of((a, b, c, d)) for a in range(10) for b in range(10) for c in range(10) for d in range(10)
    ]
    assert_frequencies(Counter(split_of(prompt) for prompt in prompts), {"test": 0.2, "train": 0.8})


def test_more_prompts_than_there_are() -> None:
    task = task_of(3)
    there = sum(
        split_of(prompt_of((a, b, c))) == "test" for a in range(10) for b in range(10) for c in range(10)
    )
    assert len(task.prompts(there, "test", 0)) == there
    with pytest.raises(ValueError, match=rf"asked for {there + 1} distinct test prompts, found {there}; "):
        task.prompts(there + 1, "test", 0)


@pytest.mark.parametrize("split", ["train", "test"])
def test_stream_is_of_its_split_and_reproducible(split: Any) -> None:
    task = task_of(5)
    pairs = list(islice(task.stream(split, 3), 200))
    assert pairs == list(islice(task_of(5).stream(split, 3), 200))
    assert pairs != list(islice(task.stream(split, 4), 200))
    for pair in pairs:
        assert isinstance(pair, Trace)
        assert split_of(pair.prompt) == split
        assert pair.response in task.law(pair.prompt)
        assert pair.strategy in task.strategies_of(pair.prompt, pair.response)
        assert task.nuisance_of(pair.response) == pair.nuisance
    assert all(a.prompt != b.prompt for a, b in pairwise(pairs))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"length": 2}, "length: expected a whole number from 3 to 99, got 2"),
        ({"strategies": ()}, r"distinct names among insertion, .*; got \[\]"),
        ({"strategies": ("bubble", "bubble")}, r"distinct names .*\['bubble', 'bubble'\]"),
        ({"strategies": ("bubble", "bogo")}, r"insertion, selection, bubble, merge, cocktail; got .*bogo"),
        ({"nuisances": ()}, r"distinct words.*got \[\]"),
        ({"nuisances": (";", ";")}, "distinct words"),
        ({"nuisances": (";", "3")}, "none of them a number"),
        ({"nuisances": ("; ;",)}, "distinct words"),
        ({"nuisances": (":",)}, "distinct words"),
        ({"nuisances": ("sort",)}, "distinct words"),
        (
            {"strategy_weights": (1.0, 1.0)},
            "strategy_weights: expected 4 positive finite weights for insertion",
        ),
        ({"strategy_weights": ()}, "strategy_weights: expected 4"),
        ({"strategy_weights": (1.0, 1.0, 1.0, 0.0)}, "strategy_weights: expected 4 positive"),
        ({"strategy_weights": (1.0, 1.0, 1.0, -1.0)}, "strategy_weights: expected 4 positive"),
        ({"strategy_weights": (1.0, 1.0, 1.0, math.nan)}, "strategy_weights: expected 4 positive"),
        ({"strategy_weights": (1.0, 1.0, 1.0, math.inf)}, "strategy_weights: expected 4 positive"),
        (
            {"nuisance_weights": (1.0,)},
            r"nuisance_weights: expected 2 .* for ;, \|, got \[1\.0\]",
        ),
    ],
)
def test_what_the_constructor_refuses(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        Sorting(**arguments)
    assert str(caught.value).startswith("task sorting")


@unhurried
@given(given_weights=weights)
def test_weights_become_a_law(given_weights: list[float]) -> None:
    law = check_weights("here", MARKS, tuple(given_weights))
    assert sum(law) == pytest.approx(1.0, abs=1e-12)
    assert [p / law[0] for p in law] == pytest.approx([w / given_weights[0] for w in given_weights])
    assert check_weights("here", MARKS, None) == (1 / 3, 1 / 3, 1 / 3)
    assert Sorting(strategy_weights=[4, 2, 1, 1]).strategy_weights == (0.5, 0.25, 0.125, 0.125)
