"""The notebook of the examples: it runs from beginning to end, and says what it is about."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import nbformat
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "examples" / "diagnose.ipynb"


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The cells with what they have put out."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    folder = tmp_path_factory.mktemp("desk")
    client = NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the kernel's transport
        client.execute()
    return list(notebook.cells)


def test_it_runs_without_a_warning(executed: list[Any]) -> None:
    said = [
        output["text"]
        for cell in executed
        for output in cell.get("outputs", ())
        if output["output_type"] == "stream" and output["name"] == "stderr"
    ]
    assert said == []


def put_out(executed: list[Any], cell: str) -> list[Any]:
    """The outputs of the one code cell that has a text in its source."""
    (found,) = (each for each in executed if each.cell_type == "code" and cell in each.source)
    return list(found.outputs)


def test_it_shows_what_it_speaks_of(executed: list[Any]) -> None:
    for cell in ("az.plot_forest", "az.plot_posterior", "plt.imshow", "az.plot_trace", "metrics.jsonl"):
        assert any("image/png" in output.get("data", {}) for output in put_out(executed, cell)), cell
    (table,) = (output["data"]["text/plain"] for output in put_out(executed, "az.compare"))
    assert {"first", "second", "elpd_loo"} <= set(table.split())
    (told, _) = put_out(executed, '"diagnose"')
    assert told["data"]["text/markdown"].startswith("**")


def test_matching_labels_raises_the_agreement(executed: list[Any]) -> None:
    before, after, _ = put_out(executed, "merge(")

    def same(output: Any) -> int:
        rows = output["data"]["text/plain"].splitlines()[2:]
        return sum(int(row.split()[1 + k]) for k, row in enumerate(rows))

    assert same(after) > 40  # of 60
    assert same(after) >= same(before)
