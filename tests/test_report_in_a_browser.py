"""The page of a diagnosis in Chromium: it opens without a complaint, its filter works, it is light, dark and prints.

Its pictures are kept in the folder that the environment variable ``STRATAGEM_ARTEFACTS`` names, if it names one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stratagem.inference.diagnosis import Diagnosis, Finding
from stratagem.inference.diagnosis.report import write_report
from stratagem.inference.diagnosis.report.outputs import Outputs, outputs

from .report_fixtures import full, tiny_subject

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium"
)

DARK, LIGHT = "--blink-settings=preferredColorScheme=0", "--blink-settings=preferredColorScheme=1"

CONSOLE = re.compile(r"CONSOLE[:(].*")


@dataclass(frozen=True)
class Visit:
    """What a browser says of a page.

    Attributes:
        page: the document when all has run.
        console: lines of its console.
    """

    page: str
    console: list[str]


def visit(url: str, profile: Path, *flags: str) -> Visit:
    """Open the page in a headless browser of its own."""
    assert CHROMIUM is not None
    settings = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--enable-logging=stderr",
        f"--user-data-dir={profile}",
    ]
    found = subprocess.run(
        [CHROMIUM, *settings, *flags, url], capture_output=True, text=True, timeout=120, check=True
    )
    return Visit(found.stdout, CONSOLE.findall(found.stderr))


@dataclass(frozen=True)
class Opened:
    """The report on disk and what is in it."""

    path: Path
    diagnosis: Diagnosis
    table: Outputs

    def dom(self, profile: Path, fragment: str = "", *flags: str) -> Visit:
        return visit(f"{self.path.as_uri()}{fragment}", profile, "--dump-dom", *flags)

    def with_script(self, script: str, folder: Path) -> Opened:
        """A copy that runs a script when it has been loaded."""
        page = self.path.read_text().replace("</body>", f"<script>{script}</script></body>")
        copy = folder / "copy.html"
        copy.write_text(page)
        return Opened(copy, self.diagnosis, self.table)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Opened:
    folder = tmp_path_factory.mktemp("report")
    diagnosis = full(tiny_subject(), labels=("odd", "even") * 12)
    finding = Finding(
        "base law drifted", 0.9, "KL is 0.2 nats.", "The law is another.", "Take `fit.steps=2000`."
    )
    path = write_report(folder, diagnosis, [finding], "Base law drifted: KL is 0.2 nats.")
    return Opened(path, diagnosis, outputs(diagnosis))


@pytest.fixture
def artefacts(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("STRATAGEM_ARTEFACTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Table(HTMLParser):
    """Which rows and columns of the table of responses are shown, and what stands beside it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[bool] = []
        self.columns: dict[str, bool] = {}
        self.form_hidden = False
        self.count = ""
        self.inside = self.counting = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        shown = "hidden" not in found
        if tag == "table":
            self.inside = found.get("class") == "outputs"
        if tag == "form":
            self.form_hidden = not shown
        if self.inside and tag == "tr":
            self.rows.append(shown)
        if self.inside and "data-column" in found:
            column = str(found["data-column"])
            assert self.columns.setdefault(column, shown) == shown
        self.counting = tag == "output"

    def handle_data(self, data: str) -> None:
        if self.counting:
            self.count, self.counting = data, False

    @property
    def places(self) -> list[int]:
        """Of the rows below the heading, those that are shown."""
        assert self.rows[0]
        return [n for n, shown in enumerate(self.rows[1:]) if shown]


def colours(content: bytes) -> set[str]:
    """Of what is filled in a PDF."""
    found = set()
    for stream in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
        try:
            drawn = zlib.decompress(stream)
        except zlib.error:
            continue
        for parts in re.findall(rb"([\d.]+) ([\d.]+) ([\d.]+) rg\b", drawn):
            found.add("#" + "".join(f"{round(255 * float(part)):02x}" for part in parts))
    return found


def test_the_page_opens_without_a_word_on_the_console(report: Opened, tmp_path: Path) -> None:
    seen = report.dom(tmp_path)
    assert seen.console == []
    table = Table(seen.page)
    assert table.places == list(range(24))
    assert table.columns == dict.fromkeys("012", True)
    assert not table.form_hidden
    assert table.count == "24 of 24 prompts"


def test_a_fault_of_a_page_would_be_seen(report: Opened, tmp_path: Path) -> None:
    broken = report.with_script("no.such.thing()", tmp_path)
    assert any("ReferenceError" in line for line in broken.dom(tmp_path / "profile").console)
    asking = report.with_script("fetch('http://127.0.0.1:9/').catch(() => 0)", tmp_path)
    assert any("Content Security Policy" in line for line in asking.dom(tmp_path / "other").console)


@pytest.mark.parametrize("strategy", [0, 1, 2])
def test_responses_are_filtered_by_strategy(report: Opened, tmp_path: Path, strategy: int) -> None:
    seen = report.dom(tmp_path, f"#likeliest={strategy}&shown={strategy}")
    table = Table(seen.page)
    expected = [n for n, row in enumerate(report.table.rows) if row.strategy == strategy]
    assert table.places == expected
    assert table.columns == {str(k): k == strategy for k in range(3)}
    assert table.count == f"{len(expected)} of 24 prompts"
    assert seen.console == []


def test_responses_are_filtered_by_text_in_the_columns_shown(report: Opened, tmp_path: Path) -> None:
    rows = report.table.rows
    word = rows[3].cells[2].text[:5]

    def expected(columns: set[int]) -> list[int]:
        return [
            n
            for n, row in enumerate(rows)
            if word in row.prompt
            or any(word in row.cells[place].text for place in {0, *(k + 1 for k in columns)})
        ]

    fragment = word.replace(" ", "+").upper()
    every = Table(report.dom(tmp_path / "one", f"#text={fragment}").page)
    assert every.places == expected({0, 1, 2})
    fewer = Table(report.dom(tmp_path / "two", f"#text={fragment}&shown=0").page)
    assert fewer.places == expected({0})
    assert 3 in every.places
    assert 0 < len(every.places) < 24
    assert Table(report.dom(tmp_path / "three", "#text=nowhere").page).places == []


def test_the_controls_do_what_the_link_does(report: Opened, tmp_path: Path) -> None:
    acted = report.with_script(
        """
        const form = document.getElementById("filter");
        form.elements.likeliest.value = "1";
        form.elements.likeliest.dispatchEvent(new Event("input", {bubbles: true}));
        form.querySelector("[name=shown][value='0']").click();
        form.querySelector("[name=shown][value='2']").click();
        """,
        tmp_path,
    )
    table = Table(acted.dom(tmp_path / "one").page)
    linked = Table(report.dom(tmp_path / "two", "#likeliest=1&shown=1").page)
    assert (
        table.places == linked.places == [n for n, row in enumerate(report.table.rows) if row.strategy == 1]
    )
    assert table.columns == linked.columns == {"0": False, "1": True, "2": False}


def test_every_control_can_be_reached_by_key_and_has_a_name(report: Opened, tmp_path: Path) -> None:
    asked = report.with_script(
        """
        const controls = [...document.querySelectorAll("#filter input, #filter select")];
        const reached = controls.filter((one) => {
          one.focus();
          return document.activeElement === one && one.labels.length === 1 && one.labels[0].textContent.trim();
        });
        document.body.dataset.reached = `${reached.length} of ${controls.length}`;
        """,
        tmp_path,
    )
    assert 'data-reached="5 of 5"' in asked.dom(tmp_path / "profile").page


def test_without_scripts_the_table_is_whole_and_no_control_is_shown(report: Opened, tmp_path: Path) -> None:
    refused = report.path.read_text().replace("script-src 'unsafe-inline'", "script-src 'none'")
    copy = tmp_path / "copy.html"
    copy.write_text(refused)
    seen = visit(f"{copy.as_uri()}#likeliest=1", tmp_path / "profile", "--dump-dom")
    assert len(seen.console) == 1
    table = Table(seen.page)
    assert table.places == list(range(24))
    assert table.columns == dict.fromkeys("012", True)
    assert table.form_hidden


@pytest.mark.parametrize("width", [1280, 500])
def test_nothing_is_wider_than_the_window(report: Opened, tmp_path: Path, width: int) -> None:
    measured = report.with_script(
        "document.body.dataset.wide = `${document.documentElement.scrollWidth}/${window.innerWidth}`",
        tmp_path,
    )
    page = measured.dom(tmp_path / "profile", "", f"--window-size={width},900").page
    found = re.search(r'data-wide="(\d+)/(\d+)"', page)
    assert found is not None
    assert int(found[2]) == width
    assert int(found[1]) <= width


def test_the_page_is_light_or_dark_as_the_reader_has_it_and_keeps_its_pictures(
    report: Opened, tmp_path: Path, artefacts: Path
) -> None:
    seen = {}
    for name, scheme in (("light", LIGHT), ("dark", DARK)):
        path = artefacts / f"report-{name}.png"
        visit(
            report.path.as_uri(),
            tmp_path / name,
            scheme,
            "--window-size=1280,7000",
            f"--screenshot={path}",
        )
        with Image.open(path) as picture:
            seen[name] = np.asarray(picture.convert("L"), float)
    assert seen["light"].shape == seen["dark"].shape == (7000, 1280)
    assert np.median(seen["light"]) > 240
    assert np.median(seen["dark"]) < 40
    for name, picture in seen.items():
        ground = np.median(picture)
        marks = (np.abs(picture - ground) > 100).mean()
        assert 0.005 < marks < 0.3, name


def test_the_page_prints_on_a_light_ground(report: Opened, tmp_path: Path, artefacts: Path) -> None:
    path = artefacts / "report.pdf"
    visit(
        report.path.as_uri(), tmp_path / "profile", DARK, "--no-pdf-header-footer", f"--print-to-pdf={path}"
    )
    content = path.read_bytes()
    assert content.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 30
    assert colours(content) >= {"#1c1f24", "#ffffff"}  # ink of the light page, on white cells
    assert "#e7e9ec" not in colours(content)
