"""The columns of a table of results, and what each holds.

    the input's columns, output, output.FIELD, status, model, cost_usd, error[, the rest][, simulated]

Where the input has no column of ids, `id` comes first: a resumed run recognises rows by it. A column whose
name the input has as well gets the prefix `llm_`. `simulated` is there for simulated results only, and always
among the rest.

The header of an existing table says all of this again, so a resumed run keeps its columns. Tables of earlier
versions begin with `id,line,status,output`; the input's columns follow those of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...answer_choices import bare_label, is_choice
from ...records import Result
from ..intake.own_columns import NO_COLUMNS, OwnColumns

COLUMNS = (
    "id", "line", "status", "output", "finish_reason", "truncated", "error", "warnings", "provider", "model",
    "agent", "task_type", "tier", "cost_usd", "latency_s", "simulated",
    "deduplicated_from",
)  # fmt: skip
USAGE = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
ATTEMPTS = "attempts"  # their number
TOOL_CALLS = "tool_calls"  # as JSON, in the form of messages
METADATA = "metadata"  # as JSON: all that has no column of its own
SIMULATED = "simulated"
OUTPUT = "output"
AFTER_OUTPUT = ("status", "model", "cost_usd", "error")
REST = (
    TOOL_CALLS,
    "line", "finish_reason", "truncated", "warnings", "provider", "agent", "task_type", "tier", "latency_s",
    *USAGE, ATTEMPTS, "deduplicated_from", METADATA, SIMULATED,
)  # fmt: skip
PREFIX = "llm_"  # before a column of ours whose name the input has

EARLIER_FIRST = ("id", "line", "status", "output")  # the beginning of the header in earlier versions
_EARLIER = frozenset([*COLUMNS, *USAGE, ATTEMPTS, METADATA])
_EARLIER_OWN = METADATA + "."  # before an input column that a column of ours had too


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Which columns a new table gets. `fields`: of the answers, where they are JSON objects."""

    own: OwnColumns = NO_COLUMNS
    fields: tuple[str, ...] = ()
    all: bool = False


class Cell(NamedTuple):
    """What a column holds: a value of the result (`ours`), its metadata (`data`) or its answer (`field`)."""

    kind: str
    key: str


OURS, DATA, FIELD = "ours", "data", "field"


@dataclass(frozen=True, slots=True)
class Layout:
    """The header of one table, and what each of its columns holds."""

    header: tuple[str, ...]
    cells: tuple[Cell, ...]
    _shown: frozenset[str] = field(init=False)  # keys of the metadata that have a column

    def __post_init__(self) -> None:
        shown = {cell.key for cell in self.cells if cell.kind == DATA}
        ids = self.index("id")
        if ids is not None and self.header[ids] != "id":
            shown.add(self.header[ids])  # --id-column, whose cells are metadata as well
        object.__setattr__(self, "_shown", frozenset(shown))

    def index(self, key: str) -> int | None:
        """The column with this value of the result; None if there is none."""
        cell = Cell(OURS, key)
        return self.cells.index(cell) if cell in self.cells else None

    def values(self, result: Result, row: Mapping[str, Any]) -> list[Any]:
        """The cells of a result, whose row is `row`."""
        metadata = row["metadata"]
        rest = {name: value for name, value in metadata.items() if name not in self._shown}
        ours = flat_row(row) | {METADATA: _json(rest) if rest else ""}
        answer: Mapping[str, Any] = {}
        if is_choice(result.task.response_schema) and row["output"]:
            ours[OUTPUT] = bare_label(row["output"])
        if result.task.response_schema is not None:
            answer = _object(row["output"])
        found = {OURS: ours, DATA: metadata, FIELD: answer}
        return [_text(cell, found[cell.kind].get(cell.key, "")) for cell in self.cells]


def new_layout(columns: TableColumns, *, simulated: bool) -> Layout:
    """The layout of a new table."""
    header = list(columns.own.names)
    cells = [_own_cell(name, columns.own) for name in header]
    if columns.own.ids is None:
        header.insert(0, "id")
        cells.insert(0, Cell(OURS, "id"))
    rest = REST if columns.all else (SIMULATED,) if simulated else ()
    fields = (f"{OUTPUT}.{name}" for name in columns.fields)
    for name in (OUTPUT, *fields, *AFTER_OUTPUT, *rest):
        cell = _our_cell(name)
        if cell != Cell(OURS, METADATA) or cell not in cells:  # it may be a column of the input
            header.append(_without_clash(name, header))
            cells.append(cell)
    return Layout(tuple(header), tuple(cells))


def layout_of(header: Sequence[str], own: OwnColumns) -> Layout | None:
    """The layout of an existing table; None if the header is not one of results."""
    first = _first_of_ours(header)
    if first is None:
        is_earlier = tuple(header[: len(EARLIER_FIRST)]) == EARLIER_FIRST
        return Layout(tuple(header), tuple(map(_earlier_cell, header))) if is_earlier else None
    ids = own.ids if own.ids in header[:first] else "id"
    if ids not in header[:first]:
        return None
    cells = [Cell(OURS, "id") if name == ids else _own_cell(name, own) for name in header[:first]]
    return Layout(tuple(header), (*cells, *map(_our_cell, header[first:])))


def flat_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A result's row as cells."""
    cells = {name: row.get(name) for name in (*COLUMNS, "prompt")}
    cells |= {name: row["usage"][name] for name in USAGE}
    cells["warnings"] = "; ".join(row["warnings"])
    cells[TOOL_CALLS] = _json(row[TOOL_CALLS]) if TOOL_CALLS in row else ""
    cells[ATTEMPTS] = len(row["attempts"])
    cells[METADATA] = _json(row["metadata"]) if row["metadata"] else ""
    return cells


def _own_cell(name: str, own: OwnColumns) -> Cell:
    return Cell(OURS, own.fields[name]) if name in own.fields else Cell(DATA, name)


def _our_cell(name: str) -> Cell:
    plain = _plain(name)
    field_name = plain.removeprefix(OUTPUT + ".")
    return Cell(OURS, plain) if field_name == plain else Cell(FIELD, field_name)


def _earlier_cell(name: str) -> Cell:
    if name in _EARLIER:
        return Cell(OURS, name)
    data = name.removeprefix(_EARLIER_OWN)
    return Cell(DATA, data if data in _EARLIER else name)


def _without_clash(name: str, header: Iterable[str]) -> str:
    while name in header:
        name = PREFIX + name
    return name


def _plain(name: str) -> str:
    while name.startswith(PREFIX):
        name = name.removeprefix(PREFIX)
    return name


def _first_of_ours(header: Sequence[str]) -> int | None:
    """Where our columns begin: the input may be a table of results, so the last such columns are ours."""
    plain = [_plain(name) for name in header]
    for after in reversed(range(1, len(plain))):
        if tuple(plain[after : after + len(AFTER_OUTPUT)]) == AFTER_OUTPUT:
            return next(_outputs_before(plain, after), None)
    return None


def _outputs_before(plain: Sequence[str], after: int) -> Iterator[int]:
    for index in reversed(range(after)):
        if plain[index] == OUTPUT:
            yield index
        if not plain[index].startswith(OUTPUT + "."):
            return


def _text(cell: Cell, value: Any) -> Any:
    """Values of ours as they are; those of the metadata and the answer as text, or JSON."""
    if cell.kind == OURS or isinstance(value, str):
        return value
    return "" if value is None else _json(value)


def _object(output: str | None) -> Mapping[str, Any]:
    """The answer, if it is a JSON object."""
    try:
        found = json.loads(output or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
