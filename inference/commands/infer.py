"""``stratagem infer``: which strategy made each response of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyro
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig
from pyro import poutine
from torch import Tensor, nn

from ...models import Batch, LatentProgram, annotate
from ...models.generation import in_order
from ...models.text import check_length, encode, shorten
from ...tasks import check_writable, write_rows
from ..build import node
from ..data import FileData, TextData
from ..dataset import Dataset, truncate
from ..evaluation import Posteriors, posteriors
from ..evaluation.posteriors import PARTICLES
from ..run_folder import CONFIG_FILE, read_config
from .load import check_sizes, load_program


def run(config: DictConfig) -> None:
    """Write a file with the input's columns, ``p(z|x)``, ``q(z|x,y)`` and the exact ``p(z|x,y)`` beside them."""
    check_sizes(config)
    data = instantiate(_data(config))
    if not isinstance(data, FileData | TextData) or not data.pairs or any(y is None for _, y in data.pairs):
        raise ValueError(
            "infer reads responses from a file; pass data=pairs path=FILE, or data=text path=FILE"
        )
    assert data.path is not None
    path = Path(data.path)
    suffix = ".csv" if path.suffix.lower() == ".txt" else path.suffix
    out = Path(config.out) if config.out else path.with_suffix(f".inferred{suffix}")
    check_writable(out)
    model, guide = load_program(config)
    examples = []
    names = getattr(model, "annotations", ())
    for line, ((prompt, response), labels) in enumerate(zip(data.pairs, data.labels, strict=True), 1):
        example = encode(model.backbone, prompt, response)
        if data.truncate:
            example = truncate(model.backbone, example, 0)
        try:
            check_length(model.backbone, example)
            if response is not None and labels is not None:
                example = annotate(model.backbone, example, response, labels, names)
        except ValueError as error:
            raise ValueError(f"{data.path}: row {line}, prompt {shorten(prompt)!r}: {error}") from None
        examples.append(example)
    prompts, responses = [x for x, _ in data.pairs], [y or "" for _, y in data.pairs]
    dataset = Dataset(examples, prompts, responses, model.backbone.pad_id)
    _check_names(model, guide, data, dataset)
    torch.manual_seed(0)
    seen = posteriors(model, guide, dataset, config.batch_size)
    found = _found(model, seen, dataset, config.batch_size)
    write_rows(out, [row.columns | {k: v[i] for k, v in found.items()} for i, row in enumerate(data.rows)])
    print(f"wrote {len(data.rows)} rows to {out}")


def _data(config: DictConfig) -> dict[str, Any]:
    """The data's node, prompts ending as those of the run where nothing else is said."""
    chosen = node(config, "data")
    said = any(word.lstrip("+").startswith("data.separator=") for word in HydraConfig.get().overrides.task)
    if "separator" in chosen and not said and config.run and (Path(config.run) / CONFIG_FILE).is_file():
        chosen["separator"] = node(read_config(config.run), "data").get("separator", "")
    return chosen


def _check_names(model: LatentProgram, guide: nn.Module, data: FileData | TextData, dataset: Dataset) -> None:
    """Refuse a file with columns of the names that are written, by those of its first row."""
    first = Dataset(dataset.examples[:1], dataset.prompts[:1], dataset.responses[:1], dataset.pad_id)
    found = _found(model, posteriors(model, guide, first, 1), first, 1)
    if taken := [name for name in data.rows[0].columns if name in found]:
        raise ValueError(
            f"{data.path}: infer writes columns of the names {', '.join(taken)}, which the file has; rename them "
            "there"
        )


def _found(model: LatentProgram, seen: Posteriors, data: Dataset, size: int) -> dict[str, list[Any]]:
    return _columns(model, seen, data) | _moments(model, seen, data, size) | _likelihoods(seen)


def _columns(model: LatentProgram, seen: Posteriors, data: Dataset) -> dict[str, list[Any]]:
    """Of latents that were summed over: the likeliest joint value, the value of each latent in it, and the laws."""
    if seen.posterior is None or seen.amortized is None or seen.router is None:
        return {}
    z = seen.posterior.argmax(1)
    out: dict[str, list[Any]] = {"z": z.tolist()}
    if len(model.latents) > 1:
        first = data.batch(range(1)).to(model.backbone.device)
        for name, latent in in_order(model, first).items():
            out[f"z_{name}"] = (z % latent.num_values).tolist()
            z = z // latent.num_values
    for prefix, p in (("router", seen.router), ("q", seen.amortized), ("posterior", seen.posterior)):
        out |= _named(prefix, p)
    return out


def _moments(model: LatentProgram, seen: Posteriors, data: Dataset, size: int) -> dict[str, list[Any]]:
    """Of latents that were drawn: mean and deviation of the router and of q, or the share of each value."""
    if not seen.draws:
        return {}
    parts = [_router(model, batch.to(model.backbone.device)) for batch in data.batches(size)]
    out: dict[str, list[Any]] = {}
    for name, draws in seen.draws.items():
        router = [torch.cat(columns).cpu() for columns in zip(*(part[name] for part in parts), strict=True)]
        if draws.is_floating_point():
            q, labels = [draws.mean(0), draws.std(0)], [f"{name}_mean", f"{name}_sd"]
        else:
            q, labels = [model.latents[name].features(draws).mean(0)], [name]
        for prefix, found in (("router", router), ("q", q)):
            for label, values in zip(labels, found, strict=True):
                out |= _named(f"{prefix}_{label}", values.reshape(len(data), -1))
    return out


@torch.no_grad()
def _router(model: LatentProgram, batch: Batch) -> dict[str, tuple[Tensor, ...]]:
    """``p(z|x)`` of each latent: its mean and deviation ``(B, *event)``, or the probabilities of its values ``(B, K)``.

    Exact where its law depends on no latent before it; else a mean over draws of those.
    """
    with pyro.plate("draws", PARTICLES, dim=-2):
        trace = poutine.trace(model).get_trace(batch)  # the response is given, and not scored
    out: dict[str, tuple[Tensor, ...]] = {}
    for name in model.latents:
        law, value = trace.nodes[name]["fn"], trace.nodes[name]["value"]
        if not value.is_floating_point():
            support = law.enumerate_support(expand=False)
            out[name] = (law.log_prob(support).exp().mean(1).T,)
            continue
        try:
            mean, variance = law.mean, law.variance
        except NotImplementedError:
            mean, variance = value, torch.zeros_like(value)
        out[name] = (mean.mean(0), (variance.mean(0) + mean.var(0, correction=0)).sqrt())
    return out


def _likelihoods(seen: Posteriors) -> dict[str, list[Any]]:
    return {
        "log_p": [round(v, 4) for v in seen.log_marginal.tolist()],
        "log_p_base": [round(v, 4) for v in seen.log_base.tolist()],
    }


def _named(prefix: str, values: Tensor) -> dict[str, list[Any]]:
    """A column for each column of ``(N, D)``."""
    return {f"{prefix}_{d}": [round(v, 6) for v in column.tolist()] for d, column in enumerate(values.T)}
