"""What the folders are, who may import whom, and that the distribution carries all of it."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "models": {"models"},
    "guides": {"models", "guides"},
    "tasks": {"tasks"},
    "inference": {"models", "guides", "tasks", "inference"},
    "configs": set(),
    "bases": set(),
}
"""Of each sub-package, those whose names it may import."""

ONLY_IN = {
    "transformers": "models/backbone/",
    "tokenizers": "models/backbone/",
    "peft": "models/backbone/",
    "arviz": "inference/inference_data/arviz_front.py",
}
"""Where alone a dependency is known."""


def sources(*roots: str) -> list[Path]:
    found = (path for root in roots for path in (ROOT / root).rglob("*.py"))
    return sorted(path for path in found if not any(p.startswith(".") for p in path.relative_to(ROOT).parts))


def imports(path: Path) -> Iterator[str]:
    """Full names of what a file imports, relative ones resolved to ``stratagem...``."""
    package = ["stratagem", *path.relative_to(ROOT).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1]
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{name.name}" for name in node.names)


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


@pytest.fixture(scope="module")
def settings() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_package_is_listed_and_mapped(settings: dict[str, object]) -> None:
    folders = {path.parent.relative_to(ROOT) for path in sources(*MAY_IMPORT)}
    found = {f"stratagem.{'.'.join(folder.parts)}": folder.as_posix() for folder in folders}
    assert sorted(settings["packages"]) == sorted(found)
    assert settings["package-dir"] == found


def test_every_root_folder_with_modules_is_known() -> None:
    known = {*MAY_IMPORT, "tests", "examples", "docs", "benchmarks"}
    found = {
        path.parent.name for path in ROOT.glob("*/*.py") if not path.parent.name.startswith((".", "build"))
    }
    assert found <= known


def test_every_package_has_an_init_and_the_root_has_none() -> None:
    folders = {path.parent for path in sources(*MAY_IMPORT)}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
    assert not (ROOT / "__init__.py").exists()


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_typed_and_seen_by_type_checkers(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()
    assert (ROOT / ".types" / "stratagem" / package).resolve() == ROOT / package


@pytest.mark.parametrize("path", sources(*MAY_IMPORT), ids=lambda path: str(path.relative_to(ROOT)))
def test_direction_of_imports(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    crossed = {name.split(".")[1] for name in imports(path) if within(name, "stratagem")}
    assert crossed <= MAY_IMPORT[package] | {package}


@pytest.mark.parametrize("path", sources(*MAY_IMPORT), ids=lambda path: str(path.relative_to(ROOT)))
def test_dependencies_that_one_place_alone_knows(path: Path) -> None:
    where = path.relative_to(ROOT).as_posix()
    for dependency, place in ONLY_IN.items():
        known = [name for name in imports(path) if within(name, dependency)]
        assert not known or where.startswith(place)


def test_no_folder_is_imported_as_a_top_level_module() -> None:
    stray = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sources(*MAY_IMPORT, "tests", "benchmarks", "examples", "docs")
        for name in imports(path)
        if name.split(".")[0] in MAY_IMPORT
    ]
    assert stray == []


def test_imports_are_read_from_every_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models" / "latents"
    folder.mkdir(parents=True)
    (folder / "here.py").write_text(
        "import models\nfrom ..guides import x\nfrom ...tasks import y\nfrom . import z\n"
        "def f():\n    from transformers.utils import w\n"
    )
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    assert sorted(imports(folder / "here.py")) == [
        "models",
        "stratagem.models.guides.x",
        "stratagem.models.latents.z",
        "stratagem.tasks.y",
        "transformers.utils.w",
    ]
