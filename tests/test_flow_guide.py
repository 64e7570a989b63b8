"""A normalising flow as a posterior: its density is that of its draws."""

from __future__ import annotations

from collections.abc import Callable

import pyro
import pytest
import torch
from pyro import poutine
from stratagem.guides import FlowGuide
from stratagem.guides.flow import MADE_BY
from stratagem.models import (
    Backbone,
    Batch,
    Categorical,
    Dirichlet,
    LatentLM,
    LogisticNormal,
    MultivariateNormal,
    Normal,
)
from torch import Tensor

MakeBackbone = Callable[..., Backbone]
MakeBatch = Callable[..., Batch]
MakeModel = Callable[..., LatentLM]
Randomise = Callable[..., None]


@pytest.mark.parametrize("flow", MADE_BY)
@pytest.mark.parametrize("latent", [Normal(3), MultivariateNormal(3, 1), LogisticNormal(4)])
def test_the_density_is_that_of_the_law_by_change_of_variables(
    flow: str,
    latent: Normal,
    make_backbone: MakeBackbone,
    make_batch: MakeBatch,
    make_model: MakeModel,
    randomise: Randomise,
) -> None:
    torch.manual_seed(1)
    backbone = make_backbone("llama")
    guide, batch = (
        FlowGuide(make_model(backbone, "prefix", {"z": latent}), flow),
        make_batch(backbone),
    )
    randomise(guide.readers, backbone=False)
    law = guide.posterior(batch)["z"]
    x = law.base_dist.rsample()

    def through(x: Tensor) -> Tensor:
        for part in law.transforms:
            x = part(x)
        return x

    volumes = []
    for b in range(len(batch)):

        def of_row(row: Tensor, b: int = b) -> Tensor:
            return through(x.clone().index_put((torch.tensor(b),), row))[b]

        jacobian = torch.autograd.functional.jacobian(of_row, x[b])
        volumes.append(torch.linalg.slogdet(jacobian).logabsdet)
    z = through(x)  # last, since some transforms know the way back from their last value alone
    torch.testing.assert_close(
        law.log_prob(z), law.base_dist.log_prob(x) - torch.stack(volumes), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("flow", MADE_BY)
def test_values_that_come_from_elsewhere_can_be_scored(
    flow: str, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("llama")
    guide = FlowGuide(make_model(backbone, "prefix", {"z": Normal(3)}), flow)
    law = guide.posterior(make_batch(backbone))["z"]
    z = law.rsample((4,))
    torch.testing.assert_close(law.log_prob(z.detach().clone()), law.log_prob(z), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("flow", MADE_BY)
def test_particles_and_gradients(
    flow: str, make_backbone: MakeBackbone, make_batch: MakeBatch, make_model: MakeModel
) -> None:
    backbone = make_backbone("llama")
    guide, batch = FlowGuide(make_model(backbone, "prefix", {"z": Normal(2)}), flow), make_batch(backbone)
    with pyro.plate("particles", 5, dim=-2):
        trace = poutine.trace(guide).get_trace(batch)
    site = trace.nodes["z"]
    assert site["value"].shape == (5, 3, 2)
    log_q = site["fn"].log_prob(site["value"])
    assert log_q.shape == (5, 3)
    (site["value"].square().sum() + log_q.sum()).backward()
    assert all(w.grad is not None and w.grad.isfinite().all() for w in guide.flows.parameters())
    assert guide.readers["z"].output.weight.grad.abs().max() > 0


def test_what_cannot_flow_is_refused(make_backbone: MakeBackbone, make_model: MakeModel) -> None:
    backbone = make_backbone("llama")
    for latent in (Categorical(3), Dirichlet(3)):
        with pytest.raises(
            ValueError, match=rf"latent z is {type(latent).__name__}, expected a vector of real numbers"
        ):
            FlowGuide(make_model(backbone, "prefix", {"z": latent}))
    with pytest.raises(
        ValueError, match=r"expected flow to be one of affine_coupling, .* got real_nvp and 2"
    ):
        FlowGuide(make_model(backbone, "prefix", {"z": Normal(2)}), "real_nvp")
    with pytest.raises(ValueError, match="has one coordinate, a coupling needs two; use guide=amortized"):
        FlowGuide(make_model(backbone, "prefix", {"z": Normal(1)}))
