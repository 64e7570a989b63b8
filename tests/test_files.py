"""Prompts and pairs read from files, and rows written back."""

from __future__ import annotations

import csv
import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stratagem.tasks import Row, files, read_rows, write_rows

PAIRS = {
    ".jsonl": b'{"prompt": "a", "response": "b", "n": 1}\n{"prompt": "c", "response": "d", "n": null}\n',
    ".csv": b"prompt,response,n\na,b,1\nc,d,\n",
    ".tsv": b"prompt\tresponse\tn\na\tb\t1\nc\td\t\n",
}

# "\ufeff" at the head of a file is a byte order mark, and blank columns are told apart by name alone.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\ufeff"))
SPOKEN = TEXT.filter(lambda text: text.strip() != "")
NAMES = st.lists(TEXT, min_size=1, max_size=4, unique=True).filter(lambda names: names != [""])


def write(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("suffix", [*PAIRS, ".JSONL", ".Csv"])
@pytest.mark.parametrize("as_text", [False, True])
def test_pairs_of_each_format(tmp_path: Path, suffix: str, as_text: bool) -> None:
    path = write(tmp_path, f"pairs{suffix}", PAIRS[suffix.lower()])
    assert read_rows(str(path) if as_text else path) == [
        Row("a", "b", {"prompt": "a", "response": "b", "n": "1"}),
        Row("c", "d", {"prompt": "c", "response": "d", "n": ""}),
    ]


@pytest.mark.parametrize("suffix", PAIRS)
def test_prompts_alone_when_no_response_is_asked_for(tmp_path: Path, suffix: str) -> None:
    rows = read_rows(write(tmp_path, f"pairs{suffix}", PAIRS[suffix]), response_column=None)
    assert [(row.prompt, row.response, row.columns["response"]) for row in rows] == [
        ("a", None, "b"),
        ("c", None, "d"),
    ]


@pytest.mark.parametrize("suffix", PAIRS)
def test_columns_by_other_names(tmp_path: Path, suffix: str) -> None:
    content = PAIRS[suffix].replace(b"prompt", b"question").replace(b"response", "réponse".encode())
    rows = read_rows(write(tmp_path, f"pairs{suffix}", content), "question", "réponse")
    assert [(row.prompt, row.response) for row in rows] == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize("response_column", [None, "response"])
def test_text_is_a_prompt_a_line(tmp_path: Path, response_column: str | None) -> None:
    path = write(tmp_path, "prompts.txt", 'first\r\n\n  \t\n second, "quoted" \u2028 one\nlast')
    assert read_rows(path, "x", response_column) == [
        Row(prompt, None, {"x": prompt}) for prompt in ("first", ' second, "quoted" \u2028 one', "last")
    ]


@pytest.mark.parametrize("suffix", [*PAIRS, ".txt"])
@pytest.mark.parametrize("ending", [b"\r\n", b"\n\n", b"\n\r\n"])
def test_byte_order_mark_blank_lines_and_line_ends(tmp_path: Path, suffix: str, ending: bytes) -> None:
    plain = PAIRS.get(suffix, b"a\nc\n")
    marked = b"\xef\xbb\xbf" + plain.replace(b"\n", ending)
    assert read_rows(write(tmp_path, f"marked{suffix}", marked)) == read_rows(
        write(tmp_path, f"plain{suffix}", plain)
    )


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_quoted_fields_span_lines(tmp_path: Path, suffix: str, delimiter: str) -> None:
    path = write(
        tmp_path,
        f"quoted{suffix}",
        delimiter.join(["prompt", "response"])
        + "\n"
        + delimiter.join(['"two\nlines"', f'"a ""word"" and{delimiter}more"'])
        + "\n",
    )
    row = read_rows(path)[0]
    assert (row.prompt, row.response) == ("two\nlines", f'a "word" and{delimiter}more')


def test_json_values_become_text(tmp_path: Path) -> None:
    record = {"prompt": 12, "response": True, "f": 0.5, "list": [1, "é"], "map": {"a": None}, "none": None}
    row = read_rows(write(tmp_path, "values.jsonl", json.dumps(record)))[0]
    assert (row.prompt, row.response) == ("12", "true")
    assert {name: row.columns[name] for name in ("f", "list", "map", "none")} == {
        "f": "0.5",
        "list": '[1, "é"]',
        "map": '{"a": null}',
        "none": "",
    }


@pytest.mark.parametrize(
    ("name", "content", "line", "says"),
    [
        ("empty.jsonl", "", None, "no rows"),
        ("blank.jsonl", "\n \n", None, "no rows"),
        ("empty.csv", "", None, "no rows"),
        ("header.csv", "prompt,response\n", None, "no rows"),
        ("mark.txt", b"\xef\xbb\xbf", None, "no rows"),
        ("broken.jsonl", '{"prompt": "a", "response": "b"}\n\n{"prompt": "a",\n', 3, "not JSON"),
        ("deep.jsonl", "[" * 100_000, 1, "not JSON"),
        ("array.jsonl", '["a", "b"]', 1, r'expected an object.*\["a", "b"\]'),
        ("word.jsonl", '{"prompt": "a", "response": "b"}\n"a"\n', 2, "expected an object"),
        ("chat.jsonl", '{"prompt": [{"role": "user"}], "response": "b"}', 1, "column prompt holds a list"),
        ("map.jsonl", '{"prompt": "a", "response": {"text": "b"}}', 1, "column response holds a dict"),
        ("half.jsonl", r'{"prompt": "a \ud83d", "response": "b"}', 1, r"'\\ud83d' is half a character"),
        ("nan.jsonl", '{"prompt": "a", "response": "b", "score": NaN}', 1, "finite"),
        ("few.csv", "prompt,response\na,b\n\nc\n", 4, r"expected 2 fields \(prompt, response\), got 1"),
        ("many.csv", 'prompt,response\n"two\nlines",b\na,b,c\n', 4, "expected 2 fields.*got 3"),
        ("twice.csv", "prompt,response,prompt\na,b,c\n", 1, "distinct column names"),
        ("open.csv", 'prompt,response\na,b\n"c,d\ne,f\n', 3, "unexpected end of data"),
        ("quote.csv", 'prompt,response\n"a" b,c\n', 2, "double the quotes"),
        ("latin.csv", "prompt,response\na,b\né,c\n".encode("latin-1"), 3, "byte 0xe9 is not UTF-8"),
        ("wide.jsonl", '{"prompt": "a"}'.encode("utf-16"), 1, "byte 0xff is not UTF-8"),
        ("mark.csv", b"\xef\xbb\xbf\nprompt\n\xff\n", 3, "byte 0xff is not UTF-8"),
        ("blank.csv", "prompt,response\na,b\n  ,c\n", 3, r"the prompt \(column prompt\) is blank"),
        ("null.jsonl", '{"prompt": null, "response": "b"}', 1, r"the prompt \(column prompt\) is blank"),
        ("silent.csv", 'prompt,response\na,""\n', 2, r"the response.*is empty.*data\.response_column=null"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, name: str, content: str | bytes, line: int | None, says: str
) -> None:
    path = write(tmp_path, name, content)
    place = str(path) if line is None else f"{path}, line {line}: "
    with pytest.raises(ValueError, match=says) as caught:
        read_rows(path)
    assert str(caught.value).startswith(place)


@pytest.mark.parametrize("suffix", PAIRS)
@pytest.mark.parametrize("which", ["prompt", "response"])
def test_missing_column_names_those_there_and_the_setting(tmp_path: Path, suffix: str, which: str) -> None:
    path = write(tmp_path, f"pairs{suffix}", PAIRS[suffix].replace(which.encode(), b"other"))
    with pytest.raises(ValueError, match=rf"no column {which}.*other.*data\.{which}_column") as caught:
        read_rows(path)
    assert str(caught.value).startswith(f"{path}, line {1 if suffix == '.jsonl' else 2}: ")


def test_a_column_missing_in_a_later_object(tmp_path: Path) -> None:
    path = write(tmp_path, "uneven.jsonl", '{"prompt": "a", "response": "b"}\n{"response": "b"}\n{}\n')
    with pytest.raises(ValueError, match="line 2: no column prompt; there are response"):
        read_rows(path)
    with pytest.raises(ValueError, match="line 3: no column response; there are none"):
        read_rows(path, prompt_column="response")


@pytest.mark.parametrize("suffix", ["", ".json", ".parquet"])
def test_unknown_suffix(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(ValueError, match=r"\.jsonl, \.csv, \.tsv, \.txt"):
        read_rows(write(tmp_path, f"file{suffix}", b"a"))
    with pytest.raises(ValueError, match=r"\.jsonl, \.csv, \.tsv, got"):
        write_rows(tmp_path / f"out{suffix}", [{"a": 1}])


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.csv: cannot be read \(No such file"):
        read_rows(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ValueError, match="Is a directory"):
        read_rows(tmp_path / "folder.csv")


@pytest.mark.parametrize("suffix", PAIRS)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), names=NAMES)
def test_what_is_written_is_read_back(
    tmp_path: Path, suffix: str, data: st.DataObject, names: list[str]
) -> None:
    cells = st.fixed_dictionaries({names[0]: SPOKEN, **dict.fromkeys(names[1:], TEXT)})
    rows = data.draw(st.lists(cells, min_size=1, max_size=4))
    path = tmp_path / f"rows{suffix}"
    write_rows(path, rows)
    assert [row.columns for row in read_rows(path, names[0], None)] == rows


@pytest.mark.parametrize("suffix", PAIRS)
def test_values_that_are_no_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    write_rows(path, [{"prompt": "a", "z": 3}, {"prompt": "b", "law": [0.25, 0.75], "note": None}])
    first, second = (row.columns for row in read_rows(path, response_column=None))
    assert first == {"prompt": "a", "z": "3"} | ({} if suffix == ".jsonl" else {"law": "", "note": ""})
    assert second == {"prompt": "b", "law": "[0.25, 0.75]", "note": ""} | (
        {} if suffix == ".jsonl" else {"z": ""}
    )


def test_json_lines_keep_their_types(tmp_path: Path) -> None:
    rows = [{"prompt": "é\u2028\n", "z": 3, "law": [0.5], "none": None, "true": True}]
    write_rows(tmp_path / "rows.jsonl", rows)
    text = (tmp_path / "rows.jsonl").read_text(encoding="utf-8")
    assert [json.loads(line) for line in text.split("\n")[:-1]] == rows
    assert "é" in text


def test_tables_open_with_the_standard_reader(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.tsv", [{"a": 'x\t"y"', "b": "1\r2"}])
    with open(tmp_path / "rows.tsv", newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file, dialect="excel-tab")) == [{"a": 'x\t"y"', "b": "1\r2"}]


@pytest.mark.parametrize("suffix", PAIRS)
@pytest.mark.parametrize(
    "value", [float("nan"), float("-inf"), [float("inf")], {1, 2}, b"a", "\ud83d", ["\ud83d"]]
)
def test_values_that_no_file_holds(tmp_path: Path, suffix: str, value: object) -> None:
    path = write(tmp_path, f"rows{suffix}", b"as it was")
    with pytest.raises(ValueError, match=f"rows{suffix}, row 2: "):
        write_rows(path, [{"prompt": "a"}, {"prompt": "a", "value": value}])
    assert path.read_bytes() == b"as it was"
    assert os.listdir(tmp_path) == [path.name]


def test_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no rows to write"):
        write_rows(tmp_path / "rows.csv", [])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    path = write(tmp_path, "rows.csv", b"as it was")

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(files.os, fails, full)
    with pytest.raises(OSError, match="no space"):
        write_rows(path, [{"a": 1}])
    assert path.read_bytes() == b"as it was"
    assert os.listdir(tmp_path) == [path.name]


def test_the_new_file_takes_the_place_of_the_old_after_it_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "rows.csv", b"as it was")
    synced: list[bytes] = []
    replace, fsync = os.replace, os.fsync

    def watched_fsync(descriptor: int) -> None:
        fsync(descriptor)
        assert path.read_bytes() == b"as it was"
        synced.append(Path(f"/proc/self/fd/{descriptor}").read_bytes() if os.path.exists("/proc") else b"")

    def watched_replace(source: Path, target: Path) -> None:
        assert source.parent == target.parent == tmp_path
        assert synced in ([source.read_bytes()], [b""])
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", watched_fsync)
    monkeypatch.setattr(files.os, "replace", watched_replace)
    write_rows(path, [{"a": 1}])
    assert read_rows(path, "a", None)[0].prompt == "1"
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_written_files_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_rows(tmp_path / "rows.csv", [{"a": 1}])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "rows.csv").stat().st_mode) == 0o644
