"""Low-rank adapters of several roles on one base, switched within one graph."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from stratagem.models import Backbone, Batch, LatentLM, Lora, PooledRouter
from stratagem.models.backbone import BASE, ROLES
from torch import Tensor

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]
Randomise = Callable[..., None]

Z = torch.tensor([0, 1, 2])


def test_adapters_switched_within_one_graph_get_their_own_gradients(
    make_backbone: MakeBackbone, make_batch: MakeBatch, randomise: Randomise
) -> None:
    roles = {role: lambda: Lora(2, alpha=2) for role in ROLES}
    together = make_backbone("gpt_neox", {role: make() for role, make in roles.items()}, torch.float64)
    randomise(together)
    batch = make_batch(together)

    def read(backbone: Backbone, role: str) -> Tensor:
        return backbone.hidden(role, batch.prompt, batch.prompt_mask)[:, -1].tanh()

    first, second, third = (read(together, role) for role in ROLES)
    (first * second * third).sum().backward()
    weights = dict(together.lm.named_parameters())
    for place, role in enumerate(ROLES):
        alone = make_backbone("gpt_neox", {role: roles[role]()}, torch.float64)
        own = {n: w for n, w in alone.lm.named_parameters() if "lora_" in n}
        with torch.no_grad():
            for name, weight in own.items():
                weight.copy_(weights[name])
        others = [t.detach() for i, t in enumerate((first, second, third)) if i != place]
        (read(alone, role) * others[0] * others[1]).sum().backward()
        for name, weight in own.items():
            torch.testing.assert_close(weights[name].grad, weight.grad, atol=1e-12, rtol=1e-10)
            assert weight.grad.abs().max() > 0


@pytest.mark.parametrize("targets", [["lm_head"], ["embed_tokens"]])
def test_adapters_of_embedding_and_head_act_in_their_role_alone(
    targets: list[str],
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    randomise: Randomise,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    roles = {"decoder": Lora(2, alpha=2, targets=targets), "router": Lora(2, alpha=2, targets=targets)}
    backbone = make_backbone("llama", roles)
    randomise(backbone)
    model, batch = make_model(backbone, "slots", router=PooledRouter), make_batch(backbone)
    p0 = make_model(make_backbone("llama")).base(batch).log_prob(batch.response)
    weights = [w for name, w in backbone.named_parameters() if "lora_" in name and ".decoder" in name]

    def value_and_gradients(disturbed: bool) -> list[Tensor]:
        log_p = model.decoder(batch, {"z": Z}).log_prob(batch.response)
        if disturbed:
            model.router(batch)
            torch.testing.assert_close(model.base(batch).log_prob(batch.response), p0)
        return [log_p.detach(), *torch.autograd.grad(log_p.sum(), weights)]

    calm = value_and_gradients(disturbed=False)
    monkeypatch.setattr("stratagem.models.backbone.backbone._LOGITS_BUDGET", 2 * backbone.vocab_size)
    torch.testing.assert_close(value_and_gradients(disturbed=True), calm)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_starts_as_the_base(
    role: str, architecture: str, make_backbone: MakeBackbone, make_batch: MakeBatch
) -> None:
    backbone = make_backbone(architecture, {role: Lora(2)})
    batch = make_batch(backbone)
    hidden = backbone.hidden(role, batch.prompt, batch.prompt_mask)
    assert hidden.requires_grad
    torch.testing.assert_close(hidden, backbone.hidden(BASE, batch.prompt, batch.prompt_mask))
