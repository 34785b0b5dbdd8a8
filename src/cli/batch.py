"""A batch: its name, the file of tasks it is read from, and the results file it is written to."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from ..control_characters import terminal_safe
from ..core.intake import (
    AS_IT_IS,
    BadLine,
    ReadOptions,
    TaskContext,
    columns_of,
    earlier_options,
    for_batch,
    plain_name,
    read_tasks,
)
from ..core.results import (
    STDOUT,
    ResultsFile,
    TableColumns,
    form_of,
    holds_simulated,
    is_table,
    pack,
    real_path,
    refuse_special,
    rows_path,
    unpack,
)
from ..errors import InputError, unreadable
from ..records import Task
from ..settings import Settings
from .input_order import InputOrder

if TYPE_CHECKING:
    from ..core.store import Store

STDIN_IN_MEMORY_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How results are written.

    `order`: `input` or `completion`; None: that of the input for tables. `excel_safe`: a table without
    formulas; `all_columns`: a table with all columns there are.
    """

    excel_safe: bool = False
    all_columns: bool = False
    order: str | None = None

    def has_input_order(self, output: str) -> bool:
        """Whether the results in `output` have the order of the input in the end."""
        return is_table(output) if self.order is None else self.order == "input"


PLAIN = WriteOptions()


@dataclass(frozen=True, slots=True)
class Batch:
    """Where tasks come from and where their results go. `-` is standard input and standard output."""

    name: str
    source: str
    output: str
    reading: ReadOptions = AS_IT_IS
    rejects: Path | None = None
    writing: WriteOptions = PLAIN
    order: InputOrder | None = None  # of the tasks as they were read, if results get that
    stdin: BinaryIO | None = None  # a copy, since it is read twice: for the plan, and to store the tasks

    @property
    def lines(self) -> Path | BinaryIO:
        """The tasks, from the beginning."""
        if self.stdin is None:
            return Path(self.source)
        self.stdin.seek(0)
        return self.stdin

    def with_providers(self, providers: Collection[str]) -> Batch:
        """A copy that warns about tasks that none of these providers can answer."""
        return replace(self, reading=replace(self.reading, configured=providers))

    def as_begun(self, store: Store) -> Batch:
        """A copy with what the batch keeps from its beginning."""
        known = store.reports.batch(self.name)
        return replace(self, reading=for_batch(self.reading, known.options if known else None))

    def earlier(self, store: Store) -> Batch | None:
        """A copy with the options of the last run, if this run has others; None: the same, or a new batch."""
        known = store.reports.batch(self.name)
        if known is None or not known.total:
            return None
        before = earlier_options(self.reading, known.options)
        return None if before is None else replace(self, reading=before)

    @classmethod
    def of(
        cls,
        source: str,
        output: str | None,
        reading: ReadOptions,
        now: float,
        *,
        rejects: Path | None = None,
        writing: WriteOptions = PLAIN,
    ) -> Batch:
        """A batch named by the full path of its output; `batch_names` makes that relative.

        Standard output can't be resumed: each such run is a batch of its own. Raises InputError.
        """
        output = _output_of(source, output)
        if output != STDOUT:
            refuse_special(Path(output))
            if not _is_printable(output):
                name = terminal_safe(output)
                raise InputError(f"{name!r}: a results file's name can't have control characters")
        if rejects is None and output != STDOUT:
            stem = Path(output).stem.removesuffix(".results")
            rejects = Path(output).with_name(f"{stem}.rejects.jsonl")
        if source != STDOUT:
            _check_source(Path(source), output)
        if rejects is not None:
            _check_rejects(rejects, source, output)
        name = f"stdout-{int(now)}-{os.getpid()}" if output == STDOUT else str(Path(output).resolve())
        order = InputOrder() if writing.has_input_order(output) else None
        return cls(name, source, output, reading, rejects, writing, order, copy_of_stdin(source))


def _output_of(source: str, output: str | None) -> str:
    """Where results go. Raises InputError for an empty path, as a variable of the shell may be."""
    if not source or output == "":
        raise InputError(f"the path of the {'results' if source else 'tasks'} is empty")
    if output is not None or source == STDOUT:
        return output or STDOUT
    return str(plain_name(Path(source)).with_suffix(".results.jsonl"))


def _is_printable(name: str) -> bool:
    """A batch is named after its file, and its name appears in lines of text."""
    return terminal_safe(name) == name and "\n" not in name and "\t" not in name


def copy_of_stdin(source: str) -> BinaryIO | None:
    """A copy of standard input if that is the source: in memory, or in an unnamed file if it is long."""
    if source != STDOUT:
        return None
    copy = tempfile.SpooledTemporaryFile(STDIN_IN_MEMORY_BYTES)  # noqa: SIM115 - it lives as long as the batch
    shutil.copyfileobj(sys.stdin.buffer, copy)
    return cast(BinaryIO, copy)


def _check_source(source: Path, output: str) -> None:
    try:
        mode = source.stat().st_mode
    except OSError as error:
        raise InputError(f"{source}: {unreadable(error)}") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{source}: is a folder, not a file")
    if not stat.S_ISREG(mode):
        problem = "is a device or a pipe, and tasks are read twice; use - for standard input"
        raise InputError(f"{source}: {problem}")
    if output != STDOUT and source.resolve() == Path(output).resolve():
        raise InputError(f"{output}: is the file of tasks; choose another output")


def _check_rejects(rejects: Path, source: str, output: str) -> None:
    refuse_special(rejects)
    if rejects.resolve() in (Path(source).resolve(), Path(output).resolve()):
        raise InputError(f"{rejects}: holds the tasks or the results; choose another file for the rejects")


def open_results(batch: Batch, notify: Callable[[str], None], *, simulated: bool) -> ResultsFile:
    """Open the results file. Raises InputError if it is in use or of another kind.

    Simulated rows are no answers: a live run moves their file aside and runs every task again. A simulated
    run refuses a file with real answers.
    """
    path = rows_path(batch.output)
    with naming(batch.source):
        own = columns_of(batch.lines, batch.reading)
    columns = TableColumns(own, _fields_of(batch.reading), batch.writing.all_columns)
    if batch.writing.excel_safe and path != Path(batch.output):
        raise InputError(f"--excel-safe needs a table: end {batch.output} in .csv or .tsv")
    form = form_of(str(path), batch.reading.fmt, excel_safe=batch.writing.excel_safe, columns=columns)
    unpack(batch.output, own)
    held = None if batch.output == STDOUT else holds_simulated(path, form)
    if held is False and simulated:
        raise InputError(f"{path}: holds answers of real providers; choose another output")
    if held and not simulated:
        file = real_path(path)
        aside = file.with_name(f"{file.stem}.simulated{file.suffix}")
        file.replace(aside)
        notify(f"{path}: held simulated results, which are now in {aside}; every task runs again")
    return ResultsFile(path, simulated=simulated, form=form)


def finish_results(batch: Batch, results: ResultsFile) -> None:
    """Put the rows of a finished batch into the order and the form that are wanted.

    Raises StoreError or InputError; then the rows are complete, but where and as they were.
    """
    reading, path = batch.reading, results.path
    if batch.order is not None:
        results.arrange(batch.order)
    if path is not None and path != Path(batch.output):
        with naming(batch.source):
            own = columns_of(batch.lines, reading)
        pack(batch.output, own)


def place_of(batch: Batch, results: ResultsFile) -> Path | None:
    """The file with the results; None for standard output."""
    path = results.path
    return path if path is None or path.exists() else Path(batch.output)


def _fields_of(reading: ReadOptions) -> tuple[str, ...]:
    """The top-level fields of the schema for all rows."""
    properties = (reading.defaults.response_schema or {}).get("properties")
    return tuple(properties) if isinstance(properties, Mapping) else ()


def lines_of(
    batch: Batch,
    settings: Settings,
    now: float,
    on_warning: Callable[[str], None] = lambda _: None,
) -> Iterator[Task | BadLine]:
    """The tasks of the file, and the lines that are none."""
    with naming(batch.source):
        context = TaskContext(batch.name, settings, now)
        lines = read_tasks(batch.lines, context, batch.reading, on_warning=on_warning)
        yield from lines if batch.order is None else batch.order.recorded(lines)


@contextmanager
def naming(source: str) -> Iterator[None]:
    """Add the file's name to errors about one of its lines."""
    try:
        yield
    except InputError as error:
        if error.line is None:
            raise
        raise InputError(f"{source}, {error}") from error
