"""One reader per format: lines of text become the fields of tasks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from ...errors import InputError
from .lines import BadLine, Line, Row
from .sentences import kind_of


def choose_format(
    source: Path | BinaryIO, fmt: str | None, lines: Iterator[Line | BadLine]
) -> tuple[str, Iterator[Line | BadLine]]:
    """The format and the lines, none of them lost by looking at the first."""
    if fmt is not None:
        if fmt not in FORMATS:
            raise InputError(f"unknown format {fmt!r}; known: {', '.join(FORMATS)}")
        return fmt, lines
    suffix = source.suffix.lower() if isinstance(source, Path) else ""
    if suffix in SUFFIXES:
        return SUFFIXES[suffix], lines
    first = next(lines, None)
    if first is None:
        return "text", iter(())
    looks_like_json = isinstance(first, tuple) and first[1].lstrip().startswith("{")
    return "jsonl" if looks_like_json else "text", itertools.chain([first], lines)


def _read_text(lines: Iterator[Line | BadLine]) -> Iterator[Row | BadLine]:
    for line in lines:
        yield line if isinstance(line, BadLine) else Row(line[0], {"prompt": line[1].strip()})


def _read_jsonl(lines: Iterator[Line | BadLine]) -> Iterator[Row | BadLine]:
    for index, line in enumerate(lines):
        if isinstance(line, BadLine):
            yield line
            continue
        number, text = line
        if index == 0 and text.lstrip().startswith("["):
            raise InputError("this is one JSON array; tasks are one JSON object a line", line=number)
        try:
            yield Row(number, parse_object(text))
        except InputError as error:
            yield BadLine(number, error.what)


def parse_object(text: str) -> dict[str, Any]:
    """One JSON object without NaN or Infinity. Raises InputError."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InputError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise InputError("not JSON that can be read: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"not JSON that can be read: {error}") from None
    if not isinstance(value, dict):
        raise InputError(f'must be an object like {{"prompt": "..."}}, not {kind_of(value)}')
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise InputError(f"{name} is not a number that JSON knows")


# A new format is a reader and a row here.
FORMATS: dict[str, Callable[[Iterator[Line | BadLine]], Iterator[Row | BadLine]]] = {
    "jsonl": _read_jsonl,
    "text": _read_text,
}
SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".txt": "text"}
