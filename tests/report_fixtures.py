"""Diagnoses of tiny models with readings under the documented names, for the tests of pictures and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from stratagem.guides import AmortizedGuide
from stratagem.inference.diagnosis import Diagnosis, Subject
from stratagem.inference.evaluation import posteriors
from stratagem.inference.evaluation.fidelity import fidelity
from stratagem.inference.evaluation.use import use
from stratagem.models import Backbone, Categorical, KeyValuePrefix, Latent, LatentLM, Normal, PooledRouter

from .fit_fixtures import WORDS, tiny_backbone, tiny_data

LENGTH = 6
"""Tokens of a response at most."""


def tiny_subject(
    latents: Mapping[str, Latent] | None = None, num: int = 24, words: Sequence[str] = WORDS, seed: int = 0
) -> Subject:
    """A model of the latents, one categorical of three values where none are given, and its data."""
    torch.manual_seed(seed)
    backbone: Backbone = tiny_backbone(words=words)
    data = tiny_data(backbone, num, length=LENGTH)
    entry = partial(KeyValuePrefix, length=2, init_scale=2.0)
    model = LatentLM(backbone, dict(latents or {"z": Categorical(3)}), PooledRouter, entry)
    guide = AmortizedGuide(model)
    with torch.no_grad():
        for weight in (*model.routers.parameters(), *guide.parameters()):
            if weight.requires_grad:
                weight.add_(0.3 * torch.randn_like(weight))  # heads are zero at first, and their laws alike
    return Subject(model, guide, data, posteriors(model, guide, data), LENGTH)


def continuous_subject(num: int = 24, D: int = 3) -> Subject:
    """A model of one Gaussian latent."""
    return tiny_subject({"z": Normal(D)}, num)


def mixed_subject(num: int = 24) -> Subject:
    """A model of a discrete latent and a continuous one."""
    return tiny_subject({"kind": Categorical(2), "style": Normal(3)}, num)


def bare(subject: Subject, **more: Any) -> Diagnosis:
    """What is known without any diagnostic."""
    return replace(Diagnosis(subject, fidelity(subject.seen) | use(subject.seen), {}, {}), **more)


def full(subject: Subject, **more: Any) -> Diagnosis:
    """The same with readings of every diagnostic that applies, made up and the same at each call."""
    rng = np.random.default_rng(0)
    before = bare(subject)
    figures, count = dict(before.figures), len(subject.data)
    bins = (np.arange(10) + 0.5) / 10
    curves: dict[str, np.ndarray] = {"calibration/sbc": rng.multinomial(count, np.ones(5) / 5)}
    per_datum = {"ess": rng.uniform(0.2, 1, count)}
    figures |= {
        "information/infonce": 0.4,
        "information/infonce_se": 0.1,
        "information/infonce_trusted": 0.0,
        "information/infonce_ceiling": 6.2,
        "information/aggregate": 0.5,
        "information/aggregate_se": 0.05,
        "information/aggregate_trusted": 1.0,
    }
    if subject.seen.posterior is not None:
        P = subject.seen.posterior.shape[1]
        confusion = 0.8 * np.eye(P) + 0.2 / P
        curves |= {
            "intervention/confusion": confusion,
            "intervention/divergence": 0.5 * (1 - np.eye(P)),
            "calibration/router": np.stack([bins, bins**2, np.arange(10)]),
            "calibration/posterior": np.stack([bins, bins, np.full(10, 20)]),
            "position/tokens": np.arange(LENGTH + 1),
            "position/data": np.full(LENGTH + 1, count),
            "position/information": np.linspace(0, 0.4, LENGTH + 1),
            "position/information_se": np.full(LENGTH + 1, 0.02),
        }
        figures |= {"intervention/self_consistency": 0.9, "intervention/self_consistency_chance": 0.4}
        for k in range(P):
            for name in ("length", "perplexity", "distinct_1", "distinct_2", "repetition"):
                figures[f"intervention/{name}/{k}"] = 1.0 + k
                figures[f"intervention/{name}/{k}_se"] = 0.1
    else:
        per_datum["pareto_k"] = np.where(np.arange(count) % 4, 0.3, 0.9)
        per_datum["pareto_k"][0] = np.nan
        for name, draws in (subject.seen.draws or {}).items():
            if draws.is_floating_point():
                curves[f"dimension/kl/{name}"] = np.array([0.1, 2.0, 0.5])[: draws.shape[-1]]
    return Diagnosis(subject, figures, curves, per_datum, tuple(records()), **more)


def records(steps: int = 40) -> list[dict[str, Any]]:
    """Of a fit, as in ``metrics.jsonl``."""
    out: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        cheap = {"bound": -3 + step / steps, "kl_router": 0.01 * step, "information": 0.02 * step}
        out.append(
            {"split": "train", "step": step, **cheap, "weight/beta": step / steps, "weight/guide": 1.0}
        )
        if step % 10 == 0:
            usage = {f"usage/{k}": share for k, share in enumerate((0.5, 0.3, 0.2))}
            out.append({"split": "test", "step": step, **cheap, "fidelity_gap_per_token": 1 / step, **usage})
    return out
