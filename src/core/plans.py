"""The values of a plan: costs by provider and tier, the time a run takes, and what tasks wait for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..records import Task, TaskStatus, WaitReason
from ..settings import Settings
from .batching.foresee import BatchForecast

FAR_ABOVE = 2.0  # x the expected cost and answers: from here on a plan suggests a limit for answers
WORTH_A_LIMIT_NANOS = 10_000_000  # 1 cent: what costs less at most needs no limit
ROOM = 2.0  # x the mean length of answers, which few of them exceed
LOW_LIMIT_TOKENS = 64  # no lower limit is suggested
PLANNED_AT_MOST = 20_000  # tasks that run through virtual time: some seconds


@dataclass(frozen=True, slots=True)
class CostLine:
    """The expected calls, tokens and nano-dollars of one model of one provider, by tier."""

    provider: str
    model: str
    tier: str
    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    low_nanos: int = 0
    expected_nanos: int = 0
    highest_nanos: int = 0
    unpriced_calls: int = 0  # of `calls`; their cost is in no sum
    allowed_tokens: int = 0  # of output, if every answer is as long as allowed
    done_s: float = 0.0  # when its last answer is expected, seconds after the first call

    @property
    def price_is_unknown(self) -> bool:
        """Whether no call of the line has a known price."""
        return 0 < self.calls <= self.unpriced_calls

    def times(self, factor: float) -> CostLine:
        """The line of a sample scaled to all tasks."""
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        scaled = {name: round(number * factor) for name, number in numbers.items()}
        return replace(self, **scaled, done_s=self.done_s * factor)


_NUMBERS = (
    "calls",
    "prompt_tokens",
    "output_tokens",
    "allowed_tokens",
    "low_nanos",
    "expected_nanos",
    "highest_nanos",
    "unpriced_calls",
)


@dataclass(frozen=True, slots=True)
class WaitSpan:
    """What the oldest waiting task waits for between two moments, seconds since the start."""

    reason: WaitReason
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Substitution:
    """A model that tasks name, and the one that is called in its place.

    `retired`: the named one does not exist any more. Else a later model of the tasks' order served.
    """

    named: str
    called: str
    tasks: int
    retired: bool = True

    def __str__(self) -> str:
        number = "1 task names" if self.tasks == 1 else f"{self.tasks:,} tasks name"
        if not self.retired:
            return (
                f"{number} {self.named} first, which could not serve in time; {self.called} answered instead"
            )
        return f"{number} {self.named}, which is retired; {self.called} is called instead"


def substitutions(named: Mapping[str, int], settings: Settings) -> tuple[Substitution, ...]:
    """The retired models among those that tasks name; `named` counts tasks by model."""
    resolved = ((model, settings.resolve_model(model)[0], tasks) for model, tasks in sorted(named.items()))
    return tuple(Substitution(*each) for each in resolved if each[0] != each[1])


def later_choices(answered: Mapping[tuple[str, str], int], settings: Settings) -> tuple[Substitution, ...]:
    """The later models that answered. `answered`: tasks by the first model that they name and that one."""
    return tuple(
        Substitution(named, called, tasks, retired=False)
        for (named, called), tasks in sorted(answered.items())
        if settings.resolve_model(named)[0] != called
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """The expected cost and time of a run. `sampled`: every n-th task was planned."""

    at: float  # when it would start, epoch seconds
    tasks: int
    duration_s: float  # from the command to the last answer, `start_s` included
    start_s: float
    lines: tuple[CostLine, ...]  # the most expensive first
    unknown_prices: tuple[str, ...]  # models
    statuses: Mapping[TaskStatus, int]
    bottlenecks: tuple[tuple[WaitReason, float], ...]  # (what tasks wait for, seconds), the longest first
    spans: tuple[WaitSpan, ...]  # the same in the order of time
    unknown_limits: tuple[str, ...]  # providers of which no limit is known
    from_records: bool  # whether enough earlier answers are recorded
    sampled: int = 1
    substitutions: tuple[Substitution, ...] = ()
    agents: Mapping[str, int] = field(default_factory=dict)  # tasks by the agent that they name
    batches: BatchForecast | None = None  # tasks that may go to the providers' batch APIs instead

    @property
    def low_nanos(self) -> int:
        """The cost with short answers."""
        return sum(line.low_nanos for line in self.lines)

    @property
    def expected_nanos(self) -> int:
        """The expected cost."""
        return sum(line.expected_nanos for line in self.lines)

    @property
    def highest_nanos(self) -> int:
        """The cost with answers as long as allowed."""
        return sum(line.highest_nanos for line in self.lines)

    @property
    def price_is_unknown(self) -> bool:
        """Whether no call has a known price: the sums of dollars are then unknown, not zero."""
        return bool(self.unknown_prices) and all(line.price_is_unknown for line in self.lines)

    @property
    def prompt_tokens(self) -> int:
        """Over all calls."""
        return sum(line.prompt_tokens for line in self.lines)

    @property
    def output_tokens(self) -> int:
        """Over all calls."""
        return sum(line.output_tokens for line in self.lines)

    @property
    def calls(self) -> Mapping[str, int]:
        """Calls by provider."""
        found: Counter[str] = Counter()
        for line in self.lines:
            found[line.provider] += line.calls
        return found

    @property
    def allowed_tokens(self) -> int:
        """Of output over all calls, if every answer is as long as allowed."""
        return sum(line.allowed_tokens for line in self.lines)

    @property
    def is_wide(self) -> bool:
        """Whether much of the highest cost is for answers far longer than those that are expected."""
        return (
            self.highest_nanos >= max(WORTH_A_LIMIT_NANOS, FAR_ABOVE * self.expected_nanos)
            and self.allowed_tokens > FAR_ABOVE * self.output_tokens > 0
            and (self._roomy_tokens if self.from_records else LOW_LIMIT_TOKENS) < self._most_allowed
        )

    @property
    def usual_max_tokens(self) -> int | None:
        """A limit that leaves recorded answers room to spare; None without records, or unless `is_wide`."""
        return self._roomy_tokens if self.from_records and self.is_wide else None

    @property
    def _roomy_tokens(self) -> int:
        most = max((line.output_tokens / line.calls for line in self.lines if line.calls), default=0.0)
        return max(LOW_LIMIT_TOKENS, 1 << math.ceil(math.log2(ROOM * max(1.0, most))))

    @property
    def _most_allowed(self) -> float:
        return max((line.allowed_tokens / line.calls for line in self.lines if line.calls), default=0.0)

    @property
    def done_at(self) -> float:
        """When the last answer is expected, epoch seconds."""
        return self.at + self.duration_s

    def for_all(self, count: int, every: int) -> Plan:
        """The plan of a sample scaled to `count` tasks."""
        factor = count / max(1, self.tasks)
        if factor == 1.0:
            return self
        return replace(
            self,
            tasks=count,
            sampled=every,
            duration_s=self.start_s + (self.duration_s - self.start_s) * factor,
            lines=tuple(line.times(factor) for line in self.lines),
            statuses={status: round(n * factor) for status, n in self.statuses.items()},
            bottlenecks=tuple((reason, s * factor) for reason, s in self.bottlenecks),
            spans=tuple(
                WaitSpan(each.reason, each.from_s * factor, each.to_s * factor) for each in self.spans
            ),
        )


class TaskSample:
    """Every n-th task of a file of any length; n doubles as the file grows, so that memory stays bounded."""

    def __init__(self, at_most: int = PLANNED_AT_MOST) -> None:
        self.count = 0
        self.every = 1
        self.kept: list[Task] = []
        self.named: Counter[str] = Counter()  # tasks by the model that they name
        self.agents: Counter[str] = Counter()  # tasks by the agent that they name
        self.long: set[str] = set()  # ids of tasks whose last answer was truncated
        self._at_most = at_most

    def add(self, task: Task, *, is_long: bool = False) -> None:
        """Count a task, and keep it if it is an n-th one. `is_long`: its last answer was truncated."""
        if self.count % self.every == 0:
            self.kept.append(task)
            if is_long:
                self.long.add(task.id)
        self.count += 1
        self.named.update(task.models)
        if task.agent:
            self.agents[task.agent] += 1
        if len(self.kept) > self._at_most:
            self.kept = self.kept[::2]
            self.every *= 2
