"""Every synthetic task: traces, parsers, laws, splits and vocabularies."""

from __future__ import annotations

import itertools
import math
import random
import re
import zlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stratagem.tasks import Equations, Expressions, Sorting, StepTask, Task, split_of

from .task_fixtures import (
    CLASSES,
    as_given,
    assert_frequencies,
    entropy,
    every_part,
    every_task,
    followed,
    numbers,
    prompt_of,
    resized,
    unhurried,
)


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


@pytest.mark.parametrize("task", [Equations(strategies=("divide",)), Expressions(strategies=("factoring",))])
def test_prompts_admit_one_of_the_strategies_that_there_are(task: StepTask) -> None:
    pairs = itertools.islice(task.stream("train", 0), 50)
    for prompt in [*task.prompts(100, "test", 0), *(pair.prompt for pair in pairs)]:
        assert dict(task.admissible(prompt)) == {task.strategies[0]: 1.0}
