"""A first reading of a batch's file: which tasks would run, and which ids have new content.

It stores nothing. If the user then declines, everything is as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..core.intake import BadLine
from ..core.plans import TaskSample
from ..core.store import AddReport
from ..core.store.codec import encode_task
from ..core.store.loading import parts
from ..errors import InputError
from ..formatting import shortened
from ..records import Task
from .batch import Batch, lines_of
from .read_progress import ReadProgress
from .rerun import RerunOptions
from .session import Session
from .store_tasks import ids_have

PAGE = 500  # tasks looked up at a time


@dataclass(slots=True)
class Preflight:
    """`report`: what storing the file would do; `sample`: the tasks that would run."""

    sample: TaskSample = field(default_factory=TaskSample)
    report: AddReport = field(default_factory=AddReport)
    rejected: int = 0
    warnings: list[str] = field(default_factory=list)

    def refuse_changed(self, session: Session) -> None:
        """Raises InputError if ids that an earlier run has stored have other content now."""
        if not self.report.changed_count:
            return
        for text in self.warnings:  # one of them may be the reason
            session.note(text)
        ids = shortened(self.report.changed, self.report.changed_count)
        raise InputError(
            f"{ids_have(self.report.changed_count, 'new content')} ({ids}), or another template: use "
            "--rerun-changed or another -o"
        )

    def leaves_nothing_to_store(self, rerun: RerunOptions) -> bool:
        """Whether storing the file would change nothing and print nothing."""
        if not self.report.existing:
            return False
        return not (self.report.added or self.rejected or rerun.rerun_changed or rerun.dedupe)


def preflight(session: Session, batch: Batch, rerun: RerunOptions, *, quiet: bool) -> Preflight | None:
    """Read the file if that helps: before money is spent, or if an earlier run has stored tasks."""
    known = session.store.reports.batch(batch.name)
    if session.setup.simulated and (known is None or not known.total):
        return None
    found, duplicates = Preflight(), _Duplicates()
    with ReadProgress(batch.source, session.console, quiet=quiet) as reading:
        tasks = lines_of(batch, session.setup.settings, session.now(), found.warnings.append)
        for page in parts(reading.counted(tasks), PAGE):
            usable = [line for line in page if not isinstance(line, BadLine)]
            found.rejected += len(page) - len(usable)
            report, to_run, truncated = session.store.intake.preview(
                usable,
                statuses=rerun.statuses,
                truncated=rerun.truncated,
                changed=rerun.rerun_changed,
            )
            found.report += report
            for task in to_run if not rerun.dedupe else duplicates.leave_out(to_run):
                found.sample.add(task, is_long=task.id in truncated)
    return found


class _Duplicates:
    """Recognises tasks that `--dedupe` runs once, by the rules of the store."""

    def __init__(self) -> None:
        self._seen: set[tuple[bytes, float | None]] = set()  # digests of contents, and deadlines

    def leave_out(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """`tasks` without those that equal an earlier one."""
        for task in tasks:
            content = (encode_task(task)[0], task.deadline_at)
            if task.temperature or content not in self._seen:
                yield task
            self._seen.add(content)
