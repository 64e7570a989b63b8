"""The posterior of held-out data in ArviZ's format; the only place that knows ArviZ."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .dataset import Dataset
from .evaluation import Posteriors

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz as az

POSTERIOR = "posterior.nc"

DRAWS = 100


def to_inference_data(
    seen: Posteriors, data: Dataset, sites: Sequence[str], attributes: Mapping[str, str]
) -> Any:
    """Groups posterior, prior, log_likelihood, observed_data, constant_data and sample_stats.

    Where z is enumerable, ``posterior`` has ``z_probability`` over (datum, strategy), the exact ``p(z|x,y)``,
    the guide's ``z_probability_guide``, and ``z``, draws from the exact posterior; ``prior`` the router's
    probabilities. Elsewhere ``posterior`` has the guide's draws by site. The strategies are the joint values
    of all sites, the first site changing fastest.

    Args:
        seen: per-datum quantities.
        data: the data.
        sites: names of the latent sites.
        attributes: of the file, such as the base and the version.
    """
    datum = np.arange(len(data))
    log_lik = seen.log_marginal.numpy()[None, None]
    groups: dict[str, Any] = {}
    if seen.posterior is not None and seen.router is not None and seen.amortized is not None:
        generator = torch.Generator().manual_seed(0)
        draws = torch.multinomial(seen.posterior, DRAWS, replacement=True, generator=generator).T.numpy()
        coords: dict[str, Any] = {"datum": datum, "strategy": np.arange(seen.posterior.shape[1])}
        dims = {name: ["datum", "strategy"] for name in ("z_probability", "z_probability_guide")} | {
            "z": ["datum"]
        }
        posterior = {
            "z": draws[None],
            "z_probability": _tiled(seen.posterior.numpy(), DRAWS),
            "z_probability_guide": _tiled(seen.amortized.numpy(), DRAWS),
        }
        groups["prior"] = {"z_probability": seen.router.numpy()[None, None]}
    else:
        assert seen.draws is not None
        posterior = {name: draw.numpy()[None] for name, draw in seen.draws.items()}
        coords = {"datum": datum}
        dims = {}
        for name, draw in seen.draws.items():
            axes = [f"{name}_dim_{i}" for i in range(draw.dim() - 2)]
            coords |= {axis: np.arange(size) for axis, size in zip(axes, draw.shape[2:], strict=True)}
            dims[name] = ["datum", *axes]
    stats = {
        "log_p": seen.log_marginal.numpy()[None, None],
        "log_p_base": seen.log_base.numpy()[None, None],
        "information": seen.information.numpy()[None, None],
        "kl_router": seen.kl_router.numpy()[None, None],
    }
    if seen.gap is not None:
        stats["posterior_gap"] = seen.gap.numpy()[None, None]
    if seen.log_weight is not None:
        stats = {name: _tiled(value[0, 0], seen.log_weight.shape[0]) for name, value in stats.items()}
        stats["log_weight"] = seen.log_weight.numpy()[None]
        groups["log_likelihood"] = {"y": _tiled(log_lik[0, 0], seen.log_weight.shape[0])}
    else:
        stats = {name: _tiled(value[0, 0], DRAWS) for name, value in stats.items()}
        groups["log_likelihood"] = {"y": _tiled(log_lik[0, 0], DRAWS)}
    dims |= {name: ["datum"] for name in (*stats, "y", "response", "prompt", "length")}
    return az.from_dict(
        posterior=posterior,
        sample_stats=stats,
        observed_data={"response": np.array(data.responses, dtype=object)},
        constant_data={"prompt": np.array(data.prompts, dtype=object), "length": seen.lengths.numpy()},
        coords=coords,
        dims=dims,
        attrs={"sites": ",".join(sites), "stratagem": version("stratagem"), **attributes},
        **groups,
    )


def _tiled(values: np.ndarray, draws: int) -> np.ndarray:
    """``(1, draws, ...)``, the same at each draw."""
    return np.broadcast_to(values, (1, draws, *values.shape)).copy()


def write_posterior(path: Path, inference_data: Any) -> None:
    """A netCDF file that ``arviz.from_netcdf`` reads, written aside and renamed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        inference_data.to_netcdf(str(aside), engine="h5netcdf")
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_probabilities(path: Path) -> np.ndarray:
    """The exact ``p(z|x,y)`` of a file, ``(N, P)``.

    Raises:
        ValueError: the file of latents that cannot be enumerated.
    """
    found = az.from_netcdf(str(path), engine="h5netcdf").posterior
    if "z_probability" not in found:
        raise ValueError(
            f"{path}: no probabilities of strategies; only latents that can be enumerated have them"
        )
    return np.asarray(found["z_probability"][0, 0])
