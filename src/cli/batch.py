"""A batch on its way in: its name, its results file, its tasks, and what an earlier run has left."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from ..control_characters import terminal_safe
from ..core.intake import AS_IT_IS, BadLine, ReadOptions, columns_of, ids_of, read_tasks
from ..core.rejects import RejectsFile
from ..core.results import STDOUT, ResultsFile, form_of, holds_simulated, refuse_special
from ..errors import InputError, StoreError
from ..formatting import plural
from ..records import Task
from ..settings import Settings
from .progress import say
from .progress_counts import OPEN_STATUSES, ProgressCounts
from .reading import Reading
from .rerun import NO_RERUN, STATUSES, RerunOptions

if TYPE_CHECKING:
    from ..core.store import AddReport, Store

BAD_LINES_SHOWN = 20
STDIN_IN_MEMORY_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Where tasks come from and where their results go. `-` is standard input and standard output."""

    name: str
    source: str
    output: str
    reading: ReadOptions = AS_IT_IS
    rejects: Path | None = None
    excel_safe: bool = False
    stdin: BinaryIO | None = None  # a copy, since it is read twice: for the plan, and to store the tasks

    @property
    def lines(self) -> Path | BinaryIO:
        """Where the tasks are read from, at its beginning."""
        if self.stdin is None:
            return Path(self.source)
        self.stdin.seek(0)
        return self.stdin

    def asking(self, providers: Collection[str]) -> Batch:
        """The same, where these are the providers that can be called."""
        return replace(self, reading=replace(self.reading, configured=providers))

    def as_begun(self, store: Store) -> Batch:
        """The same, with ids made as they were when it began."""
        known = store.reports.batch(self.name)
        return replace(self, reading=replace(self.reading, ids=ids_of(known.options if known else None)))

    @classmethod
    def of(
        cls,
        source: str,
        output: str | None,
        reading: ReadOptions,
        now: float,
        rejects: Path | None = None,
        *,
        excel_safe: bool = False,
    ) -> Batch:
        """Named by the full path of its output, for `names` to make it relative. Raises InputError.

        Standard output can't be taken up again: each such run is a batch of its own.
        """
        if output is None:
            output = STDOUT if source == STDOUT else str(Path(source).with_suffix(".results.jsonl"))
        if output != STDOUT:
            refuse_special(Path(output))
            if not _is_shown_as_it_is(output):
                raise InputError(
                    f"{terminal_safe(output)!r}: a results file's name can't have control characters"
                )
        if rejects is None and output != STDOUT:
            stem = Path(output).stem.removesuffix(".results")
            rejects = Path(output).with_name(f"{stem}.rejects.jsonl")
        if source != STDOUT:
            _check_source(Path(source), output)
        if rejects is not None:
            _check_rejects(rejects, source, output)
        name = f"stdout-{int(now)}-{os.getpid()}" if output == STDOUT else str(Path(output).resolve())
        return cls(name, source, output, reading, rejects, excel_safe, input_of(source))


def _is_shown_as_it_is(name: str) -> bool:
    """A batch has the name of its file, and names stand in lines of text."""
    return terminal_safe(name) == name and "\n" not in name and "\t" not in name


def input_of(source: str) -> BinaryIO | None:
    """A copy of standard input where that is the source: in memory, a long one in a nameless file."""
    if source != STDOUT:
        return None
    copy = tempfile.SpooledTemporaryFile(STDIN_IN_MEMORY_BYTES)  # noqa: SIM115 - it lives as long as the batch
    shutil.copyfileobj(sys.stdin.buffer, copy)
    return cast(BinaryIO, copy)


def _check_source(source: Path, output: str) -> None:
    if not source.is_file():
        raise InputError(f"{source}: {'is a folder, not a file' if source.is_dir() else 'no such file'}")
    if output != STDOUT and source.resolve() == Path(output).resolve():
        raise InputError(f"{output}: is the file of tasks; choose another output")


def _check_rejects(rejects: Path, source: str, output: str) -> None:
    refuse_special(rejects)
    if rejects.resolve() in (Path(source).resolve(), Path(output).resolve()):
        raise InputError(f"{rejects}: holds the tasks or the results; choose another file for the rejects")


def open_results(batch: Batch, *, simulated: bool) -> ResultsFile:
    """The file the results go to. Raises InputError where it is busy or of another kind.

    Simulated rows are no answers: with keys their file is set aside and every task is asked again. Real
    answers are never mixed with simulated ones.
    """
    path = Path(batch.output)
    form = form_of(batch.output, batch.reading.fmt, excel_safe=batch.excel_safe)
    with naming(batch.source):
        columns = columns_of(batch.lines, batch.reading)
    held = None if batch.output == STDOUT else holds_simulated(path, form)
    if held is False and simulated:
        raise InputError(f"{path}: holds answers of real providers; choose another output")
    if held and not simulated:
        aside = path.with_name(f"{path.stem}.simulated{path.suffix}")
        path.replace(aside)
        say(f"{path}: held simulated results, which are now in {aside}; every task is asked again")
    results = ResultsFile(batch.output, simulated=simulated, form=form)
    results.add_columns(columns)
    return results


def take_in(
    store: Store,
    settings: Settings,
    batch: Batch,
    now: float,
    *,
    rerun: RerunOptions = NO_RERUN,
    quiet: bool = False,
) -> int:
    """Store every task of the batch that is not there yet; how many lines were bad.

    Raises InputError where there is no task at all, or where a known id has another content than in the
    store and nobody wished to ask these again: a `survey` tells that before anything is stored.
    """
    bad = _BadLines(batch.source, RejectsFile(batch.rejects))
    with Reading(batch.source, quiet=quiet) as reading:
        if rerun.rerun_changed:
            _release_dead(store, settings, now)
        options = {"ids": batch.reading.ids}
        store.intake.create_batch(
            batch.name, now=now, source=batch.source, output_path=batch.output, options=options
        )
        lines = lines_of(batch, settings, now, lambda text: say(f"{batch.source}: {text}"))
        with bad.rejects:
            tasks = _good(reading.counted(lines), bad)
            report = store.intake.add_tasks(
                tasks, now=now, rerun_changed=rerun.rerun_changed, once=rerun.dedupe
            )
    bad.close()
    _tell(report)
    if not report.added + report.existing + report.replaced + report.changed_count:
        why = f"none of its {bad.count:,} lines is a task" if bad.count else "it is empty"
        raise InputError(f"{batch.source}: holds no task, {why}")
    return bad.count + report.changed_count


def _release_dead(store: Store, settings: Settings, now: float) -> None:
    """Let tasks be changed that a dead orchestrator had claimed; where one is alive they are its own."""
    from ..core.leadership import Leadership

    with Leadership(store, settings.pool.lease_s) as leadership, suppress(StoreError):
        leadership.acquire(say=say)
        leadership.store.orchestrators.release_dead(leadership.incarnation, now)


def lines_of(
    batch: Batch,
    settings: Settings,
    now: float,
    on_warning: Callable[[str], None] = lambda _: None,
) -> Iterator[Task | BadLine]:
    """The tasks of its file, and the lines that are none."""
    with naming(batch.source):
        yield from read_tasks(
            batch.lines,
            batch=batch.name,
            settings=settings,
            now=now,
            options=batch.reading,
            on_warning=on_warning,
        )


@contextmanager
def naming(source: str) -> Iterator[None]:
    """What is wrong in a line of the file is told with the file's name."""
    try:
        yield
    except InputError as error:
        if error.line is None:
            raise
        raise InputError(f"{source}, {error}") from error


def ids_with(number: int, what: str) -> str:
    return f"1 id has {what}" if number == 1 else f"{number:,} ids have {what}"


def _tell(report: AddReport) -> None:
    if report.replaced:
        number = ids_with(report.replaced, "new content")
        say(f"{number} and {'is' if report.replaced == 1 else 'are'} asked again")
    if report.changed_count:
        shown = ", ".join(report.changed[:3])
        say(
            f"{ids_with(report.changed_count, 'new content')} ({shown}), but the old one is being worked on: "
            "run the same command again when it has ended"
        )
    if report.duplicates:
        say(f"{plural(report.duplicates, 'task')} equal to another one: asked once, answered each")


def check_limit(store: Store, batch: Batch) -> None:
    """Raises InputError where an earlier run has left more tasks than --limit names."""
    limit = batch.reading.limit
    if limit is None or store.reports.batch(batch.name) is None:
        return
    counts = store.reports.summary(batch.name).counts
    stored, still_open = sum(counts.values()), sum(counts.get(status, 0) for status in OPEN_STATUSES)
    if stored > limit and still_open:
        raise InputError(
            f"--limit {limit:,} came too late: {plural(stored, 'task')} of an earlier run are stored for "
            f"{batch.output}, {still_open:,} of them open; choose another -o"
        )


def _good(lines: Iterator[Task | BadLine], bad: Callable[[BadLine], None]) -> Iterator[Task]:
    for line in lines:
        if isinstance(line, BadLine):
            bad(line)
        else:
            yield line


class _BadLines:
    """Tells of the first bad lines and counts the others."""

    def __init__(self, source: str, rejects: RejectsFile) -> None:
        self.count = 0
        self.rejects = rejects
        self._source = source

    def __call__(self, line: BadLine) -> None:
        self.count += 1
        self.rejects.add(line)
        if self.count <= BAD_LINES_SHOWN:
            say(f"{self._source}, {line}; it is left out")

    def close(self) -> None:
        if self.count > BAD_LINES_SHOWN:
            say(f"{self._source}: {self.count - BAD_LINES_SHOWN:,} more bad lines are left out")
        if self.count and self.rejects.path is not None:
            say(f"{self.rejects.path}: holds every line that was left out, and why")


def resume(store: Store, batch: Batch, results: ResultsFile, now: float) -> ProgressCounts:
    """The counts of a batch, which begins with what is finished; says how much that is."""
    progress = ProgressCounts(store.reports.summary(batch.name).counts, now)
    if progress.done:
        left = (progress.total or 0) - progress.done
        what = f"going on with the other {left:,}" if left else "nothing to do"
        say(f"{results.name}: {plural(progress.done, 'task')} finished before; {what}")
        unanswered = {word: n for word, status in STATUSES.items() if (n := progress.statuses[status])}
        if unanswered:
            counts = ", ".join(f"{n:,} {word}" for word, n in unanswered.items())
            say(f"{results.name}: {counts} among them; --retry {','.join(unanswered)} runs these again")
    return progress
