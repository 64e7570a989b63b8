"""What depends on z and what does not, by gradients, and how strength weighs it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    KeyValuePrefix,
    LanguageModel,
    LatentLM,
    Lora,
    Normal,
    SlotTokens,
    Tagged,
)
from torch import Tensor, nn
from torch.func import functional_call

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]
Randomise = Callable[[nn.Module], None]

ALL_Z = {"z": torch.arange(3)[:, None]}

kinds = pytest.mark.parametrize("kind", ["prefix", "slots"])
archs = pytest.mark.parametrize("arch", ["gpt2", "llama-grouped", "opt"])


def own_weights(module: nn.Module) -> dict[str, Tensor]:
    """The module's weights without the backbone's."""
    return {name: w for name, w in module.named_parameters() if not name.startswith("backbone.")}


@kinds
@archs
def test_x_never_sees_z_and_the_first_token_of_y_does(
    kind: str, arch: str, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone(arch, {"decoder": Lora(2)})
    model, batch = make_model(backbone, kind), make_batch(backbone)
    weights = list(own_weights(model.conditionings["z"]).values())
    past = model.encode(batch).past
    read = sum(t.square().sum() for t in (*past.keys, *past.values))
    assert read.requires_grad
    assert torch.autograd.grad(read, weights, allow_unused=True) == (None,) * len(weights)
    first = model.decoder(batch, ALL_Z).token_log_probs(batch.response)[..., 0]  # (K, B)
    for b in range(len(batch)):
        (gradient, *_) = torch.autograd.grad(first[:, b].sum(), weights, retain_graph=True)
        assert (gradient.abs().sum(1) > 0).all()


@kinds
@archs
def test_gradients_reach_the_weights_of_the_strategy_alone_and_are_finite(
    kind: str, arch: str, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone(arch)
    model, batch = make_model(backbone, kind), make_batch(backbone)
    model.decoder(batch, {"z": torch.tensor([0, 2, 2])}).log_prob(batch.response).sum().backward()
    gradient = model.conditionings["z"].weight.grad
    assert gradient.isfinite().all()
    assert gradient[0].abs().max() > 0
    assert gradient[1].eq(0).all()
    assert gradient[2].abs().max() > 0
    assert all(w.grad is None for w in backbone.parameters())


@pytest.mark.parametrize(("kind", "arch"), [("prefix", "gpt2"), ("prefix", "gpt_neox"), ("slots", "opt")])
@pytest.mark.parametrize("latent", [Categorical(2), Normal(2)])
def test_gradients_are_those_of_finite_differences(
    kind: str,
    arch: str,
    latent: Categorical | Normal,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
) -> None:
    backbone = make_backbone(arch, dtype=torch.float64)
    model = make_model(backbone, kind, {"z": latent}, strength=0.5)
    batch = make_batch(backbone, prompts=(2, 1), responses=(2, 3))
    z = torch.tensor([1, 0]) if isinstance(latent, Categorical) else torch.randn(2, 2, dtype=torch.float64)
    conditioning = model.conditionings["z"]
    weights = own_weights(conditioning)

    def log_prob(*values: Tensor) -> Tensor:
        changed = dict(zip(weights, values, strict=True))
        memory = model.template.around_slot(functional_call(conditioning, changed, (z,)))
        law = LanguageModel(backbone, model.encode(batch), memory, batch.max_length, batch.response_mask)
        return law.log_prob(batch.response)

    values = [w.detach().clone().requires_grad_() for w in weights.values()]
    assert torch.autograd.gradcheck(log_prob, values, fast_mode=True)


def test_gradients_reach_a_continuous_z(
    make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("gpt2", dtype=torch.float64)
    model, batch = make_model(backbone, "prefix", {"z": Normal(2)}), make_batch(backbone)
    z = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: model.decoder(batch, {"z": z}).log_prob(batch.response), z)


def test_delimiters_learn(make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel) -> None:
    backbone = make_backbone("gpt2")
    model, batch = make_model(backbone, "slots"), make_batch(backbone)
    model.decoder(batch, ALL_Z).log_prob(batch.response).sum().backward()
    assert (model.template.delimiters.grad.abs().sum(1) > 0).all()


def test_a_vanishing_prefix_leaves_the_base_law(
    make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("gpt2", dtype=torch.float64)
    model, batch = make_model(backbone, init_scale=1.0), make_batch(backbone)
    gaps = []
    for strength in (1.0, 1e-5, 1e-7):
        model.set_strength(strength)
        with torch.no_grad():
            moved = model.decoder(batch, ALL_Z).log_prob(batch.response)
            gaps.append(float((moved - model.base(batch).log_prob(batch.response)).abs().max()))
    assert gaps[0] > 0.1
    assert gaps[2] / gaps[1] == pytest.approx(0.01, rel=0.1)


def test_one_of_two_latents_can_be_switched_off(
    make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("llama")
    model = make_model(backbone, latents={"a": Categorical(2), "b": Normal(2)})
    batch, b = make_batch(backbone), torch.randn(3, 2)
    model.conditionings["a"].strength = 0
    assert not model.is_base
    both = [model.decoder(batch, {"a": torch.tensor(a), "b": b}).log_prob(batch.response) for a in (0, 1)]
    assert torch.equal(*both)
    alone = LanguageModel(backbone, model.encode(batch), model.conditionings["b"](b), 4, batch.response_mask)
    assert torch.equal(both[0], alone.log_prob(batch.response))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda b: KeyValuePrefix(b, Categorical(2), strength=-0.1),
            "strength must be finite and not negative",
        ),
        (lambda b: SlotTokens(b, Categorical(2), strength=float("nan")), "strength must be finite"),
        (lambda b: KeyValuePrefix(b, Categorical(2), length=0), "prefix: length must be at least 1, got 0"),
        (lambda b: SlotTokens(b, Categorical(2), length=0), "slot: length must be at least 1, got 0"),
        (lambda b: KeyValuePrefix(b, Categorical(3))(torch.tensor(3)), r"z must be in 0\.\.2, got \[3\]"),
        (lambda b: KeyValuePrefix(b, Normal(2))(torch.zeros(4, 3)), r"shape \(\*, 2\), got \(4, 3\)"),
        (lambda b: Tagged(b, strength=0), "strength must be above 0, got 0"),
        (lambda _: Categorical(1), "K must be at least 2, got 1"),
        (lambda _: Normal(0), "D must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(
    make: Callable[[Backbone], object], message: str, make_backbone: MakeBackbone
) -> None:
    backbone = make_backbone("gpt2")
    with pytest.raises(ValueError, match=message):
        make(backbone)
