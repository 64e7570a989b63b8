"""``stratagem infer``: which strategy made each response of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from ...models import LatentLM
from ...models.text import check_length, encode, shorten
from ...tasks import write_rows
from ..build import node
from ..data import FileData
from ..dataset import Dataset, truncate
from ..evaluation import Posteriors, posteriors
from .load import load_latent_lm


def run(config: DictConfig) -> None:
    """Write a file with the input's columns, ``p(z|x)``, ``q(z|x,y)`` and the exact ``p(z|x,y)`` beside them."""
    data = instantiate(node(config, "data"))
    if not isinstance(data, FileData) or any(row.response is None for row in data.rows):
        raise ValueError("infer reads responses from a file; pass data=pairs path=FILE")
    model, guide = load_latent_lm(config)
    rows = data.rows
    examples = []
    for line, row in enumerate(rows, 1):
        example = encode(model.backbone, row.prompt + data.separator, row.response)
        if data.truncate:
            example = truncate(model.backbone, example, 0)
        try:
            check_length(model.backbone, example)
        except ValueError as error:
            raise ValueError(f"{data.path}: row {line}, prompt {shorten(row.prompt)!r}: {error}") from None
        examples.append(example)
    dataset = Dataset(
        examples, [r.prompt for r in rows], [r.response or "" for r in rows], model.backbone.pad_id
    )
    torch.manual_seed(0)
    seen = posteriors(model, guide, dataset, config.batch_size)
    found = _columns(seen) | _moments(model, seen, dataset, config.batch_size) | _likelihoods(seen)
    out = (
        Path(config.out) if config.out else Path(data.path).with_suffix(f".inferred{Path(data.path).suffix}")
    )
    write_rows(out, [row.columns | {k: v[i] for k, v in found.items()} for i, row in enumerate(rows)])
    print(f"wrote {len(rows)} rows to {out}")


def _columns(seen: Posteriors) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    if seen.posterior is not None and seen.amortized is not None and seen.router is not None:
        out["z"] = seen.posterior.argmax(1).tolist()
        for prefix, p in (("router", seen.router), ("q", seen.amortized), ("posterior", seen.posterior)):
            out |= _named(prefix, p)
    return out


@torch.no_grad()
def _moments(model: LatentLM, seen: Posteriors, data: Dataset, size: int) -> dict[str, list[Any]]:
    """Of latents that were drawn: mean and deviation of the router and of q, or the share of each value."""
    out: dict[str, list[Any]] = {}
    for name, draws in (seen.draws or {}).items():
        laws = [model.router(batch.to(model.backbone.device))[name] for batch in data.batches(size)]
        if draws.is_floating_point():
            out |= _named(f"router_{name}_mean", torch.cat([law.mean for law in laws]).cpu())
            out |= _named(f"router_{name}_sd", torch.cat([law.stddev for law in laws]).cpu())
            out |= _named(f"q_{name}_mean", draws.mean(0)) | _named(f"q_{name}_sd", draws.std(0))
        else:
            out |= _named(f"router_{name}", torch.cat([law.probs for law in laws]).cpu())
            out |= _named(f"q_{name}", model.latents[name].features(draws).mean(0))
    return out


def _likelihoods(seen: Posteriors) -> dict[str, list[Any]]:
    return {
        "log_p": [round(v, 4) for v in seen.log_marginal.tolist()],
        "log_p_base": [round(v, 4) for v in seen.log_base.tolist()],
    }


def _named(prefix: str, values: Tensor) -> dict[str, list[Any]]:
    """A column for each column of ``(N, D)``."""
    return {f"{prefix}_{d}": [round(v, 6) for v in column.tolist()] for d, column in enumerate(values.T)}
