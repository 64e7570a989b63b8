"""p(z|x), and the reading of prompts and responses that routers and posteriors share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    Example,
    Latent,
    LatentLM,
    LearnedPrior,
    Lora,
    Normal,
    PooledRouter,
    Router,
    TokenRouter,
    UniformPrior,
    collate,
)
from stratagem.models.pooling import make_pooling

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]
Unpad = Callable[[Batch], list[Batch]]
Randomise = Callable[..., None]

POOLINGS = ["mean", "last", "attention"]
ROUTERS: dict[str, Callable[[Backbone, Latent], Router]] = {
    **{pooling: partial(PooledRouter, pooling=pooling) for pooling in POOLINGS},
    "hidden": partial(PooledRouter, width=5),
    "token": TokenRouter,
    "learned": LearnedPrior,
    "uniform": UniformPrior,
}
PAIRS = [(r, f) for r in ROUTERS for f in ("categorical", "normal") if (r, f) != ("token", "normal")]
pairs = pytest.mark.parametrize(("router", "family"), PAIRS)


def test_what_the_heads_of_several_latents_read_is_computed_once(
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    randomise: Randomise,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = make_backbone("llama", {"router": Lora(2)})
    model = make_model(backbone, latents={name: Categorical(3) for name in "abc"}, router=PooledRouter)
    guide = AmortizedGuide(model)
    randomise(model)
    randomise(guide)
    batch = make_batch(backbone)
    alone = {name: router(batch).logits for name, router in model.routers.items()}
    passes: list[str] = []
    plain = Backbone.hidden_layers
    monkeypatch.setattr(
        Backbone, "hidden_layers", lambda self, role, *rest: passes.append(role) or plain(self, role, *rest)
    )
    together = model.router(batch)
    assert passes == ["router"]
    for name, law in together.items():
        torch.testing.assert_close(law.logits, alone[name])
    guide.posterior(batch)
    assert passes == ["router", "posterior"]
    with torch.no_grad():
        for weight in backbone.parameters():
            if weight.requires_grad:
                weight.add_(1.0)
    assert not torch.equal(model.router(batch)["a"].logits, together["a"].logits), (
        "nothing is kept between calls"
    )


def family_of(name: str) -> Latent:
    return Categorical(4) if name == "categorical" else Normal(3)


@pairs
def test_a_router_starts_at_the_reference_law(
    router: str, family: str, make_backbone: MakeBackbone, make_batch: MakeBatch
) -> None:
    backbone, latent = make_backbone("llama"), family_of(family)
    law = ROUTERS[router](backbone, latent)(make_batch(backbone))
    assert law.batch_shape == (3,)
    if family == "categorical":
        torch.testing.assert_close(law.probs, torch.full((3, 4), 0.25))
    else:
        assert law.event_shape == (3,)
        torch.testing.assert_close(law.mean, torch.zeros(3, 3))
        torch.testing.assert_close(law.variance, torch.ones(3, 3))


@pairs
@pytest.mark.parametrize("arch", ["gpt2", "llama-grouped", "opt-projected"])
def test_a_router_reads_prompts_without_their_padding(
    router: str,
    family: str,
    arch: str,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    unpad: Unpad,
    randomise: Randomise,
) -> None:
    backbone, latent = make_backbone(arch), family_of(family)
    made, batch = ROUTERS[router](backbone, latent), make_batch(backbone)
    randomise(made)
    together = made.parameters_of(batch)
    for b, row in enumerate(unpad(batch)):
        torch.testing.assert_close(together[b], made.parameters_of(row)[0], atol=1e-5, rtol=1e-5)
    looks = router not in ("learned", "uniform")
    assert (together.std(0).max() > 1e-3) == looks
    assert torch.equal(together, made.parameters_of(batch.without_response()))


def test_a_token_router_is_the_decoder_with_strategies_for_words(
    make_backbone: MakeBackbone, make_batch: MakeBatch, unpad: Unpad, randomise: Randomise
) -> None:
    backbone = make_backbone("llama", {"decoder": Lora(2, alpha=2)})
    router, batch = TokenRouter(backbone, Categorical(4)), make_batch(backbone)
    randomise(router)
    law = router(batch)
    lm = backbone.network("decoder")
    for b, row in enumerate(unpad(batch)):
        hidden = lm.base_model(input_ids=row.prompt).last_hidden_state[0, -1]
        torch.testing.assert_close(law.probs[b], (router.rows @ hidden).softmax(-1), atol=1e-5, rtol=1e-5)
    law.logits[:, 0].sum().backward()
    adapters = [w.grad for name, w in backbone.named_parameters() if "lora_" in name]
    assert any(grad is not None and grad.abs().max() > 0 for grad in adapters)


def test_a_token_router_refuses_a_continuous_latent(make_backbone: MakeBackbone) -> None:
    with pytest.raises(ValueError, match="needs a categorical latent, got Normal; use router=pooled"):
        TokenRouter(make_backbone("gpt2"), Normal(2))


@pytest.mark.parametrize("pooling", POOLINGS)
def test_pooling_ignores_padding_on_either_side(pooling: str) -> None:
    pool = make_pooling(pooling, 6)
    for weight in pool.parameters():
        torch.nn.init.normal_(weight)
    hidden = torch.randn(3, 7, 6)
    mask = torch.zeros(3, 7, dtype=torch.bool)
    spans = [slice(0, 4), slice(2, 7), slice(3, 4)]
    for row, span in enumerate(spans):
        mask[row, span] = True
    pooled = pool(hidden, mask)
    for row, span in enumerate(spans):
        tokens = hidden[row, span]
        weight = {
            "mean": lambda t: torch.full((len(t),), 1 / len(t)),
            "last": lambda t: torch.eye(len(t))[-1],
            "attention": lambda t: (t @ pool.query / 6**0.5).softmax(0),
        }[pooling](tokens)
        torch.testing.assert_close(pooled[row], weight @ tokens)
    assert torch.equal(pooled, pool(torch.where(mask[..., None], hidden, 100.0), mask))


def test_an_unknown_pooling_is_refused(make_backbone: MakeBackbone) -> None:
    with pytest.raises(
        ValueError, match="pooling must be mean, first, last, mean_last or attention, got max"
    ):
        PooledRouter(make_backbone("gpt2"), Categorical(2), pooling="max")


@pytest.mark.parametrize("names", [[], ["y"], ["data", "z"]])
def test_latents_need_names_of_their_own(names: list[str], make_backbone: Callable[..., Backbone]) -> None:
    backbone = make_backbone("gpt2")
    with pytest.raises(ValueError, match="expected named latents, none called y or data"):
        LatentLM(backbone, {name: Categorical(2) for name in names}, PooledRouter, lambda *_: None)


def test_mean_last_is_the_mean_beside_the_last() -> None:
    hidden, mask = torch.randn(3, 5, 6), torch.ones(3, 5, dtype=torch.bool)
    mask[1, :2] = False
    both = make_pooling("mean_last", 6)(hidden, mask)
    assert torch.equal(both, torch.cat([make_pooling(p, 6)(hidden, mask) for p in ("mean", "last")], -1))


@pytest.mark.parametrize("pooling", ["mean_last", "attention"])
def test_a_router_reads_every_layer(make_backbone: MakeBackbone, pooling: str) -> None:
    backbone = make_backbone("gpt2")
    router = PooledRouter(backbone, Categorical(3), pooling, width=4, every_layer=True)
    batch = collate([Example((3, 4, 5)), Example((6,))], backbone.pad_id)
    size = backbone.num_layers * backbone.hidden_size * (2 if pooling == "mean_last" else 1)
    assert router.reader.features(batch).shape == (2, size)
    assert router(batch).probs.allclose(torch.tensor(1 / 3))
    router(batch).logits[0, 0].backward()
    assert router.reader.output.weight.grad.abs().max() > 0
