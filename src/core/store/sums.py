"""Sums that reports return: of calls, of tasks, and what they saved against the baseline model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, fields
from itertools import zip_longest
from typing import NamedTuple

from ...records import TaskStatus
from .histogram import quantile

NOT_ANSWERED = "not answered"


@dataclass(frozen=True, slots=True)
class CallSums:
    """Sums over calls. Latencies are those of answered live calls, in seconds; None if there was none.

    `cost_nanos` is the cost of calls with a known price; `uncertain_nanos` is what interrupted calls may have
    cost; `unknown_cost_calls` have no known price and are in neither. `cache_saved_nanos` is what prompt
    caches saved on the known cost, negative where writing to them cost more, and `discount_nanos` what calls
    at a lower price did, such as those in batches.
    """

    calls: int = 0
    ok: int = 0
    failed: int = 0
    neutral: int = 0
    cancelled: int = 0
    uncertain: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cost_nanos: int = 0
    uncertain_nanos: int = 0
    unknown_cost_calls: int = 0
    latency_us: int = 0
    cache_saved_nanos: int = 0
    discount_nanos: int = 0
    histogram: tuple[int, ...] = field(default=(), repr=False)

    def __add__(self, other: CallSums) -> CallSums:
        if not self.calls and not self.uncertain_nanos:
            return other
        numbers = {
            each.name: getattr(self, each.name) + getattr(other, each.name)
            for each in fields(self)
            if each.name != "histogram"
        }
        both = zip_longest(self.histogram, other.histogram, fillvalue=0)
        return CallSums(**numbers, histogram=tuple(map(sum, both)))

    @property
    def prompt_tokens(self) -> int:
        """All prompt tokens, cached ones included."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def average_s(self) -> float | None:
        """The average latency in seconds; None without answered calls."""
        return self.latency_us / 1e6 / self._timed if self._timed else None

    @property
    def _timed(self) -> int:
        """Answered calls that have a latency: those in providers' batches have none."""
        return sum(self.histogram)

    @property
    def p50_s(self) -> float | None:
        """The median latency in seconds; None without answered calls."""
        return self.quantile_s(0.5)

    @property
    def p95_s(self) -> float | None:
        """The latency that 95 % of answered calls do not exceed; None without any."""
        return self.quantile_s(0.95)

    def quantile_s(self, q: float) -> float | None:
        """The quantile `q` in seconds, within 15 % of the true one: bins grow by a third."""
        return self.average_s if self._timed == 1 else quantile(self.histogram, q)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """Sums of one group. `key` has the values of `group_by`, in order; times are epoch seconds."""

    key: tuple[str | int, ...]
    sums: CallSums


@dataclass(frozen=True, slots=True)
class WaitSums:
    """Sums over the waits of tasks for their first call."""

    waits: int
    wait_us: int
    histogram: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TaskSums:
    """Sums over finished tasks, with the cost of all their attempts."""

    tasks: int = 0
    succeeded: int = 0
    truncated: int = 0
    cost_nanos: int = 0
    unknown_cost_tasks: int = 0
    baseline_nanos: int = 0
    unknown_baseline_tasks: int = 0

    def __add__(self, other: TaskSums) -> TaskSums:
        return TaskSums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    def saved_nanos(self) -> int | None:
        """The baseline's cost for the same tokens minus the actual cost; negative if that was higher.

        None if a price is unknown, or if there is no answer to compare.
        """
        if self.unknown_cost_tasks or self.unknown_baseline_tasks or not self.baseline_nanos:
            return None
        return self.baseline_nanos - self.cost_nanos


@dataclass(frozen=True, slots=True)
class TierSavings:
    """The cost of the tasks that one tier served, and of the same tokens on the baseline model.

    The tier `NOT_ANSWERED` stands for the calls of tasks that ended without an answer.
    """

    tier: str
    tasks: int
    cost_nanos: int
    baseline_nanos: int


class SavedParts(NamedTuple):
    """The parts of what was saved against the baseline; any may be negative.

    `models_nanos`: by the choice of models, less the calls that brought no answer. `half_price_nanos`: by
    batches and other calls at a lower price. `cache_nanos`: by prompt caches.
    """

    models_nanos: int
    half_price_nanos: int
    cache_nanos: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A batch, or all of them: calls by provider and model, tasks by agent and tier, and the totals."""

    counts: Mapping[TaskStatus, int]
    providers: Mapping[str, CallSums]
    models: Mapping[tuple[str, str], CallSums]  # by (provider, model), without cut off calls
    agents: Mapping[str, TaskSums]
    tiers: Mapping[str, TaskSums]
    calls: CallSums
    tasks: TaskSums

    @property
    def cost_nanos(self) -> int:
        """The cost of calls with a known price; `calls.uncertain_nanos` comes on top."""
        return self.calls.cost_nanos

    @property
    def baseline_nanos(self) -> int:
        """The cost of the same tokens on the baseline model."""
        return self.tasks.baseline_nanos

    @property
    def saved_nanos(self) -> int | None:
        """See `TaskSums.saved_nanos`. Calls of open tasks are not included."""
        return self.tasks.saved_nanos

    @property
    def saved_parts(self) -> SavedParts | None:
        """The parts of `saved_nanos`; None if that is None."""
        saved = self.saved_nanos
        if saved is None:
            return None
        discount, cache = self.calls.discount_nanos, self.calls.cache_saved_nanos
        return SavedParts(saved - discount - cache, discount, cache)

    @property
    def savings(self) -> tuple[TierSavings, ...]:
        """The parts of `saved_nanos`, the largest baseline first; empty if that is None."""
        if self.saved_nanos is None:
            return ()
        answered = [
            TierSavings(tier, sums.tasks, sums.cost_nanos, sums.baseline_nanos)
            for tier, sums in self.tiers.items()
            if sums.baseline_nanos
        ]
        rest = [sums for sums in self.tiers.values() if sums.cost_nanos and not sums.baseline_nanos]
        if rest:
            unanswered = sum(sums.tasks for sums in rest), sum(sums.cost_nanos for sums in rest)
            answered.append(TierSavings(NOT_ANSWERED, *unanswered, 0))
        return tuple(sorted(answered, key=lambda part: -part.baseline_nanos))
