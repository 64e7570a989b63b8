"""``stratagem prune``: the number of strategies of a run, and the run with that number."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from importlib.resources import files
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ...models import LatentLM, warper
from ...models.pretrained import CONFIG, WEIGHTS, model_folder, write_atomic
from ...models.spec import build
from ..build import node, typed
from ..comparison import EVALUATION
from ..data import Data
from ..dataset import Dataset, make_dataset
from ..evaluation import evaluate, posteriors
from ..evaluation.evaluate import on_base
from ..fit import METRICS
from ..inference_data import POSTERIOR
from ..pruning import Output, PruneSettings, find, record
from ..reduction import check_reducible, reduce
from ..refit import free_steps, refit
from ..run_folder import CHOICES, CONFIG_FILE, read_config, write_config
from ..settings import FitSettings
from .load import check_sizes, load_latent_lm
from .report import write_evaluation

log = logging.getLogger(__name__)

FOLDER, PRUNE = "pruned", "prune.json"

FOUND = "prune/found"
"""The number of strategies, among the figures."""

BESIDE = "pruned/"
"""Before the names of the pruned run's figures among those of the run."""

TOLD = (
    "fidelity/kl_per_token",
    "use/mutual_information",
    "use/ceiling",
    "meaning/alignment",
    "meaning/nuisance_ami",
    "skill/accuracy",
)
"""Figures that are told from before and after."""


@dataclass(frozen=True)
class Source:
    """A run, and where its pruned run goes.

    Attributes:
        folder: of the run.
        config: of the run.
        model: its model.
        guide: its guide.
        name: of its one latent.
        data: its data.
        out: folder of the pruned run.
    """

    folder: Path
    config: DictConfig
    model: LatentLM
    guide: nn.Module
    name: str
    data: Data
    out: Path

    @property
    def cache(self) -> Path:
        """Folder of the base's responses."""
        return self.folder / "data"

    def figures(self) -> dict[str, float]:
        """Those of the run alone.

        Raises:
            ValueError: a run without an evaluation.
        """
        path = self.folder / EVALUATION
        if not path.is_file():
            raise ValueError(
                f"run={self.folder}: no {EVALUATION}; end the fit, or run stratagem evaluate run={self.folder}"
            )
        return {n: v for n, v in json.loads(path.read_text()).items() if not n.startswith((BESIDE, FOUND))}


def run(config: DictConfig) -> None:
    """Say what is found, and write the pruned run, whose figures go beside the run's own.

    Raises:
        ValueError: a setting out of range; a run that is not there, not evaluated, or cannot be pruned; another run in
            the way.
    """
    check_sizes(config)
    model, guide = load_latent_lm(config)
    name = check_reducible(model, guide)
    folder = Path(config.run)
    fitted = read_config(folder)
    data: Data = build(node(fitted, "data"), config.trust_remote_code)
    out = folder / FOLDER if config.out is None else Path(config.out)
    source = Source(folder, fitted, model, guide, name, data, out)
    settings = typed(PruneSettings, {field.name: config[field.name] for field in fields(PruneSettings)})
    loop = typed(FitSettings, node(fitted, "fit"), "fit.")
    if (settings.steps or 0) > loop.steps:
        raise ValueError(
            f"steps={settings.steps}: the fit of run={folder} had {loop.steps}; expected no more"
        )
    made_by = {
        "settings": asdict(settings) | {"limit": config.limit},
        "weights": sha256((model_folder(folder) / WEIGHTS).read_bytes()).hexdigest(),
    }
    before = source.figures()
    record = _finished(out, made_by) or _prune(source, config, settings, loop, made_by, before)
    after = json.loads((out / EVALUATION).read_text()) | {FOUND: float(record["found"])}
    beside = {f"{BESIDE}{n}": v for n, v in after.items() if n != FOUND}
    whole = before | {FOUND: after[FOUND]} | beside
    write_atomic(folder / EVALUATION, json.dumps(whole, indent=2).encode())
    told = [f"  {n:36}{before[n]:10.4f} -> {after[n]:.4f}" for n in TOLD if n in before and n in after]
    log.info("%s", "\n".join([record["summary"], *told, f"written to {out}"]))


def defaults(folder: Path, device: str) -> DictConfig:
    """The settings of the command as they come, for a run that this process has made."""
    config = OmegaConf.create(files("stratagem.configs").joinpath("prune.yaml").read_text())
    assert isinstance(config, DictConfig)
    config.update(run=str(folder), device=device, trust_remote_code=True)
    return config


def _finished(out: Path, made_by: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a pruned run that is there already; None where there is none, or one that was stopped.

    Raises:
        ValueError: another run.
    """
    if not (out / CONFIG_FILE).is_file():
        return None
    record: dict[str, Any] = json.loads((out / PRUNE).read_text()) if (out / PRUNE).is_file() else {}
    if any(record.get(key) != value for key, value in made_by.items()):
        raise ValueError(
            f"out={out}: there is another run in this folder, or one pruned with other settings; pass another out="
        )
    return record


def _prune(
    source: Source,
    config: DictConfig,
    settings: PruneSettings,
    loop: FitSettings,
    made_by: Mapping[str, Any],
    before: Mapping[str, float],
) -> dict[str, Any]:
    """Write the pruned run; its config, the last file, makes it one that is there."""
    model, data, folder, out = source.model, source.data, source.folder, source.out
    seed, size = source.config.seed, config.batch_size
    held_out = make_dataset(model.backbone, data, "test", seed, source.cache)
    test = on_base(model, held_out, data, seed, source.cache, config.limit)
    seen = posteriors(model, source.guide, test, size)
    assert seen.router is not None
    assert seen.posterior is not None
    outputs = greedy(model, source.name, test, data.max_new_tokens, size)
    found = find(outputs, seen.router, seen.posterior.double().mean(0).tolist(), settings)
    tokenizer = model.backbone.tokenizer
    told = record(found, lambda token: tokenizer.decode([token]).strip() or f"token {token}")
    about = json.loads((model_folder(folder) / CONFIG).read_text())
    changed: dict[str, Any] = node(source.config) | {"run": str(out)}
    if 1 < found.found < len(found.usage):
        loop = replace(loop, starts=1, revive=0.0, prune=False)
        free = free_steps(source.config, loop, config.trust_remote_code)
        steps = settings.steps or min(loop.start_steps, free)
        if not 0 < steps <= free:
            raise ValueError(
                f"run={folder}: {told['summary']}; but up to {free} steps before the end of its fit clusters of "
                f"{len(found.usage)} parts led it, and lead no fewer strategies. "
                + (f"Pass steps={free}" if free else f"Fit anew with latents.{source.name}.K={found.found}")
            )
        log.info("%s; the last %s steps of the fit again", told["summary"], steps)
        changed["fit"] = asdict(loop)
        for part in (about["model"], changed["model"], changed):
            _resize(part, source, found.found)
        write_atomic(out / "model" / CONFIG, json.dumps(about, indent=2).encode())
        here = (batch.to(model.backbone.device) for batch in test.batches(size))
        reduce(model, source.guide, found, seen.router, here)
        trust = config.trust_remote_code
        refit(model, source.guide, source.config, data, loop, steps, out, source.cache, trust)
        result = evaluate(model, source.guide, data, seed, source.cache, size, config.limit)
        after = result.figures | {FOUND: float(found.found)}
        write_evaluation(out, model, replace(result, figures=after))
    else:
        after = dict(before) | {FOUND: float(found.found)}
        write_atomic(out / "model" / CONFIG, json.dumps(about, indent=2).encode())
        write_atomic(out / f"model/{WEIGHTS}", (model_folder(folder) / WEIGHTS).read_bytes())
        for name in (METRICS, POSTERIOR):
            if (folder / name).is_file():
                write_atomic(out / name, (folder / name).read_bytes())
        write_atomic(out / EVALUATION, json.dumps(after, indent=2).encode())
    shown = {when: {n: f[n] for n in TOLD if n in f} for when, f in (("before", before), ("after", after))}
    whole = told | shown | dict(made_by) | {"run": str(folder)}
    write_atomic(out / PRUNE, json.dumps(whole, indent=2).encode())
    choices = changed.pop(CHOICES, {})
    write_config(OmegaConf.create(changed), out, choices)
    return whole


@torch.no_grad()
def greedy(model: LatentLM, name: str, data: Dataset, length: int, size: int) -> list[list[Output]]:
    """Greedy outputs without end tokens: of each value of the latent ``name`` those to each prompt."""
    device, ends = model.backbone.device, model.backbone.eos_ids
    values = torch.arange(model.latents[name].num_values, device=device)[:, None]
    out: list[list[Output]] = [[] for _ in values]
    for batch in data.batches(size):
        law = model.decoder(batch.to(device).without_response(length), {name: values}, warp=warper(0.0, 1.0))
        for rows, ids in zip(out, law.expand(torch.Size((len(values), len(batch)))).sample(), strict=True):
            rows += [tuple(takewhile(lambda token: token not in ends, row)) for row in ids.tolist()]
    return out


def _resize(part: Any, source: Source, K: int) -> None:
    """Set K in a node that holds the latents.

    Raises:
        ValueError: K is elsewhere.
    """
    latent = part.get("latents", {}).get(source.name, {})
    if "K" not in latent:
        raise ValueError(
            f"run={source.folder}: expected K of the latent {source.name} at latents.{source.name}.K of its "
            "model's config, to set it to the number found; it is not there"
        )
    latent["K"] = K
