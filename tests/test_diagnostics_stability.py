"""Whether z is said to mean the same where it does, and not where labels change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from stratagem.inference.diagnosis import Subject
from stratagem.inference.diagnosis.diagnostics.intervention import intervention
from stratagem.inference.diagnosis.diagnostics.jackknife import jackknife
from stratagem.inference.diagnosis.diagnostics.stability import across, stability
from stratagem.inference.evaluation.statistics import mean_se
from stratagem.inference.experiments.agreement import nmi
from stratagem.models import Batch, Categorical, Normal
from torch import Tensor, nn

from .finite_law_fixtures import LENGTH, WORDS, Laws, Program, Site, prompts, subject_of

P = 3

PATTERNS = torch.tensor([[(4 * k + t % 4) for t in range(LENGTH)] for k in range(P)])
"""Words of three strategies that have none in common."""


def program(shift: int = 0, own: float = 1.0, rows: Tensor = PATTERNS, site: Site | None = None) -> Program:
    """Strategies z, or by the sign of v, that have other numbers on other prompts: up to ``shift`` more."""

    def speak(program: Program, batch: Batch, z: Mapping[str, Tensor]) -> Laws:
        place = z["z"] if "z" in z else (z["v"][..., 0] > 0).long()
        place = (place + program.key(batch, shift + 1)) % len(rows)
        law = own * nn.functional.one_hot(rows[place], len(WORDS)) + (1 - own) / len(WORDS)
        return program.tokens(law)[None], torch.zeros(1, *place.shape)

    return Program({"v": site} if site else {"z": Site(Categorical(len(rows)))}, speak)


def program_of(subject: Subject) -> Program:
    assert isinstance(subject.model, Program)
    return subject.model


def figures_of(subject: Subject) -> dict[str, float]:
    return {name.removeprefix("stability/"): value for name, value in stability(subject).figures.items()}


def test_labels_that_mean_the_same_are_read_on_new_prompts() -> None:
    found = figures_of(subject_of(program()))
    assert found["transfer"] == 1
    assert found["transfer_chance"] == pytest.approx(1 / P)
    assert found["halves"] == pytest.approx(1)
    assert found["halves_se"] == pytest.approx(0, abs=1e-9)
    assert set(found) == {"transfer", "transfer_se", "transfer_chance", "halves", "halves_se"}


def test_labels_that_change_between_prompts_are_not_though_each_response_shows_its_own() -> None:
    subject = subject_of(program(shift=P - 1))
    assert intervention(subject).figures["intervention/self_consistency"] > 0.99
    found = figures_of(subject)
    # 4 standard errors, and what is learned of the frequency of a label among the prompts.
    assert found["transfer"] < 1 / P + 0.1 + 4 * found["transfer_se"]
    assert found["halves"] < 0.3
    assert found["halves_se"] > 0


def test_labels_that_change_on_some_prompts_are_read_on_the_others() -> None:
    """Two strategies that swap on a share of the prompts: read rightly where they do not."""

    def swapped(program: Program, batch: Batch, z: Mapping[str, Tensor]) -> Laws:
        place = (z["z"] + (program.key(batch, 5) == 0).long()) % 2
        law = nn.functional.one_hot(PATTERNS[place], len(WORDS)).float()
        return program.tokens(law)[None], torch.zeros(1, *place.shape)

    subject = subject_of(Program({"z": Site(Categorical(2))}, swapped), num=200)
    key = program_of(subject).key(subject.data.batch(range(200)), 5)
    assert figures_of(subject)["transfer"] == pytest.approx(float((key != 0).double().mean()), abs=0.05)


def test_values_that_say_the_same_are_read_by_chance() -> None:
    found = figures_of(subject_of(program(rows=PATTERNS[[0, 0, 0]], own=0.5), num=300))
    # 4 standard errors: a false alarm once in 15000 seeds, of which this is one.
    assert abs(found["transfer"] - 1 / P) < 4 * found["transfer_se"]
    assert abs(found["halves"]) < 0.15


def test_values_that_are_not_in_use_are_left_out() -> None:
    def routed(*logits: float) -> dict[str, float]:
        site = Site(Categorical(P), lambda _, batch, __: torch.tensor(logits).expand(len(batch), -1))
        return figures_of(subject_of(Program({"z": site}, program(rows=PATTERNS[[0, 1, 1]]).speak)))

    found = routed(0.0, 0.0, -9.0)
    assert (found["transfer"], found["transfer_chance"]) == (1, 0.5)
    assert routed(0.0, 0.0, 0.0)["transfer"] < 1
    assert not routed(0.0, -9.0, -9.0)


def test_too_few_prompts_say_nothing() -> None:
    assert not figures_of(subject_of(program(), num=9))
    assert figures_of(subject_of(program(), num=10))


def test_centres_of_a_continuous_latent_are_read_and_of_a_mixed_one_nothing_is_said() -> None:
    continuous = program(rows=PATTERNS[:2], site=Site(Normal(1)))
    found = figures_of(subject_of(continuous, num=60))
    assert found["transfer"] > found["transfer_chance"]
    sites = {**continuous.sites, "w": Site(Categorical(2))}
    assert not figures_of(subject_of(Program(sites, continuous.speak), num=30))


def in_other_words(subject: Subject, num: int) -> Subject:
    """Another prompt for each of the first ``num``."""
    others = [p for p in prompts(400, seed=1) if p not in subject.data.prompts]
    return replace(subject, paraphrases=dict(zip(subject.data.prompts[:num], others, strict=False)))


def test_what_does_not_depend_on_the_prompt_survives_a_paraphrase() -> None:
    subject = subject_of(program(own=0.5))
    assert "paraphrase" not in figures_of(subject)
    found = figures_of(in_other_words(subject, 40))
    assert found["paraphrase"] == pytest.approx(1, abs=1e-5)
    assert found["paraphrase_se"] == pytest.approx(0, abs=1e-5)
    law = subject.seen.posterior
    assert law is not None
    pairs = [1 - float((law[i] - law[j]).abs().sum()) / 2 for i in range(40) for j in range(40) if i != j]
    assert found["paraphrase_chance"] == pytest.approx(np.mean(pairs), abs=1e-5)


def test_labels_that_change_with_the_prompt_do_not_survive() -> None:
    """The posterior is certain of another value, unless the paraphrase happens to keep the number."""
    plain = subject_of(program(shift=P - 1, own=1.0))
    subject = in_other_words(plain, 60)
    model = program_of(plain)
    words = [subject.paraphrases[p] for p in plain.data.prompts[:60]]
    tokenizer = model.backbone.tokenizer
    ids = torch.tensor([tokenizer(text)["input_ids"] for text in words])
    other = model.key(Batch(ids, torch.ones_like(ids, dtype=torch.bool)), P)
    kept = (other == model.key(plain.data.batch(range(60)), P)).double()
    found = figures_of(subject)
    assert 0.1 < float(kept.mean()) < 0.6
    assert found["paraphrase"] == pytest.approx(float(kept.mean()), abs=1e-5)
    assert found["paraphrase_se"] == pytest.approx(mean_se(kept)[1], abs=1e-5)


def test_paraphrases_of_other_prompts_do_not_count() -> None:
    subject = subject_of(program())
    foreign = replace(subject, paraphrases={"not asked": "a b"})
    assert figures_of(foreign) == figures_of(subject)
    assert "paraphrase_chance" not in figures_of(in_other_words(subject, 1))


def labelled(subject: Subject, z: np.ndarray) -> Subject:
    """The subject as one whose posterior is certain."""
    posterior = nn.functional.one_hot(torch.from_numpy(z), int(z.max()) + 1).float()
    return replace(subject, seen=replace(subject.seen, posterior=posterior))


RNG = np.random.default_rng(0)
ONE, OTHER = RNG.integers(4, size=(2, 200))
HALF = np.where(np.arange(200) < 100, ONE, OTHER)


def test_runs_that_cut_the_data_alike_agree_whatever_they_call_the_parts() -> None:
    subject = subject_of(program(), num=200)
    found = across([labelled(subject, z) for z in (ONE, (ONE + 1) % 4, 3 - ONE)])
    for name in ("runs", "runs_nmi", "runs_least"):
        assert found.figures[f"stability/{name}"] == pytest.approx(1)
        assert found.figures[f"stability/{name}_se"] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(found.curves["stability/runs"], np.ones((3, 3)))


def test_of_several_runs_the_mean_and_the_least_are_told() -> None:
    subject = subject_of(program(), num=200)
    found = across([labelled(subject, z) for z in (ONE, HALF, OTHER)])
    matrix = found.curves["stability/runs"]
    pairs = matrix[np.triu_indices(3, 1)]
    assert abs(matrix[0, 2]) < 0.05
    assert 0.1 < matrix[0, 1] < 0.9
    assert found.figures["stability/runs"] == pytest.approx(pairs.mean())
    assert found.figures["stability/runs_least"] == pytest.approx(matrix[0, 2])
    each = [nmi(a, b) for a, b in ((ONE, HALF), (ONE, OTHER), (HALF, OTHER))]
    assert found.figures["stability/runs_nmi"] == pytest.approx(np.mean(each))
    assert found.figures["stability/runs_nmi"] > found.figures["stability/runs"]


def test_one_run_agrees_with_none_and_runs_on_other_data_are_refused() -> None:
    subject = subject_of(program(), num=30)
    assert not across([subject]).figures
    other = subject_of(program(), num=30, seed=1)
    with pytest.raises(ValueError, match="run 1 has other prompts"):
        across([subject, other])


def test_runs_of_continuous_latents_agree_by_their_clusters() -> None:
    subject = subject_of(program(rows=PATTERNS[:2], site=Site(Normal(1))), num=60)
    assert across([subject, subject]).figures["stability/runs"] == pytest.approx(1)
    continuous = program_of(subject)
    mixed = Program({**continuous.sites, "w": Site(Categorical(2))}, continuous.speak)
    said = subject_of(mixed, num=60)
    assert not across([replace(said, data=subject.data), subject]).figures


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    values = RNG.normal(size=200)
    found, error = jackknife(lambda n: float(values[n].mean()), 200, groups=200)
    assert found == pytest.approx(values.mean())
    assert error == pytest.approx(mean_se(torch.from_numpy(values))[1])
    assert jackknife(lambda n: float(values[n].mean()), 200)[1] == pytest.approx(error, rel=0.4)
    assert jackknife(lambda n: float(len(n)), 1) == (1, 0)


def test_its_groups_give_the_spread_of_figures_that_are_no_means() -> None:
    found = [jackknife(lambda n, x=x: math.exp(x[n].mean()), 100) for x in RNG.normal(size=(300, 100))]
    values, errors = np.array(found).T
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)
