"""Tasks that are known already: what `--retry`, `--rerun-changed` and `--dedupe` do with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InputError
from ..records import TaskStatus
from .progress import say
from .words import tasks

if TYPE_CHECKING:
    from ..core.store import Store

TRUNCATED = "truncated"
STATUSES = {
    str(status): status
    for status in (TaskStatus.FAILED, TaskStatus.REFUSED, TaskStatus.EXPIRED, TaskStatus.CANCELLED)
}
ENDS = (*STATUSES, TRUNCATED)


@dataclass(frozen=True, slots=True)
class Wishes:
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
    def of(cls, *, retry: str | None, rerun_changed: bool, dedupe: bool) -> Wishes:
        """`retry` as it was given. Raises InputError for a word in it that is none."""
        return cls(frozenset() if retry is None else ends_of(retry), rerun_changed, dedupe)


AS_EVER = Wishes()


def ends_of(text: str) -> frozenset[str]:
    """What `--retry` names, separated by commas. Raises InputError."""
    ends = frozenset(word.strip() for word in text.split(",") if word.strip())
    for word in sorted(ends):
        if word not in ENDS:
            raise InputError(f"--retry: unknown status {word!r} (choose from {', '.join(ENDS)})")
    if not ends:
        raise InputError(f"--retry names no status (choose from {', '.join(ENDS)})")
    return ends


def ask_again(store: Store, batch: str, wishes: Wishes, now: float) -> None:
    """Queue again what ended as `--retry` names. What it has cost stays counted."""
    if not wishes.ends:
        return
    again = store.requeue(batch, statuses=wishes.statuses, truncated=wishes.truncated, now=now)
    which = " or ".join(sorted(wishes.ends))
    say(f"{tasks(again)} {which} asked again" if again else f"no task is {which}: none is asked again")
