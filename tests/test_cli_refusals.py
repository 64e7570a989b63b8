"""The command line: one plain line for each wrong use of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from stratagem.inference.commands import main
from stratagem.inference.locking import alone_in
from transformers import BertConfig, BertModel

from .fit_fixtures import PROMPT, THREE, Command, own_logging, save_tiny_base, tiny_fit


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    with own_logging():
        main(tiny_fit(base, folder, *THREE))
    return folder


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def encoder(folder: Path) -> Path:
    """An encoder, which is no causal LM."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=10, **sizes)).save_pretrained(folder)
    return folder


BAD_FITS: dict[str, tuple[Callable[[Path], Sequence[str]], str]] = {
    "one strategy": (lambda _: ["latents.z.K=1"], r"latent categorical: K must be at least 2, got 1"),
    "no file given": (lambda _: ["data=pairs"], "no file given; pass path=FILE"),
    "missing file": (
        lambda d: ["data=pairs", f"path={d / 'no.csv'}"],
        r"no\.csv: cannot be read .*expected a file",
    ),
    "empty file": (
        lambda d: ["data=pairs", f"path={write(d / 'e.csv', '')}"],
        r"e\.csv: the file has no rows",
    ),
    "header alone": (
        lambda d: ["data=pairs", f"path={write(d / 'h.csv', 'prompt,response')}"],
        r"h\.csv: the file has no rows",
    ),
    "missing column": (
        lambda d: ["data=pairs", f"path={write(d / 'c.csv', 'prompt,answer' + chr(10) + 'a,b')}"],
        r"c\.csv, line 2: no column response; there are prompt, answer",
    ),
    "empty prompt": (
        lambda d: ["data=pairs", f"path={write(d / 'p.csv', 'prompt,response' + chr(10) + ' ,b')}"],
        r"p\.csv, line 2: the prompt \(column prompt\) is blank",
    ),
    "empty response": (
        lambda d: ["data=pairs", f"path={write(d / 'r.csv', 'prompt,response' + chr(10) + 'a,')}"],
        r"r\.csv, line 2: the response \(column response\) is empty",
    ),
    "one prompt": (
        lambda d: ["data=pairs", f"path={write(d / 'o.csv', 'prompt,response' + chr(10) + '1,2')}"],
        r"o\.csv: a fit needs at least 2 distinct prompts",
    ),
    "too long": (
        lambda d: ["data=self", f"path={write(d / 'l.txt', '1 ' * 60 + chr(10) + '2')}"],
        r"prompt '1 1 .*context of 48 tokens .*data\.truncate=true",
    ),
    "an encoder": (lambda d: [f"lm={encoder(d / 'bert')}"], r"lm=.*bert: BertModel is no causal LM"),
    "no model": (lambda d: [f"lm={d}"], r"lm=.*the folder has no config\.json"),
    "no such bundled model": (
        lambda _: ["lm=bundled:nope"],
        "no such bundled model; there are bundled:strategies",
    ),
    "latent and inference": (
        lambda _: ["latent@latents.z=normal"],
        r"Enumerate needs .*inference=elbo_pathwise",
    ),
    "steps": (lambda _: ["fit.steps=0"], r"fit\.steps must be at least 1, got 0"),
    "words for numbers": (lambda _: ["fit.steps=many"], r"fit\.steps.*many"),
    "rate": (lambda _: ["optim.lr.router=-1"], r"router=-1"),
    "one rate": (lambda _: ["optim.lr=0.01"], r"optim\.lr: Cannot assign float to Dict"),
    "device": (lambda _: ["device=gpu"], "device=gpu: .*; expected auto, cpu, or a GPU of this machine"),
    "seed": (lambda _: ["seed=null"], "seed=None: expected a whole number"),
    "a file that nothing reads": (
        lambda d: [f"path={write(d / 'prompts.txt', 'a')}"],
        r"path=.*prompts\.txt: TaskData reads no file; pass data=pairs, data=self or data=text",
    ),
    "nothing to resume": (lambda _: ["resume=true"], "no run there; expected"),
}


@pytest.mark.parametrize("case", sorted(BAD_FITS))
def test_a_bad_fit_gets_one_line_and_leaves_no_run(
    case: str, command: Command, base: Path, tmp_path: Path
) -> None:
    make, named = BAD_FITS[case]
    folder = tmp_path / "run"
    more = list(make(tmp_path))
    words = [
        word for word in tiny_fit(base, folder) if "data." not in word or not any("data=" in m for m in more)
    ]
    said = command(*words, *more)
    assert said.status == 1
    assert len(said.lines) == 1, said.out
    assert re.search(named, said.lines[0]), said.out
    assert not (folder / "state.safetensors").exists()


BAD_GENERATIONS = {
    "out of range": (["z=3"], r"z must be in 0\.\.2, got \[3\]"),
    "negative": (["z=-1"], r"z must be in 0\.\.2, got \[-1\]"),
    "a word": (["z=abc"], "z=abc: expected a number"),
    "a fraction": (["z=1.5"], r"z must be in 0\.\.2, got \[1\.5\]"),
    "two values": (["z=[0,1]"], r"z=\[0, 1\]: expected a number for latent z"),
    "another name": (["z={w: 1}"], "z: expected values for z, got w"),
    "below zero": (["temperature=-1"], "temperature must be finite and not negative, got -1"),
    "no mass": (["top_p=0"], "top_p must be above 0 and at most 1, got 0"),
    "too much mass": (["top_p=1.5"], r"top_p must be above 0 and at most 1, got 1\.5"),
    "none": (["n=0"], "n and max_new_tokens must be at least 1, got 0 and 4"),
    "no room": (["max_new_tokens=100"], "8 prompt tokens and 100 response tokens exceed the context of 48"),
    "blank prompt": (["prompt=' '"], "empty prompt"),
    "no prompt": (["prompt=null"], "no prompt given"),
    "no run": (["run=null"], "no run given"),
    "nowhere": (
        ["run=nowhere"],
        r"run=nowhere: no saved latent model there; expected nowhere/model/config\.json",
    ),
    "strength": (["strength=-1"], "strength must be finite and not negative, got -1"),
    "seed": (["seed=1.5"], "seed=1.5: expected a whole number"),
    "a run's name that is a number": (["run=1e3"], "run=1e3: no saved latent model there"),
}


@pytest.mark.parametrize("case", sorted(BAD_GENERATIONS))
def test_a_bad_generation_gets_one_line(case: str, command: Command, run: Path) -> None:
    more, named = BAD_GENERATIONS[case]
    keys = {word.split("=")[0] for word in more}
    words = [f"run={run}", f"prompt={PROMPT}", "max_new_tokens=4"]
    said = command("generate", *(word for word in words if word.split("=")[0] not in keys), *more)
    assert said.status == 1
    assert len(said.lines) == 1, said.out
    assert re.search(named, said.lines[0]), said.out


def test_a_run_that_is_there_is_not_overwritten(command: Command, run: Path, base: Path) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "log.txt"}
    log = (run / "log.txt").read_text()
    said = command(*tiny_fit(base, run, *THREE))
    assert said.status == 1
    assert len(said.lines) == 1
    assert re.search(r"there is a run in this folder; pass resume=true to go on with it", said.out)
    other = command(*tiny_fit(base, run, *THREE, "resume=true", "seed=7"))
    assert other.status == 1
    assert re.search(r"resume=true: seed is 7, but .* was started with 0", other.out)
    assert {path: path.read_bytes() for path in before} == before
    assert (run / "log.txt").read_text().startswith(log)


def test_two_processes_do_not_share_a_folder(command: Command, base: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for words in (tiny_fit(base, tmp_path / "run"), ["pretrain", f"run={tmp_path / 'run'}", "steps=1"]):
        with alone_in(tmp_path / "run"):
            said = command(*words)
        assert said.status == 1
        assert re.search(r"run=.*run: another process is at work in this folder", said.out)
    assert command(*tiny_fit(base, tmp_path / "run")).status == 0


def test_a_base_that_is_another_is_refused_naming_both(
    command: Command, run: Path, tmp_path: Path, base: Path
) -> None:
    other = save_tiny_base(tmp_path / "other", seed=1)
    for words in (["generate", f"prompt={PROMPT}"], ["evaluate"]):
        said = command(*words, f"run={run}", f"lm={other}")
        assert said.status == 1
        assert len(said.lines) == 1
        assert f"trained on the base {base}" in said.out
        assert f"but {other} is another" in said.out


def test_a_fit_does_not_go_on_with_another_base(command: Command, base: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(base, mine)
    assert command(*tiny_fit(mine, tmp_path / "run", *THREE)).status == 0
    about = (tmp_path / "run" / "model" / "config.json").read_bytes()
    shutil.rmtree(mine)
    save_tiny_base(mine, seed=1)
    said = command(*tiny_fit(mine, tmp_path / "run", *THREE, "resume=true"))
    assert said.status == 1
    assert re.search(
        r"resume=true: .* was started on the base .*mine \(digest \w+\), but .*mine is another", said.out
    )
    assert (tmp_path / "run" / "model" / "config.json").read_bytes() == about


@pytest.mark.parametrize("name", ["evaluate", "infer"])
def test_a_run_that_is_not_there_is_named(name: str, command: Command, tmp_path: Path) -> None:
    more = (
        [f"path={write(tmp_path / 'pairs.csv', 'prompt,response' + chr(10) + 'a,b')}"]
        if name == "infer"
        else []
    )
    said = command(name, f"run={tmp_path / 'none'}", *more)
    assert said.status == 1
    assert len(said.lines) == 1
    assert re.search(r"run=.*none: no saved latent model there", said.out)


@pytest.mark.parametrize(
    ("text", "named", "out"),
    [
        ("a\nb\n", "infer reads responses from a file; pass data=pairs path=FILE", ""),
        (
            "prompt,response\nsort 1 :,1 ; 2\nsort 2 :," + "1 " * 60,
            r"row 2, prompt 'sort 2 :': .* context of 48",
            "",
        ),
        (
            "prompt,response,z\nsort 1 :,1 ; 2,mine",
            "p.csv: infer writes columns of the names z, which the file has; rename them",
            "",
        ),
        ("prompt,response\na,b", r"found\.xlsx: expected a file in \.jsonl, \.csv, \.tsv", "found.xlsx"),
        ("prompt,response\na,b", r"found\.csv: there is no folder .*nowhere; make it", "nowhere/found.csv"),
    ],
    ids=["no responses", "too long", "taken", "another suffix", "no folder"],
)
def test_a_bad_file_to_infer_from_gets_one_line(
    text: str, named: str, out: str, command: Command, run: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / ("p.csv" if "," in text else "p.txt"), text)
    said = command("infer", f"run={run}", f"path={path}", *([f"out={tmp_path / out}"] if out else []))
    assert said.status == 1
    assert len(said.lines) == 1, said.out
    assert re.search(named, said.out), said.out
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["fit", "fit.stepz=3"], "stepz"),
        (["fit", "inference=nowhere"], r"nowhere[\s\S]*marginal"),
        (["generate", "promt=a"], "promt"),
    ],
)
def test_unknown_keys_and_groups_are_named(
    words: list[str], named: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = command(*words)
    assert said.status == 1
    assert re.search(named, said.out)
    assert "Traceback" not in said.out
    assert list(tmp_path.iterdir()) == []
