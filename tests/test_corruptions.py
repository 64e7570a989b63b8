"""Corruptions: what is read is spoilt, what is scored is not, and nothing is in evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from pyro import poutine
from stratagem.inference.corruptions import Corruption, Denoising, WordDropout, word_dropout
from stratagem.inference.corruptions.tokens import ordinary_tokens
from stratagem.inference.expectations import Enumerate, Sample
from stratagem.inference.gradients import Exact, Held
from stratagem.inference.inference import Inference
from stratagem.inference.log_quantities import LogQuantities
from stratagem.inference.objectives import ELBO, MarginalLikelihood
from stratagem.inference.schedules import Linear
from stratagem.inference.terms import ExcessReconstruction, Term
from stratagem.models import Backbone, Batch, LanguageModel
from torch import Tensor

from .inference_fixtures import EXACT, Forced, Toy, close

one = pytest.mark.parametrize("toy", ["one"], indirect=True)


class Watch(Term):
    """Keeps the log-quantities of the last run."""

    expectations = (Enumerate, Sample)
    log: LogQuantities

    def value(self, log: LogQuantities) -> Tensor:
        self.log = log
        return log.log_lik.mean(0)


def run(toy: Toy, *corruptions: Corruption, share: float = 1.0, **settings: Any) -> LogQuantities:
    """The log-quantities of a training step."""
    watch = Watch()
    named = {str(i): corruption for i, corruption in enumerate(corruptions)}
    parts = settings or {"expectation": Enumerate(), "gradient": Exact()}
    Inference(ELBO(), **parts, terms={"watch": watch}, corruptions=named)(
        toy.model, toy.guide, toy.batch, share
    )
    return watch.log


def inputs_of(log: LogQuantities) -> Tensor:
    """What the decoder read of the response, ``(B, T)``."""
    assert log.scene is not None
    assert log.scene.model_trace is not None
    inputs = log.scene.model_trace.nodes["y"]["fn"].inputs
    assert inputs.shape == log.scene.batch.response.shape
    return inputs


def reading(toy: Toy, inputs: Tensor) -> Tensor:
    """``log p(y|x,z)``, ``(P, B)``, of a decoder that reads ``inputs``: logits after those, read off at y."""
    rows = []
    batch = replace(toy.batch, response=inputs, response_mask=torch.ones_like(toy.batch.response_mask))
    values = torch.cartesian_prod(
        *(torch.arange(v.num_features) for v in reversed(toy.model.latents.values()))
    )
    for z in values.reshape(len(values), -1):
        at = {name: k[None] for name, k in zip(reversed(toy.model.latents), z, strict=True)}
        log_laws = toy.model.decoder(batch, at).logits(inputs).log_softmax(-1)
        log_p = log_laws.gather(-1, toy.batch.response[..., None])[..., 0]
        rows.append((log_p * toy.batch.response_mask).sum(-1))
    return torch.stack(rows)


def targets_stay(toy: Toy, corruption: WordDropout) -> Tensor:
    log = run(toy, corruption)
    inputs = inputs_of(log)
    torch.testing.assert_close(log.log_lik, reading(toy, inputs), **EXACT)
    return inputs


@pytest.mark.parametrize("token", ["pad", "random"])
@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_decoder_reads_other_words_and_predicts_the_response(toy: Toy, token: str, rate: float) -> None:
    inputs = targets_stay(toy, WordDropout(rate, token))
    changed, mask = (inputs != toy.batch.response), toy.batch.response_mask
    if token == "pad":
        assert (inputs[changed] == toy.model.backbone.pad_id).all()
    if rate == 0:
        assert not changed.any()
        torch.testing.assert_close(run(toy, WordDropout(rate, token)).log_lik, toy.tables().log_lik, **EXACT)
    else:
        assert (changed & mask).any()
        # The first token of a response is predicted from the prompt.
        single = mask.sum(-1) == 1
        lik = toy.tables().log_lik
        torch.testing.assert_close(reading(toy, inputs)[:, single], lik[:, single], **EXACT)
        assert (run(toy, WordDropout(1.0, token)).log_lik[:, 1] - lik[:, 1]).abs().min() > 1e-4


def test_gradients_are_those_of_the_spoilt_reading(toy: Toy) -> None:
    log = run(toy, WordDropout(0.7, "random"))
    found = toy.gradients(log.log_lik.square().sum())
    close(found, toy.gradients(reading(toy, inputs_of(log)).square().sum()))


@one
def test_a_corruption_of_what_is_predicted_is_told_apart(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = LanguageModel.token_log_probs
    monkeypatch.setattr(
        LanguageModel,
        "token_log_probs",
        lambda law, value: scored(law, value if law.inputs is None else law.inputs),
    )
    with pytest.raises(AssertionError):
        targets_stay(toy, WordDropout(1.0, "random"))


@one
def test_words_are_dropped_afresh_at_the_rate(toy: Toy, make_batch: Callable[..., Batch]) -> None:
    backbone = toy.model.backbone
    toy.batch = make_batch(backbone, (3,) * 60, (8,) * 60)
    keeps = toy.batch.response_mask & (toy.batch.response != backbone.pad_id)
    draws = [inputs_of(run(toy, WordDropout(0.3))) != toy.batch.response for _ in range(4)]
    assert not torch.equal(draws[0], draws[1])
    share, count = torch.stack([d[keeps] for d in draws]).double().mean(), 4 * int(keeps.sum())
    # 4 standard errors: a false alarm once in 15000 seeds, of which this is one.
    assert abs(share - 0.3) < 4 * (0.3 * 0.7 / count) ** 0.5


@one
def test_the_rate_follows_its_schedule(toy: Toy) -> None:
    for corruption in (WordDropout(Linear(0.0, 1.0)), Denoising(Linear(0.0, 1.0))):
        spoilt = []
        for share in (0.0, 1.0):
            log = run(toy, corruption, share=share)
            assert log.scene is not None
            read = inputs_of(log) if isinstance(corruption, WordDropout) else log.scene.guide_batch.response
            spoilt.append((read != toy.batch.response).any())
        assert spoilt == [False, True]


def particles_read_the_same(toy: Toy) -> None:
    def found(one_by_one: bool) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = {name: torch.tensor([0, 1, 1]) for name in toy.model.latents}
        torch.manual_seed(1)
        with Forced(drawn):
            settings = {"expectation": Sample(3, one_by_one), "gradient": Held()}
            log = run(toy, WordDropout(0.5, "random"), **settings)
        return log.log_lik.detach(), toy.gradients(log.log_lik.square().sum())

    (together, expected), (alone, gradients) = found(False), found(True)
    assert torch.equal(together[1], together[2])
    torch.testing.assert_close(alone, together, **EXACT)
    close(gradients, expected)
    assert (together[0] - toy.tables().log_lik[0]).abs().max() > 1e-4


def test_particles_read_the_same_one_by_one_as_together(toy: Toy) -> None:
    particles_read_the_same(toy)


@one
def test_words_dropped_anew_for_each_particle_are_told_apart(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = word_dropout._Dropout._pyro_sample

    def forgetful(self: Any, msg: Any) -> None:
        self._spoilt.clear()
        sample(self, msg)

    monkeypatch.setattr(word_dropout._Dropout, "_pyro_sample", forgetful)
    with pytest.raises(AssertionError):
        particles_read_the_same(toy)


@pytest.mark.parametrize("corruption", [WordDropout(1.0), Denoising(1.0)], ids=["words", "denoising"])
def test_nothing_is_corrupted_in_evaluation(toy: Toy, corruption: Corruption) -> None:
    spoilt = Inference(ELBO(), Enumerate(), Exact(), corruptions={"c": corruption})
    plain = Inference(ELBO(), Enumerate(), Exact())
    with torch.no_grad():
        expected = plain(toy.model, toy.guide, toy.batch).bound
        assert torch.equal(spoilt(toy.model, toy.guide, toy.batch).bound, expected)
    assert not torch.allclose(spoilt(toy.model, toy.guide, toy.batch).bound, expected)


@one
def test_terms_reach_the_base_of_a_model_that_reads_spoilt_words(toy: Toy) -> None:
    log = run(toy, WordDropout(1.0), Denoising(1.0), WordDropout(0.5, "random"))
    lik, p0 = reading(toy, inputs_of(log)), toy.model.base(toy.batch).log_prob(toy.batch.response)
    single = toy.batch.response_mask.sum(-1) == 1
    expected = (log.log_q.exp() * (lik - p0)).sum(0)
    torch.testing.assert_close(ExcessReconstruction().value(log)[single], expected[single], **EXACT)
    assert (inputs_of(log) != toy.model.backbone.pad_id).any()
    assert (inputs_of(log) == toy.model.backbone.pad_id).any()


def test_a_response_that_is_not_observed_is_left_alone(toy: Toy) -> None:
    model = WordDropout(1.0).of_model(toy.model, 1.0)
    unseen = toy.batch.without_response(3)
    torch.manual_seed(0)
    expected = poutine.trace(toy.model).get_trace(unseen)
    torch.manual_seed(0)
    found = poutine.trace(model).get_trace(unseen)
    assert torch.equal(found.nodes["y"]["value"], expected.nodes["y"]["value"])
    assert found.nodes["y"]["fn"].inputs is None


def guide_alone_reads_the_noise(toy: Toy) -> None:
    log, tables = run(toy, Denoising(1.0)), toy.tables()
    torch.testing.assert_close(log.log_lik, tables.log_lik, **EXACT)
    torch.testing.assert_close(log.log_prior, tables.log_prior, **EXACT)
    assert log.scene is not None
    laws = [law.logits.log_softmax(-1).T for law in toy.guide.posterior(log.scene.guide_batch).values()]
    log_q = laws[0] if len(laws) == 1 else (laws[1][:, None] + laws[0]).flatten(0, 1)
    torch.testing.assert_close(log.log_q, log_q, **EXACT)
    assert (log_q - tables.log_q)[:, 1].abs().min() > 1e-4


def test_the_guide_alone_reads_the_noise(toy: Toy) -> None:
    guide_alone_reads_the_noise(toy)


@one
def test_a_guide_that_reads_the_clean_response_is_told_apart(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Denoising, "of_guide", lambda _, batch, *__: batch)
    with pytest.raises(AssertionError):
        guide_alone_reads_the_noise(toy)


@one
def test_noise_is_of_ordinary_tokens_and_leaves_end_and_padding(toy: Toy) -> None:
    backbone, batch = toy.model.backbone, toy.batch
    ends = torch.isin(batch.response, torch.tensor(backbone.eos_ids))
    words, seen = batch.response_mask & ~ends, []
    for _ in range(30):
        read = Denoising(1.0).of_guide(batch, toy.model, 1.0)
        assert torch.equal(read.response[~words], batch.response[~words])
        assert torch.equal(read.prompt, batch.prompt)
        assert torch.equal(read.response_mask, batch.response_mask)
        seen.append(read.response[words])
    assert not torch.isin(torch.cat(seen), torch.tensor([*backbone.eos_ids, backbone.pad_id])).any()
    assert (torch.stack(seen) != batch.response[words]).any(0).all()
    assert torch.equal(Denoising(0.0).of_guide(batch, toy.model, 1.0).response, batch.response)


@one
def test_the_bound_stays_below_log_p_whatever_the_guide_reads(toy: Toy) -> None:
    inference = Inference(ELBO(), Enumerate(), Exact(), corruptions={"noise": Denoising(1.0)})
    log_p = Inference(MarginalLikelihood(), Enumerate(), Exact())(toy.model, toy.guide, toy.batch).bound
    for _ in range(10):
        assert (inference(toy.model, toy.guide, toy.batch).bound < log_p).all()


@one
def test_features_of_the_response_are_left_out(toy: Toy) -> None:
    features = {"prompt/mean/last": torch.zeros(3, 2), "response/mean/every": torch.zeros(3, 2)}
    batch = replace(toy.batch, features=features)
    assert set(Denoising(0.5).of_guide(batch, toy.model, 1.0).features) == {"prompt/mean/last"}
    unseen = batch.without_response()
    assert Denoising(0.5).of_guide(unseen, toy.model, 1.0) is unseen


def test_ordinary_tokens_are_all_but_the_special_ones(make_backbone: Callable[..., Backbone]) -> None:
    backbone = make_backbone("gpt2")
    drawn = ordinary_tokens(backbone, torch.Size((40, 50)), torch.device("cpu"))
    special = {*backbone.eos_ids, backbone.pad_id, backbone.bos_id}
    counts = drawn.flatten().bincount(minlength=backbone.vocab_size).double()
    assert {i for i, n in enumerate(counts.tolist()) if n == 0} == special
    share = 1 / (backbone.vocab_size - len(special))
    # 5 standard errors on 8 tokens: a false alarm once in 200000 seeds, of which this is one.
    assert (counts[counts > 0] / 2000 - share).abs().max() < 5 * (share * (1 - share) / 2000) ** 0.5


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: WordDropout(1.5), "WordDropout: rate must be between 0 and 1, got 1.5"),
        (
            lambda: Denoising(Linear(0.0, -0.5)),
            "Denoising: rate must be between 0 and 1, got -0.005 at the share 0.01",
        ),
        (lambda: WordDropout(0.5, "mask"), "WordDropout: token must be one of pad, unk, random, got 'mask'"),
    ],
)
def test_settings_out_of_range_are_refused(make: Callable[[], Corruption], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        make()


@one
def test_an_unknown_token_is_taken_where_there_is_one(toy: Toy) -> None:
    tokenizer = toy.model.backbone.tokenizer
    inputs = targets_stay(toy, WordDropout(1.0, "unk"))
    assert (inputs == tokenizer.unk_token_id).all()
    tokenizer.unk_token = None
    with pytest.raises(ValueError, match="gpt2 has no unk token; use token=pad or token=random"):
        run(toy, WordDropout(1.0, "unk"))


@one
def test_a_model_without_a_vocabulary_is_refused_by_denoising(toy: Toy) -> None:
    with pytest.raises(ValueError, match="function does not have; give the model a Backbone"):
        Denoising(0.5).of_guide(toy.batch, lambda batch: toy.model(batch), 1.0)


@one
def test_inputs_of_another_length_than_the_value_are_refused(toy: Toy) -> None:
    law = LanguageModel(toy.model.backbone, toy.model.encode(toy.batch), inputs=toy.batch.response)
    with pytest.raises(ValueError, match=r"shape \(3, 2\) does not fit the inputs, of shape \(3, 4\)"):
        law.log_prob(toy.batch.response[:, :2])
