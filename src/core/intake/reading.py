"""Reads a file or a stream of tasks."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from ...durations import seconds_of
from ...errors import InputError
from ...records import DEFERS, Task
from ...settings import Settings
from .agent_prompts import check_agent
from .fields import TaskFields
from .formats import Columns, Listeners, read_file
from .lines import BadLine, Row
from .own_columns import NO_COLUMNS, OwnColumns
from .pins import Names, check_pins, never_called, unserved_reason
from .prices import unpriced_warning
from .row_defaults import NO_DEFAULTS, RowDefaults, missing, option_of
from .tasks import TaskContext, make_task, unknown_type_warning, what_it_sends
from .template import Template
from .validation_messages import shown

IDS_OF_CONTENT = 1  # made of all keys and cells of the row, whether they are sent or not
IDS_OF_WHAT_IS_SENT = 2
OWN_MODELS = ("--model",)  # among the warnings that were given
ROWS = "rows"  # the key of the stored options under which the defaults of rows are


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to read a file.

    `fmt`: a key of `FORMATS`; None decides by the file's suffix, then by its first line. `template`: makes
    the prompts of a CSV file. `id_column`: the column or key with the ids, None for `id`. `limit`: stop after
    that many tasks. `sample`: so many tasks of the whole file, chosen by `sample_seed`. `defaults`: values
    for rows that set none. `only`: the providers that may answer; none named: any. `configured`: the
    providers that can be called; a row that may use none of them is a bad line (None: not checked). `ids`:
    the scheme for rows without an id; a batch keeps the one that it began with.
    """

    fmt: str | None = None
    template: Template | None = None
    id_column: str | None = None
    limit: int | None = None
    sample: int | None = None
    sample_seed: int = 1
    defaults: RowDefaults = NO_DEFAULTS
    only: Names = ()
    configured: Collection[str] | None = None
    ids: int = IDS_OF_WHAT_IS_SENT

    def check(self, settings: Settings) -> None:
        """Raises InputError for options that no row could have, or that leave no provider."""
        if self.limit is not None and self.sample is not None:
            raise InputError("both --limit and --sample are given; one of them is allowed")
        self.defaults.check(option_of)
        try:
            check_agent(self.defaults.agent, settings)
        except InputError as error:
            raise InputError(f"--agent: {error.what}") from None
        check_pins(self.defaults.models, self.only, settings)

    @property
    def is_partial(self) -> bool:
        """Whether some tasks of the file may be left out."""
        return self.limit is not None or self.sample is not None

    @property
    def columns(self) -> Columns:
        """What the columns of a CSV file, or the keys of an object, mean."""
        return Columns(self.template, self.id_column)


AS_IT_IS = ReadOptions()


def stored_options(options: ReadOptions) -> dict[str, Any]:
    """What is stored with a batch: how ids are made, and the options that are part of each task."""
    found: dict[str, Any] = {"ids": options.ids, ROWS: options.defaults.given(), "only": list(options.only)}
    if options.defaults.deadline is not None:
        found[DEFERS] = seconds_of(options.defaults.deadline)
    return found


def for_batch(options: ReadOptions, stored: Mapping[str, Any] | None) -> ReadOptions:
    """The options with what a batch keeps from its beginning; `stored`: its options, None for a new batch.

    A batch of an earlier version keeps its ids and the tier `auto` for rows without one, since its tasks are
    stored so.
    """
    if stored is None:
        return options
    if ROWS in stored:
        return replace(options, ids=int(stored["ids"]))
    tier = options.defaults.tier or "auto"
    ids = int(stored.get("ids", IDS_OF_CONTENT))
    return replace(options, ids=ids, defaults=replace(options.defaults, tier=tier))


def earlier_options(options: ReadOptions, stored: Mapping[str, Any]) -> ReadOptions | None:
    """The options with which the tasks of a batch were stored, if these would make other tasks.

    None where they are the same, and for a batch of an earlier version, which did not store them.
    """
    if ROWS not in stored:
        return None
    before = replace(options, defaults=RowDefaults.of(stored[ROWS]), only=tuple(stored["only"]))
    return None if before == options else before


def changes(before: ReadOptions, after: ReadOptions) -> Iterator[str]:
    """`--max-tokens 100 (was 200)` for each option that differs."""
    old, new = before.defaults.given() | {"only": before.only}, after.defaults.given() | {"only": after.only}
    for name in dict.fromkeys([*old, *new]):
        if (was := old.get(name)) != (now := new.get(name)):
            yield f"{option_of(name)} {_value(now)} (was {_value(was)})"


def _value(value: Any) -> str:
    if value in (None, [], ()):
        return "not set"
    if isinstance(value, list | tuple):
        return ",".join(value)
    is_word = isinstance(value, int | float) or (isinstance(value, str) and value.isidentifier())
    return str(value) if is_word else shown(value)


def read_tasks(
    source: Path | BinaryIO,
    context: TaskContext,
    options: ReadOptions = AS_IT_IS,
    *,
    on_warning: Callable[[str], None] = lambda _: None,
) -> Iterator[Task | BadLine]:
    """Read `source` line by line; only digests of ids stay in memory.

    `on_warning` gets one message for each unknown task type, and for models without a price. Raises
    InputError where the source cannot be read.
    """
    options.check(context.settings)
    tasks = _all_tasks(source, context, options, on_warning)
    yield from tasks if options.sample is None else _sampled(tasks, options.sample, options.sample_seed)


def _all_tasks(
    source: Path | BinaryIO, context: TaskContext, options: ReadOptions, on_warning: Callable[[str], None]
) -> Iterator[Task | BadLine]:
    builder = _Builder(context, options, on_warning)
    left = options.limit
    with closing(read_file(source, options.fmt, options.columns, Listeners(on_warning))) as rows:
        for row in rows:
            task = row if isinstance(row, BadLine) else builder.build(row)
            yield task
            if left is not None and isinstance(task, Task):
                left -= 1
                if left <= 0:
                    return


def _sampled(items: Iterator[Task | BadLine], size: int, seed: int) -> Iterator[Task | BadLine]:
    """A random sample of the tasks, in the order of the file, and all bad lines.

    Each task has a random rank by its id and the seed, and the lowest ranks are taken. So the sample is the
    same in every run, and a larger one of the same seed contains it. Only the sample is kept in memory.
    """
    kept: list[tuple[int, int, Task]] = []  # a heap with the highest rank first
    for number, item in enumerate(items):
        if isinstance(item, BadLine):
            yield item
            continue
        digest = hashlib.blake2b(item.id.encode(), digest_size=8, key=str(seed).encode()).digest()
        entry = (-int.from_bytes(digest), number, item)
        if len(kept) < size:
            heapq.heappush(kept, entry)
        elif entry > kept[0]:
            heapq.heapreplace(kept, entry)
    for _, _, task in sorted(kept, key=lambda entry: entry[1]):
        yield task


def columns_of(source: Path | BinaryIO, options: ReadOptions = AS_IT_IS) -> OwnColumns:
    """The columns that return with the results.

    Raises InputError for an invalid header.
    """
    found: list[OwnColumns] = []
    with closing(read_file(source, options.fmt, options.columns, Listeners(columns=found.append))) as rows:
        next(rows, None)
    return found[0] if found else NO_COLUMNS


class _Builder:
    """Makes the tasks of one file, with ids that are unique within it."""

    def __init__(self, context: TaskContext, options: ReadOptions, on_warning: Callable[[str], None]) -> None:
        self._context, self._options, self._on_warning = context, options, on_warning
        self._defaults = options.defaults.given()
        self._seen: set[bytes] = set()  # digests of the ids so far: 16 bytes each, not the ids
        self._equals: dict[str, int] = {}  # by digest, the rows without an id so far
        self._warned: set[str | tuple[str, ...]] = set()  # task types, and models that were named together

    def build(self, row: Row) -> Task | BadLine:
        """The row's task, or why it is not one."""
        defaults = missing(row.fields, self._defaults) if self._defaults else {}
        try:
            task = make_task(
                {**row.fields, **defaults} if defaults else row.fields,
                self._context,
                line=row.line,
                default_id=self._next_equal,
                identity=self._identity(row, defaults),
                only=self._options.only,
            )
            self._check_served(task)
            self._claim(task.id)
        except InputError as error:
            return BadLine(row.line, error.what, row.text)
        self._warn_of_type(task.task_type)
        self._warn_of_models(task)
        return task

    def _identity(self, row: Row, defaults: Mapping[str, Any]) -> Callable[[TaskFields], Mapping[str, Any]]:
        if self._options.ids == IDS_OF_CONTENT:  # which counts the shape of all answers to each row
            shape = {name: defaults[name] for name in ("response_schema", "choices") if name in defaults}
            return lambda _: {**row.fields, **shape} if row.content is None else row.content
        return lambda valid: what_it_sends(valid, row.filled, defaults)

    def _next_equal(self, content: str) -> str:
        """Equal lines differ by their ordinal, from the second on."""
        ordinal = self._equals[content] = self._equals.get(content, 0) + 1
        return content if ordinal == 1 else f"{content}-{ordinal}"

    def _claim(self, task_id: str) -> None:
        digest = hashlib.blake2b(task_id.encode(), digest_size=16).digest()
        if digest in self._seen:
            raise InputError(f"duplicate id {shown(task_id)}: an earlier line of this file has it")
        self._seen.add(digest)

    def _check_served(self, task: Task) -> None:
        configured = self._options.configured
        if configured is not None and (why := unserved_reason(task, self._context.settings, configured)):
            raise InputError(why)

    def _warn_of_type(self, task_type: str) -> None:
        if task_type in self._warned:
            return
        self._warned.add(task_type)
        if warning := unknown_type_warning(task_type, self._context.settings):
            self._on_warning(warning)

    def _warn_of_models(self, task: Task) -> None:
        if not task.models or task.models in self._warned:
            return
        self._warned.add(task.models)
        settings, configured = self._context.settings, self._options.configured
        if warning := unpriced_warning(task, settings):
            self._on_warning(warning)
        of_all = self._options.defaults.models
        if task.models == of_all:
            return  # the command tells it before the plan
        if configured is not None and (warning := never_called(task.models, settings, configured)):
            self._on_warning(warning)
        if of_all and OWN_MODELS not in self._warned:
            self._warned.add(OWN_MODELS)
            self._on_warning(f"line {task.line} names its own models, which win over --model")
