"""Every label of every experiment is a fit that can be made, and those that compare change what they say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from stratagem.guides import AmortizedGuide
from stratagem.inference import build
from stratagem.inference.build import Plan, build_plan, node
from stratagem.inference.commands.experiment import make_experiment
from stratagem.inference.commands.prune import BESIDE, FOUND
from stratagem.inference.experiments import Cell, Experiment, OverSeeds
from stratagem.inference.inference import Inference
from stratagem.inference.objectives import ELBO
from stratagem.inference.terms import (
    ExcessReconstruction,
    LatentJSD,
    MutualInformation,
    NormalisedReconstruction,
    Term,
    VariationalInformation,
)
from stratagem.models import Backbone, Categorical, LatentLM, Normal, SlotTokens, Tagged
from stratagem.models.backbone import Frozen, Full, Lora, Role

from .fit_fixtures import tiny_backbone
from .test_docs import documented

FOLDER = Path(__file__).parents[1] / "configs" / "experiment"

EXPERIMENTS = sorted(path.stem for path in FOLDER.glob("*.yaml"))

LABELS = [
    (name, str(axis), str(label))
    for name in EXPERIMENTS
    for axis, labels in yaml.safe_load((FOLDER / f"{name}.yaml").read_text())["axes"].items()
    for label in labels
]

SHARES = np.linspace(0, 1, 41)


@cache
def experiment_of(name: str) -> Experiment:
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        return make_experiment(compose("experiment", [f"experiment={name}"]))


@cache
def fit_of(*settings: str) -> DictConfig:
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        return compose("fit", list(settings))


def cell_of(experiment: Experiment, axis: str, label: str) -> Cell:
    """The first of the cells with a label."""
    return next(cell for cell in experiment.cells() if cell.labels[axis] == label)


def config_of(name: str, axis: str, label: str) -> DictConfig:
    command, *settings = cell_of(experiment_of(name), axis, label).commands[0]
    assert command == "fit"
    return fit_of(*settings)


def plan_of(config: DictConfig, folder: Path) -> Plan:
    try:
        return build_plan(config, folder)
    except InstantiationException as error:
        raise error.__cause__ or error from None


@pytest.fixture(autouse=True)
def _tiny_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """A random LM in place of the one that the config names."""

    def make(config: DictConfig) -> Backbone:
        return tiny_backbone({name: instantiate(role) for name, role in node(config, "roles").items()})

    monkeypatch.setattr(build, "build_backbone", make)


def test_there_are_experiments() -> None:
    assert {"strategies", "reference", "ablation"} <= set(EXPERIMENTS)


@pytest.mark.parametrize(("name", "axis", "label"), LABELS)
def test_every_label_builds(
    name: str, axis: str, label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("a b\nb a\n")
    plan = plan_of(config_of(name, axis, label), tmp_path)
    assert plan.data.task is not None or "data=self" in (experiment_of(name).common or ())
    for command, *settings in cell_of(experiment_of(name), axis, label).commands[1:]:
        with initialize_config_module("stratagem.configs", version_base="1.3"):
            assert compose(command, [*settings, "run=nowhere"])


@pytest.mark.parametrize(
    ("settings", "kind", "word"),
    [
        (["inference.objective.beta=0.1"], ConfigCompositionException, "beta"),
        (["task@data.task=juggling"], ConfigCompositionException, "juggling"),
        (["latent@latents.z=normal"], ValueError, "Normal"),
        (["conditioning.length=0"], ValueError, "length"),
        (["fit.starts=0"], ValueError, "starts"),
    ],
)
def test_a_label_that_cannot_be_made_is_found(
    settings: list[str], kind: type[Exception], word: str, tmp_path: Path
) -> None:
    wrong = Experiment({"variant": {"wrong": settings}}, [0], OverSeeds({"seconds": None}))
    with pytest.raises(kind, match=word):
        plan_of(fit_of(*cell_of(wrong, "variant", "wrong").commands[0][1:]), tmp_path)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_figure_of_a_summary_exists(name: str) -> None:
    """A misspelt one would be seen after hours of fits."""
    summary = experiment_of(name).summary
    figures = [*getattr(summary, "figures", ()), *filter(None, [getattr(summary, "figure", None)])]
    figures = [f.removeprefix(BESIDE) for f in figures if f not in ("seconds", FOUND)]
    patterns = documented().values()
    assert [f for f in figures if not any(p.fullmatch(f) for p in patterns)] == []


def parts(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a config with their places."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from parts(part, f"{place}.{key}" if place else str(key))
    else:
        yield place, value


def changed(name: str, label: str, ours: str = "ours") -> set[str]:
    """Places in which the configs of two variants differ."""
    one, other = (
        dict(parts(OmegaConf.to_container(config_of(name, "variant", chosen)))) for chosen in (label, ours)
    )
    return {place for place in one | other if one.get(place) != other.get(place)}


def variants(name: str) -> Sequence[str]:
    return [label for label in experiment_of(name).axes["variant"] if label != "ours"]


@pytest.mark.parametrize("name", ["reference", "ablation"])
def test_ours_is_the_recipe_on_the_same_tasks(name: str) -> None:
    experiment, recipe = experiment_of(name), experiment_of("strategies")
    assert not experiment.axes["variant"]["ours"]
    assert experiment.common == recipe.common
    assert experiment.axes["task"] == {label: recipe.axes["task"][label] for label in experiment.axes["task"]}


@pytest.mark.parametrize("label", variants("ablation"))
def test_an_ablation_changes_one_part(label: str) -> None:
    assert len({place.split(".")[0] for place in changed("ablation", label)}) == 1


def inference_of(plan: Plan) -> Inference:
    assert isinstance(plan.step.inference, Inference)
    return plan.step.inference


def weights(terms: Sequence[Term]) -> np.ndarray:
    """Over a fit, the sum of terms' weights."""
    return np.array([sum(term.signed_weight(share) for term in terms) for share in SHARES])


def betas(plan: Plan) -> np.ndarray:
    objective = inference_of(plan).objective
    assert isinstance(objective, ELBO)
    return np.array([objective.beta.at(share) for share in SHARES])


def information(plan: Plan) -> list[Term]:
    terms = inference_of(plan).terms.values()
    return [term for term in terms if isinstance(term, MutualInformation | VariationalInformation)]


def test_without_information_there_is_none_and_all_else_stays(tmp_path: Path) -> None:
    ours, without = (
        plan_of(config_of("ablation", "variant", label), tmp_path) for label in ("ours", "no_information")
    )
    assert len(information(ours)) == len(information(without)) == 2
    assert weights(information(ours)).min() > 0
    assert not weights(information(without)).any()
    assert changed("ablation", "no_information") <= {
        f"inference.terms.{name}.weight{rest}"
        for name in ("information", "readable_information")
        for rest in ("", "._target_", ".start", ".end", ".begin", ".until")
    }


def test_the_amortised_variant_weighs_the_information_of_the_guide_as_ours_that_of_the_posterior(
    tmp_path: Path,
) -> None:
    """``E_q[log p(y|x,z)] - beta KL(q || p(z|x))`` is the ELBO with ``1 - beta`` of that information given back."""
    ours, amortised = (
        plan_of(config_of("ablation", "variant", label), tmp_path) for label in ("ours", "amortised")
    )
    np.testing.assert_allclose(1 - betas(amortised), weights(information(ours)), atol=1e-12)
    assert not inference_of(amortised).terms
    assert isinstance(amortised.step.guide, AmortizedGuide)


THEIRS: dict[str, tuple[type[Role], dict[type[Term], float]]] = {
    "cvae": (Frozen, {}),
    "cvae_lora": (Lora, {}),
    "cvae_full": (Full, {}),
    "cvae_normalised": (Frozen, {NormalisedReconstruction: 10.0}),
    "cvae_token_weighted": (Frozen, {ExcessReconstruction: 2.0}),
    "cvae_jsd": (Frozen, {LatentJSD: 1.0}),
    "cvae_continuous": (Frozen, {}),
}
"""Of each variant the role of all three networks, and the terms beside the ELBO."""


@pytest.mark.parametrize("label", variants("reference"))
def test_the_reference_is_an_amortised_cvae_with_a_token_in_a_slot(label: str, tmp_path: Path) -> None:
    plan = plan_of(config_of("reference", "variant", label), tmp_path)
    role, terms = THEIRS[label]
    np.testing.assert_array_equal(betas(plan), 0.1)
    assert {type(term): term.signed_weight(0.5) for term in inference_of(plan).terms.values()} == terms
    assert {type(kind) for kind in plan.backbone.roles.values()} == {role}
    assert set(plan.backbone.roles) == {"router", "decoder", "posterior"}
    model, guide = plan.step.model, plan.step.guide
    assert isinstance(model, LatentLM)
    assert isinstance(guide, AmortizedGuide)
    assert not any(reader.every_layer for reader in guide.readers.values())
    assert isinstance(model.template, Tagged)
    (slot,) = model.conditionings.values()
    assert isinstance(slot, SlotTokens)
    assert slot.length == 1
    (latent,) = model.latents.values()
    if label == "cvae_continuous":
        assert isinstance(latent, Normal)
        assert latent.D == 8
    else:
        assert isinstance(latent, Categorical)
    assert (plan.settings.starts, plan.settings.revive, plan.settings.start_cost) == (1, 0, 0)
