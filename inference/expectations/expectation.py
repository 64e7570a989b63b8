"""How E_q is taken: the contract, and the reading of traces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from pyro.poutine import Trace
from torch import Tensor

from ...models import Batch, Capability
from ..log_quantities import LogQuantities

Program = Callable[[Batch], Any]


class Expectation(ABC):
    """Runs model and guide and reads off their log-quantities.

    Programs have one plate, ``data``, at dimension -1; any number of latent sites, in any order.
    """

    needs: ClassVar[Capability | None] = None

    @abstractmethod
    def __call__(self, model: Program, guide: Program, batch: Batch) -> LogQuantities: ...


def latent_sites(trace: Trace) -> dict[str, Mapping[str, Any]]:
    """The sites of a trace that are sampled and not observed, in order."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and not _is_plate(site)
    }


def _is_plate(site: Mapping[str, Any]) -> bool:
    return type(site["fn"]).__name__ == "_Subsample"


def read(model_trace: Trace, guide_trace: Trace, shape: torch.Size, enumerated: bool) -> LogQuantities:
    """Sum the sites' log-densities into ``(P, B)``, P being the product of ``shape`` without its last place.

    Raises:
        ValueError: a latent of the model that the guide lacks, or a site whose log-density is not one number
            a datum.
    """
    latent, guided = latent_sites(model_trace), latent_sites(guide_trace)
    if set(latent) != set(guided):
        raise ValueError(
            f"model and guide must have the same latent sites: the model has {sorted(latent)}, the guide "
            f"{sorted(guided)}; rename or add the sites that differ"
        )

    def total(sites: Mapping[str, Mapping[str, Any]]) -> Tensor:
        out = torch.zeros((), device=guide_device)
        for name, site in sites.items():
            log_p = site["fn"].log_prob(site["value"])
            try:
                log_p = log_p.expand(shape)
            except RuntimeError:
                raise ValueError(
                    f"site {name}: its log_prob has shape {tuple(log_p.shape)}, expected one that broadcasts to "
                    f"{tuple(shape)}; put the site in the plate data at dim=-1 and move other dimensions to the "
                    "event with .to_event(n)"
                ) from None
            out = out + log_p
        return out.expand(shape).reshape(-1, shape[-1])  # (P, B)

    guide_device = next((s["value"].device for s in latent.values()), torch.device("cpu"))
    observed = {
        name: site
        for name, site in model_trace.nodes.items()
        if site["type"] == "sample" and site["is_observed"] and not _is_plate(site)
    }
    z = {name: site["value"] for name, site in latent.items()}
    return LogQuantities(total(observed), total(latent), total(guided), enumerated, z)
