"""Our side, from the same configs that ``stratagem fit`` reads."""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from rounds import Rounds
from stratagem.inference.build import build_backbone, build_step, node
from stratagem.inference.dataset import Dataset, standardise
from stratagem.inference.expectations import Sample
from stratagem.inference.fit import Step, fit
from stratagem.inference.optim import Optim
from stratagem.inference.settings import FitSettings
from stratagem.models import Backbone, Batch, Example, LatentLM, calibrate
from stratagem.models.language_model import warper
from stratagem.models.text import decode
from torch import Tensor, nn


def config_of(lm: Path | str, encoder: Path | str, words: Sequence[str]) -> DictConfig:
    """A config of ``stratagem fit``: a Gaussian z, its posterior from a frozen text encoder, no prompt to read."""
    common = [
        f"lm={lm}",
        "latent@latents.z=normal",
        "guide=encoder",
        f"guide.encoder={encoder}",
        "guide.prompt=false",
        "router=uniform",
        "inference=elbo_pathwise",
        "device=cpu",
    ]
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        return compose("fit", [*common, *words])


def dataset(backbone: Backbone, texts: Sequence[str]) -> Dataset:
    """Texts without a prompt: x is the begin token alone."""
    tokenizer = backbone.tokenizer
    rows = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    examples = [Example((backbone.bos_id,), (*row, tokenizer.eos_token_id)) for row in rows]
    return Dataset(examples, [""] * len(texts), list(texts), backbone.pad_id)


def build(config: DictConfig) -> tuple[Backbone, Step, Optim]:
    """Backbone, model with guide and algorithm, and the optimizer's settings."""
    torch.manual_seed(config.seed)
    backbone = build_backbone(config)
    return backbone, build_step(config, backbone), Optim(**node(config, "optim"))


def speed(folder: Path, length: int, conditioning: str, keep: bool) -> None:
    """Steps as of ``stratagem fit`` on the texts of a folder, round by round."""
    words = ["latents.z.D=64", f"conditioning={conditioning}"]
    if conditioning == "position_memory":
        words += [f"conditioning.length={length}", "conditioning.window=2"]
    backbone, step, optim = build(config_of(folder / "gpt2", folder / "bert", words))
    given = json.loads((folder / "texts.json").read_text())
    data = dataset(backbone, given["texts"])
    assert [list(e.response) for e in data.examples] == given["tokens"]
    if keep:
        data.keep_features(step.all_parts, backbone.device)
    optimizer = optim.optimizer(step.all_parts)
    rounds = Rounds()
    rounds.begin()
    for i in itertools.count():
        batch = data.batch(data.index_at(i, 50, 0))
        step(batch, 0.5).surrogate.backward()
        nn.utils.clip_grad_norm_([p for p in step.parameters() if p.grad is not None], optim.clip)
        optimizer.step()
        optimizer.zero_grad()
        rounds.end()


def begin(step: Step, data: Dataset, config: DictConfig) -> None:
    """What ``stratagem fit`` does before the first step."""
    if not data.features:
        data.keep_features(step.all_parts, data_device(step))
    standardise(step.all_parts, data, data_device(step))
    if config.fit.start_cost:
        assert isinstance(step.model, LatentLM)
        calibrate(step.model, data.batch(range(64)), config.fit.start_cost)


def data_device(step: Step) -> torch.device:
    return next(step.parameters()).device


def seconds_of_steps(step: Step, optim: Optim, data: Dataset, size: int, number: int = 20) -> float:
    """CPU seconds of steps, made on parameters that are put back."""
    state = {name: value.clone() for name, value in step.state_dict().items()}
    optimizer = optim.optimizer(step.all_parts)
    begun = time.process_time()
    for i in range(number):
        step(data.batch(data.index_at(i, size, 1)), 0.0).surrogate.backward()
        optimizer.step()
        optimizer.zero_grad()
    spent = time.process_time() - begun
    step.load_state_dict(state)
    return spent / number


def quality(
    folder: Path,
    name: str,
    encoder: str,
    budget: float,
    draws: int,
    number: int,
    longest: int,
    words: Sequence[str],
    features: Path | None,
) -> None:
    """Train for a budget of CPU seconds, then write what the figures are made of: ``NAME.npz``, ``NAME.json``.

    What the frozen encoder says of the texts is in the budget, unless it is read from the file ``features``, which is
    made where it is missing.
    """
    given = json.loads((folder / "texts.json").read_text())
    config = config_of(folder / "lm", encoder, words)
    backbone, step, optim = build(config)
    train, test = (dataset(backbone, given[part]) for part in ("train", "test"))
    settings = {
        key: value for key, value in node(config, "fit").items() if key not in ("steps", "eval_every")
    }
    if features is not None:
        if not features.is_file():
            train.keep_features(step.all_parts, data_device(step))
            torch.save(train.features, features)
        train.features = torch.load(features)
    begun = time.process_time()
    begin(step, train, config)
    each = seconds_of_steps(step, optim, train, config.fit.batch_size)
    steps = max(1, int((budget - (time.process_time() - begun)) / each))
    run = folder / name
    (run / "model").mkdir(parents=True, exist_ok=True)
    fit(
        step,
        train,
        test,
        optim,
        FitSettings(steps=steps, eval_every=steps, **settings),
        config.seed,
        run,
        False,
    )
    spent = time.process_time() - begun
    print(f"{name}: {steps} steps, {spent:.0f} CPU seconds", flush=True)
    about = {"seconds": spent, "steps": steps, "words": list(words)}
    with torch.no_grad():
        measure(step, test, folder / name, draws, number, longest, about)


def measure(
    step: Step, test: Dataset, stem: Path, draws: int, number: int, longest: int, about: dict[str, object]
) -> None:
    """Write the arrays and texts that the figures are made of."""
    model, parts = step.model, []
    assert isinstance(model, LatentLM)
    said = [""] * len(test)
    order = sorted(range(len(test)), key=lambda i: len(test.examples[i].response))
    for start in range(0, len(order), 8):
        index = order[start : start + 8]
        batch = test.batch(index)
        log = Sample(draws)(model, step.guide, batch)
        site = log.sites["z"]
        law = site.posterior.base_dist
        mean, scale = (t.expand(draws, *site.z.shape[-2:])[0] for t in (law.loc, law.scale))
        arrays = {"log_lik": log.log_lik, "log_prior": log.log_prior, "log_q": log.log_q}
        arrays |= {"z": site.z[0].T, "mean": mean.T, "scale": scale.T}
        parts.append({key: value.numpy() for key, value in arrays.items()})
        for i, text in zip(index, spoken(model, batch.without_response(longest), mean, 0.0), strict=True):
            said[i] = text
    place = np.argsort(order)
    whole = {key: np.concatenate([part[key] for part in parts], -1)[..., place] for key in parts[0]}
    turned = {k: v.T if k in ("z", "mean", "scale") else v for k, v in whole.items()}
    np.savez(stem.with_suffix(".npz"), allow_pickle=False, **turned)
    first = test.batch([0] * number).without_response(longest)
    z = model.router(first)["z"].sample()
    texts = {"reconstructions": said, "argmax": spoken(model, first, z, 0.0)}
    texts["sampled"] = spoken(model, first, z, 1.0)
    stem.with_suffix(".json").write_text(json.dumps(texts | about))


def spoken(model: LatentLM, batch: Batch, z: Tensor, temperature: float) -> list[str]:
    """A response for each z ``(B, D)``; the likeliest tokens one by one at temperature 0."""
    law = model.decoder(batch, {"z": z}, warp=warper(temperature))
    return [decode(model.backbone, row).strip() for row in law.sample().tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    of_speed = commands.add_parser("speed")
    of_speed.add_argument("folder", type=Path)
    of_speed.add_argument("length", type=int)
    of_speed.add_argument("conditioning")
    of_speed.add_argument("--fresh", action="store_true", help="run the encoder at each step")
    of_quality = commands.add_parser("quality")
    of_quality.add_argument("folder", type=Path)
    of_quality.add_argument("name", help="of the files that are written")
    of_quality.add_argument("encoder")
    of_quality.add_argument(
        "--words", nargs="+", required=True, help="overrides of the config of stratagem fit"
    )
    of_quality.add_argument("--budget", type=float, required=True, help="CPU seconds of the training")
    of_quality.add_argument(
        "--features", type=Path, help="a file of what the encoder says, not in the budget"
    )
    for name in ("draws", "number", "longest"):
        of_quality.add_argument(f"--{name}", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(2)
    if args.command == "speed":
        speed(args.folder, args.length, args.conditioning, not args.fresh)
    else:
        quality(
            args.folder,
            args.name,
            args.encoder,
            args.budget,
            args.draws,
            args.number,
            args.longest,
            args.words,
            args.features,
        )


if __name__ == "__main__":
    main()
