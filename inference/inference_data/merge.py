"""Several runs on the same data in one, a chain a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

from .arviz_front import assemble, groups_of, text
from .responses import ENDED

DATA = ("observed_data", "constant_data")


def merge(runs: Mapping[str, Any]) -> Any:
    """Inference data of several runs in one, whose chains are the runs.

    Before, the joint values of enumerable latents are renamed (:func:`matched`); continuous latents stay as they are.
    What all runs have is kept, up to the least number of draws. Data are those of the first run; where attributes
    differ, all of them are kept as a JSON list.

    Args:
        runs: inference data by a name for the run, at least one.

    Raises:
        ValueError: runs on different data, with different latents, or with different numbers of values.
    """
    parts = {name: groups_of(run) for name, run in runs.items()}
    (first, whole), *others = parts.items()
    for name, part in others:
        _check_alike(first, whole, name, part)
    if (joint := joint_of(whole["posterior"])) is not None:
        laws = [part["posterior"][f"{joint}_probability"].mean("chain").values for part in parts.values()]
        for part, new in zip(parts.values(), matched(laws), strict=True):
            for group in {"posterior", "prior"} & set(part):
                part[group] = renamed(part[group], joint, new, part["constant_data"].get("strategy_value"))
    names = [name for name, part in parts.items() for _ in part["posterior"].chain]
    shared = [group for group in whole if all(group in part for part in parts.values())]
    out = {
        group: _side_by_side([part[group] for part in parts.values()])
        for group in shared
        if group not in DATA
    }
    out |= {group: whole[group].drop_dims("chain", errors="ignore") for group in DATA}
    out["constant_data"] = out["constant_data"].assign(run=("chain", text(names)))
    return assemble(out, _attributes([run.attrs for run in runs.values()]))


def joint_of(posterior: xr.Dataset) -> str | None:
    """Name of the joint value of the enumerable latents; None where there is none."""
    ending = "_probability"
    for name, values in posterior.coords.items():
        if str(name).endswith(ending) and values.dims[-1] == "strategy":
            return str(name).removesuffix(ending)
    return None


def matched(laws: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The new name of each value, ``(P,)`` for each run of laws ``p(z|x,y)``, ``(N, P)``.

    Values of every run are matched one to one with those of a pivot, for the largest ``sum_n sum_k p(z=k|x_n,y_n)
    p'(z=k|x_n,y_n)`` [Kuhn 1955]. The pivot is the run that agrees best with all others, so that the names do not
    hang on the order of the runs; values then have the names that the first run has for them.
    """
    agreement = [[_match(one, other)[1] for other in laws] for one in laws]
    pivot = laws[int(np.argmax(np.sum(agreement, 1)))]
    to_pivot = [_match(law, pivot)[0] for law in laws]
    to_first = np.argsort(to_pivot[0])
    return [to_first[place] for place in to_pivot]


def _match(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, float]:
    """The value of the other law that each value of one is matched with, and their agreement."""
    table = one.T @ other
    rows, columns = linear_sum_assignment(table, maximize=True)
    return columns, float(table[rows, columns].sum())


def renamed(data: xr.Dataset, joint: str, new: np.ndarray, table: xr.DataArray | None) -> xr.Dataset:
    """A group whose joint value k is ``new[k]``, and whose sites have the values that it stands for.

    Args:
        data: the group.
        joint: name of the joint value.
        new: ``(P,)``.
        table: values of the sites by joint value, ``(P, sites)``; None where the joint value is that of the only site.
    """
    order = np.argsort(new)
    arrays: dict[str, Any] = {
        str(name): values.isel(strategy=order)
        for name, values in data.variables.items()
        if "strategy" in values.dims
    }
    arrays.pop("strategy", None)  # a group may have no law of the joint value
    arrays[joint] = data[joint].variable.copy(data=new[data[joint].values])
    for site, value in () if table is None else zip(table.site.values, table.values.T, strict=True):
        arrays[site] = data[site].variable.copy(data=value[arrays[joint].values])
        for ending in ("_probability", "_probability_guide"):
            if (name := f"{site}{ending}") in data.variables:
                here = np.equal.outer(value, np.arange(data[name].shape[-1])).astype(float)  # (P, K)
                arrays[name] = data[name].variable.copy(data=arrays[f"{joint}{ending}"].values @ here)
    exact = {name: values for name, values in arrays.items() if name in data.coords}
    return data.assign_coords(exact).assign({k: v for k, v in arrays.items() if k not in exact})


def _check_alike(
    first: str, whole: Mapping[str, xr.Dataset], name: str, part: Mapping[str, xr.Dataset]
) -> None:
    about = f"merge: runs {first} and {name}"
    for group, variable in (("observed_data", "y"), ("constant_data", "prompt")):
        one, other = (data[group].get(variable) for data in (whole, part))
        if one is not None and other is not None and not np.array_equal(one.values, other.values):
            raise ValueError(f"{about}: {group}/{variable} differs; expected runs on the same data")
    sizes, others = (_sizes(data["posterior"]) for data in (whole, part))
    if sizes != others:
        raise ValueError(f"{about}: latents {sizes} and {others}; expected the same names and sizes")


def _sizes(posterior: xr.Dataset) -> dict[str, dict[str, int]]:
    """Of each variable, the sizes of its axes, those of chains and draws aside."""
    return {
        str(name): {str(axis): n for axis, n in values.sizes.items() if axis not in ("chain", "draw")}
        for name, values in posterior.data_vars.items()
    }


def _side_by_side(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    common = set(parts[0].variables).intersection(*(part.variables for part in parts))
    draws = min(part.sizes.get("draw", 0) for part in parts)
    cut, start = [], 0
    for part in parts:
        kept = part.drop_vars(set(part.variables) - common)
        chains = np.arange(start, start := start + part.sizes["chain"])
        cut.append(kept.isel(draw=slice(draws), missing_dims="ignore").assign_coords(chain=chains))
    ends = {str(k): ENDED if v.dtype.kind == "i" else np.nan for k, v in cut[0].items() if "token" in v.dims}
    return xr.concat(
        cut, "chain", data_vars="minimal", coords="minimal", compat="override", join="outer", fill_value=ends
    )


def _attributes(attributes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Those that all runs share, and lists of those that differ."""
    out: dict[str, str] = {}
    for name in attributes[0]:
        found = [str(each.get(name)) for each in attributes]
        out[name] = found[0] if len(set(found)) == 1 else json.dumps(found)
    return out
