"""Tables: columns named like a field of a task set that field, the others are metadata of the task.

With a template all columns are data, except `id` and columns such as `task.priority` or `task.system`. An
empty cell leaves its field unset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...errors import InputError, hint
from ...formatting import plural
from .csv_cells import value_of
from .csv_records import Record
from .fields import TaskFields
from .lines import BadLine, Row
from .own_columns import OwnColumns, of_table
from .template import Template
from .validation_messages import near_key, shown

PROMPT_KEYS = ("prompt", "messages")
PREFIX = "task."  # before the name of a field, with a template
TEMPLATE_OPTION = "(--prompt or --prompt-file)"  # a page replaces it by the name of its field


def read_table(
    records: Iterator[Record | BadLine],
    *,
    template: Template | None = None,
    id_column: str | None = None,
    on_warning: Callable[[str], None] = lambda _: None,
    on_columns: Callable[[OwnColumns], None] = lambda _: None,
) -> Iterator[Row | BadLine]:
    """The rows of a table, whose first record is its header.

    `on_columns` gets the columns that return with the results.
    `id_column`: the column with the ids, which is metadata as well; None: `id`, which is not.

    Raises InputError for an invalid header, and where quoting is broken beyond a row.
    """
    header = next(records, None)
    if header is None:
        return
    if isinstance(header, BadLine):
        raise InputError(f"the header: {header.reason}", line=header.line)
    columns = _Columns(header, template, id_column, on_warning)
    on_columns(columns.own)
    for record in records:
        yield record if isinstance(record, BadLine) else columns.row(record)


class _Columns:
    """What each column of a file sets."""

    def __init__(
        self,
        header: Record,
        template: Template | None,
        id_column: str | None,
        on_warning: Callable[[str], None],
    ) -> None:
        self._template = template
        self._names = _names(header)
        if template is None:
            self._check_prompt(header.line)
            self._keys = {name: name for name in self._names if name in TaskFields.model_fields}
        else:
            template.check(self._names)
            self._keys = _prefixed(self._names, template, header.line, on_warning)
        if id_column is not None:
            self._take_ids_from(id_column, header.line)
        copied = {id_column} - {"id"}
        set_by = {*self._keys.values()} - copied
        self._data = tuple(name for name in self._names if name not in set_by)
        self.own = of_table(self._names, self._data, self._keys)
        if template is None:
            others = [name for name in self._data if name not in copied | {"id"}]
            for name in others:
                _check_name(name, list(TaskFields.model_fields), header.line, on_warning)

    def _take_ids_from(self, column: str, line: int) -> None:
        if column not in self._names:
            raise InputError(f"--id-column: no column {column!r}; {hint(column, self._names)}", line=line)
        self._keys["id"] = column

    def _check_prompt(self, line: int) -> None:
        if not any(key in self._names for key in PROMPT_KEYS):
            near = next((name for name in self._names if near_key(name, PROMPT_KEYS)), "")
            raise InputError(
                f"no column 'prompt' among {', '.join(map(repr, self._names))}"
                + (f"; rename {near!r}, or" if near else ";")
                + f" put columns into a prompt {TEMPLATE_OPTION}",
                line=line,
            )

    def row(self, record: Record) -> Row | BadLine:
        """The record as fields of a task."""
        if len(record.cells) != len(self._names):
            found, wanted = plural(len(record.cells), "cell"), plural(len(self._names), "column")
            reason = (
                f"{found} for {wanted}; put a cell that contains a delimiter or a line end in double quotes"
            )
            return BadLine(record.line, reason, record.text)
        cells = dict(zip(self._names, record.cells, strict=True))
        try:
            filled = None if self._template is None else self._template.values(cells)
            return Row(record.line, self._fields(cells), record.text, content=cells, filled=filled)
        except InputError as error:
            return BadLine(record.line, error.what, record.text)

    def _fields(self, cells: Mapping[str, str]) -> dict[str, Any]:
        fields = {key: value_of(key, cells[name]) for key, name in self._keys.items() if cells[name].strip()}
        if self._template is not None:
            fields["prompt"] = self._template.fill(cells)
        elif "prompt" in cells and "messages" not in fields:
            fields.setdefault("prompt", cells["prompt"])
        others = {name: cells[name] for name in self._data}
        if others and isinstance(fields.setdefault("metadata", {}), dict):
            fields["metadata"] |= others
        return fields


def _names(header: Record) -> tuple[str, ...]:
    """The names of the columns, by number where the header has none. Raises InputError."""
    names = [cell.strip() or f"column_{n}" for n, cell in enumerate(header.cells, 1)]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InputError(
                f"columns {names.index(name) + 1} and {index + 1} are both named {shown(name)}; "
                "rename one of them",
                line=header.line,
            )
    return tuple(names)


def _prefixed(
    names: Sequence[str], template: Template, line: int, on_warning: Callable[[str], None]
) -> dict[str, str]:
    """With a template: the columns that set a field, by field. Raises InputError for a misspelt one."""
    settable = [key for key in TaskFields.model_fields if key not in PROMPT_KEYS]
    keys = {"id": "id"} if "id" in names else {}
    for name in names:
        key = name.removeprefix(PREFIX)
        if key in settable and key != name:
            keys[key] = name
        elif key != name:
            _check_prefixed(name, settable, template, line)
    _warn_of_data([name for name in names if name in settable and name not in keys.values()], on_warning)
    return keys


def _check_prefixed(name: str, settable: Sequence[str], template: Template, line: int) -> None:
    """Raises InputError for a column with the prefix that sets no field, unless the template uses it."""
    key = name.removeprefix(PREFIX)
    if name not in template.columns and (near := near_key(key, settable)):
        raise InputError(
            f"unknown column {shown(name)}; did you mean {PREFIX + near!r}? Rename it", line=line
        )
    if key in PROMPT_KEYS:
        raise InputError(f"column {name!r}: the template makes the prompt", line=line)


def _warn_of_data(names: Sequence[str], on_warning: Callable[[str], None]) -> None:
    """Columns named like a field are data beside a template; they may be meant to set it."""
    if names:
        columns = "column " + repr(names[0]) if len(names) == 1 else "columns " + ", ".join(map(repr, names))
        renamed = ", ".join(repr(PREFIX + name) for name in names)
        on_warning(f"{columns}: data for the template; to set a field of the tasks, rename it {renamed}")


def _check_name(name: str, keys: Sequence[str], line: int, on_warning: Callable[[str], None]) -> None:
    """A misspelt field is an error; a column that may be meant as data gets a warning."""
    near = near_key(name, keys)
    if not near:
        return
    if near.startswith(name):  # `model`, `message`, `choice` are words of their own
        on_warning(f"column {name!r} is copied to the results as data; the field of a task is {near!r}")
        return
    raise InputError(f"unknown column {shown(name)}; did you mean {near!r}? Rename it", line=line)
