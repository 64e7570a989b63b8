"""How E_q is taken: the contract, and the reading of traces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pyro import poutine
from pyro.distributions import TorchDistribution
from pyro.poutine import Trace
from torch import Tensor
from torch.distributions import Categorical

from ...models import Batch, Capability
from ..log_quantities import PLAIN, LogQuantities, Program, Run, Site


class Expectation(ABC):
    """Runs model and guide and reads off their log-quantities.

    Programs have one plate, ``data``, at dimension -1; any number of latent sites, in any order.
    """

    needs: ClassVar[Capability | None] = None

    @abstractmethod
    def __call__(self, model: Program, guide: Program, batch: Batch, run: Run = PLAIN) -> LogQuantities:
        """The log-quantities of a batch.

        Args:
            model: the generative program.
            guide: the inference program.
            batch: the data.
            run: how they are run.
        """


def latent_sites(trace: Trace) -> dict[str, dict[str, Any]]:
    """The sites of a trace that are sampled and not observed, in order."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site["is_observed"] and not _is_plate(site)
    }


def _is_plate(site: Mapping[str, Any]) -> bool:
    return type(site["fn"]).__name__ == "_Subsample"


def observed_sites(trace: Trace) -> dict[str, Mapping[str, Any]]:
    """The observed sites of a trace, in order."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and site["is_observed"] and not _is_plate(site)
    }


def latents_alone(program: Program) -> Program:
    """The program without what it observes, where the laws of its latents are asked for: nothing is scored."""
    blocked: Program = poutine.block(program, hide_fn=lambda site: site["is_observed"])
    return blocked


def site_log_prob(name: str, law: TorchDistribution, value: Tensor, shape: torch.Size) -> Tensor:
    """Log-density of a site as ``shape``, whose last place is the data.

    A relaxed value of a categorical site, ``(..., K)`` with rows that sum to one, gets ``sum_k z_k log p_k``: at a
    one-hot value the log-probability itself.

    Raises:
        ValueError: a log-density that does not broadcast to ``shape``.
    """
    if is_relaxed(law, value):
        least = torch.finfo(law.logits.dtype).min  # 0 of what cannot be is nothing
        log_p = (value * law.logits.clamp(min=least)).sum(-1)
    else:
        log_p = law.log_prob(value)
    try:
        return log_p.expand(shape)
    except RuntimeError:
        raise ValueError(
            f"site {name}: its log_prob has shape {tuple(log_p.shape)}, expected one that broadcasts to "
            f"{tuple(shape)}; put the site in the plate data at dim=-1 and move other dimensions to the "
            "event with .to_event(n)"
        ) from None


def is_relaxed(law: TorchDistribution, value: Tensor) -> bool:
    """Whether a value of a site is ``(..., K)`` weights of a categorical law's support, and not a place in it."""
    return isinstance(law, Categorical) and value.is_floating_point()


@contextmanager
def naming_relaxed(drawn: Trace) -> Iterator[None]:
    """Notes with an error of a program that its values of categorical sites are relaxed, where they are."""
    try:
        yield
    except (IndexError, RuntimeError, TypeError) as error:
        for name, site in latent_sites(drawn).items():
            if is_relaxed(site["fn"], site["value"]):
                error.add_note(relaxed_note(name))
        raise


def relaxed_note(name: str) -> str:
    """What a program must not do with the value of a relaxed site."""
    return (
        f"site {name}: its value is relaxed, K weights in place of an integer; a program that indexes with it has to "
        "mix instead (z @ table), or takes a gradient that draws integers, such as ScoreFunction"
    )


def same_sites(model_trace: Trace, guide_trace: Trace) -> None:
    """Refuse a guide that lacks a latent of the model, or has one more.

    Raises:
        ValueError: the sites differ.
    """
    latent, guided = latent_sites(model_trace), latent_sites(guide_trace)
    if set(latent) != set(guided):
        raise ValueError(
            f"model and guide must have the same latent sites: the model has {sorted(latent)}, the guide "
            f"{sorted(guided)}; rename or add the sites that differ"
        )


def read_sites(model_trace: Trace, guide_trace: Trace, shape: torch.Size) -> dict[str, Site]:
    """The latents one by one, their log-densities flattened to ``(P, B)``; raises as its parts do."""
    same_sites(model_trace, guide_trace)
    guided = latent_sites(guide_trace)
    return {
        name: Site(
            site["value"],
            site["fn"],
            guided[name]["fn"],
            flat(site_log_prob(name, site["fn"], site["value"], shape)),
            flat(site_log_prob(name, guided[name]["fn"], site["value"], shape)),
        )
        for name, site in latent_sites(model_trace).items()
    }


def read_likelihood(model_trace: Trace, shape: torch.Size) -> Tensor:
    """``log p(y|x,z)`` of all observed sites, ``(P, B)``."""
    parts = [
        site_log_prob(name, site["fn"], site["value"], shape)
        for name, site in observed_sites(model_trace).items()
    ]
    return flat(total(parts, shape))


def total(parts: list[Tensor], shape: torch.Size) -> Tensor:
    """Their sum, zeros of ``shape`` where there are none."""
    return sum(parts[1:], parts[0]) if parts else torch.zeros(shape)


def flat(log_p: Tensor) -> Tensor:
    """``(..., B)`` as ``(P, B)``."""
    return log_p.reshape(-1, log_p.shape[-1])
