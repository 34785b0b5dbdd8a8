"""Store the tasks of a batch, and resume what an earlier run has left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from ..core.intake import BadLine, stored_options
from ..core.rejects import RejectsFile
from ..core.results import ResultsFile
from ..core.store import AddReport, BatchExtras
from ..errors import InputError, StoreError
from ..formatting import money, plural, shortened
from ..records import OPEN_STATUSES, Task, TaskStatus
from .batch import Batch, lines_of
from .progress_counts import ProgressCounts
from .read_progress import ReadProgress
from .rerun import NO_RERUN, STATUSES, RerunOptions
from .session import Session

BAD_LINES_SHOWN = 20


class NotStored(NamedTuple):
    """Lines that gave no task, and known tasks that are in flight and so do not get their new content."""

    rejected: int = 0
    unchanged: int = 0


def store_tasks(
    session: Session,
    batch: Batch,
    *,
    rerun: RerunOptions = NO_RERUN,
    has_new_options: bool = False,
    quiet: bool = False,
) -> NotStored:
    """Store every task of the batch that is not stored yet; return how many lines were not.

    With `has_new_options` tasks that wait get them; those that are done, or in flight, keep theirs.

    Raises InputError if there is no task at all, or if a known id has new content without
    `--rerun-changed`: `preflight` finds that before anything is stored.
    """
    store, now = session.store, session.now()
    rejected = _RejectedLines(batch, session.note)
    with ReadProgress(batch.source, session.console, quiet=quiet) as reading:
        if rerun.rerun_changed or has_new_options:
            _release_dead_claims(session)
        options = stored_options(batch.reading)
        store.intake.create_batch(
            batch.name, now=now, source=batch.source, output_path=batch.output, options=options
        )
        lines = lines_of(
            batch, session.setup.settings, now, lambda text: session.note(f"{batch.source}: {text}")
        )
        with rejected.file:
            tasks = _without_rejected(reading.counted(lines), rejected)
            report = store.intake.add_tasks(
                tasks,
                now=now,
                rerun_changed=rerun.rerun_changed,
                update_queued=has_new_options,
                once=rerun.dedupe,
            )
    rejected.close()
    if has_new_options:
        store.intake.set_batch_options(batch.name, options)
    updates = has_new_options and not rerun.rerun_changed
    for line in _update_lines(report) if updates else _report_lines(report):
        session.note(line)
    if not report.added + report.existing + report.replaced + report.changed_count:
        why = why_none(rejected.count)
        raise InputError(f"{batch.source}: no usable tasks: {why}{_at_providers(session, batch.name)}")
    return NotStored(rejected.count, 0 if updates else report.changed_count)


def _at_providers(session: Session, batch: str) -> str:
    """What earlier runs have left in batches at providers, and how to collect it; empty: nothing."""
    found = session.store.provider_batch_lists.extras(batch)
    if not found.open:
        return ""
    providers, called = session.setup.settings.providers, session.setup.called
    missing = [f"{name}: {providers[name].why_not_configured}" for name in found.open if name not in called]
    if missing:
        remedy = f"to collect the answers, configure the provider ({'; '.join(missing)}) and run this again"
    else:
        remedy = "a server, or this command with a usable file, collects the answers"
    tasks = session.store.reports.task_counts(batch)[TaskStatus.BATCHED]
    return f"; earlier runs left {_batched_text(tasks, found)}: {remedy}"


def _batched_text(tasks: int, found: BatchExtras) -> str:
    """`40 tasks in 1 batch at openai, for up to $0.0067`."""
    number, where = plural(sum(found.open.values()), "batch", "batches"), " and ".join(found.open)
    return f"{plural(tasks, 'task')} in {number} at {where}, for up to {money(found.reserved_nanos)}"


def why_none(rejected: int) -> str:
    """Why a file has no tasks, by how many of its lines were rejected."""
    if not rejected:
        return "it has no rows"
    return "its only line was rejected" if rejected == 1 else f"all {rejected:,} lines were rejected"


def _release_dead_claims(session: Session) -> None:
    """Allow changes to tasks that a dead orchestrator had claimed; those of a live one stay its own."""
    leadership = session.leadership()
    with leadership, suppress(StoreError):
        leadership.acquire(say=session.note)
        leadership.store.orchestrators.release_dead(leadership.incarnation, session.now())


def ids_have(number: int, what: str) -> str:
    """`1 id has new content`, `3 ids have new content`."""
    return f"1 id has {what}" if number == 1 else f"{number:,} ids have {what}"


def _update_lines(report: AddReport) -> Iterator[str]:
    """What new options do to tasks that are stored already."""
    waiting, kept = plural(report.replaced, "waiting task"), plural(report.changed_count, "task")
    if report.replaced or not report.changed_count:
        yield f"{waiting} {'uses' if report.replaced == 1 else 'use'} the new options"
    if report.changed_count:
        keep = "keeps its result" if report.changed_count == 1 else "keep their results"
        yield f"{kept} already done or in flight {keep} (another -o runs all of them)"


def _report_lines(report: AddReport) -> Iterator[str]:
    if report.replaced:
        number = ids_have(report.replaced, "new content")
        yield f"{number} and {'runs' if report.replaced == 1 else 'run'} again"
    if report.changed_count:
        ids = shortened(report.changed, report.changed_count)
        yield (
            f"{ids_have(report.changed_count, 'new content')} ({ids}), but the earlier one is running: "
            "run the same command again when it has ended"
        )
    if report.duplicates:
        yield f"{plural(report.duplicates, 'task')} equal to another one: run once, answered each"


def refuse_late_limit(session: Session, batch: Batch) -> None:
    """Raises InputError if an earlier run has stored more tasks than --limit or --sample allows."""
    reading = batch.reading
    option, limit = ("--limit", reading.limit) if reading.sample is None else ("--sample", reading.sample)
    if limit is None or session.store.reports.batch(batch.name) is None:
        return
    counts = session.store.reports.summary(batch.name).counts
    stored, still_open = sum(counts.values()), sum(counts.get(status, 0) for status in OPEN_STATUSES)
    if stored > limit and still_open:
        raise InputError(
            f"{option} {limit:,} is too late: an earlier run has stored {plural(stored, 'task')} for "
            f"{batch.output}, {still_open:,} of them unfinished; choose another -o"
        )


def _without_rejected(lines: Iterator[Task | BadLine], reject: Callable[[BadLine], None]) -> Iterator[Task]:
    for line in lines:
        if isinstance(line, BadLine):
            reject(line)
        else:
            yield line


class _RejectedLines:
    """Reports the first rejected lines, counts all of them and saves them to a file."""

    def __init__(self, batch: Batch, notify: Callable[[str], None]) -> None:
        self.count = 0
        self.file = RejectsFile(batch.rejects)
        self._source, self._notify = batch.source, notify

    def __call__(self, line: BadLine) -> None:
        self.count += 1
        self.file.add(line)
        if self.count <= BAD_LINES_SHOWN:
            self._notify(f"{self._source}, {line}; skipped")

    def close(self) -> None:
        if self.count > BAD_LINES_SHOWN:
            self._notify(f"{self._source}: {self.count - BAD_LINES_SHOWN:,} more rejected lines")
        if self.count and self.file.path is not None:
            self._notify(f"rejected lines with their reasons: {self.file.path}")


def resume(session: Session, batch: Batch, results: ResultsFile) -> ProgressCounts:
    """The counts of the batch, beginning with the tasks that are finished.

    Prints how many these are, and how many are in batches at providers.
    """
    before = session.store.reports.summary(batch.name)
    progress = ProgressCounts(before.counts, session.now())
    progress.nanos_before = before.cost_nanos
    if batched := before.counts.get(TaskStatus.BATCHED, 0):
        there = _batched_text(batched, session.store.provider_batch_lists.extras(batch.name))
        session.note(f"{results.name}: {there}, from earlier runs")
    if not progress.done:
        return progress
    left = (progress.total or 0) - progress.done
    if left:
        text = f"{progress.done:,} of {plural(progress.total or 0, 'task')} already done; {left:,} left"
    else:
        which = "the only task is" if progress.done == 1 else f"all {progress.done:,} tasks are"
        text = f"{which} already done; nothing to do"
    session.note(f"{results.name}: {text}")
    unanswered = {name: n for name, status in STATUSES.items() if (n := progress.statuses[status])}
    if unanswered:
        counts = ", ".join(f"{n:,} {name}" for name, n in unanswered.items())
        session.note(f"{results.name}: {counts}; --retry {','.join(unanswered)} runs these again")
    return progress
