"""What findings advise: every override and command in them composes, builds, and does what is said of it."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from stratagem.guides import ExactGuide
from stratagem.inference import build
from stratagem.inference.build import build_plan, node
from stratagem.inference.commands.main import COMMANDS
from stratagem.inference.diagnosis import Subject
from stratagem.inference.diagnosis import findings as of_diagnosis
from stratagem.inference.diagnosis.findings.values import fewer, override
from stratagem.inference.evaluation import posteriors
from stratagem.inference.terms import BaseFidelity, MinibatchInformation
from stratagem.models import Backbone, LearnedPrior, UniformPrior
from stratagem.models.backbone import Lora

from .faulty_program_fixtures import strategies
from .finite_law_fixtures import subject_of
from .fit_fixtures import tiny_backbone, tiny_data, tiny_step

FOLDER = Path(of_diagnosis.__code__.co_filename).parent / "findings"

LATENTS = {
    "discrete": ["latent@latents.z=categorical"],
    "continuous": ["latent@latents.z=normal", "inference=elbo_pathwise"],
    "mixed": ["latent@latents.z=categorical", "+latent@latents.v=normal", "inference=elbo_nvil"],
}


def texts(tree: ast.AST) -> Iterator[str]:
    """The strings of a module that are no docstrings, those with places to fill with 3 in them."""
    for node_ in ast.iter_child_nodes(tree):
        if isinstance(node_, ast.Expr) and isinstance(node_.value, ast.Constant):
            continue
        if isinstance(node_, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "3" for part in node_.values)
        elif isinstance(node_, ast.Constant) and isinstance(node_.value, str):
            yield node_.value
        else:
            yield from texts(node_)


def advised() -> list[str]:
    """What stands between backticks in the findings."""
    return sorted({words for text in TEXTS for words in re.findall(r"`([^`]+)`", text)})


TEXTS = [text for path in sorted(FOLDER.glob("*.py")) for text in texts(ast.parse(path.read_text()))]
ADVISED = advised()


@cache
def composed(command: str, *words: str) -> DictConfig:
    with initialize_config_module("stratagem.configs", version_base="1.3"):
        return compose(command, list(words))


def fit_with(advice: str, kind: str) -> DictConfig:
    """A fit of some kind of latents that does as it is told."""
    words = shlex.split(advice)
    given = {word.split("=")[0] for word in words}
    return composed("fit", *(word for word in LATENTS[kind] if word.split("=")[0] not in given), *words)


def term(config: DictConfig, name: str) -> float:
    return float(config.inference.terms[name].weight)


DEFAULT = composed("fit")

MEANING: dict[str, tuple[str, Callable[[DictConfig], bool]]] = {
    "inference=marginal": (
        "discrete",
        lambda c: (
            {"distillation", "information", "readable_information", "fidelity", "guide"}
            == set(c.inference.terms)
        ),
    ),
    "inference=marginal inference.terms.information.weight=0.3": (
        "discrete",
        lambda c: term(c, "information") == 0.3 > term(DEFAULT, "information"),
    ),
    "inference=marginal inference.terms.information.weight=0.05": (
        "discrete",
        lambda c: term(c, "information") == 0.05 < term(DEFAULT, "information"),
    ),
    "inference=marginal inference.terms.information.weight=0.05 inference.terms.readable_information.weight=0.2": (
        "discrete",
        lambda c: term(c, "readable_information") == 0.2 < term(DEFAULT, "readable_information"),
    ),
    "inference=marginal inference.terms.readable_information.weight=1.0": (
        "discrete",
        lambda c: term(c, "readable_information") == 1.0 > term(DEFAULT, "readable_information"),
    ),
    "inference=marginal ~inference.terms.distillation fit.starts=3": (
        "discrete",
        lambda c: "distillation" not in c.inference.terms and c.fit.starts == 3 > DEFAULT.fit.starts,
    ),
    "inference=marginal inference.terms.fidelity.weight.end=3.0": (
        "discrete",
        lambda c: (
            isinstance(instantiate(c.inference).terms["fidelity"], BaseFidelity)
            and c.inference.terms.fidelity.weight.end == 3.0 > DEFAULT.inference.terms.fidelity.weight.end
        ),
    ),
    "inference=base_fidelity": (
        "discrete",
        lambda c: isinstance(instantiate(c.inference).terms["fidelity"], BaseFidelity),
    ),
    "inference=free_bits_per_dimension inference.objective.bits=0.5": (
        "continuous",
        lambda c: (
            c.inference.objective.bits
            == 0.5
            > composed("fit", "inference=free_bits_per_dimension").inference.objective.bits
        ),
    ),
    "inference=elbo_nvil "
    "'+inference.terms.information={_target_: stratagem.inference.terms.MinibatchInformation, weight: 1.0}'": (
        "mixed",
        lambda c: isinstance(instantiate(c.inference).terms["information"], MinibatchInformation),
    ),
    "inference=iwae_dreg inference.expectation.num_particles=16": (
        "continuous",
        lambda c: c.inference.expectation.num_particles == 16,
    ),
    "inference=wake_wake inference.expectation.num_particles=16": (
        "mixed",
        lambda c: (
            c.inference.expectation.num_particles == 16 and "ForwardKL" in c.inference.terms.guide["_target_"]
        ),
    ),
    "inference=forward_chi_square": ("mixed", lambda c: "ForwardChiSquare" in str(c.inference.terms)),
    "conditioning.length=8": (
        "discrete",
        lambda c: c.conditioning.length == 8 == 2 * DEFAULT.conditioning.length,
    ),
    "fit.steps=2000": ("discrete", lambda c: c.fit.steps == 2000 > DEFAULT.fit.steps),
    "router=learned": ("discrete", lambda c: c.router["_target_"].endswith(LearnedPrior.__name__)),
    "router=uniform": ("discrete", lambda c: c.router["_target_"].endswith(UniformPrior.__name__)),
    "router=pooled router.pooling=attention router.width=256": (
        "discrete",
        lambda c: c.router.pooling == "attention" and c.router.width == 256 > DEFAULT.router.width,
    ),
    "role@roles.router=lora": ("discrete", lambda c: isinstance(instantiate(c.roles.router), Lora)),
    "role@roles.posterior=lora": ("mixed", lambda c: isinstance(instantiate(c.roles.posterior), Lora)),
    "optim.lr.router=0.01": (
        "discrete",
        lambda c: c.optim.lr.router == 0.01 > DEFAULT.optim.lr.router,
    ),
    "guide.pooling=attention guide.width=128": (
        "mixed",
        lambda c: c.guide.pooling == "attention" and c.guide.width == 128 > DEFAULT.guide.width,
    ),
    "guide=exact": ("discrete", lambda c: c.guide["_target_"].endswith(ExactGuide.__name__)),
    "data=self path=FILE": ("discrete", lambda c: c.data.response_column is None and c.data.path == "FILE"),
    "data=pairs path=FILE data.test_share=0.3": (
        "discrete",
        lambda c: c.data.test_share == 0.3 > composed("fit", "data=pairs").data.test_share,
    ),
    "data.num_test=2000": ("discrete", lambda c: c.data.num_test == 2000 > DEFAULT.data.num_test),
    "lm=NAME": ("discrete", lambda c: c.lm == "NAME"),
}
"""Of each override of a fit, the latents that it is advised for, and what it is to do."""

COMMAND_LINES = {
    "stratagem infer": lambda _: True,
    "stratagem prune run=DIR": lambda c: c.run == "DIR",
    "stratagem diagnose run=DIR limit=2000": lambda c: c.limit == 2000 > composed("diagnose").limit == 500,
}

TEMPLATED = {"latents.3.K=3"}
"""What :func:`override` fills in."""


def test_the_table_has_what_findings_advise_and_nothing_else() -> None:
    assert set(ADVISED) == {*MEANING, *COMMAND_LINES, *TEMPLATED}


def test_a_default_is_told_as_it_is() -> None:
    found = [told for text in TEXTS for told in re.findall(r"`([^`]+)` \(defaults? ([^)]+)\)", text)]
    assert found
    for words, values in found:
        names = [
            word.split("=")[0]
            for word in shlex.split(words)
            if not word.startswith(("inference=", "stratagem"))
        ]
        for name, value in zip(names[-len(values.split(" and ")) :], values.split(" and "), strict=True):
            command = "diagnose" if words.startswith("stratagem diagnose") else "fit"
            assert float(OmegaConf.select(composed(command), name)) == float(value), name


@pytest.mark.parametrize("advice", MEANING)
def test_an_override_does_what_is_said_of_it(advice: str) -> None:
    kind, holds = MEANING[advice]
    assert holds(fit_with(advice, kind))


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_takes_its_words(line: str) -> None:
    _, command, *words = shlex.split(line)
    assert command in COMMANDS
    assert COMMAND_LINES[line](composed(command, *words))


@pytest.mark.parametrize("advice", MEANING)
def test_a_fit_can_be_built_as_advised(advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a tiny base, by latents of the kind that the advice is for."""

    def make(config: DictConfig) -> Backbone:
        return tiny_backbone({name: instantiate(role) for name, role in node(config, "roles").items()})

    monkeypatch.setattr(build, "build_backbone", make)
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "a b", "response": "c"}\n{"prompt": "b", "response": "d a"}\n')
    plan = build_plan(fit_with(advice.replace("FILE", str(pairs)), MEANING[advice][0]), tmp_path)
    assert plan.step.model is not None


def shipped() -> Subject:
    step = tiny_step(tiny_backbone(), K=3)
    data = tiny_data(step.model.backbone, 4)
    return Subject(step.model, step.guide, data, posteriors(step.model, step.guide, data), 6)


def test_the_number_of_values_is_the_setting_of_the_model() -> None:
    """By the name of its latent, at least the two that a strategy needs; none in a program of the user's own."""
    for count, expected in ((3, 3), (1, 2)):
        words = override(shipped(), count)
        assert words is not None
        found = composed("fit", words.strip("`")).latents.z.K
        assert found == expected
    assert override(subject_of(strategies(), num=4), 3) is None


def test_fewer_values_are_advised_as_the_model_allows() -> None:
    assert fewer(shipped(), "Merge", 2) == (
        "Merge them, `stratagem prune run=DIR`, or fit with fewer values, `latents.z.K=2`."
    )
    assert "`" not in fewer(subject_of(strategies(), num=4), "Merge", 2)
