"""Tasks that are known already: what `--retry`, `--rerun-changed` and `--dedupe` do with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InputError
from ..formatting import plural
from ..records import TaskStatus
from .progress import say

if TYPE_CHECKING:
    from ..core.store import Store

TRUNCATED = "truncated"
STATUSES = {
    str(status): status
    for status in (TaskStatus.FAILED, TaskStatus.REFUSED, TaskStatus.EXPIRED, TaskStatus.CANCELLED)
}
RETRY_STATUSES = (*STATUSES, TRUNCATED)


@dataclass(frozen=True, slots=True)
class RerunOptions:
    """What a run does with tasks that it knows already, or twice."""

    ends: frozenset[str] = frozenset()  # of those that are asked again
    rerun_changed: bool = False
    dedupe: bool = False

    @property
    def statuses(self) -> list[TaskStatus]:
        return [STATUSES[word] for word in sorted(self.ends - {TRUNCATED})]

    @property
    def truncated(self) -> bool:
        return TRUNCATED in self.ends

    @classmethod
    def of(cls, *, retry: str | None, rerun_changed: bool, dedupe: bool) -> RerunOptions:
        """`retry` as it was given. Raises InputError for a word in it that is none."""
        return cls(frozenset() if retry is None else parse_statuses(retry), rerun_changed, dedupe)


NO_RERUN = RerunOptions()


def parse_statuses(text: str) -> frozenset[str]:
    """What `--retry` names, separated by commas. Raises InputError."""
    ends = frozenset(word.strip() for word in text.split(",") if word.strip())
    for word in sorted(ends):
        if word not in RETRY_STATUSES:
            raise InputError(f"--retry: unknown status {word!r} (choose from {', '.join(RETRY_STATUSES)})")
    if not ends:
        raise InputError(f"--retry names no status (choose from {', '.join(RETRY_STATUSES)})")
    return ends


def requeue(store: Store, batch: str, rerun: RerunOptions, now: float) -> None:
    """Queue again what ended as `--retry` names. What it has cost stays counted."""
    if not rerun.ends:
        return
    requeued = store.admin.retry(batch, statuses=rerun.statuses, truncated=rerun.truncated, now=now)
    which = " or ".join(sorted(rerun.ends))
    say(
        f"{plural(requeued, 'task')} {which} asked again"
        if requeued
        else f"no task is {which}: none is asked again"
    )
