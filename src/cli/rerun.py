"""Which known tasks run again: `--retry`, `--rerun-changed` and `--dedupe`."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.intake import BadLine
from ..core.store.loading import parts
from ..errors import InputError
from ..formatting import plural
from ..records import TaskStatus
from .batch import Batch, lines_of
from .session import Session

PAGE = 500  # tasks looked up at a time
TRUNCATED = "truncated"
STATUSES = {
    str(status): status
    for status in (TaskStatus.FAILED, TaskStatus.REFUSED, TaskStatus.EXPIRED, TaskStatus.CANCELLED)
}
RETRY_STATUSES = (*STATUSES, TRUNCATED)


@dataclass(frozen=True, slots=True)
class RerunOptions:
    """`retry`: the statuses whose tasks run again. `rerun_changed`: run ids with new content again.

    `dedupe`: run equal tasks once.
    """

    retry: frozenset[str] = frozenset()
    rerun_changed: bool = False
    dedupe: bool = False

    @property
    def statuses(self) -> list[TaskStatus]:
        """The statuses to retry, without `truncated`, which is none of the store's."""
        return [STATUSES[name] for name in sorted(self.retry - {TRUNCATED})]

    @property
    def truncated(self) -> bool:
        """Whether to retry answers that were truncated at max_tokens."""
        return TRUNCATED in self.retry


NO_RERUN = RerunOptions()


def parse_statuses(text: str | None) -> frozenset[str]:
    """The statuses of `--retry`, separated by commas; none for None. Raises InputError."""
    if text is None:
        return frozenset()
    found = frozenset(name.strip() for name in text.split(",") if name.strip())
    for name in sorted(found):
        if name not in RETRY_STATUSES:
            raise InputError(f"--retry: unknown status {name!r} (choose from {', '.join(RETRY_STATUSES)})")
    if not found:
        raise InputError(f"--retry names no status (choose from {', '.join(RETRY_STATUSES)})")
    return found


def restore_purged(session: Session, batch: Batch, rerun: RerunOptions) -> None:
    """Give purged tasks that `--retry` names their prompts back, from the file."""
    contents = session.store.contents
    if session.store.reports.batch(batch.name) is None or not rerun.retry:
        return
    if contents.has_purged(batch.name, rerun.statuses, truncated=rerun.truncated):
        lines = lines_of(batch, session.setup.settings, session.now())
        for page in parts((line for line in lines if not isinstance(line, BadLine)), PAGE):
            contents.restore(page)


def requeue(session: Session, batch: str, rerun: RerunOptions) -> None:
    """Queue the tasks of `--retry` again. What they have cost stays counted."""
    if not rerun.retry:
        return
    requeued = session.store.admin.retry_ended(
        batch, rerun.statuses, truncated=rerun.truncated, now=session.now()
    )
    what = plural(requeued, f"{' or '.join(sorted(rerun.retry))} task") if requeued else "no task"
    session.note(f"--retry: {what} queued again")
