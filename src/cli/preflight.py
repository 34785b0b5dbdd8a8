"""A first look through the file of a batch: what a run would ask, and which ids have new content.

Nothing is stored by it: so whoever then says no, or has to, leaves everything as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..bootstrap import Setup
from ..core.intake import BadLine
from ..core.plans import TaskSample
from ..core.store import AddReport
from ..core.store.codec import encode_task
from ..core.store.loading import parts
from ..errors import InputError
from ..records import Task
from .batch import Batch, ids_with, lines_of
from .progress import say
from .reading import Reading
from .rerun import RerunOptions

if TYPE_CHECKING:
    from ..core.store import Store

PAGE = 500  # tasks looked up at a time


@dataclass(slots=True)
class Preflight:
    """What was found: `report` as if everything had been handed in, `sample` of what a run would ask."""

    sample: TaskSample = field(default_factory=TaskSample)
    report: AddReport = field(default_factory=AddReport)
    bad: int = 0
    told: list[str] = field(default_factory=list)  # of the file, where that may be why

    def refuse_changed(self) -> None:
        """Raises InputError where ids that an earlier run has stored have another content now."""
        if self.report.changed_count:
            for text in self.told:
                say(text)
            shown = ", ".join(self.report.changed[:3]) + (", ..." if self.report.changed_count > 3 else "")
            number = ids_with(self.report.changed_count, "new content")
            raise InputError(
                f"{number} ({shown}), or other options than before (--only, --model, --choices, "
                "--response-schema): --rerun-changed or another -o"
            )

    def leaves_nothing_to_store(self, rerun: RerunOptions) -> bool:
        """Whether reading the file once more would change nothing, and tell nothing."""
        if not self.report.existing:
            return False
        return not (self.report.added or self.bad or rerun.rerun_changed or rerun.dedupe)


def preflight(
    setup: Setup, store: Store, batch: Batch, now: float, rerun: RerunOptions, *, quiet: bool
) -> Preflight | None:
    """Look through the file where that is of use: before money is spent, or where tasks are known."""
    known = store.reports.batch(batch.name)
    if setup.simulated and (known is None or not known.total):
        return None
    found, alike = Preflight(), _Alike()
    with Reading(batch.source, quiet=quiet) as reading:
        lines = reading.counted(lines_of(batch, setup.settings, now, found.told.append))
        for page in parts(lines, PAGE):
            tasks = [line for line in page if not isinstance(line, BadLine)]
            found.bad += len(page) - len(tasks)
            report, to_ask = store.intake.preview(
                tasks,
                statuses=rerun.statuses,
                truncated=rerun.truncated,
                changed=rerun.rerun_changed,
            )
            found.report += report
            for task in to_ask if not rerun.dedupe else alike.leave_out(to_ask):
                found.sample.add(task)
    return found


class _Alike:
    """Tasks that a run asks once, by the rules of the store."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()  # digests of contents: 16 bytes each

    def leave_out(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """All of `tasks` but those that are equal to an earlier one."""
        for task in tasks:
            content = encode_task(task)[0]
            if task.temperature or task.deadline_at is not None or content not in self._seen:
                yield task
            self._seen.add(content)
