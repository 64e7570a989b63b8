"""Every synthetic task: traces, parsers, laws, splits and vocabularies; then each task's own sense by other means."""

from __future__ import annotations

import inspect
import itertools
import math
import random
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from stratagem import tasks
from stratagem.inference.build import node
from stratagem.inference.commands import main
from stratagem.inference.data import TaskData
from stratagem.inference.pretrain import TaskReport
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
    split_of,
)

from .fit_fixtures import own_logging

FALSE_ALARM = 1e-5
"""Of a chi-square: a right sampler is accused once in 100,000 tests, seeds aside."""

UNEQUAL = (0.4, 0.3, 0.25, 0.05)

CLASSES = [
    found
    for found in (getattr(tasks, name) for name in tasks.__all__)
    if inspect.isclass(found) and issubclass(found, StepTask) and not inspect.isabstract(found)
]


def as_given() -> list[StepTask]:
    """Every task with its own defaults."""
    return [found() for found in CLASSES]


def resized() -> list[StepTask]:
    """Every task in another size, with rare strategies and a nuisance of the strategies' entropy."""
    law: dict[str, Any] = {
        "strategy_weights": UNEQUAL,
        "nuisances": (";", "|", "then", "&"),
        "nuisance_weights": UNEQUAL,
    }
    return [
        Sorting(4, **law),
        Addition(3, **law),
        Equations(5, 30, 12, **law),
        Grid(6, 7, 5, **law),
        BaseConversion(1500, (3, 4, 8), **law),
        Expressions(3, 5, 12, 30, **law),
    ]


TASKS: dict[str, Task] = {
    **{part.name: part for part in as_given()},
    **{f"{part.name}, resized": part for part in resized()},
    "all": Mixture(as_given()),
    "all, resized": Mixture(resized(), (3, 1, 1, 1, 1, 1)),
}

PARTS = {name: task for name, task in TASKS.items() if isinstance(task, StepTask)}

every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
every_part = pytest.mark.parametrize("task", PARTS.values(), ids=PARTS)
unhurried = settings(deadline=None, max_examples=40)
numbers = st.integers(0, 2**32)


def prompt_of(task: Task, number: int) -> str:
    return task.draw_prompt(random.Random(number))


def followed(task: Task, prompt: str, response: str) -> set[str]:
    """By brute force over everything the task can say."""
    return {
        s for s in task.admissible(prompt) for n in task.nuisances if task.trace(prompt, s, n) == response
    }


def entropy(law: Sequence[float]) -> float:
    return -sum(p * math.log(p) for p in law)


def assert_frequencies(drawn: Counter[Any], law: dict[Any, float]) -> None:
    assert drawn.keys() <= law.keys()
    if len(law) > 1:
        total = sum(drawn.values())
        found = chisquare([drawn[k] for k in law], [p * total / sum(law.values()) for p in law.values()])
        assert found.pvalue > FALSE_ALARM, (drawn, law)


def test_every_task_is_here() -> None:
    assert {type(part) for part in resized()} == set(CLASSES)
    assert len(CLASSES) == 6


@every_task
@unhurried
@given(number=numbers)
def test_every_trace_is_recognised_and_correct(task: Task, number: int) -> None:
    prompt = prompt_of(task, number)
    texts = {(s, n): task.trace(prompt, s, n) for s in task.admissible(prompt) for n in task.nuisances}
    for (strategy, nuisance), text in texts.items():
        assert task.strategies_of(prompt, text) == {s for (s, _), other in texts.items() if other == text}
        assert strategy in task.strategies_of(prompt, text)
        assert task.nuisance_of(text) == nuisance
        assert task.is_correct(prompt, text)
        assert task.trace(prompt, strategy, task.nuisances[0]) == " ".join(
            task.nuisances[0] if symbol == nuisance else symbol for symbol in text.split()
        )


@every_task
@unhurried
@given(number=numbers, data=st.data())
def test_a_corrupted_trace_is_nobodys_or_anothers(task: Task, number: int, data: st.DataObject) -> None:
    prompt = prompt_of(task, number)
    strategy = data.draw(st.sampled_from(sorted(task.admissible(prompt))))
    symbols = task.trace(prompt, strategy, data.draw(st.sampled_from(task.nuisances))).split()
    whole, place = " ".join(symbols), data.draw(st.integers(0, len(symbols) - 1))
    symbol = data.draw(st.sampled_from([*task.vocabulary, "?"]))
    match data.draw(st.sampled_from(["change", "drop", "add", "swap"])):
        case "change":
            symbols[place] = symbol
        case "drop":
            del symbols[place]
        case "add":
            symbols.insert(place, symbol)
        case "swap":
            other = data.draw(st.integers(0, len(symbols) - 1))
            symbols[place], symbols[other] = symbols[other], symbols[place]
    text = " ".join(symbols)
    found = task.strategies_of(prompt, text)
    assert found == followed(task, prompt, text)
    assert bool(found) == (text in task.law(prompt))
    own = {task.trace(prompt, strategy, nuisance) for nuisance in task.nuisances}
    assert (strategy in found) == (text in own), "a trace with one mark alone is one again with another mark"
    assert task.strategies_of(prompt, f" {whole}") == frozenset()


@every_task
def test_no_text_at_all_breaks_a_parser(task: Task) -> None:
    rng = random.Random(0)
    for number in range(200):
        prompt = prompt_of(task, number)
        text = " ".join(rng.choices([*task.vocabulary, "<unk>"], k=rng.randrange(12)))
        assert task.strategies_of(prompt, text) == followed(task, prompt, text)
        assert task.nuisance_of(text) in (None, *task.nuisances)
        assert isinstance(task.is_correct(prompt, text), bool)


@every_task
def test_admissible_strategies_share_the_weights_of_the_others(task: Task) -> None:
    weights = dict(zip(task.strategies, task.strategy_weights, strict=True))
    for number in range(60):
        prompt = prompt_of(task, number)
        law = task.admissible(prompt)
        total = sum(weights[s] for s in law)
        assert law == pytest.approx({s: weights[s] / total for s in law})
        for strategy in {*task.strategies, "guess"} - law.keys():
            named = f"{strategy.split('/')[-1]} is not admissible on the prompt '{prompt}'; expected one of"
            with pytest.raises(ValueError, match=re.escape(named)) as refusal:
                task.trace(prompt, strategy, task.nuisances[0])
            assert all(s.split("/")[-1] in str(refusal.value) for s in law)


@every_task
def test_frequencies_of_samples(task: Task) -> None:
    """And the nuisance has the same law under each strategy."""
    rng = random.Random(0)
    for number in range(3):
        prompt = prompt_of(task, number)
        draws = [task.sample(prompt, rng) for _ in range(1000)]
        assert all(d.response == task.trace(prompt, d.strategy, d.nuisance) for d in draws[:50])
        law = task.admissible(prompt)
        of_mark = {
            n: sum(p for text, p in task.law(prompt).items() if task.nuisance_of(text) == n)
            for n in task.nuisances
        }
        joint = {(s, n): p * q for s, p in law.items() for n, q in of_mark.items()}
        assert_frequencies(Counter(d.strategy for d in draws), dict(law))
        assert_frequencies(Counter((d.strategy, d.nuisance) for d in draws), joint)
        assert_frequencies(Counter(d.response for d in draws), task.law(prompt))
        assert sum(task.law(prompt).values()) == pytest.approx(1)


@every_part
def test_the_nuisance_is_independent_of_prompt_and_strategy(task: StepTask) -> None:
    drawn = list(itertools.islice(task.stream("train", 0), 2000))
    law = dict(zip(task.nuisances, task.nuisance_weights, strict=True))
    for strategy in task.strategies:
        assert_frequencies(Counter(d.nuisance for d in drawn if d.strategy == strategy), law)
    for half in (0, 1):
        assert_frequencies(
            Counter(d.nuisance for d in drawn if zlib.crc32(d.prompt.encode()) % 2 == half), law
        )


def test_the_nuisance_can_have_the_entropy_of_the_strategy() -> None:
    for part in resized():
        assert entropy(part.nuisance_weights) == pytest.approx(entropy(part.strategy_weights))
        assert min(part.strategy_weights) == pytest.approx(0.05)


@every_task
def test_prompts_of_the_two_splits(task: Task) -> None:
    train, test = task.prompts(2000, "train", 0), task.prompts(300, "test", 0)
    assert not set(train) & set(test)
    assert len(set(train)) == 2000
    assert {split_of(p) for p in train} == {"train"}
    assert {split_of(p) for p in test} == {"test"}
    assert task.prompts(300, "test", 0) == test
    assert task.prompts(300, "test", 1) != test


@every_task
def test_the_vocabulary_is_what_is_used(task: Task) -> None:
    used: set[str] = set()
    for number in range(600):
        prompt = prompt_of(task, number)
        law = task.admissible(prompt)
        used |= {*prompt.split(), *(x for s in law for x in task.trace(prompt, s, task.nuisances[0]).split())}
    assert used | set(task.nuisances) == set(task.vocabulary)
    assert len(set(task.vocabulary)) == len(task.vocabulary)


@pytest.mark.parametrize("task", as_given(), ids=lambda task: task.name)
def test_lengths_and_differences(task: StepTask) -> None:
    """Short enough for a small base, and different on most prompts; the figures are printed (``pytest -s``)."""
    prompts = task.prompts(500, "test", 0)
    texts = [{s: task.trace(p, s, ";").split() for s in task.admissible(p)} for p in prompts]
    told = [len({tuple(text) for text in found.values()}) == len(found) for found in texts]
    lengths = [len(text) for found in texts for text in found.values()]
    whole = [len(p.split()) + max(map(len, found.values())) for p, found in zip(prompts, texts, strict=True)]
    share, choice = sum(told) / len(told), sum(len(found) for found in texts) / len(texts)
    law = sum(entropy(list(task.admissible(p).values())) for p in prompts) / len(prompts)
    print(
        f"{task.name}: prompt {sum(len(p.split()) for p in prompts) / 500:.1f} tokens, response "
        f"{sum(lengths) / len(lengths):.1f} (max {max(lengths)}), both {max(whole)}; all traces distinct on "
        f"{share:.3f} of the prompts; {choice:.2f} strategies a prompt, H(s|x) {law:.3f} nats"
    )
    assert max(whole) <= 46
    assert share >= (0.75 if isinstance(task, Sorting) else 0.99)
    assert min(Counter(s for found in texts for s in found).values()) >= 0.25 * len(prompts)
    assert law > 0.6 * math.log(len(task.strategies))


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


@every_part
@pytest.mark.parametrize(
    "prompt", ["", "tell me a story", "{head} :", "{head} 1 2", "{head} 1 2 3 4 5 6 7 8 9 :"]
)
def test_a_foreign_prompt_is_refused(task: StepTask, prompt: str) -> None:
    prompt = prompt.format(head=task.head)
    with pytest.raises(ValueError, match=rf"^task {task.name}: .* is not a prompt .* '{task.head} "):
        task.admissible(prompt)


@pytest.mark.parametrize(
    ("task", "prompt"),
    [
        (Sorting(), "sort 1 2 3 4 :"),
        (Addition(), "add 1 2 + 3 :"),
        (Addition(), "add 12 + 3 4 :"),
        (Equations(), "solve 3 x + 1 = 3 x + 4 :"),
        (Equations(), "solve 5 x + 1 = 3 x + 4 :"),
        (Equations(), "solve 3 x + 1 = 5 x + 5 :"),
        (Grid(), "path 1 1 # 2 2 :"),
        (Grid(), "path 0 1 # 0 0 :"),
        (Grid(), "path 0 1 # 2 7 :"),
        (BaseConversion(), "base 1 2 3 to 3 :"),
        (BaseConversion(), "base 1 2 to 4 :"),
        (Expressions(), "eval 3 * ( 4 + 5 + 6 ) + 1 :"),
        (Expressions(), "eval 0 * ( 4 + 5 ) + 1 :"),
    ],
)
def test_an_impossible_prompt_is_refused(task: StepTask, prompt: str) -> None:
    for use in (task.admissible, lambda p: task.trace(p, task.strategies[0], ";"), task.law):
        with pytest.raises(ValueError, match=rf"^task {task.name}: '{re.escape(prompt)}' is not a prompt"):
            use(prompt)


@pytest.mark.parametrize("made", CLASSES)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"strategies": ()}, r"distinct names among \w+, .*; got \[\]"),
        ({"strategies": ("guess",)}, r"distinct names among .*got \['guess'\]"),
        ({"nuisances": ()}, r"distinct words.*got \[\]"),
        ({"nuisances": (";", ";")}, "distinct words"),
        ({"nuisances": ("7",)}, "none of them a number"),
        ({"nuisances": ("<eos>", ";")}, "a special token such as <eos>"),
        ({"nuisances": (1, 2)}, r"got \[1, 2\]"),
        ({"nuisances": (":",)}, "another symbol of the task"),
        ({"nuisances": ("",)}, "distinct words"),
        ({"strategy_weights": (1.0, 0.0, 1.0, 1.0)}, "strategy_weights: expected 4 positive"),
        ({"nuisance_weights": (1.0,)}, "nuisance_weights: expected 2"),
    ],
)
def test_what_every_task_refuses(made: type[StepTask], arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^task {made.name}.*{says}"):
        made(**arguments)


@pytest.mark.parametrize(
    ("made", "arguments", "says"),
    [
        (Sorting, {"length": 2}, "sorting, length: expected a whole number from 3 to 99, got 2"),
        (Sorting, {"length": "5"}, "sorting, length: expected a whole number from 3 to 99, got 5"),
        (Addition, {"digits": 1}, "addition, digits: expected a whole number from 2 to 9, got 1"),
        (Addition, {"digits": 2.5}, "addition, digits: expected a whole number from 2 to 9, got 2.5"),
        (Equations, {"coefficient": 2}, "equations, coefficient: expected .* from 3"),
        (Equations, {"constant": 0}, "equations, constant"),
        (Equations, {"solution": 0}, "equations, solution"),
        (Grid, {"rows": 2}, "grid, rows"),
        (Grid, {"columns": 11}, "grid, columns: expected a whole number from 3 to 10, got 11"),
        (Grid, {"obstacles": 24}, "grid, obstacles: expected a whole number from 0 to 23"),
        (BaseConversion, {"bases": ()}, r"bases: expected distinct ones from 3 to 9, got \[\]"),
        (BaseConversion, {"bases": (4, 4)}, "bases: expected distinct"),
        (BaseConversion, {"bases": (2,)}, "bases: expected distinct"),
        (BaseConversion, {"largest": 63}, "largest: expected a whole number from 64 to 99999, got 63"),
        (BaseConversion, {"strategies": ("binary",)}, "binary converts to base 5; leave it out"),
        (Expressions, {"terms": 1}, "expressions, terms"),
        (Expressions, {"factor": 1}, "expressions, factor"),
        (Expressions, {"term": 0}, "expressions, term:"),
        (Expressions, {"addend": 0}, "expressions, addend"),
    ],
)
def test_sizes_out_of_range(made: type[StepTask], arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made(**arguments)


@pytest.mark.parametrize("task", [Equations(strategies=("divide",)), Expressions(strategies=("factoring",))])
def test_prompts_admit_one_of_the_strategies_that_there_are(task: StepTask) -> None:
    pairs = itertools.islice(task.stream("train", 0), 50)
    for prompt in [*task.prompts(100, "test", 0), *(pair.prompt for pair in pairs)]:
        assert dict(task.admissible(prompt)) == {task.strategies[0]: 1.0}


def test_a_split_without_a_prompt_is_refused() -> None:
    task = BaseConversion(25, (5,))
    with pytest.raises(ValueError, match="task base_conversion: no train prompt in 100,000 draws; enlarge"):
        next(task.stream("train", 0))
    with pytest.raises(
        ValueError, match=r"'add 1 :' is not a prompt of this task; expected .* 'base 2 5 to 5 :'"
    ):
        task.admissible("add 1 :")


def test_the_loss_above_a_floor_of_nothing_is_infinite() -> None:
    assert TaskReport(0.1, 0.0, 1.0, {}).excess == math.inf
    assert TaskReport(1.1, 1.0, 1.0, {}).excess == pytest.approx(0.1)


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


def test_a_grid_without_a_way_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"task grid: 20 obstacles in 5 rows of 5 leave no .* lower obstacles"
    ):
        Grid(obstacles=20).draw_prompt(random.Random(0))


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], r"different words, got \[\]"),
        ([Sorting(), Sorting(4)], r"different words, got \['sorting', 'sorting'\]"),
        ([Sorting(), Addition(nuisances=("a", "b"))], "same nuisances .*sorting ; |, addition a b"),
    ],
)
def test_what_a_mixture_refuses(parts: list[StepTask], says: str) -> None:
    with pytest.raises(ValueError, match=f"^task all: expected .*{says}"):
        Mixture(parts)


@pytest.mark.parametrize("prompt", ["", "sing a song :"])
def test_a_prompt_of_no_task_of_a_mixture(prompt: str) -> None:
    with pytest.raises(ValueError, match="no prompt of a task here; expected one that begins with sort, add"):
        Mixture([Sorting(), Addition()]).admissible(prompt)


def test_a_mixture_is_its_tasks() -> None:
    mixture, rng = Mixture(resized(), (3, 1, 1, 1, 1, 1)), random.Random(0)
    drawn = [mixture.draw_prompt(rng) for _ in range(2000)]
    shares = dict(zip(mixture.tasks, (3 / 8, *[1 / 8] * 5), strict=True))
    assert_frequencies(Counter(p.split()[0] for p in drawn), shares)
    for prompt in drawn[:100]:
        part = mixture.tasks[prompt.split()[0]]
        assert mixture.task_of(prompt) is part
        assert mixture.law(prompt) == part.law(prompt)
        assert mixture.entropy(prompt) == part.entropy(prompt)
        law = part.admissible(prompt)
        assert mixture.admissible(prompt) == {f"{part.name}/{s}": p for s, p in law.items()}
        for strategy in law:
            assert mixture.trace(prompt, f"{part.name}/{strategy}", "|") == part.trace(prompt, strategy, "|")
    assert sum(mixture.strategy_weights) == pytest.approx(1)
    assert mixture.nuisance_weights == pytest.approx(UNEQUAL)
    own = {f"{part.name}/{s}" for part in mixture.tasks.values() for s in part.strategies}
    assert set(mixture.strategies) == own
    assert {len(part.strategies) for part in mixture.tasks.values()} == {4}


def composed(*overrides: str) -> Task:
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        return instantiate(node(compose("pretrain", list(overrides)), "task"))


@pytest.mark.parametrize("made", CLASSES)
def test_a_yaml_says_the_defaults_of_its_class(made: type[StepTask]) -> None:
    task, default = composed(f"task={made.name}"), made()
    assert type(task) is made
    assert vars(task) == vars(default)


def test_the_yaml_of_all_has_every_task_and_can_be_changed() -> None:
    task = composed("task=all", "task.tasks.sorting.length=4", "task.weights=[5,1,1,1,1,1]")
    assert isinstance(task, Mixture)
    assert {type(part) for part in task.tasks.values()} == set(CLASSES)
    assert task.weights[0] == 0.5
    assert vars(task.tasks["sort"])["length"] == 4


def test_data_of_the_mixture() -> None:
    texts = TaskData(Mixture(as_given()), num_train=60, num_test=20, responses="task").texts("train", 0)
    assert all(r in Mixture(as_given()).law(p) for p, r in zip(texts.prompts, texts.responses, strict=True))


def test_a_base_is_trained_on_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["stratagem"])
    sizes = ["size.hidden=16", "size.layers=1", "size.heads=2", "context=48", "rows=2", "test_size=6"]
    with own_logging():
        main(["pretrain", f"run={tmp_path}", "steps=2", "device=cpu", *sizes])
    card = (tmp_path / "README.md").read_text()
    for task in as_given():
        assert f"`{task.prompts(1, 'test', 0)[0]}` ({task.name})" in card
        assert all(f"| {task.name} | {strategy} |" in card for strategy in task.strategies)
