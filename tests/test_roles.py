"""Frozen, low-rank and full roles: what each may change, and what none ever does."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.models import Backbone, Batch, Frozen, Full, LatentLM, Lora, PooledRouter
from stratagem.models.backbone import BASE, ROLES
from torch import Tensor, nn

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]
Randomise = Callable[..., None]

KINDS = {"frozen": Frozen, "lora": lambda: Lora(2, alpha=2), "full": Full}
COMBINATIONS = list(itertools.product(KINDS, repeat=3))
Z = torch.tensor([0, 1, 2])


def outputs(model: LatentLM, guide: AmortizedGuide, batch: Batch) -> dict[str, Tensor]:
    """What each role gives, and the base: log-probabilities of z or of y, ``(B,)``."""
    return {
        "router": model.router(batch)["z"].log_prob(Z),
        "decoder": model.decoder(batch, {"z": Z}).log_prob(batch.response),
        "posterior": guide.posterior(batch)["z"].log_prob(Z),
        BASE: model.base(batch).log_prob(batch.response),
    }


def trainable(*modules: nn.Module) -> list[nn.Parameter]:
    return [w for w in nn.ModuleList(modules).parameters() if w.requires_grad]


@pytest.mark.parametrize(
    ("arch", "kinds"),
    [*(("gpt2", kinds) for kinds in COMBINATIONS), ("llama-grouped", ("lora", "lora", "full"))],
)
def test_training_one_role_changes_that_role_alone(
    kinds: tuple[str, str, str],
    arch: str,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    randomise: Randomise,
) -> None:
    plain = make_backbone(arch)
    backbone = make_backbone(arch, {role: KINDS[kind]() for role, kind in zip(ROLES, kinds, strict=True)})
    model, batch = make_model(backbone, router=PooledRouter), make_batch(backbone)
    guide = AmortizedGuide(model, width=4)
    randomise(model, backbone=False)
    randomise(guide, backbone=False)
    model.train()
    p0 = make_model(plain).base(batch).log_prob(batch.response)
    before = outputs(model, guide, batch)
    assert torch.equal(before[BASE], p0)
    for role in ROLES:
        optimiser = torch.optim.Adam(trainable(model, guide), lr=0.05)
        (-outputs(model, guide, batch)[role].sum()).backward()
        optimiser.step()
        optimiser.zero_grad()
        after = outputs(model, guide, batch)
        for other in (*ROLES, BASE):
            assert torch.equal(before[other], after[other]) == (other != role), other
        before = after
    assert torch.equal(before[BASE], p0)
    own = dict(backbone.lm.named_parameters())
    for name, weight in plain.lm.named_parameters():
        stem, _, leaf = name.rpartition(".")
        kept = own.get(name, own.get(f"{stem}.base_layer.{leaf}"))
        assert torch.equal(weight, kept), name
        assert not kept.requires_grad


@pytest.mark.parametrize("kinds", COMBINATIONS, ids="-".join)
def test_the_base_is_kept_once_and_copied_for_full_roles_alone(
    kinds: tuple[str, str, str], make_backbone: MakeBackbone
) -> None:
    size = sum(w.numel() for w in make_backbone("gpt2").parameters())
    backbone = make_backbone("gpt2", {role: KINDS[kind]() for role, kind in zip(ROLES, kinds, strict=True)})
    held = {w.untyped_storage().data_ptr(): w.numel() for w in backbone.parameters()}
    adapters = sum(w.numel() for name, w in backbone.named_parameters() if "lora_" in name)
    assert sum(held.values()) == size * (1 + kinds.count("full")) + adapters
    assert (adapters > 0) == ("lora" in kinds)
    assert adapters < size * kinds.count("lora") or adapters == 0
    for role, kind in zip(ROLES, kinds, strict=True):
        assert (backbone.network(role) is backbone.lm) == (kind != "full")
        assert backbone.is_frozen(role) == (kind == "frozen")


@pytest.mark.parametrize("kind", KINDS)
def test_heads_train_whatever_the_roles(
    kind: str, make_backbone: MakeBackbone, make_model: MakeModel
) -> None:
    backbone = make_backbone("llama", {role: KINDS[kind]() for role in ROLES})
    model = make_model(backbone, "slots", router=PooledRouter)
    guide = AmortizedGuide(model, pooling="attention")
    for module in (model.routers, model.conditionings, model.template, guide.readers):
        own = [w for name, w in module.named_parameters() if "backbone" not in name]
        assert own
        assert all(w.requires_grad for w in own)


def test_likelihoods_are_free_of_dropout_in_training_mode(
    make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("gpt2", {"posterior": Full()}, attn_pdrop=0.5, resid_pdrop=0.5, embd_pdrop=0.5)
    model, batch = make_model(backbone, router=PooledRouter), make_batch(backbone)
    guide = AmortizedGuide(model)
    nn.init.normal_(guide.readers["z"].head[-1].weight)
    calm = outputs(model, guide, batch)
    model.train()
    guide.train()
    assert model.training
    for name, value in outputs(model, guide, batch).items():
        assert torch.equal(value, calm[name])


def test_what_is_trained_beside_a_base_in_half_precision_is_not(make_backbone: MakeBackbone) -> None:
    backbone = make_backbone("llama", {"decoder": Lora(2)}, dtype=torch.bfloat16)
    assert {p.dtype for p in backbone.parameters() if p.requires_grad} == {torch.float32}
    ids = torch.tensor([[1, 5, 6]])
    assert backbone.hidden("decoder", ids, ids >= 0).isfinite().all()
    with pytest.raises(ValueError, match=r"role full: weights in torch\.bfloat16 lose small steps"):
        make_backbone("llama", {"decoder": Full()}, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda build: build("gpt2", {"critic": Frozen()}), "unknown roles .'critic'.; the roles are router"),
        (lambda _: Lora(0), "rank must be at least 1, got 0"),
    ],
)
def test_roles_out_of_range_are_refused(
    make: Callable[[MakeBackbone], object], message: str, make_backbone: MakeBackbone
) -> None:
    with pytest.raises(ValueError, match=message):
        make(make_backbone)
