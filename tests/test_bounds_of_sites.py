"""An objective of each latent's own log-quantities is differentiated as the same objective of their sums."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.expectations import Sample
from stratagem.inference.gradients import Gradient, Held, LeaveOneOut, Rebar, ScoreFunction
from stratagem.inference.inference import Inference
from stratagem.inference.objectives import FreeBits, InfoVAE, KLThreshold, Objective
from stratagem.models import Backbone, Batch, Categorical, LatentLM, PooledRouter
from torch import nn

MAKE: dict[str, Callable[[], Gradient]] = {
    "leave one out": lambda: ScoreFunction(LeaveOneOut()),
    "rebar": Rebar,
    "held": Held,
}


@pytest.mark.parametrize("bits", [0.0, 0.3, 50.0], ids=["no bits", "some", "all"])
@pytest.mark.parametrize("kind", sorted(MAKE))
def test_free_bits_of_one_latent_are_a_threshold(
    kind: str,
    bits: float,
    make_backbone: Callable[..., Backbone],
    make_batch: Callable[..., Batch],
    make_model: Callable[..., LatentLM],
    randomise: Callable[..., None],
) -> None:
    backbone = make_backbone("gpt2", dtype=torch.float64)
    model = make_model(backbone, latents={"z": Categorical(3)}, router=PooledRouter)
    guide = AmortizedGuide(model).double()
    both = nn.ModuleDict({"model": model, "guide": guide})
    randomise(both)
    batch = make_batch(backbone)

    def gradients(objective: Objective) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        both.zero_grad()
        torch.manual_seed(3)
        loss = Inference(objective, Sample(4), MAKE[kind]())(model, guide, batch)
        loss.surrogate.backward()
        return loss.bound, {n: p.grad.clone() for n, p in both.named_parameters() if p.grad is not None}

    bound, found = gradients(FreeBits(bits))
    expected_bound, expected = gradients(KLThreshold(bits))
    torch.testing.assert_close(bound, expected_bound, rtol=0, atol=1e-10)
    assert found.keys() == expected.keys()
    assert any(g.abs().max() > 1e-3 for g in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10)


def test_held_refuses_what_has_more_of_the_guide_in_it() -> None:
    with pytest.raises(
        ValueError, match=r"Held: .* InfoVAE has more of the guide in it; use gradient Pathwise"
    ):
        Inference(InfoVAE(), Sample(2), Held())
