"""``stratagem diagnose``: its files, several runs, names, paraphrases, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from stratagem.inference.commands import main
from stratagem.inference.inference_data import read_inference_data
from stratagem.tasks import Sorting

from .fit_fixtures import CONTEXT, Command, own_logging, save_tiny_base, tiny_fit


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def two(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two runs that differ in their first weights."""
    folder = tmp_path_factory.mktemp("runs")
    runs = folder / "first", folder / "second"
    with own_logging():
        for draw, run in enumerate(runs):
            main(tiny_fit(base, run, f"fit.draw={draw}"))
    return runs


def test_two_runs_are_two_chains_of_one_file(two: tuple[Path, Path], command: Command) -> None:
    said = command("diagnose", f"run={two[0]}", f"runs=[{two[1]}]", "device=cpu")
    assert said.status == 0, said.out
    found = json.loads((two[0] / "diagnostics.json").read_text())
    assert said.lines[0] == found["headline"]
    assert -0.5 < found["figures"]["stability/runs"] <= 1
    evaluated = json.loads((two[0] / "evaluation.json").read_text())
    assert found["figures"]["fidelity/kl_per_token"] == pytest.approx(evaluated["fidelity/kl_per_token"])
    assert found["figures"]["use/verdict"] == evaluated["use/verdict"]
    page = (two[0] / "report.html").read_text()
    assert all(finding["name"] in page for finding in found["findings"])
    data = read_inference_data(two[0] / "posterior.nc")
    assert data["posterior"].sizes["chain"] == 2
    assert data["posterior"].sizes["datum"] == data["observed_data"].sizes["datum"]


def test_names_and_paraphrases_come_from_files_and_probes_by_name(
    base: Path, tmp_path: Path, command: Command
) -> None:
    task, pairs = Sorting(), tmp_path / "pairs.csv"
    prompts = task.prompts(40, "train", 0)
    rows = [
        f"{p},{task.trace(p, 'merge', ';')},{'large' if p.split()[1] > '4' else 'small'}" for p in prompts
    ]
    pairs.write_text("prompt,response,size\n" + "".join(f"{row}\n" for row in rows))
    other = tmp_path / "paraphrases.csv"
    other.write_text(
        "prompt,paraphrase\n" + "".join(f"{p},{q}\n" for p, q in zip(prompts, prompts[::-1], strict=True))
    )
    of_the_task = ("data.num_t", "data.responses_per_prompt")
    run = tmp_path / "run"
    every = tiny_fit(base, run, "data=pairs", f"path={pairs}", "data.test_share=0.5")
    assert command(*(word for word in every if not word.startswith(of_the_task))).status == 0
    words = ("diagnose", f"run={run}", "device=cpu")
    own = tmp_path / "own" / "probe" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: stratagem.inference.probes.Neighbours\nnumber: 1\nshown: 12\n")
    said = command(*words, "probes=[readable,huge]")
    assert (said.status, len(said.lines)) == (1, 1), said.out
    assert re.search("probes: no probe huge; there are analogy, .*, traversal", said.out)
    asked = "probes=[readable,disentangled,mine,interpolation,search]"
    said = command(*words, "labels=size", f"paraphrases={other}", asked, f"--config-dir={own.parents[1]}")
    assert said.status == 0, said.out
    figures = json.loads((run / "diagnostics.json").read_text())["figures"]
    check_probes(run, said.out, figures)
    assert 0 <= figures["stability/paraphrase"] <= 1
    label = read_inference_data(run / "posterior.nc")["constant_data"]["label"]
    assert set(label.values.tolist()) <= {"large", "small"}
    with pairs.open("a") as file:
        file.write(rows[0].replace("large", "LARGE").replace("small", "SMALL") + "\n")
    said = command(*words, "labels=size")
    assert said.status == 1
    assert re.search(
        r"labels=size: the file says '(\w+)' and '\w+' of the prompt 'sort .*'; expected the same", said.out
    )
    said = command(*words, "labels=colour")
    assert said.status == 1
    assert (
        "labels=colour: the data of the run have no such names; they have prompt, response, size" in said.out
    )


def check_probes(run: Path, said: str, figures: dict[str, float]) -> None:
    """Figures, section, pictures and refusals of the probes, two of which this run cannot be asked."""
    assert 0 <= figures["probe/readable/size/linear"] <= 1
    assert {"probe/readable/size/linear_se", "probe/disentangled/mig"} <= figures.keys()
    assert 0 <= figures["probe/mine/neighbours/size"] <= 1
    assert not [name for name in figures if name.startswith(("probe/interpolation", "probe/search"))]
    section = (
        (run / "report.html").read_text().partition('<section id="probes">')[2].partition("</section>")[0]
    )
    headings = re.findall("<h3>(.*)</h3>", section)
    assert headings == ["readable", "disentangled", "mine", "interpolation", "search"]
    assert section.count("<svg") == 1
    assert "The first 10 of 12 rows" in section
    assert "expected the import path of a function of prompt and response" in section
    assert section.count("No answer.") == said.count("no answer of") == 2
    pictures = {path.name for path in (run / "figures").glob("probe_*")}
    assert pictures == {"probe_disentangled.png", "probe_disentangled.svg"}


def test_mistakes_get_a_line_with_their_mend(
    two: tuple[Path, Path],
    tmp_path: Path,
    command: Command,
) -> None:
    one, another = two[0], save_tiny_base(tmp_path / "base", seed=1)
    assert command(*tiny_fit(another, tmp_path / "run", "inference=elbo", "fit.steps=2")).status == 0
    said = command("diagnose", f"run={one}", f"runs=[{tmp_path / 'run'}]", "device=cpu")
    assert (said.status, len(said.lines)) == (1, 1)
    assert "runs are compared on one base" in said.out
    unfitted = tmp_path / "unfitted"
    unfitted.mkdir()
    (unfitted / "config.yaml").write_text((one / "config.yaml").read_text())
    columns, foreign = tmp_path / "columns.csv", tmp_path / "foreign.csv"
    columns.write_text("a,b\n1,2\n")
    foreign.write_text("prompt,paraphrase\nof another,run\n")
    run = f"run={one}"
    for words, named in (
        ([], "no run given; pass run=DIR"),
        (["run=nowhere"], "run=nowhere: no saved latent model there; .* pass a folder made by stratagem fit"),
        ([f"run={unfitted}"], "its fit has not ended, go on with it by its command and resume=true"),
        ([run, "runs=nowhere"], "run=nowhere: no saved latent model there"),
        (
            [run, f"runs=[{run.removeprefix('run=')}/.]"],
            "is there twice, run=.* included; give each run once",
        ),
        ([run, "limit=0"], "limit=0: expected a whole number, at least 1"),
        ([run, "batch_size=some"], "batch_size=some: expected a whole number, at least 1"),
        ([run, "labels=colour"], "labels=colour: .*; they have strategy and nuisance"),
        (
            [run, f"paraphrases={columns}"],
            "no column prompt; there are a, b; expected the columns prompt and",
        ),
        (
            [run, f"paraphrases={foreign}"],
            "none of its 1 prompts is a held-out prompt of the run, such as 'sort",
        ),
    ):
        said = command("diagnose", *words, "device=cpu")
        assert (said.status, len(said.lines)) == (1, 1), said.out
        assert re.search(named, said.out), said.out


@pytest.mark.parametrize("cut", [False, True])
def test_prompts_that_leave_less_than_a_response_are_answered_to_the_end_of_the_context(
    cut: bool,
    base: Path,
    tmp_path: Path,
    command: Command,
) -> None:
    pairs, run = tmp_path / "pairs.csv", tmp_path / "run"
    digits = ["7"] * (60 if cut else CONTEXT - 6)
    prompts = [" ".join([*digits, str(a), str(b)]) for a in range(6) for b in range(2)]
    pairs.write_text("prompt,response\n" + "".join(f"{prompt},1 2\n" for prompt in prompts))
    words = tiny_fit(base, run, "data=pairs", f"path={pairs}", "data.test_share=0.5", f"data.truncate={cut}")
    of_the_task = ("data.num_t", "data.responses_per_prompt")
    for each in (
        [word for word in words if not word.startswith(of_the_task)],
        ["evaluate", f"run={run}", "device=cpu"],
        ["diagnose", f"run={run}", "device=cpu"],
    ):
        said = command(*each)
        assert said.status == 0, said.out
    said = command("generate", f"run={run}", f"prompt={prompts[0]}", "device=cpu")
    assert said.status == 1
    assert f"exceed the context of {CONTEXT} tokens" in said.out
