"""The tables of docs/inference.md, from the code and its docstrings: ``python docs/tables.py`` writes them anew.

Each stands between ``<!-- table: NAME -->`` and ``<!-- end -->``. The tests compare them with the code.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf
from stratagem.inference import corruptions, gradients, objectives, schedules, terms
from stratagem.inference.part import Part
from stratagem.models import Categorical, Latent, Normal
from torch import nn

PAGE = Path(__file__).with_name("inference.md")
ALGORITHMS = Path(__file__).parents[1] / "configs" / "inference"
LATENTS: dict[str, Latent] = {"discrete": Categorical(2), "continuous": Normal(1)}

Table = tuple[tuple[str, ...], Iterator[tuple[str, ...]]]


def classes(package: ModuleType) -> list[type]:
    """What a package exports and a config can name."""
    exported = (getattr(package, name) for name in package.__all__)
    return [
        c for c in exported if inspect.isclass(c) and not inspect.isabstract(c) and c.__name__ not in BASES
    ]


BASES = {"Objective", "Gradient", "Term", "Schedule", "Corruption", "Baseline", "GuideTerm"}


def sentences(kind: type) -> list[str]:
    """Of the docstring before its sections, on one line each, with single backticks."""
    text = inspect.cleandoc(kind.__doc__ or "").split("\n\n")
    prose = [p for p in text if not re.match(r"(Args|Raises|Attributes):", p)]
    flat = " ".join(" ".join(p.split()) for p in prose).replace("``", "`")
    flat = re.sub(r":\w+:`~?([^`]+)`", lambda m: "`" + m[1].rsplit(".", 1)[-1] + "`", flat)
    return re.split(r"(?<=[.\]])\s+(?=[A-Z`])", flat)


def summary(kind: type) -> str:
    """The first sentence: formula and source."""
    return sentences(kind)[0].rstrip(".").replace("|", "\\|")


def exactness(kind: type) -> str:
    """The sentences that say whether it is exact, unbiased or biased."""
    said = [s for s in sentences(kind)[1:] if re.search(r"\b(un)?biased\b|\bexact\b", s, re.IGNORECASE)]
    first = summary(kind)
    return " ".join(said).replace("|", "\\|") or ("exact" if re.search(r"\bexact\b", first) else "")


def expectations(part: type[Part]) -> str:
    """The ways of taking E_q that a part is right for."""
    return ", ".join(e.__name__ for e in part.expectations)


def accepted(algorithm: Any) -> str:
    """The latents that an algorithm has, as it says itself."""
    found = []
    for name, latent in LATENTS.items():
        model = nn.Module()
        model.latents = {"z": latent}
        try:
            algorithm.check(model.latents)
            algorithm.bind(model)
        except ValueError as error:
            if "expected a categorical latent" in str(error):
                found.append(f"{name} beside discrete")
            elif "backbone" in str(error):  # of latents it asks nothing
                found.append(name)
            continue
        found.append(name)
    return ", ".join(found)


def algorithms() -> Table:
    """A row for each YAML."""

    def rows() -> Iterator[tuple[str, ...]]:
        for path in sorted(ALGORITHMS.glob("*.yaml")):
            node: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
            about = path.read_text().splitlines()[0].removeprefix("# ").replace("|", "\\|")
            parts = [_short(node[key]) for key in ("objective", "expectation", "gradient") if key in node]
            beside = [_short(n) for key in ("terms", "corruptions") for n in (node.get(key) or {}).values()]
            made = " · ".join(parts) or _short(node)
            yield f"`{path.stem}`", about, made, ", ".join(beside), accepted(instantiate(node))

    return ("`inference=`", "what", "objective · expectation · gradient", "beside it", "latents"), rows()


def _short(node: dict[str, Any]) -> str:
    name = node["_target_"].rpartition(".")[2]
    baseline = node.get("baseline")
    return f"{name}({_short(baseline)})" if baseline else name


def of_parts(package: ModuleType, *more: tuple[str, Callable[[Any], str]]) -> Table:
    """A row for each class of objectives, gradients or terms."""
    head = ("class", "formula and source", "expectation", "bias", *(name for name, _ in more))
    found = classes(package)
    rows = (
        (f"`{c.__name__}`", summary(c), expectations(c), exactness(c), *(cell(c) for _, cell in more))
        for c in found
        if issubclass(c, Part)
    )
    return head, rows


def of_others(package: ModuleType) -> Table:
    """A row for each class of what has no expectation."""
    return ("class", "what"), ((f"`{c.__name__}`", summary(c)) for c in classes(package))


def needs(part: type[Part]) -> str:
    """What is asked of every latent."""
    return "" if part.needs is None else part.needs.name.lower()


TABLES: dict[str, Callable[[], Table]] = {
    "algorithms": algorithms,
    "objectives": lambda: of_parts(objectives, ("latents must be", needs)),
    "gradients": lambda: of_parts(gradients, ("latents must be", needs)),
    "terms": lambda: of_parts(
        terms,
        ("is", lambda c: "raised" if c.sign > 0 else "lowered"),
        ("over", lambda c: "each datum" if c.pointwise else "the minibatch, or more of the run"),
    ),
    "schedules": lambda: of_others(schedules),
    "corruptions": lambda: of_others(corruptions),
}


def markdown(table: Table) -> str:
    """A table as text."""
    head, rows = table
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def renewed(page: str) -> str:
    """The page with each table as the code has it."""
    for name, table in TABLES.items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        text = markdown(table())
        page, found = re.subn(pattern, lambda m, text=text: f"{m[1]}{text}\n{m[2]}", page, flags=re.DOTALL)
        if found != 1:
            raise ValueError(f"{PAGE}: expected one place for the table {name}, found {found}")
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
