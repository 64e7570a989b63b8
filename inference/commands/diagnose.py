"""``stratagem diagnose``: what is wrong with a run, in words, numbers and pictures."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tqdm import tqdm

from ...models.pretrained import write_atomic
from ...tasks import read_rows
from ..data import Data, FileData
from ..diagnosis import Diagnosis, Finding, Subject, diagnose, findings, headline, on_same_data, subject
from ..diagnosis.diagnostics import DIAGNOSTICS
from ..diagnosis.report import write_report
from ..fit import METRICS
from ..inference_data import POSTERIOR, Texts, merge, to_inference_data, write_inference_data
from ..labels import labels_of
from ..metrics import read_metrics
from ..probes import Space, labels_named, space_on
from ..run_folder import CONFIG_FILE
from .load import load_for_figures, load_program
from .probing import answers, probes_named

log = logging.getLogger(__name__)

FILE = "diagnostics.json"


def run(config: DictConfig) -> None:
    """Print the findings, and write ``diagnostics.json``, ``posterior.nc``, ``report.html`` and ``figures/``."""
    probes = probes_named(config.probes)
    model, guide, data, seed = load_for_figures(config)
    folder = Path(config.run)
    paraphrases = {} if config.paraphrases is None else read_paraphrases(config.paraphrases, data)
    beside = [config.runs] if isinstance(config.runs, str) else list(config.runs)
    folders = [Path(path).resolve() for path in (config.run, *beside)]
    if twice := [str(path) for path in beside if folders.count(Path(path).resolve()) > 1]:
        raise ValueError(
            f"runs: {', '.join(twice)} is there twice, run={config.run} included; give each run once"
        )
    with _progress(len(DIAGNOSTICS) + len(beside) + len(probes) + 3, config.progress) as begins:
        begins("posteriors")
        about = subject(
            model, guide, data, seed, folder / "data", config.batch_size, config.limit, paraphrases
        )
        named = labels_of(about.data, data, config.labels)
        if paraphrases:
            check_paraphrases(config.paraphrases, paraphrases, about.data.prompts)
        others = []
        for path in beside:
            begins(path)
            others.append(load_beside(about, config, path))
        found = diagnose(
            about, course=read_metrics(folder / METRICS), labels=named, others=others, begins=begins
        )
        wrong = findings(found)
        first = headline(wrong)
        answered = []
        if probes:
            space = space_of_subject(about, data, config.labels)
            answered = answers(probes, space, seed, model.backbone.device, begins)
        for answer in answered:
            found = replace(found, figures={**found.figures, **answer.figures})
        write_atomic(folder / FILE, as_json(found, wrong, first).encode())
        begins(POSTERIOR)
        write_posterior(folder, found, {config.run: about, **dict(zip(beside, others, strict=True))})
        begins("report")
        page = write_report(folder, found, wrong, first, answers=answered)
    log.info("%s", first)
    for place, finding in enumerate(wrong):
        seen = "" if place == 0 else f"\n{finding.name}: {finding.seen}\n"  # the headline has the first
        log.info("%s  %s\n  %s", seen, finding.why, finding.change)
    for answer in answered:
        if answer.refusal is not None:
            log.info("\nno answer of %s: %s", answer.name, answer.refusal)
    log.info("\nwritten to %s", page)


@contextmanager
def _progress(steps: int, asked: bool) -> Iterator[Callable[[str], None]]:
    """A bar where the output is a terminal; what it yields is told the name of a step when it begins."""
    with tqdm(total=steps, disable=None if asked else True, desc="diagnose") as bar:
        done = -1

        def begins(name: str) -> None:
            nonlocal done
            done += 1
            bar.update(done - bar.n)
            bar.set_postfix_str(name)

        yield begins
        bar.update(steps - bar.n)


def space_of_subject(about: Subject, data: Data, label: str | None) -> Space:
    """The texts of a subject as points, with the labels of a task, or that of a file."""
    labels = labels_named(about.data, data, [] if label is None or data.task is not None else [label])
    return space_on(about.model, about.guide, about.data, data, about.seen, labels, about.batch_size)


def write_posterior(folder: Path, diagnosis: Diagnosis, subjects: Mapping[str, Subject]) -> None:
    """``posterior.nc``: everything that model and guide say, with as many chains as there are runs."""
    parts = {}
    for path, one in subjects.items():
        settings = Path(path) / CONFIG_FILE
        parts[path] = to_inference_data(
            one.model,
            one.guide,
            one.data.batches(one.batch_size),
            seen=one.seen,
            texts=Texts(one.data.prompts, one.data.responses, diagnosis.labels or None),
            predictive=1,
            max_new_tokens=one.max_new_tokens,
            per_datum=diagnosis.per_datum if one is diagnosis.subject else None,
            attributes={"config": settings.read_text()} if settings.is_file() else None,
            seed=one.seed,
        )
    write_inference_data(folder / POSTERIOR, merge(parts) if len(parts) > 1 else next(iter(parts.values())))


def read_paraphrases(path: str, data: Data) -> dict[str, str]:
    """The same in other words by prompt, both as the data of the run have them.

    Raises:
        ValueError: a file without the columns ``prompt`` and ``paraphrase``.
    """
    ending = data.separator if isinstance(data, FileData) else ""
    try:
        rows = read_rows(path, "prompt", "paraphrase")
    except ValueError as error:
        what = str(error).partition(". Set ")[0]
        raise ValueError(f"paraphrases: {what}; expected the columns prompt and paraphrase") from None
    return {row.prompt + ending: row.response + ending for row in rows if row.response}


def check_paraphrases(path: str, paraphrases: Mapping[str, str], prompts: Sequence[str]) -> None:
    """Refuse paraphrases of other prompts alone.

    Raises:
        ValueError: none of them is of a prompt of the data.
    """
    if not paraphrases.keys() & set(prompts):
        raise ValueError(
            f"paraphrases={path}: none of its {len(paraphrases)} prompts is a held-out prompt of the run, such as "
            f"{prompts[0]!r}; give the column prompt the prompts as they are there"
        )


def load_beside(first: Subject, config: DictConfig, path: str) -> Subject:
    """Another run on the data of the first.

    Raises:
        ValueError: a run on another base.
    """
    other = DictConfig({**config, "run": path})
    model, guide = load_program(other)
    base = first.model.backbone
    if model.backbone.fingerprint != base.fingerprint:
        raise ValueError(
            f"runs: {path} is on the base {model.backbone.name} (digest {model.backbone.fingerprint}), {config.run} on "
            f"{base.name} (digest {base.fingerprint}); runs are compared on one base"
        )
    return on_same_data(first, model, guide)


def as_json(diagnosis: Diagnosis, wrong: Sequence[Finding], first: str) -> str:
    """Headline, findings, figures and curves; what is not finite is null, as JSON has it."""
    about = {
        "headline": first,
        "findings": [asdict(finding) for finding in wrong],
        "figures": {name: plain(value) for name, value in diagnosis.figures.items()},
        "curves": {name: plain(values.tolist()) for name, values in diagnosis.curves.items()},
    }
    return json.dumps(about, indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """Numbers and nested lists of them, null for what is not finite."""
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None
