"""q(z|x,y) as a normalising flow of an amortised law."""

from __future__ import annotations

from typing import cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution, constraints, transforms
from torch import nn

from ..models import Batch, LatentLM
from .amortized import AmortizedGuide
from .checks import check_no_vamp

MADE_BY = {
    "affine_coupling": transforms.affine_coupling,
    "spline_coupling": transforms.spline_coupling,
    "affine_autoregressive": transforms.affine_autoregressive,
}


class FlowGuide(AmortizedGuide):
    """The amortised law of each latent, pushed through flows that all data share [Rezende & Mohamed 2015, section 4].

    Pyro's transforms, with the order of the coordinates reversed between two of them.

    Args:
        model: whose latents to infer; each a vector of real numbers.
        flow: ``affine_coupling``, ``spline_coupling`` or ``affine_autoregressive``, the last slow to score values it
            did not draw itself. Planar and radial flows cannot score these at all.
        flows: how many.
        pooling: as of the amortised guide.
        width: as of the amortised guide.
        every_layer: as of the amortised guide.

    Raises:
        ValueError: an unknown flow, fewer than one, a latent that is no vector of real numbers, for a coupling of at
            least two, or a prior that is made of the guide's laws.
    """

    def __init__(
        self,
        model: LatentLM,
        flow: str = "affine_coupling",
        flows: int = 2,
        pooling: str = "mean",
        width: int = 0,
        every_layer: bool = True,
    ) -> None:
        if flow not in MADE_BY or flows < 1:
            raise ValueError(
                f"guide flow: expected flow to be one of {', '.join(MADE_BY)} and flows at least 1, got {flow} and "
                f"{flows}"
            )
        super().__init__(model, pooling, width, every_layer)
        check_no_vamp(model)
        self.flows = nn.ModuleDict()
        for name, latent in model.latents.items():
            law = latent.law(torch.zeros(latent.num_parameters))
            size = law.event_shape.numel()
            if not _is_real_vector(law):
                raise ValueError(
                    f"guide flow: latent {name} is {type(latent).__name__}, expected a vector of real numbers such as "
                    "normal; use guide=amortized"
                )
            if size < 2 and flow.endswith("coupling"):
                raise ValueError(
                    f"guide flow: latent {name} has one coordinate, a coupling needs two; use guide=amortized"
                )
            self.flows[name] = nn.ModuleList(MADE_BY[flow](size) for _ in range(flows))

    def posterior(self, batch: Batch) -> dict[str, TorchDistribution]:
        out: dict[str, TorchDistribution] = {}
        for name, law in super().posterior(batch).items():
            size = law.event_shape[0]
            steps: list[dist.transforms.Transform] = []
            for flow in cast(nn.ModuleList, self.flows[name]):
                steps += (
                    [transforms.Permute(torch.arange(size - 1, -1, -1, device=batch.prompt.device)), flow]
                    if steps
                    else [flow]
                )
            out[name] = dist.TransformedDistribution(law, steps)
        return out


def _is_real_vector(law: TorchDistribution) -> bool:
    support = law.support
    inner = getattr(support, "base_constraint", None)
    return (
        bool(law.has_rsample)
        and (support is constraints.real_vector or inner is constraints.real)
        and law.event_dim == 1
    )
