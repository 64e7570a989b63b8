"""Each task's own sense by other means: traces by hand, steps that hold, right answers."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stratagem.tasks import Addition, BaseConversion, Equations, Expressions, Grid, StepTask

from .task_fixtures import as_given, numbers, prompt_of, unhurried


@pytest.mark.parametrize(
    ("task", "pair", "shared"),
    [
        (Equations(), ("terms", "divide"), 1),
        (Expressions(), ("from_left", "from_right"), 1),
        (Expressions(3), ("from_left", "from_right"), 1),
    ],
)
def test_late_divergence(task: StepTask, pair: tuple[str, str], shared: int) -> None:
    """The first steps are the same, the next never."""
    met = 0
    for prompt in task.prompts(300, "test", 0):
        if set(pair) <= task.admissible(prompt).keys():
            one, other = (task.trace(prompt, s, ";").split(" ; ") for s in pair)
            assert one[:shared] == other[:shared]
            assert one[shared] != other[shared]
            met += 1
    assert met > 60


BY_HAND = {
    "add 4 7 + 8 6 :": {
        "carry": "1 3 ; 1 3 ; 1 3 3",
        "left": "1 2 ; 1 3 3",
        "partial": "1 2 0 ; 1 3 ; 1 3 3",
        "complement": "1 4 ; 1 4 7 ; 1 3 3",
    },
    "solve 5 x + 6 = 2 x + 1 8 :": {
        "terms": "3 x + 6 = 1 8 ; 3 x = 1 2 ; x = 4",
        "divide": "3 x + 6 = 1 8 ; x + 2 = 6 ; x = 4",
        "constants": "5 x = 2 x + 1 2 ; 3 x = 1 2 ; x = 4",
        "formula": "x = ( 1 8 - 6 ) / ( 5 - 2 ) ; x = 1 2 / 3 ; x = 4",
    },
    "solve 2 x + 1 9 = 5 x + 7 :": {
        "terms": "1 9 = 3 x + 7 ; 1 2 = 3 x ; x = 4",
        "constants": "2 x + 1 2 = 5 x ; 1 2 = 3 x ; x = 4",
        "formula": "x = ( 1 9 - 7 ) / ( 5 - 2 ) ; x = 1 2 / 3 ; x = 4",
    },
    "path 1 3 # 0 2 # 3 1 # 3 4 :": {
        "staircase": "D ; R ; D ; R ; D D",
        "wall": "D ; R R ; U ; R ; D D ; L ; D D",
    },
    "path 3 0 # 1 1 # 3 2 # 3 3 :": {
        "row": "L L L ; D D D D",
        "staircase": "D ; L ; D ; L ; D ; L ; D",
        "wall": "R ; D D D D ; L L L L",
    },
    "path 0 2 # 1 0 # 2 4 # 3 2 :": {"wall": "R R R R ; D ; L ; D D ; R ; D ; L L"},
    "base 1 3 7 to 4 :": {
        "division": "3 4 r 1 ; 8 r 2 ; 2 r 0 ; 2 0 2 1",
        "powers": "2 r 9 ; 0 r 9 ; 2 r 1 ; 2 0 2 1",
        "places": "1 2 1 0 ; 2 0 0 2 ; 2 0 2 1",
        "binary": "1 0 0 0 1 0 0 1 ; 2 0 2 1",
    },
    "base 9 0 9 to 5 :": {
        "division": "1 8 1 r 4 ; 3 6 r 1 ; 7 r 1 ; 1 r 2 ; 1 2 1 1 4",
        "powers": "1 r 2 8 4 ; 2 r 3 4 ; 1 r 9 ; 1 r 4 ; 1 2 1 1 4",
        "places": "1 2 1 0 0 ; 1 2 1 0 0 ; 1 2 1 1 4",
    },
    "eval 4 * ( 3 + 5 ) + 8 :": {
        "bracket": "4 * 8 + 8 ; 3 2 + 8 ; 4 0",
        "from_left": "1 2 + 2 0 + 8 ; 3 2 + 8 ; 4 0",
        "from_right": "1 2 + 2 0 + 8 ; 1 2 + 2 8 ; 4 0",
        "factoring": "4 * ( 3 + 5 + 2 ) ; 4 * 1 0 ; 4 0",
    },
}


@pytest.mark.parametrize("prompt", BY_HAND)
def test_traces_by_hand(prompt: str) -> None:
    task = {part.head: part for part in as_given()}[prompt.split()[0]]
    assert {s: task.trace(prompt, s, ";") for s in task.admissible(prompt)} == BY_HAND[prompt]


def reckoned(text: str, x: int = 0) -> float:
    """The value of an expression, ``3 x`` a product."""
    joined = re.sub(r"(?<=\d) (?=\d)", "", text)
    return float(eval(joined.replace(" x", " * x").strip(" *"), {"x": x}))


@unhurried
@given(number=numbers)
def test_every_equation_has_the_solution(number: int) -> None:
    task = Equations(12, 40, 15)
    prompt = prompt_of(task, number)
    sides = prompt.removeprefix("solve ").removesuffix(" :")
    (x,) = [x for x in range(16) if reckoned(sides.split("=")[0], x) == reckoned(sides.split("=")[1], x)]
    assert task.is_correct(prompt, f"x = {' '.join(str(x))}")
    assert not task.is_correct(prompt, f"x = {' '.join(str(x + 1))}")
    for strategy in task.admissible(prompt):
        for step in task.trace(prompt, strategy, ";").split(" ; "):
            one, other = step.split("=")
            assert reckoned(one, x) == reckoned(other, x), step
    parts = [int(p.replace(" ", "")) for p in re.findall(r"\d(?: \d)*", prompt)]
    k = abs(parts[0] - parts[2])
    assert ("divide" in task.admissible(prompt)) == (k > 1 and not min(parts[1], parts[3]) % k)


@unhurried
@given(number=numbers)
def test_every_expression_has_the_value(number: int) -> None:
    task = Expressions(3, 12, 15, 40)
    prompt = prompt_of(task, number)
    value = reckoned(prompt.removeprefix("eval ").removesuffix(" :"))
    for strategy in task.admissible(prompt):
        steps = task.trace(prompt, strategy, ";").split(" ; ")
        assert [reckoned(step) for step in steps] == [value] * len(steps)
        assert steps[-1].replace(" ", "").isdigit()


@unhurried
@given(number=numbers)
def test_every_step_of_a_conversion_holds(number: int) -> None:
    task = BaseConversion(5000, (3, 4, 8, 9))
    prompt = prompt_of(task, number)
    asked, base = (int(n.replace(" ", "")) for n in re.findall(r"\d(?: \d)*", prompt))
    rows = {
        s: [step.replace(" ", "") for step in task.trace(prompt, s, ";").split(" ; ")]
        for s in task.admissible(prompt)
    }
    assert {int(steps[-1], base) for steps in rows.values()} == {asked}
    assert ("binary" in rows) == (base in (4, 8))
    left = asked
    for step in rows["division"][:-1]:
        quotient, remainder = map(int, step.split("r"))
        assert (left, remainder < base) == (quotient * base + remainder, True)
        left = quotient
    assert left < base
    left, power = asked, base ** (len(rows["powers"]) - 1)
    for step in rows["powers"][:-1]:
        times, remainder = map(int, step.split("r"))
        assert (left, remainder < power) == (times * power + remainder, True)
        left, power = remainder, power // base
    assert power == 1
    heads = [str(asked)[: i + 1].ljust(len(str(asked)), "0") for i in range(len(str(asked)))]
    assert [int(part, base) for part in rows["places"]] == list(map(int, heads))
    assert "binary" not in rows or int(rows["binary"][0], 2) == asked


@unhurried
@given(a=st.integers(1000, 9999), b=st.integers(1000, 9999))
def test_every_step_of_an_addition_holds(a: int, b: int) -> None:
    task, prompt = Addition(4), f"add {' '.join(str(a))} + {' '.join(str(b))} :"
    rows = {
        s: [int(step.replace(" ", "")) for step in task.trace(prompt, s, ";").split(" ; ")]
        for s in task.strategies
    }
    assert {steps[-1] for steps in rows.values()} == {a + b}
    places = (1, 10, 100, 1000)
    assert sum(c % 10 * p for c, p in zip(rows["carry"], places, strict=False)) + (
        rows["carry"][-2] // 10 * 10000
    ) == (a + b)
    assert sum(rows["partial"][:-1]) == a + b
    assert rows["left"] == [a // p + b // p for p in reversed(places)]
    assert rows["complement"][0] + b == 10000
    assert rows["complement"][1] - rows["complement"][0] == a + b


@unhurried
@given(number=numbers)
def test_every_path_is_free_and_what_is_blocked_is_refused(number: int) -> None:
    task = Grid(6, 5, 5)
    prompt = prompt_of(task, number)
    (entry, door), *cells = ((int(r), int(c)) for r, c in re.findall(r"(\d) (\d)", prompt))
    sideways = "R" if door > entry else "L"
    across, down = sideways * abs(door - entry), "D" * 5
    stairs = "".join(a + b for a, b in itertools.zip_longest(down, across, fillvalue=""))
    free = {}
    for strategy, moves in {"row": across + down, "column": down + across, "staircase": stairs}.items():
        spots = list(itertools.accumulate(moves, after, initial=(0, entry)))
        assert spots[-1] == (5, door)
        free[strategy] = not set(spots) & set(cells)
        assert task.is_correct(prompt, " ".join(moves)) == free[strategy]
        if free[strategy]:
            assert task.trace(prompt, strategy, ";").replace(" ; ", " ") == " ".join(moves)
    assert task.admissible(prompt).keys() - {"wall"} == {s for s in free if free[s]}
    assert len(task.admissible(prompt)) >= 2
    if "wall" in task.admissible(prompt):
        moves = task.trace(prompt, "wall", ";").replace(" ; ", " ").split()
        spots = list(itertools.accumulate(moves, after, initial=(0, entry)))
        assert spots[-1] == (5, door)
        assert not set(spots) & set(cells)
        assert all(r in range(6) and c in range(5) for r, c in spots)
        assert len(set(spots)) == len(spots)
        blocked = {
            *cells,
            *((r, c) for r in (-1, 6) for c in range(5)),
            *((r, c) for r in range(6) for c in (-1, 5)),
        }
        hand = {"R": "U", "D": "R", "L": "D", "U": "L"}
        for spot, move, following in zip(spots[1:], moves, moves[1:], strict=False):
            assert following == hand[move] or after(spot, hand[move]) in blocked


def after(cell: tuple[int, int], move: str) -> tuple[int, int]:
    step = {"U": (-1, 0), "D": (1, 0), "L": (0, -1), "R": (0, 1)}[move]
    return cell[0] + step[0], cell[1] + step[1]


@pytest.mark.parametrize(
    ("response", "correct"),
    [
        ("R R ; D D D D", True),
        ("R R D D D D", True),
        ("D ; R R ; D D D", False),
        ("R R | D D D", False),
        ("R R ; D D D D ; D", False),
        ("L ; R R R ; D D D D", False),
        ("R R ; D D D D ; R ; L", True),
        ("R R 0 D D D D", False),
        ("", False),
    ],
)
def test_any_free_path_is_a_right_answer(response: str, correct: bool) -> None:
    assert Grid().is_correct("path 0 2 # 1 1 # 3 0 # 4 4 :", response) is correct


@pytest.mark.parametrize(
    ("response", "correct"),
    [
        ("1 3 3", True),
        ("9 ; 1 3 3", True),
        ("9 | 1 3 3", True),
        ("9 1 3 3", False),
        ("1 3 3 ; 9", False),
        ("1 3 3 ;", False),
        ("0 1 3 3", False),
        ("", False),
    ],
)
def test_the_answer_is_the_last_step(response: str, correct: bool) -> None:
    assert Addition().is_correct("add 4 7 + 8 6 :", response) is correct


def test_every_number_is_told_in_any_base() -> None:
    task = BaseConversion(99, tuple(range(3, 10)))
    small = BaseConversion(99, (3,))
    for number, base in itertools.product(range(10, 100), range(3, 10)):
        part = small if base == 3 else task
        if number < part.smallest:
            continue
        prompt = f"base {' '.join(str(number))} to {base} :"
        for strategy in part.admissible(prompt):
            assert part.strategies_of(prompt, part.trace(prompt, strategy, ";")) == {strategy}
