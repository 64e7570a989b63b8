"""The command line: what each command writes."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from stratagem.inference.commands import generate as generate_command
from stratagem.inference.commands import main
from stratagem.inference.commands.main import COMMANDS
from stratagem.inference.metrics import read_metrics
from stratagem.models import LatentLM
from stratagem.models.pretrained import load_pretrained
from stratagem.tasks import Sorting, read_rows
from transformers import AutoModelForCausalLM, AutoTokenizer

from .fit_fixtures import (
    PROMPT,
    THREE,
    Command,
    Said,
    own_logging,
    save_tiny_base,
    stratagem_process,
    tiny_fit,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


def fitted(folder: Path, base: Path, *more: str) -> Path:
    with own_logging():
        main(tiny_fit(base, folder, *more))
    return folder


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with three strategies."""
    return fitted(tmp_path_factory.mktemp("runs") / "run", base, *THREE)


@pytest.fixture(scope="module")
def continuous(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a latent in the plane."""
    more = ("inference=elbo_pathwise", "latent@latents.z=normal", "latents.z.D=2")
    return fitted(tmp_path_factory.mktemp("runs") / "run", base, *more)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    rows = [["id", "prompt", "response"], *([i, PROMPT, f"1 {i} ; 4 5"] for i in range(5))]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_a_fit_writes_its_folder(run: Path) -> None:
    files = {
        str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and path.parent.name != "data"
    }
    assert files == {
        "config.yaml",
        "evaluation.json",
        "log.txt",
        "metrics.jsonl",
        "model/config.json",
        "model/model.safetensors",
        "posterior.nc",
        "state.safetensors",
    }
    config = OmegaConf.load(run / "config.yaml")
    assert (config.latents.z.K, config.fit.steps) == (3, 12)
    assert not re.search(r"\$\{", (run / "config.yaml").read_text()), "it must be resolved"
    figures = json.loads((run / "evaluation.json").read_text())
    assert all(isinstance(value, int | float) and math.isfinite(value) for value in figures.values())
    wanted = [
        "fidelity/kl_per_token",
        "fidelity/kl_per_sequence",
        "fidelity/kl_per_token_se",
        "fidelity/exact",
    ]
    wanted += ["use/mutual_information", "use/ceiling", "use/verdict", "use/usage", "skill/accuracy"]
    wanted += ["meaning/alignment", "meaning/alignment_chance", "meaning/purity"]
    wanted += ["skill/accuracy_base", "skill/accuracy_forced_min"]
    assert set(wanted) <= set(figures)
    lines = read_metrics(run / "metrics.jsonl")
    assert [line["step"] for line in lines if line["split"] == "train"] == list(range(1, 13))
    assert [line["step"] for line in lines if line["split"] == "test"] == [4, 8, 12]
    log = (run / "log.txt").read_text()
    assert "48 training and 16 held-out pairs" in log
    assert re.search(r"the latents are (used|weak|collapsed)", log)


def test_the_bundled_base_is_fitted_with_nothing_said(command: Command, tmp_path: Path) -> None:
    """On fewer data, the only thing said; every figure of a task with known strategies is there."""
    few = ["data.num_train=8", "data.num_test=24", "fit.steps=1", "fit.batch_size=4", "conditioning.length=1"]
    said = command("fit", f"run={tmp_path / 'run'}", "device=cpu", "fit.progress=false", *few)
    assert said.status == 0, said.out
    figures = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert all(math.isfinite(value) for value in figures.values())
    wanted = {f"meaning/{name}" for name in ("posterior_accuracy", "ami", "ari", "nuisance_ami", "coverage")}
    assert wanted <= set(figures)
    assert figures["skill/accuracy_base"] > 0.9


def test_evaluating_again_gives_the_figures_of_the_fit(command: Command, run: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(run, again)
    before = json.loads((run / "evaluation.json").read_text())
    (again / "evaluation.json").unlink()
    (again / "posterior.nc").unlink()
    said = command("evaluate", f"run={again}")
    assert said.status == 0, said.out
    assert json.loads((again / "evaluation.json").read_text()) == before
    assert (again / "posterior.nc").is_file()
    for name in ("fidelity/kl_per_token", "use/mutual_information", "meaning/alignment", "skill/accuracy"):
        assert re.search(rf"{name} +-?\d+\.\d+ +± \d", said.out), name
    command("evaluate", f"run={again}", "seed=5", "limit=6")
    assert json.loads((again / "evaluation.json").read_text()) != before


def outputs(said: Said) -> list[tuple[str, float, str]]:
    """The value of z, its probability and the text of each line."""
    assert said.status == 0, said.out
    found = [re.fullmatch(r"z=(.*?)  p\(z\|x\)=([\d.]+)  (.*)", line) for line in said.out.splitlines()]
    assert all(found), said.out
    return [(match[1], float(match[2]), match[3]) for match in found if match]


def test_generating_under_a_strategy(command: Command, run: Path) -> None:
    words = ["generate", f"run={run}", f"prompt={PROMPT}", "max_new_tokens=8"]
    chosen = outputs(command(*words, "z=2", "n=3"))
    assert [z for z, _, _ in chosen] == ["2"] * 3
    every = outputs(command(*words, "z=all"))
    assert [z for z, _, _ in every] == ["0", "1", "2"]
    assert sum(p for _, p, _ in every) == pytest.approx(1, abs=2e-3)
    assert [p for z, p, _ in every if z == "2"] == [p for _, p, _ in chosen[:1]]
    drawn = outputs(command(*words, "n=40"))
    assert {z for z, _, _ in drawn} == {"0", "1", "2"}
    assert outputs(command(*words, "n=40")) == drawn
    assert outputs(command(*words, "n=40", "seed=1")) != drawn
    by_name = outputs(command(*words, "z={z: 1}", "temperature=0.7", "top_p=0.9"))
    assert [z for z, _, _ in by_name] == ["1"]


def test_generating_greedily_and_without_the_strategy(command: Command, run: Path) -> None:
    model, greedy = LatentLM.from_pretrained(run), {"temperature": 0, "max_new_tokens": 8}
    found = {
        p: {g.text for g in model.generate(p, "all", **greedy)} for p in Sorting().prompts(30, "test", 0)
    }
    prompt = next(p for p, texts in found.items() if len(texts) > 1)
    words = [
        "generate",
        f"run={run}",
        f"prompt={prompt}",
        *(f"{k}={v}" for k, v in greedy.items()),
        "z=all",
        "n=2",
    ]
    texts = [text for _, _, text in outputs(command(*words))]
    assert texts[::2] == texts[1::2]
    assert set(texts) == found[prompt]
    assert len({text for _, _, text in outputs(command(*words, "strength=0"))}) == 1


@pytest.mark.parametrize(
    "prompt", ["sort 1, 2 :", "it's", "{a} = (b)", "back\\slash\\", '"Hello," she said', "[1, 2", "1", "yes"]
)
def test_a_prompt_is_read_word_for_word(
    prompt: str, command: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Sequence[str]] = []
    monkeypatch.setattr(
        generate_command, "generate", lambda _, prompts, *__, **___: heard.append(prompts) or []
    )
    said = command("generate", f"run={run}", f"prompt={prompt}")
    assert (said.status, said.out) == (0, "")
    assert heard == [[prompt]]


def test_generating_from_a_continuous_latent(command: Command, continuous: Path) -> None:
    words = ["generate", f"run={continuous}", f"prompt={PROMPT}", "max_new_tokens=4"]
    assert outputs(command(*words, "z=[0.5,-1]"))[0][0] == "[0.5, -1.0]"
    assert len({z for z, _, _ in outputs(command(*words, "n=4"))}) == 4
    refused = command(*words, "z=all")
    assert (refused.status, len(refused.lines)) == (1, 1)
    assert "latent z cannot be enumerated" in refused.out


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_inferring_writes_beside_the_columns(suffix: str, command: Command, run: Path, pairs: Path) -> None:
    path = pairs.with_suffix(suffix)
    rows = [row.columns for row in read_rows(pairs)]
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == ".tsv":
        path.write_text(pairs.read_text().replace(",", "\t"))
    said = command("infer", f"run={run}", f"path={path}", "batch_size=2")
    assert said.status == 0, said.out
    out = path.with_name(f"pairs.inferred{suffix}")
    assert said.lines == [f"wrote 5 rows to {out}"]
    found = [row.columns for row in read_rows(out)]
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    for row in found:
        laws = {kind: [float(row[f"{kind}_{k}"]) for k in range(3)] for kind in ("router", "q", "posterior")}
        assert all(sum(p) == pytest.approx(1, abs=1e-5) for p in laws.values())
        assert int(row["z"]) == max(range(3), key=laws["posterior"].__getitem__)
        assert float(row["log_p"]) < 0
        assert float(row["log_p_base"]) < 0
    assert len({row["posterior_0"] for row in found}) == 5
    elsewhere = path.with_name("elsewhere.jsonl")
    assert command("infer", f"run={run}", f"path={path}", f"out={elsewhere}").status == 0
    numbers = [json.loads(line) for line in elsewhere.read_text().splitlines()]
    assert [float(row["log_p"]) for row in found] == pytest.approx([n["log_p"] for n in numbers], abs=2e-4)


def test_prompts_to_infer_from_end_as_those_of_the_run(command: Command, base: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.csv"
    bare.write_text("prompt,response\n" + "".join(f"sort {k} {k + 1},{k}\n" for k in range(1, 6)))
    run, of_the_task = tmp_path / "run", ("data.num_t", "data.responses_per_prompt")
    words = tiny_fit(
        base, run, *THREE, "data=pairs", f"path={bare}", "data.separator= :", "data.test_share=0.5"
    )
    said = command(*(word for word in words if not word.startswith(of_the_task)))
    assert said.status == 0, said.out
    found = []
    for more in ([], ["data.separator= :"], ["data.separator="]):
        assert command("infer", f"run={run}", f"path={bare}", *more).status == 0
        found.append([row.columns["log_p"] for row in read_rows(bare.with_name("bare.inferred.csv"))])
    assert found[0] == found[1] != found[2]


def test_inferring_a_continuous_latent(command: Command, continuous: Path, pairs: Path) -> None:
    said = command("infer", f"run={continuous}", f"path={pairs}")
    assert said.status == 0, said.out
    found = [row.columns for row in read_rows(pairs.with_name("pairs.inferred.csv"))]
    for law in ("router_z", "q_z"):
        for d in range(2):
            assert all(math.isfinite(float(row[f"{law}_mean_{d}"])) for row in found)
            assert all(float(row[f"{law}_sd_{d}"]) > 0 for row in found)
    assert "posterior_0" not in found[0]


def test_texts_without_a_prompt_from_fit_to_probe(command: Command, base: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"{i % 10} {i // 10} ; 4 5\n" for i in range(40)))
    folder = tmp_path / "texts"
    more = [
        "data=text",
        f"path={texts}",
        "inference=elbo_pathwise",
        "latent@latents.z=normal",
        "latents.z.D=2",
    ]
    words = [word for word in tiny_fit(base, folder) if not word.startswith(("data.num", "data.resp"))]
    assert command(*words, *more).status == 0
    said = command("generate", f"run={folder}", "prompt=", "n=2", "max_new_tokens=4")
    assert (said.status, len(said.lines)) == (0, 2), said.out
    said = command("infer", f"run={folder}", "data=text", f"path={texts}")
    out = texts.with_suffix(".inferred.csv")
    assert said.lines == [f"wrote 40 rows to {out}"]
    assert len({row.columns["q_z_mean_0"] for row in read_rows(out, "text", None)}) > 30
    said = command("probe", f"run={folder}", "probe=neighbours", "probe.number=2")
    assert said.status == 0, said.out


def test_a_base_is_trained_and_then_fitted(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    sizes = ["size.hidden=16", "size.layers=1", "size.heads=2", "context=48", "rows=2", "test_size=4"]
    words = ["pretrain", "task=sorting", f"run={folder}", "steps=3", "eval_every=2", "device=cpu", *sizes]
    said = command(*words)
    assert said.status == 0, said.out
    assert re.search(r"held-out loss \d+\.\d+, floor \d+\.\d+ nats a sequence", said.out)
    lm, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert lm(**tokenizer(PROMPT, return_tensors="pt", return_token_type_ids=False)).logits.isfinite().all()
    assert "| task | held-out loss | entropy of the mixture |" in (folder / "README.md").read_text()
    assert "Made by `stratagem pretrain task=sorting steps=3 " in (folder / "README.md").read_text()
    refused = command(*words)
    assert refused.status == 1
    assert "there is a model in this folder; pass another run=" in refused.out
    longer = command(
        *words[:2], f"run={tmp_path / 'longer'}", f"lm={folder}", *words[3:6], "rows=2", "test_size=4"
    )
    assert longer.status == 0, longer.out
    assert f"trained from `{folder}` on, on" in (tmp_path / "longer/README.md").read_text()
    near = command(
        *words[:2],
        f"run={tmp_path / 'near'}",
        f"lm={folder}",
        "average=0.999",
        *words[3:6],
        "rows=2",
        "test_size=4",
    )
    assert near.status == 0, near.out
    first, other, mean = (
        AutoModelForCausalLM.from_pretrained(path).get_input_embeddings().weight
        for path in (folder, tmp_path / "longer", tmp_path / "near")
    )
    torch.testing.assert_close(mean, 0.999 * first + 0.001 * other)
    foreign = command("pretrain", "task=grid", f"run={tmp_path / 'grid'}", f"lm={folder}")
    assert foreign.status == 1
    assert "its tokenizer does not know the symbols path # U R D L of task grid; leave lm out" in foreign.out
    assert command(*tiny_fit(folder, tmp_path / "run")).status == 0


def test_a_sweep_fits_each_choice_in_a_folder_of_its_own(
    command: Command, base: Path, tmp_path: Path
) -> None:
    small = ["inference=elbo", "fit.steps=2", "fit.start_cost=0", "data.num_test=4"]
    sweep = ["--multirun", "seed=0,1", "fit.mixed_precision=no,bf16", *small]
    said = command(*tiny_fit(base, tmp_path / "runs", *sweep))
    assert said.status == 0, said.out
    paths = list((tmp_path / "runs").rglob("config.yaml"))
    configs = [OmegaConf.load(path) for path in paths]
    assert sorted((c.seed, c.fit.mixed_precision) for c in configs) == [
        (seed, precision) for seed in (0, 1) for precision in ("bf16", "no")
    ]
    ends = sorted((tmp_path / "runs").rglob("evaluation.json"))
    assert len(ends) == 4
    shutil.rmtree(ends[0].parent)
    before = ends[1].with_name("metrics.jsonl").read_bytes()
    said = command(*tiny_fit(base, tmp_path / "runs", *sweep, "resume=true"))
    assert said.status == 0, said.out
    assert sorted((tmp_path / "runs").rglob("evaluation.json")) == ends, "those that had not begun are begun"
    assert ends[1].with_name("metrics.jsonl").read_bytes() == before, "those that had ended are as they were"
    outputs(command("generate", f"run={paths[0].parent}", f"prompt={PROMPT}", "max_new_tokens=2"))


def test_a_job_of_a_sweep_that_is_refused_leaves_the_others(
    command: Command, base: Path, tmp_path: Path
) -> None:
    sweep = [
        "--multirun",
        "inference=elbo_pathwise,elbo",
        "fit.steps=2",
        "fit.start_cost=0",
        "data.num_test=4",
    ]
    said = command(*tiny_fit(base, tmp_path / "runs", *sweep))
    assert said.status == 1
    assert "Traceback" not in said.out
    assert re.search(r"job with overrides: \[.*'inference=elbo_pathwise'.*\n.*differentiable", said.out)
    (fitted,) = (tmp_path / "runs").rglob("evaluation.json")
    assert OmegaConf.load(fitted.with_name("config.yaml")).choices.inference == "elbo"


OWN_MODULE = '''
import pyro
import pyro.distributions as dist
import torch
from torch import nn
from stratagem.inference.objectives import MarginalLikelihood
from stratagem.models import Categorical, KeyValuePrefix, LanguageModel, encode_prompt


class Halved(MarginalLikelihood):
    def bound(self, log):
        return 0.5 * super().bound(log)


class Plan(nn.Module):
    """z1 -> z2 -> y"""

    def __init__(self, backbone, sizes):
        super().__init__()
        self.backbone, (first, second) = backbone, sizes
        self.plan = nn.Parameter(torch.zeros(first))
        self.step = nn.Parameter(torch.zeros(first, second))
        self.entry = KeyValuePrefix(backbone, Categorical(first * second), length=1)
        self.second = second

    def forward(self, batch):
        prompt = encode_prompt(self.backbone, "decoder", batch.prompt, batch.prompt_mask)
        with pyro.plate("data", len(batch), dim=-1):
            z1 = pyro.sample("z1", dist.Categorical(logits=self.plan))
            z2 = pyro.sample("z2", dist.Categorical(logits=self.step[z1]))
            memory = self.entry(z1 * self.second + z2)
            law = LanguageModel(self.backbone, prompt, memory, batch.max_length, batch.response_mask)
            return pyro.sample("y", law, obs=batch.response)


class PlanGuide(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.plan = nn.Parameter(torch.zeros_like(model.plan))
        self.step = nn.Parameter(torch.zeros_like(model.step))

    def forward(self, batch):
        with pyro.plate("data", len(batch), dim=-1):
            z1 = pyro.sample("z1", dist.Categorical(logits=self.plan))
            pyro.sample("z2", dist.Categorical(logits=self.step[z1]))
'''

OWN_CONFIGS = {
    "model/plan": "_target_: own_programs.Plan\nsizes: [2, 3]\n",
    "guide/plan": "_target_: own_programs.PlanGuide\n",
    "inference/halved": """
_target_: stratagem.inference.inference.Inference
objective: {_target_: own_programs.Halved}
expectation: {_target_: stratagem.inference.expectations.Enumerate}
gradient: {_target_: stratagem.inference.gradients.Exact}
terms: {guide: {_target_: stratagem.inference.terms.ForwardKL}}
""",
}


def test_programs_and_configs_of_ones_own(
    command: Command, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model, a guide and an inference from a module on the path and YAMLs in a folder, nothing else edited."""
    (tmp_path / "own_programs.py").write_text(OWN_MODULE)
    for name, text in OWN_CONFIGS.items():
        path = tmp_path / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    own = ["model=plan", "guide=plan", "inference=halved", "--config-dir", str(tmp_path / "configs")]
    monkeypatch.syspath_prepend(tmp_path)
    said = command(*tiny_fit(base, tmp_path / "run", *own))
    assert said.status == 0, said.out
    tests = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if line["split"] == "test"]
    assert tests[-1]["bound"] > tests[0]["bound"]
    assert {name for name in tests[0] if name.startswith("usage/")} == {f"usage/{k}" for k in range(6)}
    with pytest.raises(ValueError, match=r"own_programs\.Plan.*trust_remote_code=true"):
        load_pretrained(tmp_path / "run")
    model, guide = load_pretrained(tmp_path / "run", trust_remote_code=True)
    sys.modules.pop("own_programs")
    assert type(model).__name__ == "Plan"
    assert guide.plan.abs().max() > 0


def test_the_help_lists_commands_and_groups() -> None:
    with stratagem_process(["--help"]) as process:
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert all(re.search(rf"^  {name} ", said, re.MULTILINE) for name in COMMANDS)
    with stratagem_process(["bake"]) as process:
        said = process.communicate(timeout=60)[0]
    assert process.returncode == 2
    assert said.startswith("stratagem: no command 'bake'")
    assert "Traceback" not in said


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_lists_its_settings_and_groups(name: str, command: Command) -> None:
    said = command(name, "--help")
    assert said.status == 0
    groups = {
        "fit": ["conditioning", "data", "guide", "inference", "latent", "role", "router", "template"],
        "infer": ["data"],
        "pretrain": ["size", "task"],
    }
    for group in groups.get(name, []):
        assert re.search(rf"^{group}: \w", said.out, re.MULTILINE), group
    assert "marginal" in said.out or name != "fit"


def test_the_python_side_reads_a_run(run: Path) -> None:
    model = LatentLM.from_pretrained(run)
    torch.manual_seed(0)
    found = model.generate([PROMPT, "sort 1 2 3 4 5 :"], "all", n=2, max_new_tokens=4)
    assert [(g.prompt, g.z["z"]) for g in found] == [
        (prompt, k) for prompt in (PROMPT, "sort 1 2 3 4 5 :") for k in range(3) for _ in range(2)
    ]
    assert set(" ".join(g.text for g in found).split()) <= set(Sorting().vocabulary)


def interrupted(process: subprocess.Popen[str]) -> str:
    """What the process says when it is sent Ctrl-C, again after 20 seconds where the first was lost in a callback."""
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        try:
            return process.communicate(timeout=20)[0]
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError("the process goes on after four interrupts")


@pytest.mark.usefixtures("_on_a_terminal")
def test_a_fit_in_the_middle_of_reading_can_be_stopped(tmp_path: Path) -> None:
    """Ctrl-C before there is anything to save: no traceback, status 130, and the folder can be used again."""
    words = ["fit", f"run={tmp_path / 'run'}", "device=cpu", "data.num_train=20000", "fit.progress=false"]
    with stratagem_process(words) as process:
        log = tmp_path / "run" / "config.yaml"
        while not log.is_file():
            assert process.poll() is None
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        said = interrupted(process)
    assert process.returncode == 130, said
    assert "Traceback" not in said
