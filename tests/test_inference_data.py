"""Inference data say what model and guide say: held against runs of them by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyro
import pytest
import torch
from pyro import poutine
from stratagem.inference.dataset import Dataset
from stratagem.inference.evaluation import posteriors
from stratagem.inference.evaluation.use import use
from stratagem.inference.expectations import Enumerate
from stratagem.inference.inference_data import Texts, from_posteriors, merge, to_inference_data
from stratagem.inference.inference_data.build import TOKEN_DRAWS
from stratagem.inference.inference_data.names import names_of
from stratagem.inference.inference_data.responses import token_log_likelihood
from stratagem.models import Batch, Example, base_law, collate
from stratagem.models.text import decode

from .fit_fixtures import tiny_backbone, tiny_data
from .inference_data_fixtures import EXACT, KINDS, SAMPLED, Families, groups, hearing, latent_lm, saying

N, D = 10, 4
NEW = 5
"""Tokens of a new response at most."""


class Made:
    """Inference data of a kind of latents, and what they were made of."""

    def __init__(self, kind: str) -> None:
        self.model, self.guide = latent_lm(kind)
        self.data = tiny_data(self.model.backbone, N)
        self.found: Any = to_inference_data(
            self.model, self.guide, self.data.batches(4), predictive=D, max_new_tokens=NEW
        )
        self.names = list(KINDS[kind])

    @property
    def batch(self) -> Batch:
        return self.data.batch(range(N))

    def log_prob(self, program: Any, draw: int, site: str | None = None) -> torch.Tensor:
        """Of all sites, or of one, at a draw, in a run of its own, ``(N,)``."""
        z = {name: torch.tensor(self.found["posterior"][name].values[0, draw]) for name in self.names}
        with torch.no_grad():
            trace = poutine.trace(poutine.condition(program, data=z)).get_trace(self.batch)
            trace.compute_log_prob()
        names = [site] if site else [name for name in (*self.names, "y") if name in trace.nodes]
        return sum((trace.nodes[name]["log_prob"] for name in names), torch.zeros(N))


@pytest.fixture(scope="module")
def of_kind() -> dict[str, Made]:
    return {}


@pytest.fixture
def made(request: pytest.FixtureRequest, of_kind: dict[str, Made]) -> Made:
    return of_kind.setdefault(request.param, Made(request.param))


every_kind = pytest.mark.parametrize("made", list(KINDS), indirect=True)
exact_kinds = pytest.mark.parametrize("made", EXACT, indirect=True)
sampled_kinds = pytest.mark.parametrize("made", SAMPLED, indirect=True)


@every_kind
def test_groups_and_axes_have_their_names(made: Made) -> None:
    found = groups(made.found)
    drawn = {
        "posterior",
        "prior",
        "posterior_predictive",
        "prior_predictive",
        "log_likelihood",
        "sample_stats",
    }
    assert set(found) == drawn | {"log_likelihood_token", "observed_data", "constant_data"}
    for name in drawn:
        assert all(v.dims[0] == "chain" for v in found[name].data_vars.values())
        assert found[name]["datum"].values.tolist() == list(range(N))
    for name in made.names:
        extra = () if name in ("a", "b") or found["posterior"][name].dtype == np.int64 else ("latent_dim",)
        assert (
            found["posterior"][name].dims == found["prior"][name].dims == ("chain", "draw", "datum", *extra)
        )
    assert found["posterior_predictive"]["y"].dims == ("chain", "draw", "datum", "token")
    assert found["log_likelihood_token"]["y"].dims == ("chain", "datum", "token")
    assert found["observed_data"]["y"].dims == ("datum", "token")


@exact_kinds
def test_probabilities_are_those_of_the_sums_over_z(made: Made) -> None:
    log = Enumerate()(made.model, made.guide, made.batch)
    joint = "joint" if len(made.names) > 1 else made.names[0]
    posterior, prior = made.found["posterior"], made.found["prior"]
    for group, name, law in (
        (posterior, f"{joint}_probability", log.log_posterior),
        (posterior, f"{joint}_probability_guide", log.log_q),
        (prior, f"{joint}_probability", log.log_prior),
    ):
        assert group[name].dims == ("chain", "datum", "strategy")
        np.testing.assert_allclose(group[name].values[0], law.exp().T.detach(), atol=1e-6)
    for place, name in enumerate(made.names if len(made.names) > 1 else []):
        values = made.found["constant_data"]["strategy_value"].values[:, place]
        p = posterior[f"{joint}_probability"].values[0]
        marginal = np.stack([p[:, values == v].sum(1) for v in range(max(values) + 1)], 1)
        assert posterior[f"{name}_probability"].dims == ("chain", "datum", f"{name}_strategy")
        np.testing.assert_allclose(posterior[f"{name}_probability"].values[0], marginal, atol=1e-6)


@exact_kinds
def test_draws_are_of_the_exact_posterior_and_of_the_router(made: Made) -> None:
    joint = "joint" if len(made.names) > 1 else made.names[0]
    for group in ("posterior", "prior"):
        data = made.found[group]
        z, law = data[joint].values[0], data[f"{joint}_probability"].values[0]
        share = np.stack([(z == k).mean(0) for k in range(law.shape[1])], 1)
        # 4.5 standard errors on at most 120 shares: a false alarm once in 1000 seeds, of which this is one.
        assert (np.abs(share - law) <= 4.5 * np.sqrt(law * (1 - law) / len(z)) + 1e-6).all()
        for place, name in enumerate(made.names if len(made.names) > 1 else []):
            values = made.found["constant_data"]["strategy_value"].values[:, place]
            np.testing.assert_array_equal(data[name].values[0], values[z])


@exact_kinds
def test_usage_is_the_share_of_the_data_in_a_draw(made: Made) -> None:
    joint = "joint" if len(made.names) > 1 else made.names[0]
    posterior = made.found["posterior"]
    usage = posterior[f"{joint}_usage"]
    assert usage.dims == ("chain", "draw", "strategy")
    shares = (posterior[joint] == posterior["strategy"]).mean("datum")
    np.testing.assert_allclose(usage.values, shares.transpose(*usage.dims).values)


@every_kind
def test_log_densities_are_those_of_runs_with_the_draws(made: Made) -> None:
    stats = made.found["sample_stats"]
    for draw in (0, 57):
        log_p, log_q = made.log_prob(made.model, draw), made.log_prob(made.guide, draw)
        np.testing.assert_allclose(stats["log_p"].values[0, draw], log_p, atol=2e-5)
        np.testing.assert_allclose(stats["log_q"].values[0, draw], log_q, atol=2e-5)
    batch = made.batch
    assert batch.response is not None
    base = base_law(made.model, batch).log_prob(batch.response).detach()
    np.testing.assert_allclose(stats["log_p_base"].values[0], base, atol=2e-5)


@exact_kinds
def test_draws_of_the_exact_posterior_all_weigh_the_same(made: Made) -> None:
    stats = made.found["sample_stats"]
    marginal = Enumerate()(made.model, made.guide, made.batch).log_marginal.detach().numpy()
    for values in (stats["log_weight"], made.found["log_likelihood"]["y"]):
        np.testing.assert_allclose(values.values[0], np.broadcast_to(marginal, values.shape[1:]), atol=2e-5)
        assert np.ptp(values.values[0], axis=0).max() < 1e-5
    np.testing.assert_allclose(stats["log_marginal"].values[0], marginal, atol=2e-5)
    assert "pareto_k" not in stats


@sampled_kinds
def test_draws_of_the_guide_weigh_what_the_model_says_over_what_the_guide_says(made: Made) -> None:
    stats = made.found["sample_stats"]
    weight = (stats["log_p"] - stats["log_q"]).values
    np.testing.assert_allclose(stats["log_weight"].values, weight, atol=1e-5)
    marginal = np.logaddexp.reduce(weight[0].astype(float), 0) - math.log(weight.shape[1])
    np.testing.assert_allclose(stats["log_marginal"].values[0], marginal, atol=1e-5)
    np.testing.assert_allclose(made.found["log_likelihood"]["y"].values[0].mean(0), marginal, atol=1e-5)
    assert stats["pareto_k"].dims == ("chain", "datum")
    assert np.isfinite(stats["pareto_k"].values).all()


def test_draws_of_a_router_that_cannot_be_enumerated_are_its_own() -> None:
    made = Made("normal")
    prior = to_inference_data(made.model, made.guide, made.data.batches(4), draws=2000, tokens=False)["prior"]
    with torch.no_grad():
        law = poutine.trace(made.model).get_trace(made.batch).nodes["z"]["fn"]
    z = prior["z"].values[0]
    error = law.stddev.numpy() / math.sqrt(len(z))
    # 5 standard errors on 20 means and, by half as many draws each, 20 deviations: once in 40000 seeds.
    assert (np.abs(z.mean(0) - law.mean.numpy()) < 5 * error).all()
    assert (np.abs(z.std(0) - law.stddev.numpy()) < 5 * error / math.sqrt(2) * 1.1).all()


def test_a_discrete_latent_among_continuous_ones_has_weighted_probabilities() -> None:
    made = Made("mixed")
    z, weight = made.found["posterior"]["z"].values[0], made.found["sample_stats"]["log_weight"].values[0]
    share = np.exp(weight - weight.max(0)) / np.exp(weight - weight.max(0)).sum(0)
    expected = np.stack([(share * (z == k)).sum(0) for k in range(3)], 1)
    np.testing.assert_allclose(made.found["posterior"]["z_probability"].values[0], expected, atol=1e-5)
    assert "z_probability_guide" not in made.found["posterior"].coords


@exact_kinds
def test_tokens_have_the_probabilities_of_shorter_responses(made: Made) -> None:
    tokens = made.found["log_likelihood_token"]["y"].values[0]
    lengths = [len(example.response) for example in made.data.examples]
    for t in range(1, max(lengths) + 1):
        cut = [Example(e.prompt, e.response[:t]) for e in made.data.examples]
        marginal = Enumerate()(made.model, made.guide, collate(cut, made.data.pad_id)).log_marginal.detach()
        np.testing.assert_allclose(np.nansum(tokens[:, :t], 1), marginal, atol=2e-5)
    assert np.isnan(tokens).sum(1).tolist() == [tokens.shape[1] - length for length in lengths]


@every_kind
def test_tokens_that_are_known_are_not_asked_for_again(made: Made) -> None:
    seen = posteriors(made.model, made.guide, made.data, 4, particles=TOKEN_DRAWS, tokens=True)
    assert posteriors(made.model, made.guide, made.data, 4, particles=4).log_tokens is None
    found = to_inference_data(made.model, made.guide, made.data.batches(4), seen=seen)
    anew = to_inference_data(
        made.model, made.guide, made.data.batches(4), seen=replace(seen, log_tokens=None)
    )
    one, other = (data["log_likelihood_token"]["y"].values for data in (found, anew))
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_tokens_under_weighted_draws_are_weighted_by_the_tokens_before() -> None:
    """With draws of the router the prefix's probability is the plain mean over the draws."""
    made = Made("normal")
    torch.manual_seed(0)
    with torch.no_grad(), pyro.plate("rows", 7, dim=-2):
        trace = poutine.trace(made.model).get_trace(made.batch)
        each = trace.nodes["y"]["fn"].token_log_probs(made.batch.response).double()
    z, log_lik = trace.nodes["z"]["value"], each.sum(-1)
    found = token_log_likelihood(made.model, [made.batch], {"z": z}, log_lik)
    prefix = each.cumsum(-1).logsumexp(0) - math.log(7)
    expected = torch.diff(prefix, dim=-1, prepend=torch.zeros(N, 1))
    assert found is not None
    assert made.batch.response_mask is not None
    mask = made.batch.response_mask.numpy()
    np.testing.assert_allclose(found[mask], expected.numpy()[mask], atol=1e-5)


@every_kind
def test_new_responses_are_told_by_tokens_lengths_and_texts(made: Made) -> None:
    backbone = made.model.backbone
    for name in ("posterior_predictive", "prior_predictive"):
        new = made.found[name]
        assert new["y"].shape[:3] == (1, D, N)
        assert new["y"].shape[3] <= NEW
        for draw in range(D):
            for n in range(N):
                ids = new["y"].values[0, draw, n]
                length = int(new["length"].values[0, draw, n])
                assert (ids[:length] >= 0).all()
                assert (ids[length:] == -1).all()
                ends = [i for i, token in enumerate(ids[:length]) if token in backbone.eos_ids]
                assert ends == [length - 1] or (not ends and length == NEW)
                assert new["response"].values[0, draw, n] == decode(backbone, ids[:length])


@every_kind
def test_the_data_are_in_the_file_as_they_were(made: Made) -> None:
    seen, given = made.found["observed_data"], made.data
    assert seen["response"].values.tolist() == given.responses
    assert made.found["constant_data"]["prompt"].values.tolist() == given.prompts
    lengths = [len(example.prompt) for example in given.examples]
    assert made.found["constant_data"]["prompt_length"].values.tolist() == lengths
    for ids, example in zip(seen["y"].values, given.examples, strict=True):
        assert tuple(ids[ids >= 0]) == example.response
    assert seen["length"].values.tolist() == [len(example.response) for example in given.examples]


def said(num: int) -> Dataset:
    """Prompts of either kind, and responses that say a value twice."""
    examples = [Example((n % 2,), (n % 3,) * 2) for n in range(num)]
    return Dataset(examples, ["p"] * num, ["r"] * num, 0)


def test_plain_functions_are_programs_too() -> None:
    """The posterior hears z without fail, the router goes by the prompt, and what is generated says z twice."""
    data = said(120)
    found = to_inference_data(saying, hearing, data.batches(50), predictive=D, tokens=True)
    values = np.array([example.response[0] for example in data.examples])
    assert (found["posterior"]["z"].values == values).all()
    router = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])[np.arange(120) % 2]
    np.testing.assert_allclose(found["prior"]["z_probability"].values[0], router, atol=1e-6)
    np.testing.assert_allclose(
        found["sample_stats"]["log_marginal"].values[0], np.log(router[np.arange(120), values]), atol=1e-6
    )
    np.testing.assert_allclose(found["sample_stats"]["posterior_gap"].values, -math.log(0.9), atol=1e-6)
    for group, law in (("posterior", found["posterior"]), ("prior", found["prior"])):
        y = found[f"{group}_predictive"]["y"].values
        np.testing.assert_array_equal(y[..., 0], law["z"].values[:, :D])
        np.testing.assert_array_equal(y[..., 1], y[..., 0])
    absent = {"log_likelihood_token"} & set(groups(found))
    assert not absent, "the law of y is no language model's"
    assert "log_p_base" not in found["sample_stats"]
    assert set(found["constant_data"].data_vars) == {"prompt_length"}


def test_latents_may_depend_on_each_other_and_have_names_of_axes() -> None:
    torch.manual_seed(3)
    model = Families(tiny_backbone())
    data = tiny_data(model.backbone, 6)

    def uniform(batch: Batch) -> None:
        with pyro.plate("data", len(batch), dim=-1):
            for name, latent in model.latents.items():
                pyro.sample(name, latent.law(torch.zeros(len(batch), latent.num_parameters)))

    found = to_inference_data(model, uniform, data.batches(4), predictive=2, max_new_tokens=NEW)
    posterior = found["posterior"]
    assert set(posterior.data_vars) == {"strategy_", "joint", "joint_", "joint__usage"}
    assert posterior["joint__probability"].shape == (1, 6, 6)
    log = Enumerate()(model, uniform, data.batch(range(6)))
    np.testing.assert_allclose(
        posterior["joint__probability"].values[0], log.log_posterior.exp().T.detach(), atol=1e-6
    )
    np.testing.assert_array_equal(
        posterior["joint_"].values, posterior["strategy_"].values + 2 * posterior["joint"].values
    )
    merged = merge({"a": found, "b": found})
    assert (merged["posterior"]["joint"].values[1] == posterior["joint"].values[0]).all()


def test_draws_come_from_the_seed_alone() -> None:
    model, guide = latent_lm("mixed")
    data = tiny_data(model.backbone, 4)
    made = []
    for seed, noise in ((0, 1), (0, 2), (1, 3)):
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        made.append(
            to_inference_data(model, guide, data.batches(4), predictive=1, max_new_tokens=NEW, seed=seed)
        )
        assert torch.equal(torch.get_rng_state(), before)
    for name, group in groups(made[0]).items():
        assert group.equals(groups(made[1])[name])
    assert not made[0]["posterior"].equals(made[2]["posterior"])


@every_kind
def test_what_is_known_is_not_run_again(made: Made) -> None:
    """The same, with draws of their own where z is enumerable, as from a run of everything."""
    torch.manual_seed(0)
    seen = posteriors(made.model, made.guide, made.data, 4)
    cheap: Any = from_posteriors(made.model, seen, made.data, {})
    whole: Any = to_inference_data(made.model, made.guide, made.data.batches(4), seen=seen)
    assert set(groups(whole)) - set(groups(cheap)) == {"log_likelihood_token"}
    for name in ("log_marginal", "log_p_base", "information", "kl_router"):
        known = getattr(seen, name.replace("log_p_base", "log_base"))
        for found in (cheap, whole):
            np.testing.assert_allclose(found["sample_stats"][name].values[0], known, atol=2e-5)
    if seen.posterior is not None:
        joint = "joint" if len(made.names) > 1 else made.names[0]
        for found in (cheap, whole, made.found):
            np.testing.assert_allclose(
                found["posterior"][f"{joint}_probability"].values[0], seen.posterior, atol=1e-6
            )
        usage = [use(seen)[f"use/usage/{k}"] for k in range(seen.posterior.shape[1])]
        mean = cheap["posterior"][f"{joint}_usage"].mean(("chain", "draw")).values
        assert np.abs(mean - usage).max() < 4.5 * 0.5 / math.sqrt(N * 100)
    else:
        assert seen.draws is not None
        for found in (cheap, whole):
            for name, draws in seen.draws.items():
                np.testing.assert_array_equal(found["posterior"][name].values[0], draws)
        assert "log_q" not in cheap["sample_stats"]
        for name in seen.draws:
            assert cheap["prior"][name].sizes == whole["prior"][name].sizes
        made.found, before = whole, made.found
        log_q = made.log_prob(made.guide, 5)
        made.found = before
        np.testing.assert_allclose(whole["sample_stats"]["log_q"].values[0, 5], log_q, atol=2e-5)


def test_what_others_measured_of_each_datum_is_kept_beside() -> None:
    model, guide = latent_lm("categorical")
    data = tiny_data(model.backbone, 3)
    extra = {"ess": np.array([0.1, 0.2, 0.3]), "a/curve": np.arange(6.0).reshape(3, 2)}
    texts = Texts(data.prompts, data.responses, ["x", "y", "x"])
    found = to_inference_data(
        model, guide, data.batches(3), texts=texts, per_datum=extra, attributes={"config": "a: 1\n"}
    )
    assert found["sample_stats"]["ess"].dims == ("chain", "datum")
    assert found["sample_stats"]["a_curve"].dims == ("chain", "datum", "a_curve_dim_0")
    np.testing.assert_array_equal(found["sample_stats"]["a_curve"].values[0], extra["a/curve"])
    assert found["constant_data"]["label"].values.tolist() == ["x", "y", "x"]
    assert found.attrs["config"] == "a: 1\n"
    assert found.attrs["base"] == "tiny"
    assert {"base_fingerprint", "stratagem", "arviz", "torch", "pyro-ppl", "created_at"} <= set(found.attrs)
    assert (found.attrs["sites"], found.attrs["posterior"]) == ("z", "exact")


def test_what_cannot_be_done_is_refused() -> None:
    model, guide = latent_lm("categorical")
    data = tiny_data(model.backbone, 3)
    with pytest.raises(ValueError, match="expected batches with responses"):
        to_inference_data(model, guide, [])
    with pytest.raises(ValueError, match="expected batches with responses"):
        to_inference_data(model, guide, [batch.without_response() for batch in data.batches(3)])
    with pytest.raises(ValueError, match="predictive=5: expected 0 to 4, the number of draws"):
        to_inference_data(model, guide, data.batches(3), draws=4, predictive=5)


def test_names_do_not_meet() -> None:
    """Axes that are one site's alone have its name where there are several, and no name parts groups."""
    names = names_of({"u/1": 0, "v": 0, "chain": 1, "w": 1, "m": 2}, ["u/1", "v"])
    assert names.sites == {"u/1": "u_1", "v": "v", "chain": "chain_", "w": "w", "m": "m"}
    assert names.joint == "joint"
    assert names.strategy == {"u/1": "u_1_strategy", "v": "v_strategy"}
    assert names.axes["chain"] == ("chain__latent_dim",)
    assert names.axes["m"] == ("m_latent_dim_0", "m_latent_dim_1")
    assert names_of({"z": 1, "k": 0}, ["k"]).axes == {"z": ("latent_dim",), "k": ()}
