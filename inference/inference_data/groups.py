"""The groups of inference data, of a single chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from .arviz_front import Array, Group, psislw, text
from .inferred import Inferred, join, split, spread
from .names import Names, names_of, plain
from .responses import Responses

DRAWN = ("chain", "draw", "datum")
"""Axes of what there is of each draw."""

PER_DATUM = ("chain", "datum")
"""Axes of what there is of each datum."""


def latents(found: Inferred) -> dict[str, Group]:
    """``posterior``, and ``prior`` where there are draws of the router."""
    names = _names(found)
    exact: dict[str, Array] = {}
    for ending, law in (("", found.posterior), ("_guide", found.guide)):
        exact |= _probabilities(found, names, law, ending)
    groups = {"posterior": Group(_draws(found, names, found.draws, usage=True), exact)}
    if found.router_draws:
        router = _probabilities(found, names, found.router)
        groups["prior"] = Group(_draws(found, names, found.router_draws), router)
    return groups


def _names(found: Inferred) -> Names:
    return names_of({name: z.dim() - 2 for name, z in found.draws.items()}, found.sizes)


def _draws(
    found: Inferred, names: Names, draws: Mapping[str, Tensor], usage: bool = False
) -> dict[str, Array]:
    out: dict[str, Array] = {
        names.sites[name]: ((*DRAWN, *names.axes[name]), _integral(name, found, z).numpy()[None])
        for name, z in draws.items()
    }
    if names.joint is None:
        return out
    joint = join(draws, found.sizes)  # (S, N)
    out.setdefault(names.joint, (DRAWN, joint.numpy()[None]))
    if usage:
        shares = torch.stack([(joint == k).double().mean(-1) for k in range(found.num_values)], -1)
        out[f"{names.joint}_usage"] = (("chain", "draw", "strategy"), shares.numpy()[None])
    return out


def _integral(name: str, found: Inferred, z: Tensor) -> Tensor:
    return z.long() if name in found.sizes else z


def _probabilities(found: Inferred, names: Names, law: Tensor | None, ending: str = "") -> dict[str, Array]:
    """Of the joint values, and of each site's where there are several."""
    if law is None:
        return {}
    p = law.exp()  # (N, P)
    out: dict[str, Array] = {
        f"{names.joint}_probability{ending}": ((*PER_DATUM, "strategy"), p.numpy()[None])
    }
    places = split(torch.arange(found.num_values), found.sizes)
    for name, size in found.sizes.items():
        of_site = p @ (places[name][:, None] == torch.arange(size)).to(p)
        axes = (*PER_DATUM, names.strategy[name])
        out.setdefault(f"{names.sites[name]}_probability{ending}", (axes, of_site.numpy()[None]))
    return out


def sample_stats(found: Inferred, per_datum: Mapping[str, np.ndarray]) -> Group:
    """Log-densities at the draws, and figures of each datum."""
    at_draws = {"log_p": found.log_p, "log_q": found.log_q, "log_weight": found.log_weight}
    out: dict[str, Array] = {
        name: (DRAWN, value.numpy()[None]) for name, value in at_draws.items() if value is not None
    }
    stats = {"log_marginal": found.log_marginal, **found.stats}
    arrays = {name: value.double().numpy() for name, value in stats.items() if not value.isnan().all()}
    if not found.exact:
        arrays["pareto_k"] = psislw(found.log_weight.double().T.numpy())[1]
    for name, array in (arrays | {plain(name): array for name, array in per_datum.items()}).items():
        more = tuple(f"{name}_dim_{i}" for i in range(np.ndim(array) - 1))
        out[name] = ((*PER_DATUM, *more), np.asarray(array)[None])
    return Group(out)


def log_likelihood(found: Inferred, tokens: np.ndarray | None) -> dict[str, Group]:
    """``log p(y|x)``, z summed out, by sequence; and by token where known."""
    whole = spread(found.log_marginal, found.num_draws).numpy()[None]
    groups = {"log_likelihood": Group({"y": (DRAWN, whole)})}
    if tokens is not None:
        groups["log_likelihood_token"] = Group({"y": ((*PER_DATUM, "token"), tokens[None])})
    return groups


def responses(found: Responses, axes: tuple[str, ...], texts: np.ndarray | None) -> Group:
    """Tokens, lengths, and texts where they are known."""
    lead = (None,) * (len(axes) - found.lengths.ndim)
    out: dict[str, Array] = {
        "y": ((*axes, "token"), found.tokens[lead]),
        "length": (axes, found.lengths[lead]),
    }
    if texts is not None:
        out["response"] = (axes, text(texts.ravel()).reshape(texts.shape)[lead])
    return Group(out)


def constants(found: Inferred, prompt_length: np.ndarray, texts: Mapping[str, Sequence[str] | None]) -> Group:
    """What the data are; of several enumerable sites, the values that a joint value stands for."""
    out: dict[str, Array] = {name: (("datum",), text(v)) for name, v in texts.items() if v is not None}
    out["prompt_length"] = (("datum",), prompt_length)
    if len(found.sizes) > 1:
        places = split(torch.arange(found.num_values), found.sizes)
        out["strategy_value"] = (("strategy", "site"), torch.stack(list(places.values()), 1).numpy())
    return Group(out, labels={"site": text(_names(found).sites[site] for site in found.sizes)})
