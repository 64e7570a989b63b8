"""Programs of a user's own under every command: the right figures, in one order of the joint values."""

from __future__ import annotations

import ast
import csv
import json
import math
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyro
import pytest
import torch
from pyro import poutine
from stratagem.inference.commands import main
from stratagem.inference.data import Data
from stratagem.inference.dataset import make_dataset
from stratagem.inference.evaluation import on_base
from stratagem.inference.run_folder import read_config
from stratagem.models import Batch, collate
from stratagem.models.pretrained import load_pretrained
from stratagem.models.spec import build
from stratagem.models.text import encode
from stratagem.tasks import read_rows
from torch import Tensor, nn

from .fit_fixtures import own_logging, save_tiny_base, tiny_fit

PROMPT = "sort 3 1 4 1 5 :"
RESPONSES = ("1 3 ; 4 5", "3 1 , 4", "5")

F, V = 2, 3
"""Families and variants: different numbers, so that no order passes for another."""

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"

LONGEST = 40
"""Lines of a program."""

PROGRAMS = '''
import pyro
import pyro.distributions as dist
import torch
from stratagem.models import Categorical, KeyValuePrefix, LanguageModel, Memory, Normal, PooledRouter
from stratagem.models import encode_prompt
from torch import nn


class Tree(nn.Module):
    """family -> variant -> y, with the latents named the other way round."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.latents = {"variant": Categorical(3), "family": Categorical(2)}
        self.router = PooledRouter(backbone, self.latents["family"])
        self.within = nn.Parameter(0.7 * torch.randn(2, 3))
        self.conditioning = nn.ModuleDict(
            {k: KeyValuePrefix(backbone, v, length=2, init_scale=3.0) for k, v in self.latents.items()}
        )

    def law(self, batch, family, variant):
        prompt = encode_prompt(self.backbone, "decoder", batch.prompt, batch.prompt_mask)
        memory = Memory.cat([self.conditioning["family"](family), self.conditioning["variant"](variant)])
        return LanguageModel(self.backbone, prompt, memory, batch.max_length, batch.response_mask)

    def forward(self, batch):
        with pyro.plate("data", len(batch), dim=-1):
            family = pyro.sample("family", self.router(batch))
            variant = pyro.sample("variant", dist.Categorical(logits=self.within[family]))
            return pyro.sample("y", self.law(batch, family, variant), obs=batch.response)


class Line(nn.Module):
    """u -> v -> y, both continuous; the law of v has no mean that torch knows."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.latents = {"u": Normal(2), "v": Normal(1)}
        self.router = PooledRouter(backbone, self.latents["u"])
        self.slope = nn.Parameter(torch.tensor([1.5, -1.0]))
        self.conditioning = nn.ModuleDict(
            {k: KeyValuePrefix(backbone, v, length=2) for k, v in self.latents.items()}
        )

    def moved(self, u):
        loc = (u @ self.slope)[..., None]
        shift = dist.transforms.AffineTransform(loc, 0.5, event_dim=1)
        return dist.TransformedDistribution(dist.Normal(torch.zeros_like(loc), 1.0).to_event(1), [shift])

    def forward(self, batch):
        prompt = encode_prompt(self.backbone, "decoder", batch.prompt, batch.prompt_mask)
        with pyro.plate("data", len(batch), dim=-1):
            u = pyro.sample("u", self.router(batch))
            v = pyro.sample("v", self.moved(u))
            memory = Memory.cat([self.conditioning["u"](u), self.conditioning["v"](v)])
            law = LanguageModel(self.backbone, prompt, memory, batch.max_length, batch.response_mask)
            return pyro.sample("y", law, obs=batch.response)


class Mixed(nn.Module):
    """k -> v -> y, a strategy and a continuous latent whose law depends on it."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.latents = {"k": Categorical(2), "v": Normal(1)}
        self.router = PooledRouter(backbone, self.latents["k"])
        self.centre = nn.Parameter(torch.tensor([-1.0, 2.0]))
        self.conditioning = nn.ModuleDict(
            {k: KeyValuePrefix(backbone, v, length=2) for k, v in self.latents.items()}
        )

    def forward(self, batch):
        prompt = encode_prompt(self.backbone, "decoder", batch.prompt, batch.prompt_mask)
        with pyro.plate("data", len(batch), dim=-1):
            k = pyro.sample("k", self.router(batch))
            v = pyro.sample("v", dist.Normal(self.centre[k][..., None], 0.5).to_event(1))
            memory = Memory.cat([self.conditioning["k"](k), self.conditioning["v"](v)])
            law = LanguageModel(self.backbone, prompt, memory, batch.max_length, batch.response_mask)
            return pyro.sample("y", law, obs=batch.response)
'''


@dataclass
class Own:
    """A run of a program of one's own.

    Attributes:
        folder: of the run.
        model: the program as it was saved.
        guide: its guide.
    """

    folder: Path
    model: nn.Module
    guide: nn.Module

    def batch(self, *responses: str) -> Batch:
        """The prompt with each response."""
        backbone = self.model.backbone
        return collate([encode(backbone, PROMPT, text) for text in responses], backbone.pad_id)

    def tested(self) -> Batch:
        """The data that the evaluation is on."""
        config = read_config(self.folder)
        data: Data = build(config.data, trust_remote_code=True)
        cache = self.folder / "data"
        test = make_dataset(self.model.backbone, data, "test", config.seed, cache)
        return next(on_base(self.model, test, data, config.seed, cache, 300).batches(300))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a base, the programs and their configs, from which they can be imported."""
    folder = tmp_path_factory.mktemp("desk")
    save_tiny_base(folder / "base")
    (folder / "own_trees.py").write_text(PROGRAMS)
    (folder / "conf/model").mkdir(parents=True)
    for name in ("Tree", "Line", "Mixed"):
        (folder / f"conf/model/{name.lower()}.yaml").write_text(f"_target_: own_trees.{name}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(sys, "argv", ["stratagem"])
        yield folder
    sys.modules.pop("own_trees", None)


def fitted(desk: Path, name: str, inference: str) -> Own:
    run = desk / name
    own = [f"model={name}", f"inference={inference}", f"--config-dir={desk / 'conf'}"]
    with own_logging():
        main(tiny_fit(desk / "base", run, *own))
    return Own(run, *load_pretrained(run, trust_remote_code=True))


@pytest.fixture(scope="module")
def tree(desk: Path) -> Own:
    return fitted(desk, "tree", "marginal")


@pytest.fixture(scope="module")
def line(desk: Path) -> Own:
    return fitted(desk, "line", "elbo_pathwise")


@pytest.fixture(scope="module")
def mixed(desk: Path) -> Own:
    return fitted(desk, "mixed", "elbo_rloo")


Command = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process: its status and its lines."""

    def run(name: str, own: Own, *words: str) -> tuple[int, list[str]]:
        capfd.readouterr()
        status = 0
        with own_logging():
            try:
                main([name, f"run={own.folder}", "device=cpu", "trust_remote_code=true", *words])
            except SystemExit as stop:
                status = int(stop.code or 0)
        return status, "".join(capfd.readouterr()).strip().splitlines()

    return run


@torch.no_grad()
def by_hand(own: Own, batch: Batch) -> tuple[Tensor, Tensor]:
    """``p(z|x)`` and ``p(z,y|x)`` of the tree, ``(B, F V)``, one value after the other, the family fastest."""
    model = own.model
    assert isinstance(model, nn.Module)
    family = model.router(batch).logits.log_softmax(-1)  # (B, F)
    prior, joint = [], []
    for v in range(V):
        for f in range(F):
            log_p = family[:, f] + model.within[f].log_softmax(-1)[v]
            prior.append(log_p.exp())
            law = model.law(batch, torch.tensor([f]), torch.tensor([v]))
            joint.append((log_p + law.log_prob(batch.response)).exp())
    return torch.stack(prior, 1), torch.stack(joint, 1)


def columns(path: Path) -> dict[str, list[float]]:
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {
        name: [float(row[name]) for row in rows] for name in rows[0] if name not in ("prompt", "response")
    }


def inferred(own: Own, command: Command) -> dict[str, list[float]]:
    """What ``infer`` says of the prompt with each of the responses."""
    path = own.folder / "pairs.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "response"], *([PROMPT, text] for text in RESPONSES)])
    status, said = command("infer", own, f"path={path}")
    assert status == 0, said
    return columns(path.with_name("pairs.inferred.csv"))


def table(found: dict[str, list[float]], prefix: str, width: int) -> Tensor:
    return torch.tensor([found[f"{prefix}_{k}"] for k in range(width)]).T


def test_inferring_gives_the_laws_of_the_program(tree: Own, command: Command) -> None:
    found = inferred(tree, command)
    prior, joint = by_hand(tree, tree.batch(*RESPONSES))
    posterior = joint / joint.sum(1, keepdim=True)
    assert posterior.std(0).max() > 0.01, "otherwise the responses say nothing"
    for name, expected in (("router", prior), ("posterior", posterior)):
        torch.testing.assert_close(table(found, name, F * V), expected, rtol=0, atol=2e-6)
    torch.testing.assert_close(torch.tensor(found["log_p"]), joint.sum(1).log(), rtol=0, atol=2e-3)
    q = tree.guide.posterior(tree.batch(*RESPONSES))
    both = q["variant"].probs[:, :, None] * q["family"].probs[:, None, :]
    torch.testing.assert_close(table(found, "q", F * V), both.flatten(1).detach(), rtol=0, atol=2e-6)
    likeliest = posterior.argmax(1)
    assert found["z"] == likeliest.tolist()
    assert found["z_family"] == (likeliest % F).tolist()
    assert found["z_variant"] == (likeliest // F).tolist()


def test_every_value_is_generated_in_the_order_of_the_evaluation(tree: Own, command: Command) -> None:
    status, said = command("generate", tree, f"prompt={PROMPT}", "z=all", "temperature=0", "max_new_tokens=4")
    assert status == 0, said
    prior, _ = by_hand(tree, tree.batch(RESPONSES[0]))
    found = [re.match(r"variant=(\d) family=(\d)  p\(z\|x\)=(\d\.\d+)", row) for row in said]
    assert all(found)
    rows = [row.groups() for row in found if row]
    assert [(int(f), int(v)) for v, f, _ in rows] == [(f, v) for v in range(V) for f in range(F)]
    assert [float(p) for *_, p in rows] == pytest.approx(prior[0].tolist(), abs=6e-4)
    status, one = command(
        "generate", tree, f"prompt={PROMPT}", "z={family: 1, variant: 2}", "temperature=0", "max_new_tokens=4"
    )
    assert (status, one) == (0, [said[5]])


def test_the_evaluation_is_that_of_the_program(tree: Own, command: Command) -> None:
    ended = json.loads((tree.folder / "evaluation.json").read_text())
    status, said = command("evaluate", tree)
    assert status == 0, said
    figures = json.loads((tree.folder / "evaluation.json").read_text())
    assert figures == pytest.approx(ended, abs=1e-6)
    batch = tree.tested()
    prior, joint = by_hand(tree, batch)
    posterior = joint / joint.sum(1, keepdim=True)
    for k in range(F * V):
        assert figures[f"use/usage/{k}"] == pytest.approx(float(posterior[:, k].mean()), abs=1e-5)
    information = (posterior * (posterior / prior).log()).sum(1).mean()
    assert figures["use/mutual_information"] == pytest.approx(float(information), abs=1e-5)
    assert figures["fidelity/log_marginal"] == pytest.approx(float(joint.sum(1).log().mean()), abs=1e-3)
    assert figures["fidelity/exact"] == 1
    assert "meaning/alignment" in figures
    assert f"skill/accuracy_forced/{F * V - 1}" in figures


def test_the_position_ends_in_the_information(tree: Own, command: Command) -> None:
    status, said = command("position", tree)
    assert status == 0, said
    figures = json.loads((tree.folder / "position.json").read_text())
    evaluated = json.loads((tree.folder / "evaluation.json").read_text())
    assert figures["position/information"] == pytest.approx(evaluated["use/mutual_information"], abs=1e-5)


def spread(own: Own, name: str, draws: int = 20_000) -> tuple[float, float]:
    """Mean and deviation of a scalar latent under the router of the prompt, by many draws from the program."""
    batch = own.batch(*[RESPONSES[0]] * draws)
    pyro.set_rng_seed(1)
    with torch.no_grad():
        value = poutine.trace(own.model).get_trace(batch).nodes[name]["value"]
    return float(value.mean()), float(value.std())


def test_inferring_a_chain_of_continuous_latents(line: Own, command: Command) -> None:
    found = inferred(line, command)
    with torch.no_grad():
        router = line.model.router(line.batch(*RESPONSES))
    for d in range(2):
        assert found[f"router_u_mean_{d}"] == pytest.approx(router.mean[:, d].tolist(), abs=1e-5)
        assert found[f"router_u_sd_{d}"] == pytest.approx(router.stddev[:, d].tolist(), abs=1e-5)
        assert all(value > 0 for value in found[f"q_u_sd_{d}"])
    mean, sd = spread(line, "v")
    assert found["router_v_mean_0"][0] == pytest.approx(mean, abs=4 * sd / 8)  # of 64 draws
    assert found["router_v_sd_0"][0] == pytest.approx(sd, rel=0.4)
    assert "z" not in found
    assert "posterior_0" not in found


def test_inferring_a_mixed_program(mixed: Own, command: Command) -> None:
    """The mean over the 64 draws of k of the means of v given k: as k is drawn, and no further off."""
    found = inferred(mixed, command)
    with torch.no_grad():
        router = mixed.model.router(mixed.batch(*RESPONSES)).probs
        low, high = mixed.model.centre.tolist()
    torch.testing.assert_close(table(found, "router_k", 2), router, rtol=0, atol=1e-5)
    for row in range(len(RESPONSES)):
        share = (found["router_v_mean_0"][row] - low) / (high - low)
        assert share * 64 == pytest.approx(round(share * 64), abs=1e-3)
        assert abs(share - float(router[row, 1])) < 4 * 0.5 / 8
        apart = (high - low) ** 2 * share * (1 - share)
        assert found["router_v_sd_0"][row] == pytest.approx(math.sqrt(0.25 + apart), abs=1e-4)
    assert sum(found[f"q_k_{k}"][0] for k in range(2)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", ["line", "mixed"])
def test_a_continuous_program_is_evaluated_and_generates(
    name: str, command: Command, request: pytest.FixtureRequest
) -> None:
    own: Own = request.getfixturevalue(name)
    status, said = command("evaluate", own)
    assert status == 0, said
    figures = json.loads((own.folder / "evaluation.json").read_text())
    assert figures["fidelity/exact"] == 0
    assert all(math.isfinite(value) for value in figures.values())
    assert {"u", "v"} & own.model.latents.keys() == {
        key.rpartition("/")[2] for key in figures if key.startswith("use/active_units/")
    }
    status, drawn = command("generate", own, f"prompt={PROMPT}", "n=3", "max_new_tokens=3")
    assert (status, len(drawn)) == (0, 3)
    status, refused = command("position", own)
    assert (status, len(refused)) == (1, 1)
    assert "cannot be enumerated" in refused[0]


def test_the_density_of_a_value_is_the_product_along_the_chain(line: Own, command: Command) -> None:
    words = ("z={u: [0.2, -0.4], v: [0.9]}", "max_new_tokens=3", "temperature=0")
    status, said = command("generate", line, f"prompt={PROMPT}", *words)
    assert status == 0, said
    with torch.no_grad():
        u = line.model.router(line.batch(RESPONSES[0])).log_prob(torch.tensor([0.2, -0.4]))
        loc = torch.tensor([0.2, -0.4]) @ line.model.slope
        v = torch.distributions.Normal(loc, 0.5).log_prob(torch.tensor(0.9))
    (found,) = re.findall(r"p\(z\|x\)=(\d+\.\d+)", said[0])
    assert float(found) == pytest.approx(float((u + v).exp()), abs=6e-4)
    assert said[0].startswith("u=[0.2, -0.4] v=[0.9]  ")


def told(page: Path) -> list[list[str]]:
    """The words of the ``stratagem`` commands of a page."""
    lines = re.findall(r"^ *PYTHONPATH=\. stratagem (.*)$", page.read_text(), re.MULTILINE)
    return [shlex.split(line) for line in lines]


def lines_of_code(text: str) -> int:
    """Lines that hold more than a comment or a part of a docstring."""
    documented = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    code = enumerate(text.splitlines(), 1)
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and i not in documented for i, line in code
    )


def test_the_programs_that_are_shown_are_short() -> None:
    page = (ROOT / "README.md").read_text()
    (shown,) = re.findall(r"<!-- file: program.py -->\n```python\n(.*?)```", page, re.DOTALL)
    for text in (shown, (EXAMPLES / "own_latent_model.py").read_text()):
        assert 15 < lines_of_code(text) <= LONGEST


def test_the_commands_of_the_example_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each in its order, the fits made small, from a copy of the folder; those of its docstring are among them."""
    shutil.copytree(EXAMPLES / "conf", tmp_path / "conf")
    shutil.copy(EXAMPLES / "own_latent_model.py", tmp_path)
    with (tmp_path / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "response"], [PROMPT, "1 3 4 5 5"]])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "argv", ["stratagem"])
    small = ["fit.steps=2", "fit.eval_every=2", "fit.batch_size=4", "data.num_train=32", "data.num_test=12"]
    small += ["data.max_new_tokens=8"]
    words = told(EXAMPLES / "README.md")
    in_docstring = told(EXAMPLES / "own_latent_model.py")
    assert len(in_docstring) == 4
    assert [each for each in words if each[0] in ("fit", "diagnose")] == in_docstring
    assert {each[0] for each in words} == {"fit", "diagnose", "evaluate", "position", "generate", "infer"}
    for command, *rest in words:
        more = small if command == "fit" else ["max_new_tokens=4"] if command == "generate" else []
        with own_logging():
            try:
                main([command, *rest, *more, "device=cpu"])
            except SystemExit as stop:
                pytest.fail(
                    f"stratagem {command} {' '.join(rest)} ended with {stop.code}: {capfd.readouterr()}"
                )
    sys.modules.pop("own_latent_model", None)
    for name in ("marginal", "elbo_rloo"):
        assert (tmp_path / f"runs/{name}/report.html").is_file()
        found = json.loads((tmp_path / f"runs/{name}/diagnostics.json").read_text())
        assert found["headline"]
    (row,) = read_rows(tmp_path / "pairs.inferred.csv")
    assert {"z_family", "z_variant", "posterior_3"} <= row.columns.keys()
