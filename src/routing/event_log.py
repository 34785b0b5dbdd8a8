"""Events that the routing has to report, until the orchestrator takes them."""

from __future__ import annotations

from ..records import Event
from .cost.budgets import BudgetRefusal


class EventLog:
    """The events since the last `take`."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._reported_budgets: set[object] = set()

    def add(
        self, now: float, kind: str, message: str, provider: str = "", level: str = "info", **times: float
    ) -> None:
        """Add an event. `times`: `since` and `until`, UTC epoch seconds: each reader has its own clock."""
        self._events.append(Event(now, kind, message, provider, "", level, times))

    def take(self) -> list[Event]:
        """The events since the last call, oldest first."""
        taken, self._events = self._events, []
        return taken

    def tasks_wait_for_budget(self, refusal: BudgetRefusal, now: float) -> None:
        """Tasks wait for a budget: one event per budget and period.

        `parked`: until the budget resets. `budget_spent`: it never does, which ends a run of one batch.
        """
        period = (refusal.rule.key, refusal.until)
        if period in self._reported_budgets:
            return
        self._reported_budgets.add(period)
        kind, when = ("parked", "resets") if refusal.until is not None else ("budget_spent", "is raised")
        self.add(now, kind, f"{refusal}; its tasks wait until it {when}", level="alert")
