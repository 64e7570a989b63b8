"""Every algorithm that ships fits a model from a bad start, and the check that says so fails before."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import pytest
import stratagem.configs
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from scipy.stats import mannwhitneyu
from stratagem.guides import AmortizedGuide
from stratagem.inference.algorithm import Algorithm
from stratagem.inference.dataset import Dataset, sample_base, standardise
from stratagem.inference.fit import Step, fit
from stratagem.inference.inference import Inference
from stratagem.inference.optim import Optim
from stratagem.inference.settings import FitSettings
from stratagem.models import (
    Batch,
    Categorical,
    Example,
    KeyValuePrefix,
    Latent,
    LatentLM,
    Normal,
    PooledRouter,
)
from stratagem.models.backbone.scratch import new_backbone
from torch import Tensor, nn

YAMLS = sorted((Path(next(iter(stratagem.configs.__path__))) / "inference").glob("*.yaml"))

STEPS, REPEATS = 100, 8

LEAST = 0.1
"""Nats per sequence by which a fit must have gained."""

FAR: dict[type[Latent], float] = {Categorical: 3.0, Normal: 1.0}
"""Standard deviation of the first keys and values, and of the parameters of the first laws of z."""

LENGTH = 3
"""Tokens of a response, at most."""


def algorithm_of(path: Path) -> tuple[Algorithm, Latent]:
    """The algorithm of a YAML, and a latent that it takes."""
    algorithm: Algorithm = instantiate(OmegaConf.to_container(OmegaConf.load(path), resolve=True))
    refusals = []
    for latent in (Categorical(3), Normal(2)):
        try:
            algorithm.check({"z": latent})
        except ValueError as error:
            refusals.append(error)
        else:
            return algorithm, latent
    raise AssertionError(f"{path.stem} takes no latent: {refusals}")


def far_off(path: Path) -> tuple[Step, Dataset, Dataset]:
    """A step on an LM of one layer whose weights are drawn far from a good start, and its data."""
    torch.manual_seed(0)
    algorithm, latent = algorithm_of(path)
    backbone = new_backbone(["a", "b", "c"], hidden=8, layers=1, heads=2, context=16)
    with torch.no_grad():
        for weight in backbone.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.5)
    model = LatentLM(backbone, {"z": latent}, PooledRouter, partial(KeyValuePrefix, length=2))
    guide = AmortizedGuide(model)
    algorithm.bind(model)
    step = Step(model, guide, algorithm)
    train, test = data_of(model, 256, seed=0), data_of(model, 64, seed=1)
    for data in (train, test):
        data.keep_features(step.all_parts, backbone.device)
    algorithm.prepare(model, guide, backbone, (train, test), 0)
    standardise(step.all_parts, train, backbone.device)
    with torch.no_grad():
        for name, weight in nn.ModuleDict({"model": model, "guide": guide}).named_parameters():
            if weight.requires_grad:
                inputs = weight.shape[1] if "head." in name and weight.dim() == 2 else 1
                weight.normal_(0, FAR[type(latent)] / inputs**0.5)
    return step, train, test


def data_of(model: LatentLM, num: int, seed: int) -> Dataset:
    """Prompts of two symbols with responses drawn from the base."""
    backbone = model.backbone
    numbers = torch.Generator().manual_seed(seed)
    symbols = torch.tensor(backbone.tokenizer.convert_tokens_to_ids(["a", "b", "c"]))
    drawn = symbols[torch.randint(3, (num, 2), generator=numbers)].tolist()
    prompts = [Example((backbone.bos_id, *row)) for row in drawn]
    ids = sample_base(backbone, prompts, LENGTH, seed)
    examples = [Example(prompt.prompt, row) for prompt, row in zip(prompts, ids, strict=True)]
    return Dataset(examples, [""] * num, [""] * num, backbone.pad_id)


@torch.no_grad()
def objectives(step: Step, batch: Batch, guide: nn.Module, seed: int) -> Tensor:
    """``(REPEATS,)`` objectives with draws of their own, that of the guide added where it has another."""
    torch.manual_seed(seed)
    values = []
    for _ in range(REPEATS):
        value = step.inference(step.model, guide, batch).objective
        if isinstance(step.inference, Inference) and not step.inference.objective.shared:
            log = step.inference.expectation(step.model, guide, batch)
            value = value + step.inference.objective.guide_bound(log).mean()
        values.append(value)
    return torch.stack(values).double()


def check_gain(before: Tensor, now: Tensor) -> None:
    """That ``now`` is above ``before``, and by more than the draws can do; their tails may be heavy."""
    gain = float(now.median() - before.median())
    chance = float(mannwhitneyu(now, before, alternative="greater").pvalue)
    assert gain > LEAST, f"gained {gain:.3f} nats"
    assert chance < 1e-3, f"gained {gain:.3f} nats, by chance with probability {chance:.4f}"


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_it_raises_its_own_objective(path: Path, tmp_path: Path) -> None:
    """Of both together; and of the guide alone, beside the one it began with, under the fitted model."""
    step, train, test = far_off(path)
    batch, start = test.batch(range(len(test))), copy.deepcopy(step.guide)
    before = objectives(step, batch, step.guide, seed=0)
    with pytest.raises(AssertionError, match="gained"):
        check_gain(before, objectives(step, batch, step.guide, seed=1))
    lr = {"conditioning": 0.1, "router": 0.05, "posterior": 0.05, "other": 0.01}
    settings = FitSettings(STEPS, batch_size=12, eval_every=STEPS, revive=0, progress=False)
    fit(step, train, test, Optim(lr), settings, 0, tmp_path, resume=False)
    after = objectives(step, batch, step.guide, seed=2)
    check_gain(before, after)
    check_gain(objectives(step, batch, start, seed=3), after)
