"""What happens to batches at providers, in plain words. A batch is named by its number, as on the pages."""

from __future__ import annotations

from ...formatting import duration, money, plural
from ...records import Event
from ...routing.cost.budgets import BudgetRefusal
from ..store import ProviderBatch

LATE_S = 4 * 3_600.0  # nine of ten batches end within an hour


def created(batch: ProviderBatch, now: float) -> Event:
    """The provider has it."""
    return _event(
        batch, now, "batch_created", f"{_tasks(batch.rows)} sent to {batch.model}, at half the price"
    )


def late(batch: ProviderBatch, now: float) -> Event:
    """It has been at the provider for `LATE_S`."""
    left = f"{_tasks(batch.left_rows)} wait for it, and go live in time if need be"
    return _event(
        batch, now, "batch_late", f"late, after {duration(now - batch.created_at)}: {left}", "warning"
    )


def undecided(batch: ProviderBatch, now: float) -> Event:
    """Its creation was not answered, and batches are running that may be it."""
    text = (
        f"its creation was not answered, and a batch of {_tasks(batch.rows)} is running there, which shows "
        "at its end whether it is this one; until then none is sent again, and all go live in time if need be"
    )
    return _event(batch, now, "batch_undecided", text, "warning")


def recalled(batch: ProviderBatch, now: float) -> Event:
    """It is cancelled before the deadline of its tasks."""
    left = f"{_tasks(batch.left_rows)} go live, for up to {money(batch.reserved_nanos)} more"
    text = f"cancelled, since a deadline is near: {left}"
    return _event(batch, now, "batch_late", text, "warning")


def pulled_back(batch: ProviderBatch, pulled: int, now: float) -> Event:
    """Tasks do without it, since their deadline is near."""
    live = f"{pulled:,} of its {_tasks(batch.rows)} go live at the full price, since their deadline is near"
    text = f"{live}; what it still answers costs up to {money(batch.reserved_nanos)} in vain"
    return _event(batch, now, "batch_pulled_back", text, "warning")


def unreachable(provider: str, why: str, batches: int, tasks: int, now: float) -> Event:
    """A provider can't be asked after its batches."""
    there = f"{_tasks(tasks)} in {plural(batches, 'batch', 'batches')} at {provider}"
    text = f"{there} can't be collected: {why}; they wait, and go live in time if need be"
    return Event(now, "batch_unreachable", text, provider, level="warning")


def refused(batch: ProviderBatch, why: str, now: float) -> Event:
    """Its provider takes no such batch."""
    text = f"not accepted: {why}; such tasks go into other batches, or live"
    return _event(batch, now, "batch_refused", text, "warning")


def ended(batch: ProviderBatch, now: float) -> Event:
    """All its rows have their end. `batch` is as it is after that."""
    took = f"ended after {duration((batch.ended_at or now) - batch.created_at)}"
    text = f"{took}: {_counts(batch)}; {money(batch.cost_nanos)}"
    if batch.late_nanos:
        text += f", {money(batch.late_nanos)} of it paid late"
    if batch.unanswered and batch.cancel_sent_at is None:
        return _event(batch, now, "batch_expired", f"{text}; the provider did not do the rest", "warning")
    return _event(batch, now, "batch_ended", text, "warning" if batch.late_nanos else "info")


def failed(batch: ProviderBatch, why: str, now: float, *, comes_again: bool) -> Event:
    """No row of it was done. `comes_again`: in other batches."""
    then = "wait for another batch" if comes_again else "go on without it"
    text = f"no task was done: {why}; its {_tasks(batch.left_rows)} {then}"
    return _event(batch, now, "batch_failed", text, "info" if comes_again else "warning")


def lost(batch: ProviderBatch, why: str, nanos: int, now: float) -> Event:
    """Results are not there, or not there any more."""
    text = f"{why}, which may have cost up to {money(nanos)}; these tasks go live"
    return _event(batch, now, "batch_lost", text, "warning")


def over_budget(provider: str, rows: int, refusal: BudgetRefusal, now: float) -> Event:
    """No budget pays for a batch of tasks, or for more of them."""
    text = f"{_tasks(rows)} wait for room in a budget before they go into a batch: {refusal}"
    return Event(now, "batch_over_budget", text, provider, level="warning")


def _tasks(number: int) -> str:
    return plural(number, "task")


def _counts(batch: ProviderBatch) -> str:
    named = (
        (batch.failed, "failed"),
        (batch.unanswered, "not done"),
        (batch.late, "answered too late"),
    )
    more = [f"{number:,} {word}" for number, word in named if number]
    return ", ".join([f"{batch.answered:,} of {_tasks(batch.rows)} answered", *more])


def _event(batch: ProviderBatch, now: float, kind: str, text: str, level: str = "info") -> Event:
    fields = {"model": batch.model, "rows": batch.rows, "state": str(batch.state), "marker": batch.marker}
    message = f"batch {batch.id} at {batch.provider}: {text}"
    return Event(now, kind, message, batch.provider, level=level, fields=fields)
