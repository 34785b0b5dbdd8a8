"""A file or a stream becomes tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import InputError
from ...records import Task
from ...settings import Settings
from .fields import TaskFields
from .formats import Listeners, read_rows
from .lines import BadLine, Row, numbered, open_source
from .making import make_task, unknown_type_warning, what_it_sends
from .pins import NO_PINS, Pins, nobody_to_ask
from .prices import unpriced_warning
from .template import Template
from .validation_messages import shown

IDS_OF_CONTENT = 1  # of all keys and cells of the row, be they sent or not
IDS_OF_WHAT_IS_SENT = 2


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a file's ending and lines don't tell.

    `fmt` is a key of `FORMATS`; None decides by the file's ending, then by its first line. `template` makes
    the prompts of a CSV file. `limit` ends the reading after that many tasks. `shape` is the
    `response_schema` or the `choices` of rows that name neither. Where `configured` names the providers that
    can be called, a row that may go to none of them is a bad line. `ids` is the scheme by which rows without
    an id get one: a batch keeps the one that it began with.
    """

    fmt: str | None = None
    template: Template | None = None
    limit: int | None = None
    pins: Pins = NO_PINS
    shape: Mapping[str, Any] = field(default_factory=dict)
    configured: Collection[str] | None = None
    ids: int = IDS_OF_WHAT_IS_SENT


AS_IT_IS = ReadOptions()


def ids_of(options: Mapping[str, Any] | None) -> int:
    """The scheme of a batch by what is stored with it; None for a batch that begins now."""
    return IDS_OF_WHAT_IS_SENT if options is None else int(options.get("ids", IDS_OF_CONTENT))


def read_tasks(
    source: Path | BinaryIO,
    *,
    batch: str,
    settings: Settings,
    now: float,
    options: ReadOptions = AS_IT_IS,
    submitter: str = "local",
    on_warning: Callable[[str], None] = lambda _: None,
) -> Iterator[Task | BadLine]:
    """Read `source` line by line. Memory does not grow with the length of its lines' text.

    `on_warning` is told once of each task type that has no row, and of models without a price. Raises
    InputError where there is nothing to read from.
    """
    options.pins.check(settings)
    builder = _Builder(batch, settings, now, submitter, options, on_warning)
    left = options.limit
    with ExitStack() as stack:
        stream = stack.enter_context(open_source(source)) if isinstance(source, Path) else source
        told = Listeners(on_warning)
        for row in read_rows(source, options.fmt, options.template, numbered(stream), told):
            task = row if isinstance(row, BadLine) else builder.build(row)
            yield task
            if left is not None and isinstance(task, Task):
                left -= 1
                if left <= 0:
                    return


def columns_of(source: Path | BinaryIO, options: ReadOptions = AS_IT_IS) -> tuple[str, ...]:
    """The columns of a CSV file that come back with its results, by its header; none of another format.

    Raises InputError where the header can't be meant.
    """
    found: list[str] = []
    with ExitStack() as stack:
        stream = stack.enter_context(open_source(source)) if isinstance(source, Path) else source
        told = Listeners(columns=found.extend)
        next(read_rows(source, options.fmt, options.template, numbered(stream), told), None)
    return tuple(found)


class _Builder:
    """Makes tasks of one file and remembers what makes ids unique within it."""

    def __init__(
        self,
        batch: str,
        settings: Settings,
        now: float,
        submitter: str,
        options: ReadOptions,
        on_warning: Callable[[str], None],
    ) -> None:
        self._batch, self._settings, self._now, self._submitter = batch, settings, now, submitter
        self._pins, self._shape, self._on_warning = options.pins, options.shape, on_warning
        self._configured, self._ids = options.configured, options.ids
        self._seen: set[bytes] = set()  # digests of the ids so far: 16 bytes each, not the ids
        self._equals: dict[str, int] = {}  # how often a content without id came
        self._warned: set[str | tuple[str, ...]] = set()  # types, and models that were named together

    def build(self, row: Row) -> Task | BadLine:
        fields = self._shaped(row.fields)
        try:
            task = make_task(
                fields,
                batch=self._batch,
                settings=self._settings,
                now=self._now,
                submitter=self._submitter,
                line=row.line,
                default_id=self._next_equal,
                identity=self._identity(row, fields),
                pins=self._pins,
            )
            self._refuse_without_key(task)
            self._claim(task.id)
        except InputError as error:
            return BadLine(row.line, error.what, row.text)
        self._warn_of_type(task.task_type)
        self._warn_of_models(task)
        return task

    def _shaped(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        if not self._shape or fields.keys() & {"response_schema", "choices"}:
            return fields
        return {**fields, **self._shape}

    def _identity(self, row: Row, fields: Mapping[str, Any]) -> Callable[[TaskFields], Mapping[str, Any]]:
        if self._ids == IDS_OF_CONTENT:
            return lambda _: fields if row.content is None else row.content
        return lambda valid: what_it_sends(valid, row.filled, own_shape=fields is row.fields)

    def _next_equal(self, content: str) -> str:
        """Equal lines differ by their ordinal, from the second on."""
        ordinal = self._equals[content] = self._equals.get(content, 0) + 1
        return content if ordinal == 1 else f"{content}-{ordinal}"

    def _claim(self, task_id: str) -> None:
        digest = hashlib.blake2b(task_id.encode(), digest_size=16).digest()
        if digest in self._seen:
            raise InputError(f"duplicate id {shown(task_id)}: an earlier line of this file has it")
        self._seen.add(digest)

    def _refuse_without_key(self, task: Task) -> None:
        if self._configured is not None and (why := nobody_to_ask(task, self._settings, self._configured)):
            raise InputError(why)

    def _warn_of_type(self, task_type: str) -> None:
        if task_type in self._warned:
            return
        self._warned.add(task_type)
        if warning := unknown_type_warning(task_type, self._settings):
            self._on_warning(warning)

    def _warn_of_models(self, task: Task) -> None:
        if not task.models or task.models in self._warned:
            return
        self._warned.add(task.models)
        if warning := unpriced_warning(task, self._settings):
            self._on_warning(warning)
