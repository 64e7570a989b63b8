"""Prompts and pairs from the user's own files, and rows written back."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_READABLE = (".jsonl", *_DELIMITERS, ".txt")
_WRITABLE = (".jsonl", *_DELIMITERS)

_Numbered = Iterator[tuple[int, dict[str, str]]]


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
        prompt: never blank.
        response: never empty; None where the file has none or none was asked for.
        columns: every column of the file as text, numbers and nested values as JSON, nothing as ``""``.
    """

    prompt: str
    response: str | None
    columns: dict[str, str]


def read_rows(
    path: str | Path,
    prompt_column: str = "prompt",
    response_column: str | None = "response",
    key: str = "data.prompt_column",
) -> list[Row]:
    """The rows of a file in UTF-8, in order; a BOM and blank lines are passed over.

    Args:
        path: ``.jsonl`` (an object a line), ``.csv`` or ``.tsv`` (a header, then rows; quoted fields may span
            lines), or ``.txt`` (a prompt a line, no response).
        prompt_column: where the prompts stand.
        response_column: where the responses stand; None for prompts alone. A ``.txt`` has none, whatever is
            asked for.
        key: the setting that names the column of the prompts, for messages.

    Raises:
        ValueError: a file that cannot be read as such, with its line.
    """
    path = Path(path)
    suffix = _suffix(path, _READABLE)
    text = _text_of(path)
    if suffix == ".jsonl":
        records = _json_records(path, text, {prompt_column, response_column})
    elif suffix == ".txt":
        records = _text_records(text, prompt_column)
        response_column = None
    else:
        records = _csv_records(path, text, _DELIMITERS[suffix])
    rows = [
        _row(f"{path}, line {line}", columns, prompt_column, response_column, key)
        for line, columns in records
    ]
    if not rows:
        raise ValueError(f"{path}: the file has no rows; expected at least one prompt")
    return rows


def check_writable(path: str | Path) -> None:
    """Refuse what :func:`write_rows` could not write to.

    Raises:
        ValueError: another suffix, or a folder that is not there.
    """
    path = Path(path)
    _suffix(path, _WRITABLE)
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}; make it, or give another")


def write_rows(path: str | Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows to ``.jsonl``, ``.csv`` or ``.tsv``, by suffix; the file appears whole or not at all.

    A ``.csv`` or ``.tsv`` has every column of any row, in order of appearance, with the same text for a value
    as :class:`Row` has.

    Raises:
        ValueError: no rows, another suffix, or a value that JSON cannot hold, with its row.
    """
    path = Path(path)
    suffix = _suffix(path, _WRITABLE)
    if not rows:
        raise ValueError(f"{path}: no rows to write; expected at least one")
    out = io.StringIO(newline="")
    if suffix == ".jsonl":
        out.writelines(f"{_json(f'{path}, row {i}', dict(row))}\n" for i, row in enumerate(rows, 1))
    else:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        table = csv.writer(out, delimiter=_DELIMITERS[suffix])
        table.writerow(columns)
        table.writerows(
            [_as_text(f"{path}, row {i}", row.get(name)) for name in columns] for i, row in enumerate(rows, 1)
        )
    _replace(path, out.getvalue())


def _suffix(path: Path, known: Sequence[str]) -> str:
    suffix = path.suffix.lower()
    if suffix not in known:
        raise ValueError(
            f"{path}: expected a file in {', '.join(known)}, got suffix {suffix or 'none'}; rename it"
        )
    return suffix


def _text_of(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); expected a file") from error
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def _text_records(text: str, column: str) -> _Numbered:
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip():
            yield number, {column: line.removesuffix("\n")}


def _json_records(path: Path, text: str, spoken: Set[str | None]) -> _Numbered:
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not JSON ({error}); expected one object a line") from error
        if not isinstance(record, dict):
            raise ValueError(f"{where}: expected an object with named columns, got {line.strip()[:40]}")
        nested = [name for name in record if name in spoken and isinstance(record[name], list | dict)]
        if nested:
            kind = type(record[nested[0]]).__name__
            raise ValueError(
                f"{where}: column {nested[0]} holds a {kind}; expected text, as a chat template makes of it"
            )
        yield number, {name: _as_text(where, value) for name, value in record.items()}


def _csv_records(path: Path, text: str, delimiter: str) -> _Numbered:
    table = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = table.line_num + 1
        try:
            fields = next(table)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {line}: {error}; double the quotes inside a quoted field, or use .jsonl"
            ) from error
        if not fields:
            continue
        if header is None:
            header = fields
            if len(set(header)) < len(header):
                raise ValueError(
                    f"{path}, line {line}: expected distinct column names, got {', '.join(header)}"
                )
        elif len(fields) != len(header):
            raise ValueError(
                f"{path}, line {line}: expected {len(header)} fields ({', '.join(header)}), "
                f"got {len(fields)}; quote a field that contains the delimiter"
            )
        else:
            yield line, dict(zip(header, fields, strict=True))


def _row(
    where: str, columns: dict[str, str], prompt_column: str, response_column: str | None, key: str
) -> Row:
    prompt = _cell(where, columns, prompt_column, key)
    if not prompt.strip():
        raise ValueError(f"{where}: the prompt (column {prompt_column}) is blank; fill it in or drop the row")
    if response_column is None:
        return Row(prompt, None, columns)
    response = _cell(where, columns, response_column, "data.response_column")
    if not response:
        raise ValueError(
            f"{where}: the response (column {response_column}) is empty; fill it in, drop the row, or set "
            "data.response_column=null to read prompts alone"
        )
    return Row(prompt, response, columns)


def _cell(where: str, columns: Mapping[str, str], name: str, key: str) -> str:
    if name not in columns:
        raise ValueError(
            f"{where}: no column {name}; there are {', '.join(columns) or 'none'}. Set {key} to one"
        )
    return columns[name]


def _as_text(where: str, value: object) -> str:
    if value is None:
        return ""
    return _encodable(where, value) if isinstance(value, str) else _json(where, value)


def _encodable(where: str, text: str) -> str:
    """The text; JSON may spell out half a surrogate pair, which no UTF-8 file and no tokenizer can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: {text[error.start]!r} is half a character; expected valid Unicode"
        ) from error
    return text


def _json(where: str, value: object) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{where}: {error}; expected text, finite numbers, lists and mappings of them"
        ) from error
    return _encodable(where, text)


def _replace(path: Path, text: str) -> None:
    """Put ``text`` in place of ``path`` in one step, so that no reader ever sees a part of it."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(aside, "x", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
