"""Inference data of one run."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...models import Backbone, Batch
from ..dataset import Dataset
from ..evaluation import Posteriors
from ..log_quantities import Program
from ..randomness import seeded
from . import groups as make
from . import responses as run
from .arviz_front import VERSION, Group, assemble
from .inferred import DRAWS, Inferred, inferred, split
from .passes import guide_log_q, infer, router_draws, supports

POSTERIOR = "posterior.nc"
"""Name of the file in a run's folder."""

TOKEN_DRAWS = 16
"""Draws of latents that cannot be enumerated, over which the tokens' log-probabilities are taken."""

BATCH = 8
"""Data at a time for the draws of the router."""


@dataclass(frozen=True)
class Texts:
    """Texts of N data.

    Attributes:
        prompts: the prompts.
        responses: the responses.
        labels: names that the user has for the data, such as the known strategy.
    """

    prompts: Sequence[str] | None = None
    responses: Sequence[str] | None = None
    labels: Sequence[str] | None = None


def to_inference_data(
    model: Program,
    guide: Program,
    batches: Iterable[Batch],
    *,
    seen: Posteriors | None = None,
    texts: Texts | None = None,
    draws: int = DRAWS,
    tokens: bool = True,
    predictive: int = 0,
    max_new_tokens: int = 64,
    per_datum: Mapping[str, np.ndarray] | None = None,
    attributes: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Any:
    """Everything that a model and its guide say of data, for ArviZ; see ``docs/diagnostics.md`` for the groups.

    Any Pyro program with one plate ``data`` at dimension -1, and a guide with the same latents. Texts need a model with
    a ``backbone``, log-probabilities of tokens a response ``y`` whose law is a ``LanguageModel``.

    Args:
        model: the generative program.
        guide: the inference program.
        batches: the data, with responses.
        seen: what is known of them; model and guide are run for the rest alone.
        texts: of the data; prompts and responses are decoded where not given.
        draws: of the latents; where ``seen`` has weighted draws of the guide, these.
        tokens: whether to add log-probabilities of tokens, for which the model is run again where ``seen`` has none.
        predictive: responses generated for each datum under its first draws of the posterior, and of the router; 0
            leaves the groups out.
        max_new_tokens: of a generated response.
        per_datum: further arrays whose first axis is the datum, by name, for ``sample_stats``.
        attributes: of the whole, such as the config.
        seed: of all draws.

    Returns:
        An ``arviz.InferenceData`` under ArviZ 0.23, an ``xarray.DataTree`` under ArviZ 1.

    Raises:
        ValueError: no data, data without responses, or more responses than draws asked for.
    """
    backbone: Backbone | None = getattr(model, "backbone", None)
    data = [batch if backbone is None else batch.to(backbone.device) for batch in batches]
    if not data or any(batch.response is None for batch in data):
        raise ValueError("to_inference_data: expected batches with responses, at least one; got none")
    with seeded(seed, data[0].prompt.device):
        support, exact = supports(model, data[0])
        sizes = {name: len(values) for name, values in support.items()}
        found = (
            infer(model, guide, data, sizes, exact, draws) if seen is None else inferred(seen, sizes, draws)
        )
        if not exact:
            found = replace(found, router_draws=router_draws(model, data, found.num_draws))
        if found.log_q is None:
            found = replace(found, log_q=guide_log_q(guide, data, found.draws))
        if not 0 <= predictive <= found.num_draws:
            raise ValueError(f"predictive={predictive}: expected 0 to {found.num_draws}, the number of draws")
        of_tokens = _token_log_likelihood(model, data, found, support, seen) if tokens else None
        groups = make.latents(found)
        laws = {"posterior_predictive": found.draws, "prior_predictive": found.router_draws}
        for name, z in laws.items() if predictive else ():
            chosen = _as_drawn({site: value[:predictive] for site, value in z.items()}, found, support)
            new = run.generated(model, data, chosen, max_new_tokens)
            groups[name] = make.responses(new, make.DRAWN, None if backbone is None else new.texts(backbone))
    if texts is None:
        texts = (
            Texts() if backbone is None else Texts(run.prompts(data, backbone), run.answers(data, backbone))
        )
    groups |= make.log_likelihood(found, of_tokens)
    groups["sample_stats"] = make.sample_stats(found, per_datum or {})
    return _whole(model, found, groups, data, texts, attributes or {})


def from_posteriors(model: Program, seen: Posteriors, data: Dataset, attributes: Mapping[str, str]) -> Any:
    """As :func:`to_inference_data`, of what is known alone, and of the router where its law is not.

    Args:
        model: the generative program, whose latents are looked up.
        seen: per-datum quantities.
        data: the data.
        attributes: of the whole, such as the config.
    """
    device = getattr(getattr(model, "backbone", None), "device", "cpu")
    first = data.batch([0]).to(device)
    with seeded(0, first.prompt.device):
        support, exact = supports(model, first)
        found = inferred(seen, {name: len(values) for name, values in support.items()})
        if not exact:
            batches = [batch.to(device) for batch in data.batches(BATCH)]
            found = replace(found, router_draws=router_draws(model, batches, found.num_draws))
    groups = make.latents(found) | make.log_likelihood(found, None)
    groups["sample_stats"] = make.sample_stats(found, {})
    whole = [data.batch(range(len(data)))]
    return _whole(model, found, groups, whole, Texts(data.prompts, data.responses), attributes)


def _whole(
    model: Program,
    found: Inferred,
    groups: dict[str, Group],
    data: Sequence[Batch],
    texts: Texts,
    attributes: Mapping[str, str],
) -> Any:
    responses = None if texts.responses is None else np.array(texts.responses, dtype=object)
    groups["observed_data"] = make.responses(run.observed(data), ("datum",), responses)
    lengths = torch.cat([batch.prompt_mask.sum(1) for batch in data]).cpu().numpy()
    named = {"prompt": texts.prompts, "label": texts.labels}
    groups["constant_data"] = make.constants(found, lengths, named)
    about = {
        "sites": ",".join(found.draws),
        "posterior": "exact" if found.exact else "guide",
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "arviz": VERSION,
        **{name: version(name) for name in ("stratagem", "torch", "pyro-ppl")},
    }
    if (backbone := getattr(model, "backbone", None)) is not None:
        about |= {"base": backbone.name, "base_fingerprint": backbone.fingerprint}
    return assemble({name: group.dataset() for name, group in groups.items()}, about | dict(attributes))


def _token_log_likelihood(
    model: Program,
    data: Sequence[Batch],
    found: Inferred,
    support: Mapping[str, Tensor],
    seen: Posteriors | None,
) -> np.ndarray | None:
    if seen is not None and seen.log_tokens is not None:
        return seen.log_tokens.numpy()
    if found.exact:
        every = split(torch.arange(found.num_values)[:, None], found.sizes)  # (P, 1) each
        return run.token_log_likelihood(model, data, _as_drawn(every, found, support), None)
    some = {name: z[:TOKEN_DRAWS] for name, z in found.draws.items()}
    return run.token_log_likelihood(model, data, some, found.log_weight[:TOKEN_DRAWS])


def _as_drawn(z: Mapping[str, Tensor], found: Inferred, support: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values as the program draws them, of places in the supports of enumerated sites."""
    return {name: support[name].cpu()[at] for name, at in z.items()} if found.exact else dict(z)
