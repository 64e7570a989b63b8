"""Every YAML composes, builds and fits; what does not go together is refused, and says what does."""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException, InstantiationException, MissingConfigException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from stratagem.inference import build
from stratagem.inference.algorithm import Algorithm
from stratagem.inference.build import Plan, build_plan, node
from stratagem.inference.commands import main
from stratagem.inference.commands.main import COMMANDS
from stratagem.inference.dataset import Dataset
from stratagem.inference.fit import fit
from stratagem.models import Backbone, Example, LanguageModel, Latent, Reader
from stratagem.models.backbone import Role
from stratagem.models.pretrained import trainable_state
from stratagem.tasks import Task

from .encoder_fixtures import save_encoder
from .fit_fixtures import tiny_backbone

CONFIGS = Path(__file__).parents[1] / "configs"

OPTIONS = {
    group.name: sorted(path.stem for path in group.glob("*.yaml"))
    for group in CONFIGS.iterdir()
    if group.is_dir() and any(group.glob("*.yaml"))
}
"""Of each group, its YAMLs."""


def composed(command: str, *overrides: str) -> DictConfig:
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        return compose(command, list(overrides))


@cache
def chosen(key: str, option: str) -> DictConfig:
    """A fit with one option other than said in ``configs/fit.yaml``."""
    return composed("fit", f"{key}={option}")


def assembled(options: dict[str, str]) -> DictConfig:
    """A fit with some options, put together from those with one of them, each of which is composed once."""
    (first, option), *others = options.items()
    config = chosen(first, option).copy()
    for key, option in others:
        place = place_of(key)
        OmegaConf.update(config, place, OmegaConf.select(chosen(key, option), place), merge=False)
    return config


def paired(latent: str, inference: str) -> DictConfig:
    return assembled({"latent@latents.z": latent, "inference": inference})


def choices(command: str) -> list[str]:
    """The groups of a command, each with where it goes (``role@roles.router``)."""
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        runtime = compose(command, return_hydra_config=True).hydra.runtime
    return [key for key in runtime.choices if not key.startswith("hydra/")]


def group_of(key: str) -> str:
    return key.split("@")[0]


def place_of(key: str) -> str:
    return key.split("@")[-1]


CASES = [
    (command, key, option)
    for command in COMMANDS
    for key in choices(command)
    for option in OPTIONS[group_of(key)]
]

ALGORITHMS = list(itertools.product(OPTIONS["latent"], OPTIONS["inference"]))
"""Every pairing of a latent with an inference algorithm."""


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Builds a random LM over ten tokens in place of the one that the config names; a file of pairs for it."""

    def make(config: DictConfig) -> Backbone:
        return tiny_backbone({name: instantiate(role) for name, role in node(config, "roles").items()})

    monkeypatch.setattr(build, "build_backbone", make)
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "a b", "response": "c", "text": "a"}, {"prompt": "b", "response": "d a", "text": "b"}]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pairs


def plan_of(folder: Path, config: DictConfig) -> Plan:
    try:
        return build_plan(config, folder)
    except InstantiationException as error:
        raise error.__cause__ or error from None


def plan_or_refusal(folder: Path, config: DictConfig) -> Plan | ValueError:
    try:
        return plan_of(folder, config)
    except ValueError as error:
        return error


def targets(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "_target_" in part:
            yield part["_target_"]
        for value in part.values():
            yield from targets(value)
    elif isinstance(part, list):
        for value in part:
            yield from targets(value)


def test_every_option_belongs_to_a_command() -> None:
    used = {(group_of(key), option) for _, key, option in CASES}
    assert used == {(group, option) for group, options in OPTIONS.items() for option in options}


def test_every_yaml_is_found() -> None:
    placed = {CONFIGS / group / f"{option}.yaml" for group, options in OPTIONS.items() for option in options}
    shared = {"base", "quiet", "written"}
    top = {CONFIGS / f"{name}.yaml" for name in (*COMMANDS, *shared)}
    assert set(CONFIGS.rglob("*.yaml")) - set((CONFIGS / "hydra").rglob("*.yaml")) == placed | top


@pytest.mark.parametrize(("command", "key", "option"), CASES)
def test_every_option_composes_and_its_classes_exist(command: str, key: str, option: str) -> None:
    config = chosen(key, option) if command == "fit" else composed(command, f"{key}={option}")
    part = OmegaConf.select(config, place_of(key))
    assert part is not None
    for target in targets(OmegaConf.to_container(part)):
        assert isinstance(get_object(target), type), target


@pytest.mark.parametrize(
    ("key", "option"), [(key, option) for command, key, option in CASES if command == "fit"]
)
def test_every_option_builds(tmp_path: Path, tiny: Path, key: str, option: str) -> None:
    """With a pairing of latent and algorithm at least."""
    tried: list[Plan | ValueError] = []
    asked = {"model": "annotated"} if (key, option) == ("guide", "annotated") else {}
    pairings = [
        asked | {key: option, "latent@latents.z": latent, "inference": inference} | {key: option}
        for latent, inference in [("categorical", "marginal"), ("normal", "elbo_pathwise"), *ALGORITHMS]
    ]
    for pairing in dict.fromkeys(tuple(pairing.items()) for pairing in pairings):
        config = assembled(dict(pairing))
        if "path" in list(config.data):
            config.path = str(tiny)
        if option == "encoder":
            config.guide.encoder = str(save_encoder(tmp_path / "encoder", "bert"))
        if option == "annotated":
            config.model.annotations = ["ARG0", "V"]
        tried.append(plan_or_refusal(tmp_path, config))
        if isinstance(tried[-1], Plan):
            break
    plan = tried[-1]
    assert isinstance(plan, Plan), plan
    assert isinstance(plan.step.inference, Algorithm)
    assert all(isinstance(latent, Latent) for latent in plan.step.model.latents.values())
    assert all(isinstance(role, Role) for role in plan.backbone.roles.values())


@pytest.mark.parametrize("option", OPTIONS["task"])
def test_every_task_builds(option: str) -> None:
    task = instantiate(node(composed("pretrain", f"task={option}"), "task"))
    assert isinstance(task, Task)
    assert task.name == option


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("inference", OPTIONS["inference"])
def test_every_inference_fits_a_tiny_model(tmp_path: Path, inference: str) -> None:
    """On a latent of each kind it is for: finite gradients, weights that move everywhere, an objective that rises."""
    tried = []
    for latent in ("categorical", "normal"):
        config = paired(latent, inference)
        config.fit.update(steps=30, batch_size=8, eval_every=30, progress=False)
        config.optim.update(warmup=2, lr={**config.optim.lr, "router": 0.0003})
        tried.append(plan_or_refusal(tmp_path / latent, config))
    plans = [plan for plan in tried if isinstance(plan, Plan)]
    assert plans, tried
    for place, plan in enumerate(plans):
        data = pairs_of(plan.backbone)
        plan.step.inference.prepare(plan.step.model, plan.step.guide, plan.backbone, (data,), 0)
        plan.step(data.batch(range(len(data)))).surrogate.backward()
        gradients = [p.grad for p in plan.step.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        plan.step.zero_grad()
        before, first = weights(plan), objective(plan, data)
        fit(plan.step, data, data, plan.optim, plan.settings, 0, tmp_path / str(place), resume=False)
        moved = {
            name.split(".")[1] for name, weight in weights(plan).items() if not weight.equal(before[name])
        }
        assert moved >= {"conditionings", "routers", "readers"}
        after = objective(plan, data)
        # One draw's score is no guide to a continuous latent within 30 steps; that it is unbiased is tested elsewhere.
        assert after > first or (inference == "elbo_nvil" and place == 1 and math.isfinite(after))


def weights(plan: Plan) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in trainable_state(plan.step.parts).items()}


def pairs_of(backbone: Backbone) -> Dataset:
    """Eight pairs whose responses take two forms."""
    ids = backbone.tokenizer.convert_tokens_to_ids(list("abcd"))
    end = backbone.eos_ids[0]
    examples = [
        Example((backbone.bos_id, x, y), (z, z, end)) for x in ids[:2] for y in ids[:2] for z in ids[2:]
    ]
    return Dataset(examples, ["prompt"] * len(examples), ["response"] * len(examples), backbone.pad_id)


def objective(plan: Plan, data: Dataset) -> float:
    torch.manual_seed(0)
    with torch.no_grad():
        values = [float(plan.step(data.batch(range(len(data)))).objective) for _ in range(8)]
    return sum(values) / len(values)


@pytest.mark.parametrize(
    "options",
    [
        {"latent@latents.z": "normal", "inference": "elbo_pathwise"},
        {"guide": "flow", "latent@latents.z": "normal", "inference": "elbo_rloo"},
    ],
)
def test_what_is_put_together_is_what_is_composed(options: dict[str, str]) -> None:
    assert assembled(options) == composed("fit", *(f"{key}={option}" for key, option in options.items()))


@pytest.fixture(scope="module")
def working() -> set[tuple[str, str]]:
    """Pairings that have been built and not refused."""
    return set()


@pytest.mark.usefixtures("no_likelihood", "tiny")
@pytest.mark.parametrize(("latent", "inference"), ALGORITHMS)
def test_a_pairing_works_or_is_refused_with_one_that_does(
    tmp_path: Path, working: set[tuple[str, str]], latent: str, inference: str
) -> None:
    plan = plan_or_refusal(tmp_path, paired(latent, inference))
    if isinstance(plan, Plan):
        working.add((latent, inference))
        return
    kind = type(instantiate(node(chosen("latent@latents.z", latent), "latents", "z")))
    assert kind.__name__ in str(plan)
    mends = re.findall(r"inference=(\w+)", str(plan))
    assert mends
    for mend in {(latent, mend) for mend in mends} - working:
        plan_of(tmp_path, paired(*mend))
        working.add(mend)


@pytest.mark.usefixtures("no_likelihood", "tiny")
@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["inference=elbo_pathwise"], ["Pathwise", "Categorical", "inference=marginal"]),
        (["latent@latents.z=normal"], ["Enumerate", "Normal", "inference=elbo_pathwise"]),
        (["latent@latents.z=normal", "inference=elbo"], ["Enumerate", "Normal", "inference=elbo_pathwise"]),
        (["+latent@latents.w=normal"], ["Enumerate", "w is Normal", "inference=elbo_rloo"]),
        (
            ["latent@latents.z=normal", "inference=elbo_pathwise", "guide=exact"],
            ["guide exact", "Normal", "guide=amortized"],
        ),
        (
            ["latent@latents.z=normal", "inference=elbo_pathwise", "router=token"],
            ["router token", "Normal", "router=pooled"],
        ),
    ],
)
def test_refusals_name_both_and_the_mend(tmp_path: Path, overrides: list[str], named: list[str]) -> None:
    with pytest.raises(ValueError, match=named[0]) as refusal:
        plan_of(tmp_path, composed("fit", *overrides))
    assert [word for word in named if word not in str(refusal.value)] == []


@pytest.fixture
def no_likelihood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails whoever evaluates a likelihood, samples, or reads a sequence."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a forward pass")

    monkeypatch.setattr(LanguageModel, "token_log_probs", forbidden)
    monkeypatch.setattr(LanguageModel, "sample", forbidden)
    monkeypatch.setattr(Reader, "forward", forbidden)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_key_is_refused(command: str) -> None:
    with pytest.raises(ConfigCompositionException, match="stepz"):
        composed(command, "stepz=3")


def test_an_unknown_nested_key_is_refused() -> None:
    with pytest.raises(ConfigCompositionException, match="stepz"):
        composed("fit", "fit.stepz=3")


@pytest.mark.parametrize(("command", "key"), sorted({(command, key) for command, key, _ in CASES}))
def test_an_unknown_option_is_refused_with_those_that_exist(command: str, key: str) -> None:
    with pytest.raises(MissingConfigException, match="nowhere") as refusal:
        composed(command, f"{key}=nowhere")
    for option in OPTIONS[group_of(key)]:
        assert option in str(refusal.value)


@pytest.mark.parametrize("wrong", ["fit.stepz=3", "inference=nowhere", "groupz=nowhere"])
def test_the_command_line_reports_them_in_words(
    wrong: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stratagem"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(SystemExit) as stop:
        main(["fit", wrong])
    shown = capsys.readouterr().err
    assert stop.value.code == 1
    assert wrong.split("=")[0].split(".")[-1] in shown
    assert "Traceback" not in shown
