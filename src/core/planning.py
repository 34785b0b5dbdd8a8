"""What a file of tasks will cost and how long it will take, before a cent is spent; calls nobody.

The file runs through the same `routing/` in virtual time (`routing/virtual.py`), under the limits that are
told or learned, with answers as `forecast.py` expects them. Three prices: low (a tenth of the expected
output), expected, and highest (every answer as long as it may be, which is what budgets reserve).

A long file is planned by every n-th of its tasks, and the figures are multiplied: see `Sample`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..records import Completion, Placement, RefusalKind, Task, TaskStatus, WaitReason
from ..routing.balancer import ProviderLoadBalancer
from ..routing.state import ProviderState
from ..routing.virtual import Answer, VirtualReport, VirtualRun
from ..settings import Settings
from .forecast import Forecast
from .store import Store

RECORDS_S = 7 * 86_400.0  # what was recorded in this time is what a plan goes by
LOW_OUTPUT_SHARE = 0.1  # of the expected output
AMPLE_PER_MINUTE = 6_000.0  # requests taken for granted at a provider of which no limit is known
PLANNED_AT_MOST = 20_000  # tasks that run through virtual time: some seconds
SLOTS = WaitReason(RefusalKind.SLOTS)  # all calls that may be in flight at once are
_Moments = list[tuple[float, WaitReason | None]]  # (seconds since the start, what is waited for)
LearnedLimits = Mapping[str, Mapping[str, Mapping[str, Any]]]  # by provider and model group
STEPS = 50  # in which a run is looked at for what binds when


@dataclass(frozen=True, slots=True)
class Line:
    """What one tier of one provider is expected to come to: nano-dollars, tokens."""

    provider: str
    tier: str
    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    low_nanos: int = 0
    expected_nanos: int = 0
    highest_nanos: int = 0
    unpriced_calls: int = 0  # of `calls`, those whose price nobody knows: they are in no sum

    @property
    def price_is_unknown(self) -> bool:
        """Whether nothing at all is known of what it costs."""
        return 0 < self.calls <= self.unpriced_calls

    def times(self, factor: float) -> Line:
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        return replace(self, **{name: round(number * factor) for name, number in numbers.items()})


_NUMBERS = (
    "calls",
    "prompt_tokens",
    "output_tokens",
    "low_nanos",
    "expected_nanos",
    "highest_nanos",
    "unpriced_calls",
)


@dataclass(frozen=True, slots=True)
class Span:
    """What the oldest waiting task waits for between two moments, seconds since the start."""

    what: WaitReason
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Substitution:
    """A retired model that tasks name, and the one that is called in its place."""

    named: str
    called: str
    tasks: int

    def __str__(self) -> str:
        number = "1 task names" if self.tasks == 1 else f"{self.tasks:,} tasks name"
        return f"{number} {self.named}, which is retired; {self.called} is called instead"


def substitutions(named: Mapping[str, int], settings: Settings) -> tuple[Substitution, ...]:
    """Those among the models that tasks name; `named` counts tasks by model."""
    resolved = ((model, settings.resolve_model(model)[0], tasks) for model, tasks in sorted(named.items()))
    return tuple(Substitution(*each) for each in resolved if each[0] != each[1])


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is expected to come to. `sampled`: every n-th task was planned."""

    at: float  # when it would start, epoch seconds
    tasks: int
    duration_s: float  # from the command to its end, `start_s` included
    start_s: float
    lines: tuple[Line, ...]  # the dearest first
    unknown_prices: tuple[str, ...]  # models
    statuses: Mapping[TaskStatus, int]
    binding: tuple[tuple[WaitReason, float], ...]  # (what tasks wait for, seconds), the longest first
    spans: tuple[Span, ...]  # the same in the order of time
    unknown_limits: tuple[str, ...]  # providers of which no limit is known
    from_records: bool  # whether earlier calls were there to judge by
    sampled: int = 1
    substitutions: tuple[Substitution, ...] = ()

    @property
    def low_nanos(self) -> int:
        return sum(line.low_nanos for line in self.lines)

    @property
    def expected_nanos(self) -> int:
        return sum(line.expected_nanos for line in self.lines)

    @property
    def highest_nanos(self) -> int:
        return sum(line.highest_nanos for line in self.lines)

    @property
    def price_is_unknown(self) -> bool:
        """Whether nothing at all is known of what it costs: the sums of dollars are then no zero."""
        return bool(self.unknown_prices) and all(line.price_is_unknown for line in self.lines)

    @property
    def prompt_tokens(self) -> int:
        return sum(line.prompt_tokens for line in self.lines)

    @property
    def output_tokens(self) -> int:
        return sum(line.output_tokens for line in self.lines)

    @property
    def calls(self) -> Mapping[str, int]:
        """By provider."""
        found: Counter[str] = Counter()
        for line in self.lines:
            found[line.provider] += line.calls
        return found

    @property
    def done_at(self) -> float:
        """When it will be done, epoch seconds."""
        return self.at + self.duration_s

    def for_all(self, count: int, every: int) -> Plan:
        """The plan of a sample as that of `count` tasks: it takes as many times as long."""
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
            binding=tuple((what, s * factor) for what, s in self.binding),
            spans=tuple(Span(each.what, each.from_s * factor, each.to_s * factor) for each in self.spans),
        )


class Sample:
    """Every n-th task of a file of any length, n doubling as it grows, so that memory stays bounded."""

    def __init__(self, at_most: int = PLANNED_AT_MOST) -> None:
        self.count = 0
        self.every = 1
        self.kept: list[Task] = []
        self.named: Counter[str] = Counter()  # tasks by model that they name
        self._at_most = at_most

    def add(self, task: Task) -> None:
        if self.count % self.every == 0:
            self.kept.append(task)
        self.count += 1
        self.named.update(task.models)
        if len(self.kept) > self._at_most:
            self.kept = self.kept[::2]
            self.every *= 2


def make_plan(
    tasks: Iterable[Task],
    settings: Settings,
    forecast: Forecast,
    *,
    now: float,
    configured: Collection[str],
    learned: LearnedLimits | None = None,
    start_s: float | None = None,
) -> Plan:
    """Run `tasks` in virtual time from `now`. `learned` holds, by provider, the limits of earlier runs.

    `start_s`: how long the start took last time; None: the import of each SDK.
    """
    settings = settings.without_caches()
    balancer = ProviderLoadBalancer(settings, now=now, configured=configured)
    unknown = take_limits(balancer, learned or {})
    ledger = _Ledger(balancer, forecast)
    run = VirtualRun(balancer, settings, ledger)
    ledger.watch(run, now)
    report = run.run(tasks, now)
    if start_s is None:
        apis = {api.name: api for api in (settings.providers[name].api for name in configured)}
        start_s = sum(api.warm_up_s for api in apis.values())
    return _plan(report, ledger, unknown, forecast.is_known, now, start_s)


def last_start_s(store: Store) -> float | None:
    """How long the start of the last run took: the SDKs' imports, for the most part."""
    for row in store.events(1, kinds=("started",)):
        return float(row.event.fields["start_s"])
    return None


class _Ledger:
    """The forecast as a service, which keeps accounts on the way: what each call costs, what binds when."""

    def __init__(self, balancer: ProviderLoadBalancer, forecast: Forecast) -> None:
        self._balancer, self._forecast = balancer, forecast
        self._run: VirtualRun | None = None
        self._start = self._last = 0.0
        self.lines: dict[tuple[str, str], Counter[str]] = {}
        self.moments: _Moments = []

    def watch(self, run: VirtualRun, now: float) -> None:
        self._run, self._start, self._last = run, now, -math.inf

    def __call__(self, placement: Placement, now: float) -> tuple[float, Answer]:
        if self._run is not None and now > self._last:
            self.moments.append((now - self._start, self._binding(self._run)))
            self._last = now
        latency_s, answer = self._forecast(placement, now)
        if isinstance(answer, Completion):
            self._book(placement, answer, now)
        return latency_s, answer

    def _binding(self, run: VirtualRun) -> WaitReason | None:
        """What holds the oldest waiting task up; where every slot is taken no limit is to blame."""
        if run.dispatch.waiting and self._balancer.in_flight >= self._balancer.slots:
            return SLOTS
        return run.dispatch.binding_reason()

    def _book(self, placement: Placement, answer: Completion, now: float) -> None:
        provider = self._balancer.by_name[placement.provider]
        model = provider.model(placement.model, self._balancer.settings, now)
        price = self._balancer.registry.price_of(provider, model, now)
        line = self.lines.setdefault((placement.provider, placement.tier), Counter())
        line["calls"] += 1
        line["prompt_tokens"] += answer.usage.prompt_tokens
        line["output_tokens"] += answer.usage.output_tokens
        if price is None:
            line["unpriced_calls"] += 1
        else:
            line["low_nanos"] += price.cost_nanos(self._forecast.usage(placement, LOW_OUTPUT_SHARE))
            line["expected_nanos"] += price.cost_nanos(answer.usage)
            line["highest_nanos"] += placement.reserved_nanos


def take_limits(balancer: ProviderLoadBalancer, learned: LearnedLimits) -> tuple[str, ...]:
    """Give a balancer of virtual time the limits of earlier runs.

    Providers of which none is known, told or learned, are returned by name and take ample ones: virtual
    time can't find them out, and would begin slowly for nothing.
    """
    for provider in balancer.providers:
        provider.learned = learned.get(provider.name, {})
    unknown = tuple(p.name for p in balancer.providers if not _limits_known(p))
    for name in unknown:
        _assume_ample(balancer.by_name[name])
    return unknown


def _limits_known(provider: ProviderState) -> bool:
    told = provider.config.limits.model_dump(exclude_none=True) or provider.config.model_limits
    return bool(told or provider.learned)


def _assume_ample(provider: ProviderState) -> None:
    provider.learned = _Everywhere({"requests": AMPLE_PER_MINUTE})


class _Everywhere(dict[str, Mapping[str, float | bool]]):
    """The same limits for every model group."""

    def __init__(self, limits: Mapping[str, float | bool]) -> None:
        super().__init__()
        self._limits = limits

    def get(self, key: str, default: Any = None) -> Any:
        return self._limits


def _plan(
    report: VirtualReport, ledger: _Ledger, unknown: tuple[str, ...], known: bool, now: float, start_s: float
) -> Plan:
    lines = [Line(provider, tier, **sums) for (provider, tier), sums in ledger.lines.items()]
    waited: dict[WaitReason, float] = {}
    for (from_s, what), to_s in _intervals(ledger.moments, report.makespan_s):
        if what:
            waited[what] = waited.get(what, 0.0) + to_s - from_s
    return Plan(
        at=now,
        tasks=sum(report.statuses.values()) + report.still_waiting,
        duration_s=start_s + report.makespan_s,
        start_s=start_s,
        lines=tuple(sorted(lines, key=lambda line: -line.expected_nanos)),
        unknown_prices=tuple(report.unknown_prices),
        statuses=report.statuses,
        binding=tuple(sorted(waited.items(), key=lambda item: -item[1])),
        spans=tuple(_spans(ledger.moments, report.makespan_s)),
        unknown_limits=unknown,
        from_records=known,
    )


def _spans(moments: _Moments, end_s: float) -> Iterator[Span]:
    """What binds when, in steps of the run: in each what was waited for the longest in it."""
    if end_s <= 0:
        return
    step_s = end_s / STEPS
    winners = [
        max(weights, key=lambda what: weights[what], default=None) for weights in _weigh(moments, end_s)
    ]
    start = 0
    for i in range(1, STEPS + 1):
        if i == STEPS or winners[i] != winners[start]:
            if (winner := winners[start]) is not None:
                yield Span(winner, start * step_s, i * step_s)
            start = i


def _weigh(moments: _Moments, end_s: float) -> list[dict[WaitReason | None, float]]:
    """By step, the seconds in which each thing was waited for."""
    step_s = end_s / STEPS
    weights: list[dict[WaitReason | None, float]] = [{} for _ in range(STEPS)]
    for (from_s, what), to_s in _intervals(moments, end_s):
        for i in range(int(from_s / step_s), min(STEPS, math.ceil(to_s / step_s))):
            part_s = min(to_s, (i + 1) * step_s) - max(from_s, i * step_s)
            weights[i][what] = weights[i].get(what, 0.0) + part_s
    return weights


def _intervals(moments: _Moments, end_s: float) -> Iterator[tuple[tuple[float, WaitReason | None], float]]:
    """Each moment, and until when it stands."""
    yield from zip(moments, [at for at, _ in moments[1:]] + [end_s], strict=False)
