"""Cuts of the responses that are found before the fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from sklearn.metrics import adjusted_mutual_info_score
from stratagem.inference.data import TaskData
from stratagem.inference.dataset import Dataset, make_dataset
from stratagem.inference.partitions import HiddenStates
from stratagem.inference.partitions.companions import Companions, companions
from stratagem.inference.partitions.cut import SAME, Cut, apart, explained, rival_cuts
from stratagem.inference.partitions.parsimony import fewest_parts
from stratagem.inference.partitions.referee import carried_over, referee
from stratagem.inference.partitions.spaces import Sample, leading_space, scatter, spaces
from stratagem.inference.partitions.steadiness import found_again
from stratagem.inference.partitions.surface import contents, interchangeable, prompt_dependence
from stratagem.models import Backbone, Example, load_backbone
from stratagem.models.text import decode, encode
from stratagem.tasks import Addition, BaseConversion, Equations, Expressions, Grid, Sorting, Task
from torch import Tensor

from .partition_fixtures import RESPONSES, sample_of, scene


@pytest.fixture(scope="module")
def bundled() -> Backbone:
    return load_backbone("bundled:strategies")


def traces(
    backbone: Backbone, task: Task, prompts: int, seed: int = 0
) -> tuple[Companions, Tensor, list[str]]:
    """Four responses to each prompt, with their strategies and marks."""
    rng = np.random.default_rng(seed)
    examples, strategies, marks = [], [], []
    for prompt in task.prompts(prompts, "train", seed):
        law = task.admissible(prompt)
        for _ in range(RESPONSES):
            strategy = rng.choice(list(law), p=list(law.values()))
            mark = rng.choice(task.nuisances)
            examples.append(encode(backbone, prompt, task.trace(prompt, strategy, mark)))
            strategies.append(task.strategies.index(strategy))
            marks.append(str(mark))
    texts = [""] * len(examples)
    data = Dataset(examples, texts, texts, backbone.pad_id)
    return Companions(data, RESPONSES), torch.tensor(strategies), marks


def test_the_data_have_their_own_responses_and_the_base_gives_the_rest(bundled: Backbone) -> None:
    prompts = ["add 1 2 + 3 4 :", "add 5 6 + 7 8 :", "add 2 2 + 3 3 :"]
    own = [encode(bundled, prompts[i], f"{n} ; {n}") for i, n in ((0, 1), (1, 2), (0, 3), (0, 4), (2, 5))]
    data = Dataset(own, [""] * 5, [""] * 5, bundled.pad_id)
    found = companions(bundled, data, prompts=2, responses=2, seed=0)
    examples = found.data.examples
    assert [e.prompt for e in examples] == [own[0].prompt] * 2 + [own[1].prompt] * 2
    assert examples[:3] == [own[0], own[2], own[1]]
    assert examples[3].response != own[1].response
    assert examples == companions(bundled, data, 2, 2, seed=0).data.examples
    assert found.same_prompt.tolist() == [[0, 1], [2, 3]]


def test_marks_and_copies_do_not_depend_on_the_prompt_and_digits_do(bundled: Backbone) -> None:
    found, _, marks = traces(bundled, Addition(), 40)
    dependence = prompt_dependence(bundled, found, others=3, seed=0)
    ids = {m: bundled.tokenizer.convert_tokens_to_ids(m) for m in set(marks)}
    of_marks, of_first = [], []
    for example, mark, depends in zip(found.data.examples, marks, dependence, strict=True):
        assert depends.shape == (len(example.response),)
        assert (depends >= -1e-4).all()
        assert (depends <= 1 + 1e-4).all()
        of_marks += [d for t, d in zip(example.response, depends.tolist(), strict=True) if t == ids[mark]]
        of_first.append(float(depends.max()))
    assert np.median(of_marks) < 0.05
    assert np.median(of_first) > 0.8


def test_responses_say_the_same_where_they_differ_by_the_mark_alone(bundled: Backbone) -> None:
    found, strategies, marks = traces(bundled, Addition(), 60)
    dependence = prompt_dependence(bundled, found, 3, 0)
    first, second = found.same_prompt.T
    same = strategies[first] == strategies[second]
    crossed = torch.tensor([marks[i] != marks[j] for i, j in found.same_prompt.tolist()])
    assert (same & crossed).sum() > 20
    for symbols, least in ((set(), 0.3), (interchangeable(bundled, found), 0.95)):
        said = contents(found, dependence, symbols, 0.1)
        alike = said[first] == said[second]
        assert not alike[~same].any()
        assert alike[same & crossed].float().mean() > least
    blocks = said.view(-1, RESPONSES)
    assert len(set(blocks[0].tolist()) & set(blocks[1].tolist())) == 0, "contents of one prompt are its own"


@pytest.mark.parametrize(
    "task", [Sorting(), Grid(), Grid(rows=4, columns=4)], ids=["sorting", "grid", "square grid"]
)
def test_marks_may_change_places_and_what_is_said_may_not(bundled: Backbone, task: Task) -> None:
    found, _, _ = traces(bundled, task, 60)
    marks = {bundled.tokenizer.convert_tokens_to_ids(mark) for mark in task.nuisances}
    assert interchangeable(bundled, found) == marks


def test_no_symbol_is_surface_where_one_mark_is_used_throughout(bundled: Backbone) -> None:
    found, _, _ = traces(bundled, Grid(nuisances=[";"]), 60)
    assert interchangeable(bundled, found) == set()


def rivals(sample: Sample, penalty: float = 10.0, restarts: int = 3, most: int = 4) -> list[Cut]:
    candidates = [space.first(n) for space in spaces(sample, 6, 0.1, penalty) for n in (3, 6)]
    return rival_cuts(sample, candidates, 3, restarts, most, 0)


def test_parts_are_found_under_prompts_and_surfaces_that_are_larger() -> None:
    sample, z = scene()
    assert adjusted_mutual_info_score(z, rivals(sample)[0](sample.features)) > 0.95


def test_without_its_penalty_the_surface_stands_in_the_first_axis() -> None:
    sample, _ = scene()
    x, said, pairs = sample.features.double(), sample.contents, sample.pairs
    marks = scatter(x, pairs[said[pairs[:, 0]] == said[pairs[:, 1]]])
    share = []
    for penalty in (0.0, 10.0):
        axes = spaces(sample, 3, 0.1, penalty)[-1].axes
        share.append(float((axes.T @ marks @ axes).trace() / (axes.T @ scatter(x, pairs) @ axes).trace()))
    assert share[0] > 0.3
    assert share[1] < 0.1


def test_spaces_are_those_of_the_layers_and_of_all() -> None:
    sample, _ = scene()
    found = spaces(replace(sample, sizes=(8, 16)), 4, 0.1, 1.0)
    assert [(s.places.start, s.places.stop, s.axes.shape) for s in found] == [
        (0, 8, (8, 4)),
        (8, 24, (16, 4)),
        (0, 24, (24, 4)),
    ]
    for space in found:
        assert space(sample.features).mean(0).abs().max() < 1e-5
        torch.testing.assert_close(space.first(2)(sample.features), space(sample.features)[:, :2])


@pytest.mark.parametrize("prompts", [150, 4], ids=["more responses than numbers", "fewer"])
def test_axes_are_the_leading_eigenvectors_of_the_scatters_however_wide_the_layers(prompts: int) -> None:
    """By a generalised eigendecomposition of the whole matrices, in a basis of one's own."""
    sample, _ = scene(prompts)
    x = sample.features.double() - sample.features.double().mean(0)
    x = x / torch.cat([x[:, b:e].square().mean().sqrt().expand(e - b) for b, e in sample.layers])
    same = sample.pairs[sample.contents[sample.pairs[:, 0]] == sample.contents[sample.pairs[:, 1]]]
    total, within = x.T @ x / len(x), scatter(x, sample.pairs)
    noise = total + 0.1 * total.trace() / 24 * torch.eye(24).double() + 10 * scatter(x, same)
    for found, against in (
        (spaces(sample, 5, 0.1, 10.0)[-1], noise),
        (leading_space(sample, 5), torch.eye(24).double()),
    ):
        _, vectors = scipy.linalg.eigh(within, against)
        wanted = x @ torch.from_numpy(vectors[:, ::-1][:, :5].copy())
        torch.testing.assert_close(found(sample.features).abs(), wanted.abs(), rtol=1e-5, atol=1e-5)


def test_a_cut_is_worth_what_it_tells_apart_by_content() -> None:
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2], [3, 4], [3, 5], [4, 5]])
    said = torch.tensor([0, 0, 1, 2, 3, 4])
    assert apart(torch.tensor([0, 0, 1, 0, 1, 2]), said, pairs) == pytest.approx(5 / 6)
    assert apart(torch.tensor([0, 1, 1, 0, 1, 2]), said, pairs) == 0.0  # every pair that says the same is cut
    assert apart(torch.tensor([0, 0, 0, 0, 0, 0]), said, pairs) == 0.0
    assert apart(torch.tensor([0, 0, 0, 1, 2, 0]), torch.arange(6), pairs) == pytest.approx(3 / 6)
    half = torch.tensor([0, 1, 2, 3, 4, 5, 5, 6])
    two = torch.tensor([[0, 1], [2, 3], [5, 6], [5, 7]])
    z = torch.tensor([0, 1, 0, 1, 0, 0, 1, 1])
    # all four pairs are cut, one of them says the same: P(z != z', c != c') = 3/4, and the factor is 1 - 1/1
    assert apart(z, half, two) == 0.0


def test_parts_whose_labels_change_between_prompts_explain_less() -> None:
    sample, z = scene()
    features, pairs = sample.features, sample.pairs
    swapped = z.view(-1, RESPONSES).clone()
    swapped[::2] = (swapped[::2] + 1) % 3
    true = explained(z, features.double(), pairs, 3)
    assert 0 < true < 1
    assert explained(swapped.flatten(), features.double(), pairs, 3) < true / 2
    noiseless = torch.eye(3).double()[z] + torch.arange(len(z)).div(RESPONSES, rounding_mode="floor")[:, None]
    assert explained(z, noiseless, pairs, 3) == pytest.approx(1.0)


def test_rivals_are_as_good_as_the_best_and_no_two_of_them_the_same() -> None:
    sample, _ = scene(surface=1.0)
    widest = spaces(sample, 6, 0.1, 0.0)[-1](sample.features)
    for most in (1, 8):
        cuts = [cut(sample.features) for cut in rivals(sample, 0.0, 6, most)]
        assert 1 <= len(cuts) <= most
        told = [apart(z, sample.contents, sample.pairs) for z in cuts]
        assert min(told) >= 0.99 * max(told)
        shares = [explained(z, widest, sample.pairs, 3) for z in cuts]
        assert min(shares) >= 0.99 * shares[0] == 0.99 * max(shares)
        for i, one in enumerate(cuts):
            assert all(adjusted_mutual_info_score(one, other) < SAME for other in cuts[:i])


def free_text(prompts: int = 200, seed: int = 0) -> tuple[Sample, Tensor]:
    """Features of which one axis has a part and the prompt in it, and 23 small noise alone: no two say the same."""
    rng = np.random.default_rng(seed)
    z = rng.integers(2, size=(prompts, RESPONSES))
    x = 0.3 * rng.normal(size=(prompts, RESPONSES, 24))
    x[..., 0] += 3.0 * z + rng.normal(size=(prompts, 1))
    return sample_of(x, torch.arange(z.size)), torch.from_numpy(z).flatten()


def free_cuts(partition: HiddenStates, prompts: int = 200) -> tuple[float, float, str]:
    """Of the first cut of free text: agreement with the parts, on how much other prompts agree, where it was made."""
    sample, z = free_text(prompts)
    cuts, again, how = partition.cuts(sample, sample.contents, 2, 0)
    return adjusted_mutual_info_score(z, cuts[0](sample.features)), again, how


def test_a_cut_of_what_is_there_is_found_again_and_one_of_noise_is_not() -> None:
    sample, _ = scene()
    assert found_again(rivals, sample) > 0.95
    noise = torch.randn(sample.features.shape, generator=torch.Generator().manual_seed(0))
    assert found_again(rivals, replace(sample, features=noise, contents=torch.arange(len(noise)))) < 0.2


def test_free_text_is_cut_along_the_axes_in_which_responses_differ_most() -> None:
    agreement, again, how = free_cuts(HiddenStates(ridge=0.01, restarts=3))
    assert agreement > 0.5
    assert again > 0.8
    assert how == "along 1 leading axes"
    agreement, again, how = free_cuts(HiddenStates(ridge=0.01, restarts=3, steady=0.0))
    assert agreement < 0.1
    assert again < 0.2
    assert how.startswith("in spaces")


def test_a_cut_that_is_found_again_stays_and_so_does_one_of_few_prompts() -> None:
    sample, z = scene()
    cuts, again, how = HiddenStates(ridge=0.1, restarts=3).cuts(sample, sample.contents, 3, 0)
    assert adjusted_mutual_info_score(z, cuts[0](sample.features)) > 0.95
    assert again > 0.9
    assert how.startswith("in spaces")
    for few in (3, 63):
        _, again, where = free_cuts(HiddenStates(ridge=0.01, restarts=3), prompts=few)
        assert np.isnan(again)
        assert where == how


@pytest.mark.parametrize(
    ("most", "enough", "parts"), [(6, 0.99, 3), (3, 0.99, 3), (2, 0.99, 2), (6, None, 6)]
)
def test_of_more_parts_than_there_are_as_many_are_made_as_tell_responses_apart(
    most: int, enough: float | None, parts: int
) -> None:
    sample, z = scene()
    partition = HiddenStates(ridge=0.1, restarts=3, enough=enough)
    cuts, again, _ = partition.cuts(sample, sample.contents, most, 0)
    assert {cut.parts for cut in cuts} == {parts}
    assert (adjusted_mutual_info_score(z, cuts[0](sample.features)) > 0.95) == (parts == 3)
    assert again > 0.95 or parts != 3


def test_all_parts_are_made_where_each_tells_more_apart() -> None:
    sample, _ = free_text()

    def find(parts: int) -> list[Cut]:
        return rival_cuts(sample, spaces(sample, parts, 0.1, 10.0), parts, 2, 1, 0)

    assert fewest_parts(find, sample, 5, 0.99) == 5
    assert fewest_parts(find, sample, 5, 0.9) == 4
    silent = replace(sample, contents=torch.zeros_like(sample.contents))
    assert fewest_parts(find, silent, 5, 0.99) == 2  # nothing to tell apart


def test_a_surface_that_is_found_again_is_no_cut() -> None:
    """Marks are the largest axis here; they part nothing that is written otherwise."""
    sample, _ = free_text()
    one_text_a_prompt = torch.arange(len(sample)) // RESPONSES  # but for the mark
    _, _, how = HiddenStates(ridge=0.01, restarts=3).cuts(sample, one_text_a_prompt, 2, 0)
    assert how.startswith("in spaces")


@pytest.fixture(scope="module")
def named_by_kind(bundled: Backbone) -> tuple[Dataset, Tensor, Tensor]:
    """Equations, their strategies, and the same with other names where x stands on the right."""
    found, z, _ = traces(bundled, Equations(), 120, seed=1)
    prompts = [decode(bundled, e.prompt) for e in found.data.examples]
    right = torch.tensor([a < c for a, _, c, _ in map(Equations().problem, prompts)])
    return found.data, z, torch.where(right, torch.tensor([2, 0, 3, 1])[z], z)


def test_the_decoder_carries_over_names_that_are_right_and_no_others(
    bundled: Backbone, named_by_kind: tuple[Dataset, Tensor, Tensor]
) -> None:
    data, z, turned = named_by_kind
    gain = carried_over(bundled, data, z, turned, 4, 40, 0)
    assert gain > 2.0
    assert carried_over(bundled, data, turned, z, 4, 40, 0) < -2.0
    other_names = torch.tensor([3, 2, 0, 1])
    assert carried_over(bundled, data, z, other_names[z], 4, 40, 0) == 0.0
    torch.testing.assert_close(carried_over(bundled, data, z, other_names[turned], 4, 40, 0), gain)


def test_the_cut_with_the_right_names_wins_wherever_it_stands(
    bundled: Backbone, named_by_kind: tuple[Dataset, Tensor, Tensor]
) -> None:
    data, z, turned = named_by_kind
    mixed = torch.where(torch.arange(len(z)) // RESPONSES % 2 == 0, z, torch.tensor([1, 0, 2, 3])[z])
    state = torch.random.get_rng_state()
    for place, cuts in enumerate([[z, turned, mixed], [turned, z, mixed], [mixed, turned, z]]):
        assert referee(bundled, data, cuts, 4, 40, 1, 0) == place
    assert referee(bundled, data, [turned], 4, 40, 1, 0) == 0
    assert torch.equal(state, torch.random.get_rng_state())


def test_the_mean_of_several_fits_decides(bundled: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def gain(*args: Any) -> float:
        asked.append(args[-1])
        return {6: 1.0, 7: -3.0, 8: 1.0}[args[-1]]

    monkeypatch.setattr("stratagem.inference.partitions.referee.carried_over", gain)
    data, cut = Dataset([], [], [], bundled.pad_id), torch.zeros(0)
    assert referee(bundled, data, [cut, cut], 2, 60, 3, 2) == 1
    assert asked == [6, 7, 8]
    assert referee(bundled, data, [cut, cut], 2, 60, 1, 6) == 0


@pytest.mark.parametrize(
    ("task", "most", "num"),
    [(BaseConversion(), 4, 200), (Expressions(), 8, 800)],
    ids=["base_conversion-4", "expressions-8"],
)
def test_responses_of_the_base_are_cut_by_strategy_where_not_every_prompt_has_all(
    bundled: Backbone, task: Task, most: int, num: int, tmp_path: Path
) -> None:
    data = TaskData(task, num_train=400, num_test=num)
    train, test = (make_dataset(bundled, data, split, 1, tmp_path) for split in ("train", "test"))
    parts = HiddenStates(prompts=200).fit(bundled, train, most, 1)(test)
    z = parts.argmax(1)
    assert parts.shape == (num, most)
    assert len(z.unique()) == 4
    told = [task.strategies_of(p, y) for p, y in zip(test.prompts, test.responses, strict=True)]
    known = [i for i, names in enumerate(told) if len(names) == 1]
    assert len(known) > 0.75 * num
    strategies = [next(iter(told[i])) for i in known]
    assert adjusted_mutual_info_score(strategies, z[known].tolist()) > 0.95


@pytest.fixture(scope="module")
def assigned(bundled: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Tensor]]:
    cache = tmp_path_factory.mktemp("data")

    def assign(seed: int) -> Tensor:
        data = TaskData(Addition(), num_train=80, num_test=10)
        train = make_dataset(bundled, data, "train", 0, cache)
        return HiddenStates(prompts=60, steps=10).fit(bundled, train, 4, seed)(train)

    return assign


def test_the_same_seed_makes_the_same_partition_and_leaves_the_generator(
    assigned: Callable[..., Tensor],
) -> None:
    torch.manual_seed(3)
    first = assigned(0)
    after = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(first, assigned(0))
    assert torch.equal(after, torch.rand(1))
    assert first.shape == (80, 4)
    assert torch.equal(first.sum(1), torch.ones(80))
    assert set(first.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"responses": 1}, "responses must be at least 2, got 1"),
        ({"prompts": 1}, "prompts must be at least 2"),
        ({"rivals": 0}, "rivals must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"fits": 0}, "fits must be at least 1"),
        ({"dimensions": ()}, "dimensions must be at least 1, got 0"),
        ({"ridge": 0.0}, "ridge above 0"),
        ({"threshold": 1.0}, r"threshold in \[0, 1\)"),
        ({"steady": 1.5}, r"steady in \[0, 1\]"),
        ({"enough": 0.0}, r"enough in \(0, 1\]"),
    ],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HiddenStates(**wrong)


def test_one_prompt_is_too_few(bundled: Backbone) -> None:
    data = Dataset([Example((1, 2), (3,))] * 3, [""] * 3, [""] * 3, bundled.pad_id)
    with pytest.raises(ValueError, match="at least 2 distinct prompts"):
        HiddenStates().fit(bundled, data, 2, 0)
