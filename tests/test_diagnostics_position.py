"""What one token tells of z."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from stratagem.inference.diagnosis import Subject
from stratagem.inference.diagnosis.diagnostics.position import position
from stratagem.inference.evaluation import posteriors
from stratagem.inference.evaluation.position import positions
from stratagem.models import Batch, Categorical, Normal
from stratagem.tasks import Sorting
from torch import Tensor, nn

from .finite_law_fixtures import LENGTH, WORDS, Laws, Program, Site, subject_of
from .known_law_fixtures import known, one_hot

Where = Callable[[Program, Batch], list[Tensor]]
"""For each bit of z the place of the word that shows it, ``(B,)``."""


def program(where: Where, latent: bool = True, own: float = 1.0) -> Program:
    """z of four, or the sign of v, in bits: each at its place is the word b or c, all other words are a."""

    def speak(program: Program, batch: Batch, z: Mapping[str, Tensor]) -> Laws:
        value = z["z"] if latent else (z["v"][..., 0] > 0).long()
        shape = torch.broadcast_shapes(value.shape, (len(batch),))
        words = torch.zeros(*shape, LENGTH, dtype=torch.long)
        for bit, place in enumerate(where(program, batch)):
            shown = 1 + (value.expand(shape) >> bit & 1)
            words.scatter_(-1, place.expand(shape)[..., None], shown[..., None])
        law = own * nn.functional.one_hot(words, len(WORDS)) + (1 - own) / len(WORDS)
        return program.tokens(law)[None], torch.zeros(1, *shape)

    return Program({"z": Site(Categorical(4))} if latent else {"v": Site(Normal(1))}, speak)


def fixed(*places: int) -> Where:
    return lambda _, batch: [torch.full((len(batch),), place) for place in places]


def anywhere(program: Program, batch: Batch) -> list[Tensor]:
    """Both bits with one word where it depends on the prompt."""
    return [program.key(batch, LENGTH)]


def figures_of(where: Where) -> dict[str, float]:
    return dict(position(subject_of(program(where))).figures)


def test_half_of_two_bits_comes_with_one_token() -> None:
    found = figures_of(fixed(2, 5))
    assert found["position/information"] == pytest.approx(math.log(4))
    assert found["position/single_token"] == pytest.approx(0.5)
    assert found["position/single_token_se"] == pytest.approx(0, abs=1e-6)


def test_all_of_one_bit_does_wherever_it_stands() -> None:
    for where in (fixed(0), fixed(LENGTH - 1), anywhere):
        found = figures_of(where)
        assert found["position/information"] == pytest.approx(math.log(2))
        assert found["position/single_token"] == pytest.approx(1)


def test_of_a_latent_that_does_nothing_no_token_tells_anything() -> None:
    found = figures_of(fixed())
    assert found["position/information"] == pytest.approx(0, abs=1e-6)
    assert "position/single_token" not in found


def test_the_rest_is_what_the_command_says() -> None:
    task = Sorting(length=4)
    model, guide, data = known(task, task.prompts(12, "test", 0), lambda _, s, __: one_hot(s, 4), 4)
    subject = Subject(model, guide, data, posteriors(model, guide, data), 32, task=task)
    found, expected = position(subject), positions(model, guide, data, task)
    figures = dict(found.figures)
    share, error = (figures.pop(f"position/single_token{ending}") for ending in ("", "_se"))
    assert 0.2 < share < 1
    assert error > 0
    assert figures.pop("position/information_se") == pytest.approx(
        float(expected.columns["information_se"][-1])
    )
    assert figures == expected.figures
    assert {name.removeprefix("position/") for name in found.curves} == set(expected.columns)
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(found.curves[f"position/{name}"], column.numpy())


def test_of_latents_that_cannot_be_enumerated_nothing_is_said() -> None:
    found = position(subject_of(program(fixed(1), latent=False), num=20))
    assert not found.figures
    assert not found.curves
