"""Counts of finished tasks, for the progress display and the exit code."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..records import OPEN_STATUSES, ProviderSnapshot, Result, TaskStatus

if TYPE_CHECKING:
    from ..core.plans import Plan
    from ..core.store import Summary

RATE_WINDOW_S = 60.0
BEST_OVER_S = 10.0  # a burst at the start is no rate
REASONS_KEPT = 5


@dataclass(slots=True)
class ModelCounts:
    """What one model has answered in this run: rows, and tokens and nano-dollars of all calls."""

    rows: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    cost_nanos: int = 0


class ProgressCounts:
    """Counts results as they are stored. `total` is None for a queue without an end."""

    def __init__(self, counts: Mapping[TaskStatus, int] | None, now: float) -> None:
        self.total = None if counts is None else sum(counts.values())
        self.statuses = Counter({s: n for s, n in (counts or {}).items() if s not in OPEN_STATUSES})
        self.before = self.done  # finished by an earlier run
        self.nanos_before = 0  # that earlier runs have cost
        self.rejected = 0  # lines of the file that gave no task
        self.truncated = 0
        self.by_provider: Counter[str] = Counter()
        self.by_model: dict[tuple[str, str], ModelCounts] = {}  # by (provider, model)
        self.cost_nanos = 0
        self.costs_by_provider: dict[str, int] | None = None  # None: those of the pool
        self.unknown_costs = 0
        self.named: Counter[str] = Counter()  # tasks by the model that they name
        self.of_orders: Counter[tuple[str, str]] = (
            Counter()
        )  # by the first model named, and the one that answered
        self.reasons: list[str] = []  # of the first tasks that were not answered
        self.started_at = now
        self.plan: Plan | None = None  # what was expected of this run
        self.defers = False  # tasks may wait for batches at providers
        self.cap_nanos: int | None = None  # what this run may cost
        self._marks: deque[tuple[float, int, Counter[str]]] = deque([(now, self.done, Counter())])
        self._best: dict[str, float] = {}  # of each provider's rates, per second

    @property
    def done(self) -> int:
        """Finished tasks, answered or not, those of earlier runs included."""
        return self.statuses.total()

    @property
    def is_resumed(self) -> bool:
        """Whether rows count those of earlier runs, but money and models this run alone."""
        return self.before > 0 and self.costs_by_provider is None

    @property
    def answered(self) -> int:
        """Tasks with an answer, those of earlier runs included."""
        return self.statuses[TaskStatus.SUCCEEDED]

    @property
    def finished(self) -> bool:
        """Whether all tasks are finished; never true for a queue."""
        return self.total is not None and self.done >= self.total

    def add(self, results: Iterable[Result]) -> None:
        """Count results that have been stored."""
        for result in results:
            self._add(result)

    def recount(self, counts: Mapping[TaskStatus, int]) -> None:
        """Take the stored counts of the batch, since others may end or add tasks of it too."""
        self.total = sum(counts.values())
        self.statuses = Counter({s: n for s, n in counts.items() if s not in OPEN_STATUSES})

    def take_over(self, summary: Summary) -> None:
        """Take the stored counts of a batch that a server works on."""
        self.recount(summary.counts)
        self.truncated = summary.tasks.truncated
        self.by_provider = Counter({name: sums.ok for name, sums in summary.providers.items()})
        self.by_model = {
            key: ModelCounts(sums.ok, sums.prompt_tokens, sums.output_tokens, sums.cost_nanos)
            for key, sums in summary.models.items()
        }
        self.cost_nanos = summary.cost_nanos
        self.costs_by_provider = {name: sums.cost_nanos for name, sums in summary.providers.items()}
        self.unknown_costs = summary.calls.unknown_cost_calls

    def _add(self, result: Result) -> None:
        self.statuses[result.status] += 1
        self.truncated += result.truncated
        self.named.update(result.task.models)
        if (by := result.answered_by) is not None and result.status is TaskStatus.SUCCEEDED:
            self.by_provider[by.provider] += 1
            self._of(by.provider, by.model).rows += 1
            if len(result.task.models) > 1:
                self.of_orders[result.task.models[0], by.model] += 1
        for attempt in result.attempts:
            counts = self._of(attempt.provider, attempt.model)
            counts.prompt_tokens += attempt.usage.prompt_tokens
            counts.output_tokens += attempt.usage.output_tokens
            counts.cost_nanos += attempt.cost_nanos or 0
        if (cost := result.cost_nanos) is None:
            self.unknown_costs += 1
        else:
            self.cost_nanos += cost
        if result.status is not TaskStatus.SUCCEEDED and len(self.reasons) < REASONS_KEPT:
            self.reasons.append(f"{result.task.id} {result.status}: {_short(result.error)}")

    def _of(self, provider: str, model: str) -> ModelCounts:
        return self.by_model.setdefault((provider, model), ModelCounts())

    def cost_of(self, provider: ProviderSnapshot) -> int:
        """Nano-dollars: of this batch if a server answers it, else of the pool since its start."""
        if self.costs_by_provider is None:
            return provider.cost_nanos
        return self.costs_by_provider.get(provider.name, 0)

    def mark(self, now: float) -> None:
        """Take a sample for the rates, a few times a second at most.

        Time before the first finished task does not count: the start is no part of a rate.
        """
        if self.done == self.before:
            self._marks = deque([(now, self.done, Counter())])
        if now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, self.done, self.by_provider.copy()))
            for name in self.by_provider if now - self._marks[0][0] >= BEST_OVER_S else ():
                self._best[name] = max(self._best.get(name, 0.0), self.rate(name))
        while len(self._marks) > 2 and now - self._marks[1][0] > RATE_WINDOW_S:
            self._marks.popleft()

    def per_minute(self, now: float) -> float:
        """Tasks finished per minute, over the last minute."""
        since, done, _ = self._marks[0]
        return 60 * (self.done - done) / max(now - since, 1.0)

    def rate(self, provider: str) -> float:
        """Tasks that a provider has answered per second, over the last minute, up to the newest mark."""
        (since, _, before), (until, _, after) = self._marks[0], self._marks[-1]
        return (after[provider] - before[provider]) / max(until - since, 1.0)

    def best_rate(self, provider: str) -> float:
        """Its highest rate so far, which it resumes after a pause."""
        return self._best.get(provider, 0.0)


def _short(text: str, limit: int = 160) -> str:
    line = " ".join(text.split()) or "no reason given"
    return line if len(line) <= limit else line[: limit - 3] + "..."
