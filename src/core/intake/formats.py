"""Input formats: how each is recognized, and one reader each that makes rows of lines."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from ...errors import InputError
from .csv_records import Record, Records
from .csv_rows import read_table
from .json_text import parse_object
from .lines import BadLine, Line, Row, Unpacked, nonblank, numbered, open_source, plain_name
from .object_rows import filled_row
from .openai_batch import fields_of_batch_line, looks_like_batch_line
from .own_columns import OwnColumns, of_objects
from .parquet import is_parquet, parquet_records
from .template import Template

Lines = Iterator[Line | BadLine]
JSONL, TEXT, CSV, OPENAI_BATCH = "jsonl", "text", "csv", "openai-batch"
SUFFIXES = {
    ".jsonl": JSONL, ".ndjson": JSONL, ".json": JSONL, ".txt": TEXT, ".csv": CSV, ".tsv": CSV, ".tab": CSV,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listeners:
    """Called while a file is read: with each warning, and with the columns that return with the results."""

    warning: Callable[[str], None] = lambda _: None
    columns: Callable[[OwnColumns], None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Columns:
    """What columns mean. `template` makes the prompts; `ids` is where ids are, if not in `id`."""

    template: Template | None = None
    ids: str | None = None


def choose_format(
    source: Path | BinaryIO, fmt: str | None, columns: Columns, lines: Lines
) -> tuple[str, Lines]:
    """The format, and all the lines. Raises InputError for a format that does not fit."""
    template = columns.template
    if fmt is not None and fmt not in FORMATS:
        raise InputError(f"unknown format {fmt!r}; known: {', '.join(FORMATS)}")
    first, lines = _peek(lines)
    chosen = fmt or _format_of(source, first, template)
    if template is not None and chosen not in (CSV, JSONL):
        raise InputError(f"a template needs a table or JSON Lines, but this is {chosen}")
    if columns.ids is not None and chosen in (TEXT, OPENAI_BATCH):
        raise InputError(f"--id-column needs a CSV file or JSON Lines, but this is {chosen}")
    return chosen, lines


def _format_of(source: Path | BinaryIO, first: str, template: Template | None) -> str:
    suffix = plain_name(source).suffix.lower() if isinstance(source, Path) else ""
    other = TEXT if template is None else CSV
    looks_like = JSONL if first.lstrip().startswith("{") else other
    chosen = SUFFIXES.get(suffix, looks_like)
    return OPENAI_BATCH if chosen == JSONL and template is None and _is_batch_line(first) else chosen


def _is_batch_line(text: str) -> bool:
    try:
        return looks_like_batch_line(parse_object(text))
    except InputError:
        return False


def _peek(lines: Lines) -> tuple[str, Lines]:
    """The first line that is not blank, and all the lines."""
    seen: list[Line | BadLine] = []
    for line in lines:
        seen.append(line)
        if isinstance(line, BadLine) or line[1].strip():
            break
    first = seen[-1] if seen else None
    return first[1] if isinstance(first, tuple) else "", itertools.chain(seen, lines)


def read_rows(
    source: Path | BinaryIO, fmt: str | None, columns: Columns, lines: Lines, listeners: Listeners
) -> Iterator[Row | BadLine]:
    """The rows of a file of any format. Raises InputError where it cannot be read."""
    chosen, lines = choose_format(source, fmt, columns, lines)
    return FORMATS[chosen](lines, columns, listeners)


def read_file(
    source: Path | BinaryIO, fmt: str | None, columns: Columns, listeners: Listeners
) -> Generator[Row | BadLine, None, None]:
    """The rows of a file or a stream. Raises InputError where it cannot be read."""
    if fmt is None and is_parquet(source):
        yield from _read_table(parquet_records(cast(Path, source)), columns, listeners)
        return
    with _opened(source) as stream:
        yield from read_rows(source, fmt, columns, numbered(stream), listeners)


@contextmanager
def _opened(source: Path | BinaryIO) -> Iterator[BinaryIO | Unpacked]:
    """The file, open for the block; a stream stays open."""
    if isinstance(source, Path):
        with open_source(source) as stream:
            yield stream
    else:
        yield source


def _read_text(lines: Lines, _columns: Columns, listeners: Listeners) -> Iterator[Row | BadLine]:
    listeners.columns(of_objects("prompt"))
    for line in nonblank(lines):
        yield line if isinstance(line, BadLine) else Row(line[0], {"prompt": line[1].strip()}, line[1])


def _read_objects(
    lines: Lines,
    columns: Columns,
    listeners: Listeners,
    *,
    fields_of: Callable[[dict[str, Any]], Mapping[str, Any]],
) -> Iterator[Row | BadLine]:
    listeners.columns(of_objects("prompt", "metadata"))
    for index, line in enumerate(nonblank(lines)):
        if isinstance(line, BadLine):
            yield line
            continue
        number, text = line
        if index == 0 and text.lstrip().startswith("["):
            raise InputError("the file is a JSON array; expected one JSON object per line", line=number)
        try:
            found = parse_object(text)
            if columns.template is not None:
                yield filled_row(number, found, text, columns.template, columns.ids)
                continue
            yield Row(number, fields_of(found if columns.ids is None else _with_id(found, columns.ids)), text)
        except InputError as error:
            yield BadLine(number, error.what, text)


def _with_id(row: dict[str, Any], key: str) -> dict[str, Any]:
    """The row with the value of `key` as its id. Raises InputError where it has none, or an `id` as well."""
    if key == "id":
        return row
    if key not in row:
        raise InputError(f"no {key!r} (--id-column)")
    if "id" in row:
        raise InputError(f"both 'id' and {key!r} (--id-column) are given; one of them is allowed")
    rest = {name: value for name, value in row.items() if name != key}
    return {"id": row[key]} | rest


def _read_csv(lines: Lines, columns: Columns, listeners: Listeners) -> Iterator[Row | BadLine]:
    return _read_table(Records(lines), columns, listeners)


def _read_table(
    records: Iterator[Record | BadLine], columns: Columns, listeners: Listeners
) -> Iterator[Row | BadLine]:
    return read_table(
        records,
        template=columns.template,
        id_column=columns.ids,
        on_warning=listeners.warning,
        on_columns=listeners.columns,
    )


# To add a format, write a reader and add a row here.
FORMATS: dict[str, Callable[[Lines, Columns, Listeners], Iterator[Row | BadLine]]] = {
    JSONL: partial(_read_objects, fields_of=lambda row: row),
    TEXT: _read_text,
    CSV: _read_csv,
    OPENAI_BATCH: partial(_read_objects, fields_of=fields_of_batch_line),
}
