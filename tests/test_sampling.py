"""Samples of the LM against its own log-probabilities, and how next-token laws are warped."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from scipy.stats import chi2
from stratagem.models import Backbone, Batch, LanguageModel, LatentLM, warper
from torch import Tensor

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]

FALSE_ALARM = 1e-4
"""Chance that a right sampler fails one test, were its seed not fixed."""

LENGTH, DRAWS = 3, 4000


def support(backbone: Backbone) -> Tensor:
    """Every sequence that ends or has full length, ``(N, LENGTH)``."""
    found = set()
    for y in itertools.product(range(backbone.vocab_size), repeat=LENGTH):
        cut = next((i + 1 for i, token in enumerate(y) if token in backbone.eos_ids), LENGTH)
        found.add(y[:cut] + (backbone.pad_id,) * (LENGTH - cut))
    return torch.tensor(sorted(found))


@torch.no_grad()
def p_values(draws: Tensor, law: LanguageModel) -> list[float]:
    """Of Pearson's chi-square for each element of the batch; those expected below 5 times are one cell."""
    values = support(law.backbone)
    shape = law.batch_shape
    log_p = law.log_prob(values.reshape(-1, *(1,) * len(shape), LENGTH))  # (N, *batch)
    out = []
    for place in itertools.product(*map(range, shape)):
        expected = len(draws) * log_p[(slice(None), *place)].double().exp()  # (N,)
        hits = (draws[(slice(None), *place)][:, None] == values).all(-1)  # (draws, N)
        assert hits.sum(1).eq(1).all(), "a sample outside the support"
        seen, rare = hits.sum(0).double(), expected < 5
        cells = torch.cat([expected[~rare], expected[rare].sum()[None]])
        counts = torch.cat([seen[~rare], seen[rare].sum()[None]])
        statistic = ((counts - cells) ** 2 / cells.clamp(min=1e-9)).sum()
        out.append(float(chi2.sf(float(statistic), len(cells) - 1)))
    return out


@pytest.fixture(params=[None, "prefix", "slots"])
def law(
    request: pytest.FixtureRequest, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> LanguageModel:
    """Two prompts of unequal length: the base, or each of three strategies by prefix or by slot tokens."""
    backbone = make_backbone("llama-grouped", vocab=5)
    batch = replace(make_batch(backbone, prompts=(1, 3), responses=()), max_length=LENGTH)
    model = make_model(backbone, request.param or "prefix")
    return model.decoder(batch, {"z": torch.arange(3)[:, None]}) if request.param else model.base(batch)


def test_samples_follow_log_prob(law: LanguageModel) -> None:
    found = p_values(law.sample((DRAWS,)), law)
    assert min(found) > FALSE_ALARM / len(found)


def test_samples_of_a_slightly_other_law_are_told_apart(law: LanguageModel) -> None:
    law.warp = warper(temperature=0.7)
    found = p_values(law.sample((DRAWS,)), law)
    assert max(found) < FALSE_ALARM


@pytest.mark.parametrize("law", ["prefix", "slots"], indirect=True)
def test_samples_without_the_memory_are_told_apart(law: LanguageModel) -> None:
    bare = LanguageModel(law.backbone, law.prompt, None, LENGTH).expand(law.batch_shape)
    assert min(p_values(bare.sample((DRAWS,)), law)) < FALSE_ALARM


def test_temperature_zero_takes_the_likeliest_token_at_each_place(law: LanguageModel) -> None:
    law.warp = warper(temperature=0)
    drawn = law.sample((2,))
    assert torch.equal(drawn[0], drawn[1])
    best = law.logits(drawn[0]).argmax(-1)
    mask = law.mask_of(drawn[0])
    assert torch.equal(drawn[0][mask], best[mask])
    assert (drawn[0][~mask] == law.backbone.pad_id).all()


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.7, 0.9, 0.999])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_top_p_keeps_the_smallest_set_of_that_mass(top_p: float, temperature: float) -> None:
    logits = 2 * torch.randn(50, 9, dtype=torch.float64)
    warped = warper(temperature, top_p)(logits)
    for row, scaled in zip(warped, logits / temperature, strict=True):
        kept = row.isfinite()
        ranked = scaled.softmax(-1).sort(descending=True).values.cumsum(-1)
        assert kept.sum() == 1 + (ranked < top_p).sum()
        assert scaled[kept].min() > scaled[~kept].max() if (~kept).any() else True
        torch.testing.assert_close(row[kept], scaled[kept])


def test_a_temperature_alone_leaves_every_token_possible() -> None:
    logits = torch.tensor([[40.0, 0.0, -40.0]])
    torch.testing.assert_close(warper(temperature=0.5)(logits), 2 * logits)
    assert warper() is None


@pytest.mark.parametrize("settings", [(-1.0, 1.0), (math.inf, 1.0), (math.nan, 1.0), (1.0, 0.0), (1.0, 1.1)])
def test_settings_out_of_range_are_refused(settings: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        warper(*settings)
