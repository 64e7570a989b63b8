"""The posterior led by a partition that was made before the fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from stratagem.inference.dataset import Dataset
from stratagem.inference.expectations import Enumerate
from stratagem.inference.gradients import Exact
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import MarginalLikelihood
from stratagem.inference.partitions import Assign, Partition
from stratagem.inference.schedules import Linear
from stratagem.inference.terms import Distillation, MutualInformation, Term
from stratagem.inference.terms.distillation import PARTITION
from stratagem.models import Backbone, Example
from torch import Tensor

from .inference_fixtures import EXACT, Toy, close


class Given(Partition):
    """Responsibilities that are told; remembers what it was asked."""

    def __init__(self, r: Tensor | None = None) -> None:
        self.r = r
        self.asked: list[tuple[str, int, int, int]] = []

    def fit(self, backbone: Backbone, data: Dataset, parts: int, seed: int) -> Assign:
        self.asked.append((backbone.name, len(data), parts, seed))
        return lambda dataset: torch.full((len(dataset), parts), 1 / parts) if self.r is None else self.r


def partitioned(toy: Toy, hard: bool = False) -> tuple[Toy, Tensor]:
    """The toy with a partition among the features of its batch, and the partition ``(P, B)``."""
    joint = len(toy.tables().log_lik)
    generator = torch.Generator().manual_seed(5)
    r = torch.rand(len(toy.batch), joint, generator=generator, dtype=torch.float64)
    r = torch.nn.functional.one_hot(r.argmax(1), joint).double() if hard else r / r.sum(1, keepdim=True)
    batch = replace(toy.batch, features=toy.batch.features | {PARTITION: r})
    return replace(toy, batch=batch), r.T


def law_of_distillation(toy: Toy, term: Term) -> None:
    """``KL(r || p(z|x,y))``, whose gradient reaches decoder and router and not the guide."""
    for hard in (False, True):
        found, r = partitioned(toy, hard)
        t = found.tables()
        truth = torch.where(r > 0, r * (r.clamp(min=1e-300).log() - t.log_posterior), 0.0).sum(0)
        value = term.value(Enumerate()(found.model, found.guide, found.batch))
        torch.testing.assert_close(value, truth, **EXACT)
        gradients = found.gradients(truth.sum())
        close(found.gradients(-term.signed_weight(1.0) * value.sum()), gradients)
        moved = {name for name, g in gradients.items() if g.abs().max() > 1e-6}
        assert any(".routers." in n for n in moved)
        assert any(".conditionings." in n for n in moved)
        assert not any(n.startswith("guide.") for n in moved)


def test_the_term_is_the_divergence_from_the_partition(toy: Toy) -> None:
    law_of_distillation(toy, Distillation(Given()))


class Backwards(Distillation):
    def value(self, log: LogQuantities) -> Tensor:
        assert log.scene is not None
        r = log.scene.batch.features[PARTITION].T
        return (log.log_posterior.exp() * (log.log_posterior - r.clamp(min=1e-12).log())).sum(0)


class HoldsTheRouter(Distillation):
    def value(self, log: LogQuantities) -> Tensor:
        assert log.scene is not None
        r = log.scene.batch.features[PARTITION].T
        posterior = (log.log_lik + log.log_prior.detach()).log_softmax(0)
        return torch.where(r > 0, r * (r.clamp(min=1e-12).log() - posterior), 0.0).sum(0)


class PushesAway(Distillation):
    sign = 1


@pytest.mark.parametrize("wrong", [Backwards, HoldsTheRouter, PushesAway])
def test_the_law_of_distillation_tells_wrong_terms(toy: Toy, wrong: Callable[[Partition], Term]) -> None:
    with pytest.raises(AssertionError):
        law_of_distillation(toy, wrong(Given()))


def test_beside_the_marginal_it_is_the_complete_likelihood(toy: Toy) -> None:
    """``log p(y|x) - KL(r || p(z|x,y)) = E_r[log p(y,z|x)] + H(r)``."""
    found, r = partitioned(toy)
    t = found.tables()
    inference = Inference(MarginalLikelihood(), Enumerate(), Exact(), {"distillation": Distillation(Given())})
    complete = (r * (t.log_lik + t.log_prior - r.log())).sum(0).mean()
    torch.testing.assert_close(inference(found.model, found.guide, found.batch).objective, complete, **EXACT)


def test_it_is_refused_without_a_partition_and_left_out_once_its_weight_is_nothing(toy: Toy) -> None:
    terms = {
        "distillation": Distillation(Given(), weight=Linear(1.0, 0.0, 0.2, 0.4)),
        "information": MutualInformation(),
    }
    inference = Inference(MarginalLikelihood(), Enumerate(), Exact(), terms)
    with pytest.raises(ValueError, match="no partition; call prepare"):
        inference(toy.model, toy.guide, toy.batch, 0.1)
    assert set(inference(toy.model, toy.guide, toy.batch, 0.5).terms) == {"information"}
    found, _ = partitioned(toy)
    assert set(inference(found.model, found.guide, found.batch, 0.5).terms) == set(terms)
    assert [inference.led(share) for share in (0.0, 0.39, 0.4, 1.0)] == [True, True, False, False]
    inference.go_on()
    assert not inference.led(0.0)
    assert set(inference(toy.model, toy.guide, toy.batch, 0.1).terms) == {"information"}


def test_preparing_asks_for_as_many_parts_as_there_are_joint_values(toy: Toy) -> None:
    partition = Given()
    inference = Inference(
        MarginalLikelihood(), Enumerate(), Exact(), {"distillation": Distillation(partition)}
    )
    train, test = (Dataset([Example((3, 4), (5, 6, 2))] * n, [""] * n, [""] * n, 0) for n in (5, 2))
    inference.prepare(toy.model, toy.guide, toy.model.backbone, (train, test), 7)
    joint = len(toy.tables().log_lik)
    assert partition.asked == [(toy.model.backbone.name, 5, joint, 7)]
    assert train.features[PARTITION].shape == (5, joint)
    assert test.features[PARTITION].shape == (2, joint)
    assert PARTITION in train.batch([1, 2]).features


def test_nothing_is_prepared_for_terms_that_read_nothing(toy: Toy) -> None:
    inference = Inference(MarginalLikelihood(), Enumerate(), Exact(), {"information": MutualInformation()})
    data = Dataset([Example((3, 4), (5, 2))], [""], [""], 0)
    inference.prepare(toy.model, toy.guide, toy.model.backbone, (data,), 0)
    assert data.features == {}


def test_smoothing_mixes_the_partition_with_its_mean_over_the_first_data(toy: Toy) -> None:
    train, test = (Dataset([Example((3, 4), (5, 6, 2))] * n, [""] * n, [""] * n, 0) for n in (4, 1))
    parts = torch.tensor([[1.0, 0.0, 0.0]] * 3 + [[0.0, 1.0, 0.0]])

    class First(Given):
        def fit(self, backbone: Backbone, data: Dataset, count: int, seed: int) -> Assign:
            super().fit(backbone, data, count, seed)
            return lambda dataset: parts[: len(dataset)]

    Distillation(First(), smoothing=0.4).prepare(toy.model.backbone, (train, test), 3, 0)
    torch.testing.assert_close(train.features[PARTITION], 0.6 * parts + torch.tensor([0.3, 0.1, 0.0]))
    torch.testing.assert_close(test.features[PARTITION], torch.tensor([[0.9, 0.1, 0.0]]))
    with pytest.raises(ValueError, match=r"smoothing in \[0, 1\), got 1.0"):
        Distillation(Given(), smoothing=1.0)
