"""The tables of docs/latents.md: every combination is tried again, and is as it is said there."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_what_goes_together_is_what_the_page_says() -> None:
    """``python docs/matrix.py`` writes the tables anew."""
    page = (ROOT / "docs" / "latents.md").read_text()
    assert page == runpy.run_path(str(ROOT / "docs" / "matrix.py"))["renewed"](page)


def test_every_family_works_with_some_algorithm_and_every_refusal_has_a_reason() -> None:
    page = (ROOT / "docs" / "latents.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `") and "yes" in line]
    assert len(rows) > 50
    assert all(cell.strip(" |") in ("yes", "(1)", "(2)", "(3)", "(4)") for row in rows for cell in row[1:])
    for number in "1234":
        assert f"\n({number}) for " in page


def test_every_option_is_named_on_the_page() -> None:
    page = (ROOT / "docs" / "latents.md").read_text()
    for group in ("latent", "conditioning"):
        for path in (ROOT / "configs" / group).glob("*.yaml"):
            assert f"\n| `{path.stem}` |" in page
    for path in (ROOT / "configs" / "guide").glob("*.yaml"):
        assert path.stem == "exact" or f"`guide={path.stem}`" in page
