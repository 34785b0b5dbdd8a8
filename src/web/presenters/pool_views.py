"""The values of the pool as pages and API show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...core.store import Standby
from ...formatting import humanise
from ...records import ErrorCount, ProviderCondition, WaitingFor, WorkerSnapshot
from ...refusal_text import wait_text
from ...routing.state import SHARED_GROUP
from .usage import Totals

SETTLED_STATES = frozenset(
    {ProviderCondition.HEALTHY, ProviderCondition.PAUSED, ProviderCondition.NOT_CONFIGURED}
)


@dataclass(frozen=True, slots=True)
class OrchestratorView:
    """`state`: running, silent (no heartbeat), stopped (signed off), never. `age_s`: since the heartbeat.

    `lease_s` and `lease_age_s`: how long the lead lasts without a renewal, and how long ago the last one was;
    None on SQLite.
    """

    state: str
    mode: str
    pid: int | None
    host: str
    batch: str
    started_at: float | None
    heartbeat_at: float | None
    age_s: float | None
    lease_s: float | None = None
    lease_age_s: float | None = None

    @property
    def running(self) -> bool:
        return self.state == "running"


@dataclass(frozen=True, slots=True)
class GaugeView:
    """One limit's bucket. `fill` is 0..1; a bucket in debt is at 0."""

    group: str
    dimension: str
    level: float
    capacity: float
    fill: float
    per_minute: float
    window_s: float
    source: str

    @property
    def used(self) -> float:
        """The share of the limit that is used, 0..1."""
        return 1.0 - self.fill

    @property
    def refills_in_s(self) -> float:
        """Seconds until all of it is free again, without further calls."""
        rate = self.per_minute / 60.0
        return (self.capacity - self.level) / rate if rate > 0 else 0.0

    @property
    def title(self) -> str:
        """`tokens a minute`, and of which models where they have limits of their own."""
        per = "day" if self.window_s > 60 else "minute"
        of = "" if self.group == SHARED_GROUP else f" of {self.group}"
        return f"{humanise(self.dimension)} a {per}{of}"


@dataclass(frozen=True, slots=True)
class ProviderView:
    """One provider as its card shows it."""

    name: str
    state: ProviderCondition
    reason: str
    until: float | None
    configured: bool
    weight: float
    score: float
    performance_multiplier: float
    time_multiplier: float
    share: float
    error_rate: float
    success_rate: float | None  # of today
    avg_response_s: float | None
    p50_s: float | None
    p95_s: float | None
    latency_window: str  # of both quantiles
    in_flight: int
    concurrency_limit: int  # calls in flight at most
    last_day: Totals  # 24 hours
    today: Totals
    total: Totals
    latency_last_hour_s: tuple[float | None, ...]
    limits: tuple[GaugeView, ...]
    errors: tuple[ErrorCount, ...]  # newest first
    models: tuple[str, ...]
    opened_count: int

    @property
    def tightest(self) -> GaugeView | None:
        """The limit with the least left; None without a limit."""
        return max(self.limits, key=lambda gauge: (gauge.used, gauge.refills_in_s), default=None)


@dataclass(frozen=True, slots=True)
class AgentView:
    """One agent as its row shows it."""

    name: str
    home: str
    task_types: tuple[str, ...]
    in_flight: int
    slots: int
    done: int
    served: Mapping[str, int]  # answers since the start, by provider


@dataclass(frozen=True, slots=True)
class WaitView:
    """How many tasks wait for one thing, and until when. `kind` is a `RefusalKind`."""

    what: str
    kind: str
    tasks: int
    until: float | None
    budget_scope: str = ""  # where a budget holds the tasks: all, provider, batch, submitter

    @classmethod
    def of(cls, waiting: WaitingFor) -> WaitView:
        reason = waiting.reason
        return cls(wait_text(reason), reason.kind, waiting.tasks, waiting.until, reason.budget_scope)


@dataclass(frozen=True, slots=True)
class PoolView:
    """The pool at the time `at` of its snapshot; `now` is the time of the request."""

    now: float
    at: float | None
    simulated: bool
    orchestrator: OrchestratorView
    providers: tuple[ProviderView, ...]
    agents: tuple[AgentView, ...]
    waiting: int
    in_flight: int
    waiting_for: tuple[WaitView, ...]
    oldest_waiting_at: float | None
    offline_since: float | None
    rows_in_flight: tuple[int, ...]  # of the store: tasks whose call has left
    workers: tuple[WorkerSnapshot, ...] = ()  # empty: the orchestrator makes all calls
    standbys: tuple[Standby, ...] = ()

    @property
    def refresh_s(self) -> int:
        """Seconds until a page should refresh: few while something happens, more while nothing can."""
        if not self.orchestrator.running:
            return 10
        upset = any(p.state not in SETTLED_STATES for p in self.providers)
        return 1 if upset or self.waiting or self.in_flight else 3

    def agents_by_home(self) -> dict[str, list[AgentView]]:
        """The agents by home provider, in the order of the providers."""
        homes: dict[str, list[AgentView]] = {provider.name: [] for provider in self.providers}
        for agent in self.agents:
            homes.setdefault(agent.home, []).append(agent)
        return homes
