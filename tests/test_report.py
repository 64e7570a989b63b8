"""The page of a diagnosis: what it says, what it lets in, and that it is the same at each call."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from stratagem.inference.diagnosis import Diagnosis, Finding
from stratagem.inference.diagnosis.findings.evidence import Estimate
from stratagem.inference.diagnosis.pictures import PICTURES, Picture, draw
from stratagem.inference.diagnosis.report import render, write_report
from stratagem.inference.diagnosis.report.digits import aligned, digits
from stratagem.inference.diagnosis.report.lines import LINES
from stratagem.inference.diagnosis.report.outputs import LONGEST, outputs
from stratagem.inference.diagnosis.report.readings import first_readings
from stratagem.inference.diagnosis.report.render import GRAVE, SERIOUS
from stratagem.inference.diagnosis.report.words import Judge, above, below, less, over_chance
from stratagem.models import Generation
from stratagem.tasks import Sorting

from .report_fixtures import bare, continuous_subject, full, mixed_subject, tiny_subject

FINDINGS = [
    Finding(
        "drifted",
        0.9,
        "KL is 0.2 nats.",
        "The law is another.",
        "Take `fit.steps=2000`, or `optim.lr=0.001`.",
    ),
    Finding("dead", 0.5, "One value of 3.", "It says nothing.", "Fewer."),
]

EVIL = (
    '</td></table><script>alert("1")</script><img src="http://there/x.png" onerror=alert(2)>&amp;{{ 7 * 7 }}'
)

VOID = {"meta", "link", "input", "br", "img", "hr", "path", "use", "image", "rect"}


class Page(HTMLParser):
    """Elements with their attributes, and the text of the body."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and "body" in self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data.strip())


Drawn = list[tuple[Picture, Figure]]


def page_of(
    diagnosis: Diagnosis,
    findings: Sequence[Finding] = (),
    headline: str = "Healthy: all well.",
    drawn: Sequence[tuple[Picture, Figure]] = (),
) -> str:
    return render(diagnosis, findings, headline, drawn, {"run": "runs/first"})


@pytest.fixture(scope="module")
def discrete() -> Diagnosis:
    return full(tiny_subject())


@pytest.fixture(scope="module")
def drawn(discrete: Diagnosis) -> Drawn:
    return draw(discrete)


@pytest.fixture(scope="module")
def page(discrete: Diagnosis, drawn: Drawn) -> str:
    return page_of(discrete, FINDINGS, "Drifted: the law is another. Also: dead.", drawn)


def test_the_headline_comes_first_and_the_findings_follow_in_order(page: str, discrete: Diagnosis) -> None:
    said = Page(page).text
    assert said[:3] == ["Drifted", ":", "the law is another. Also: dead."]
    assert "<title>Drifted: the law is another. Also: dead.</title>" in page
    places = [
        said.index(words)
        for words in ("Drifted", "drifted", "KL is 0.2 nats.", "dead", "Usage of the strategies")
    ]
    assert places == sorted(places)
    assert said[said.index("drifted") + 1] == "grave"
    assert said[said.index("dead") + 1] == "serious"
    assert SERIOUS <= 0.5 < GRAVE <= 0.9
    healthy = Page(page_of(bare(discrete.subject))).text
    assert healthy[:3] == ["Healthy", ":", "all well."]
    assert "No check found a fault." in healthy


def test_overrides_between_backticks_are_set_as_code(page: str) -> None:
    assert "Take <code>fit.steps=2000</code>, or <code>optim.lr=0.001</code>." in page


def test_the_page_asks_for_nothing(page: str) -> None:
    for tag, attributes in Page(page).elements:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "data", "srcset", "poster"):
                assert value is not None
                assert value.startswith(("#", "data:")), (tag, name, value[:60])
        assert tag not in ("iframe", "object", "embed", "base")
    assert not re.search(r"@import|url\((?!#|['\"]?data:)", page)
    policy = next(
        a["content"] for t, a in Page(page).elements if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert "default-src 'none'" in policy


def test_elements_are_closed_and_ids_are_unique_and_resolve(page: str) -> None:
    read = Page(page)
    assert read.open == []
    ids = Counter(attributes["id"] for _, attributes in read.elements if "id" in attributes)
    assert [name for name, count in ids.items() if count > 1] == []
    wanted = re.findall(r'(?:url\(|href=")#([^)"]+)', page)
    assert len(wanted) > 50
    assert set(wanted) <= set(ids)


def test_pictures_take_their_colours_from_the_page(page: str) -> None:
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 12
    for picture in pictures:
        tags = re.sub(r">[^<]*<", "><", picture)
        assert {colour.lower() for colour in re.findall(r"#[0-9a-fA-F]{6}\b", tags)} <= {"#ffffff"}
        assert "fill: #ffffff" not in re.sub(r"<text.*?</text>", "", picture, flags=re.DOTALL)
        assert "font-family" not in picture
        assert re.match(r'<svg role="img" aria-label="[^"]+" width="\d+" height="\d+"', picture)
    named = set(re.findall(r"var\((--\w+)\)", page))
    given = set(re.findall(r"^\s*(--\w+):", page, re.MULTILINE))
    assert {"--ink", "--line", "--c0", "--c1"} <= named <= given


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_letters_and_marks_stand_out_from_a_light_and_a_dark_page(page: str) -> None:
    blocks = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    light, dark = (dict(re.findall(r"(--\w+): (#\w{6});", block)) for block in blocks)
    assert light.keys() == dark.keys()
    assert luminance(dark["--page"]) < 0.02 < 0.9 < luminance(light["--page"])
    for colours in (light, dark):
        for name in ("--ink", "--muted", "--accent", "--good", "--fair", "--poor"):
            for ground in ("--page", "--panel"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground, colours[name])
        for name in (f"--c{i}" for i in range(8)):
            assert contrast(colours[name], colours["--page"]) >= 3, (name, colours[name])


def test_whatever_comes_from_model_or_user_is_text(discrete: Diagnosis) -> None:
    subject = discrete.subject
    data = replace(
        subject.data,
        prompts=[EVIL, *subject.data.prompts[1:]],
        responses=[f"r{EVIL}", *subject.data.responses[1:]],
    )
    labelled = replace(
        discrete, subject=replace(subject, data=data), labels=(f"l{EVIL}",) * 12 + ("b\x00\x1b\ud800",) * 12
    )
    answers = [[Generation(EVIL, {"z": k}, 0.3, f"a{k}{EVIL}")] * 24 for k in range(3)]
    labelled.subject.__dict__["greedy"] = answers
    findings = [Finding(name=EVIL, weight=1.0, seen=EVIL, why=EVIL, change=f"{EVIL} `{EVIL}`")]
    shown = draw(labelled, [picture for picture in PICTURES if picture.name == "responsibilities"])
    page = render(labelled, findings, EVIL, shown, {EVIL: EVIL})
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", page)
    evil = Page(page)
    plain = Page(page_of(discrete))
    count = Counter(tag for tag, _ in evil.elements)
    assert count["script"] == Counter(tag for tag, _ in plain.elements)["script"] == 1
    assert count["img"] == 0
    assert not any(name.startswith("on") for _, attributes in evil.elements for name in attributes)
    said = "\n".join(evil.text)
    for mark in ("", "r", "l", "a0", "a2"):
        assert mark + EVIL in said
    assert "b\ufffd\ufffd\ufffd" in said
    assert evil.open == []


def test_the_same_diagnosis_gives_the_same_page(page: str) -> None:
    again = full(tiny_subject())
    assert page_of(again, FINDINGS, "Drifted: the law is another. Also: dead.", draw(again)) == page
    assert not re.search(r"matplotlib v|\d{4}-\d\d-\d\dT", page.lower())


def test_the_page_of_continuous_and_of_mixed_latents_has_what_they_have() -> None:
    clusters = outputs(bare(continuous_subject()))
    assert clusters.strategies
    assert clusters.columns == [f"cluster {k}" for k in range(4)]
    assert {row.strategy for row in clusters.rows} == set(range(4))
    subject = mixed_subject()
    drawn = outputs(bare(subject))
    assert (drawn.strategies, drawn.columns) == (False, ["model, z from the router"])
    assert [row.cells[1].text for row in drawn.rows] == [g.text for g in subject.sampled]
    for found in (full(subject), full(continuous_subject())):
        assert Page(page_of(found)).open == []


def test_responses_stand_side_by_side_with_what_is_known_of_them(discrete: Diagnosis) -> None:
    subject = replace(discrete.subject)
    alike = [subject.greedy[0], subject.greedy[1], subject.greedy[0][:5] + subject.greedy[2][5:]]
    subject.__dict__["greedy"] = alike
    table = outputs(replace(discrete, subject=subject))
    assert table.columns == ["z = 0", "z = 1", "z = 2"]
    assert (len(table.rows), table.total) == (24, 24)
    assert subject.seen.posterior is not None
    assert subject.seen.router is not None
    for n, row in enumerate(table.rows):
        assert row.strategy == int(subject.seen.posterior[n].argmax())
        assert row.cells[0].text == subject.data.responses[n]
        assert row.cells[0].note == f"z = {row.strategy} at {float(subject.seen.posterior[n].max()):.2f}"
        for k, cell in enumerate(row.cells[1:]):
            assert cell.text == subject.greedy[k][n].text
            assert cell.note == f"router {float(subject.seen.router[n, k]):.2f}"
            same = [j for j in range(k) if subject.greedy[j][n].text == cell.text]
            assert cell.twin == (f"z = {same[0]}" if same else None)
    assert table.rows[0].cells[3].twin == "z = 0"
    assert any(row.cells[3].twin is None for row in table.rows)


def test_a_task_says_which_strategies_a_response_follows_and_whether_it_is_wrong() -> None:
    task = Sorting()
    prompt = task.prompts(1, "test", 0)[0]
    right = task.trace(prompt, task.strategies[0], task.nuisances[0])
    subject = tiny_subject(num=8)
    data = replace(subject.data, prompts=[prompt] * 8, responses=[right] * 8)
    known = replace(subject, data=data, task=task)
    known.__dict__["greedy"] = [
        [Generation(prompt, {"z": k}, 0.3, text)] * 8 for k, text in enumerate(("", "1", right))
    ]
    base, empty, wrong, same = outputs(bare(known)).rows[0].cells
    followed = " or ".join(sorted(task.strategies_of(prompt, right)))
    assert base.note.endswith(f" · {followed}")
    assert empty.note.endswith("no known strategy · wrong answer")
    assert wrong.note.endswith("no known strategy · wrong answer")
    assert same.note.endswith(f" · {followed}")


def test_long_texts_and_many_responses_are_cut_and_the_cut_is_said(
    discrete: Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stratagem.inference.diagnosis.report.outputs.CELLS", 40)
    subject = discrete.subject
    data = replace(subject.data, responses=["x" * (LONGEST + 5)] * 24)
    table = outputs(replace(discrete, subject=replace(subject, data=data)))
    assert (len(table.rows), table.total) == (10, 24)
    assert table.rows[0].cells[0].text == "x" * (LONGEST - 1) + "…"
    assert "The first 10 of 24 prompts." in page_of(discrete)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.01234, "0.0123"),
        (-1.5, "−1.5000"),
        (3.0, "3"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.0000321, "3e−05"),
        (float("nan"), "–"),
        (float("-inf"), "−∞"),
        (1234.5678, "1234.5678"),
    ],
)
def test_digits_show_what_there_is(value: float, shown: str) -> None:
    assert digits(value) == shown
    assert aligned(shown).startswith(shown)
    assert ("room" in aligned(shown)) == shown.isdecimal()


def test_a_word_is_the_worse_one_only_beyond_the_error(discrete: Diagnosis) -> None:
    words = ("kept", "nearly", "drifted")
    low, high = below(0.01, 0.05, *words), above(0.9, 0.5, *words)

    def said(judge: Judge, value: float, error: float) -> str:
        word = judge(Estimate(value, error), discrete)
        assert word is not None
        return f"{word.text} {word.tone}"

    assert said(low, 0.012, 0.002) == "kept good"
    assert said(low, 0.012, 0.0005) == "nearly fair"
    assert said(low, 0.06, 0.001) == "drifted poor"
    assert said(high, 0.8, 0.06) == "kept good"
    assert said(high, 0.8, 0.01) == "nearly fair"
    assert said(high, 0.4, 0.01) == "drifted poor"
    known = replace(discrete, figures={"chance": 0.5, "other": 0.9})
    judged = over_chance("chance", high)(Estimate(0.9, 0.0), known)
    assert judged is not None
    assert judged.text == "nearly"  # 0.8 of the way
    judged = less("other", above(-0.01, -0.05, *words))(Estimate(0.87, 0.0), known)
    assert judged is not None
    assert judged.text == "nearly"
    assert over_chance("chance", high)(Estimate(0.9), bare(discrete.subject)) is None


def test_every_line_has_a_word_where_what_it_stands_on_is_known(discrete: Diagnosis) -> None:
    lines = {line.name for group in LINES.values() for line in group}
    assert len(lines) == sum(map(len, LINES.values())) - 1  # InfoNCE is said in one way or another
    figures = {name + ("z" if name.endswith("/") else ""): 0.5 for name in lines} | {
        "skill/accuracy_base": 0.9,
        "use/ceiling": 1.0,
        "information/infonce_trusted": 1.0,
        "information/aggregate_trusted": 0.0,
        "posterior/gap_share": 0.5,
        "intervention/self_consistency_chance": 0.3,
        "stability/transfer_chance": 0.3,
        "position/single_token_se": 0.1,
    }
    found = [line for group in first_readings(replace(discrete, figures=figures)).values() for line in group]
    assert len(found) == len(lines)
    assert all(line.word is not None and line.word.text for line in found)
    by_name = {line.name: line for line in found}
    assert by_name["dimension/active/z"].label == "active coordinates: z"
    assert by_name["use/mutual_information"].beside == "of 1"
    assert by_name["position/single_token"].error == "0.1000"
    assert first_readings(replace(discrete, figures={})) == {}


def test_the_report_is_a_page_with_its_pictures_beside_it(tmp_path: Path, discrete: Diagnosis) -> None:
    found = bare(discrete.subject, labels=("文", "b$") * 12)
    path = write_report(tmp_path, found, FINDINGS, "Drifted: so.", {"run": "runs/first"})
    assert path == tmp_path / "report.html"
    said = Page(path.read_text()).text
    assert said[said.index("run") + 1] == "runs/first"
    assert said[said.index("latents") + 1] == "z (Categorical)"
    assert "文" in said
    files = {file.name for file in (tmp_path / "figures").iterdir()}
    assert files == {
        f"{name}.{end}" for name in ("usage", "responsibilities", "router") for end in ("png", "svg")
    }
    assert {file.name for file in tmp_path.iterdir()} == {"report.html", "figures"}
    before = {file.name: file.read_bytes() for file in (tmp_path / "figures").iterdir()}
    assert before["usage.png"].startswith(b"\x89PNG")
    write_report(tmp_path, found, FINDINGS, "Drifted: so.", {"run": "runs/first"})
    assert {file.name: file.read_bytes() for file in (tmp_path / "figures").iterdir()} == before


def test_pictures_of_an_earlier_report_that_are_no_longer_true_are_removed(
    tmp_path: Path, discrete: Diagnosis
) -> None:
    (tmp_path / "figures").mkdir()
    for picture in PICTURES:
        (tmp_path / "figures" / f"{picture.name}.png").write_text("old")
    (tmp_path / "figures" / "own.png").write_text("the user's")
    write_report(tmp_path, bare(discrete.subject), [], "Healthy: yes.")
    left = {file.stem for file in (tmp_path / "figures").iterdir()}
    assert left == {"usage", "responsibilities", "router", "own"}


def test_five_hundred_data_make_a_page_of_a_sensible_size() -> None:
    subject = tiny_subject(num=500)
    subject.__dict__["greedy"] = [
        [
            Generation(prompt, {"z": k}, 0.3, "one token of a response " * 12)
            for prompt in subject.data.prompts
        ]
        for k in range(3)
    ]
    many = full(subject)
    assert 500_000 < len(page_of(many, FINDINGS, drawn=draw(many)).encode()) < 5_000_000
