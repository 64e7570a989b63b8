"""ArviZ, of the releases 0.23 and 1; the only place that knows it."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    import arviz as az

VERSION: str = az.__version__

OLD = VERSION.startswith("0.")
"""Inference data are ArviZ's own ``InferenceData``; later releases have xarray's ``DataTree``."""

ENGINE = "h5netcdf"

Array = tuple[tuple[str, ...], np.ndarray]
"""Names of the axes, and values."""


@dataclass(frozen=True)
class Group:
    """A group of inference data.

    Attributes:
        variables: arrays by name.
        exact: arrays by name that have no draws. They are coordinates, which summaries and pictures of draws pass by.
        labels: of an axis, where they are not its places 0, 1, ...
    """

    variables: Mapping[str, Array]
    exact: Mapping[str, Array] = field(default_factory=dict)
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)

    def dataset(self) -> xr.Dataset:
        """The group in xarray's terms."""
        sizes = {
            axis: size
            for axes, values in [*self.variables.values(), *self.exact.values()]
            for axis, size in zip(axes, values.shape, strict=True)
        }
        places = {axis: self.labels.get(axis, np.arange(size)) for axis, size in sizes.items()}
        return xr.Dataset(dict(self.variables), {**places, **self.exact})


def assemble(groups: Mapping[str, xr.Dataset], attributes: Mapping[str, str]) -> Any:
    """Inference data of groups: an ``InferenceData`` of ArviZ 0.23, a ``DataTree`` of ArviZ 1."""
    if OLD:
        return az.InferenceData(attrs=dict(attributes), **groups)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=dict(attributes)), **groups})


def groups_of(inference_data: Any) -> dict[str, xr.Dataset]:
    """The groups by name."""
    if isinstance(inference_data, xr.DataTree):
        return {name: node.to_dataset() for name, node in inference_data.children.items()}
    return {name: inference_data[name] for name in inference_data.groups()}


def write_inference_data(path: Path, inference_data: Any) -> None:
    """A netCDF file that ``arviz.from_netcdf`` reads, written aside and renamed."""
    packed: dict[str, Any] = {}
    if isinstance(inference_data, xr.DataTree):  # InferenceData packs of itself
        packed["encoding"] = {
            f"/{group}": {
                name: {"zlib": True} for name, v in data.variables.items() if v.dtype.kind in "biuf"
            }
            for group, data in groups_of(inference_data).items()
        }
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        inference_data.to_netcdf(str(aside), engine=ENGINE, **packed)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def read_inference_data(path: Path) -> Any:
    """The whole of a file, which is closed again."""
    found = az.from_netcdf(str(path), engine=ENGINE)
    found.load()
    found.close()
    return found


def read_probabilities(path: Path) -> np.ndarray:
    """``p(z|x,y)`` of a file over the joint values of its enumerable latents, ``(N, P)``, of its first chain.

    Raises:
        ValueError: the file of latents that cannot be enumerated.
    """
    with xr.open_dataset(path, group="posterior", engine=ENGINE) as found:
        for name, values in found.variables.items():
            if str(name).endswith("_probability") and values.dims[-1] == "strategy":
                return np.asarray(values).reshape(-1, *values.shape[-2:])[0]
    raise ValueError(f"{path}: no probabilities of strategies; only latents that can be enumerated have them")


def text(values: Iterable[str]) -> np.ndarray:
    """Strings as netCDF can keep them: a NUL, at which one would end, is ``␀``, half a surrogate pair ``?``."""
    kept = [value.replace("\0", "␀").encode(errors="replace").decode() for value in values]
    return np.array(kept, dtype=object)


def psislw(log_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pareto-smoothed importance sampling [Vehtari et al. 2024].

    Args:
        log_weights: of S draws, ``(..., S)``.

    Returns:
        Smoothed log-weights ``(..., S)`` that sum to one, and the shape k of the tail, ``(...)``. Where the largest
        weights are too few to fit a tail to, or are all the same, they are not smoothed: k is NaN where all weights are
        the same, since there is no tail, and infinite elsewhere.
    """
    raw = np.asarray(log_weights, np.float64)
    rows = raw.reshape(-1, raw.shape[-1])
    smoothed = rows - np.logaddexp.reduce(rows, -1, keepdims=True)
    ordered, size = np.sort(rows, -1), min(raw.shape[-1] // 5, int(np.ceil(3 * raw.shape[-1] ** 0.5)))
    k = np.where(ordered[:, 0] == ordered[:, -1], np.nan, np.inf)
    if size >= 5:
        fitted = ordered[:, -size] < ordered[:, -1]
        if fitted.any():
            smoothed[fitted], k[fitted] = _psislw(rows[fitted])
    return smoothed.reshape(raw.shape), k.reshape(raw.shape[:-1])


def _psislw(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if OLD:
        smoothed, k = az.psislw(rows)
        return smoothed, k
    # ArviZ 1 takes log-likelihoods, whose importance ratios are their inverses.
    smoothed, k = xr.DataArray(-rows, dims=("row", "draw")).azstats.psislw(dim="draw")
    return smoothed.transpose("row", "draw").values, k.values
