"""The state of each provider, each of its models and each agent, and the permits of calls in flight.

A provider consists of components, each in a file of its own: circuit breaker, call history, concurrency,
connection, back-off, quota, key, statistics, estimators, rate-limit groups.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..records import ProviderCondition
from ..settings import AgentConfig, LimitSettings, ModelConfig, ProviderConfig, Settings
from .cost.pricing import CompiledPrice
from .cost.prompt_cache import CacheLease
from .health.backoff import BackOff
from .health.circuit_breaker import CLOSED, HALF_OPEN, CircuitBreaker
from .health.connection import Connection
from .health.credentials import KeyState
from .health.doubts import Doubt
from .health.scoring import History
from .health.statistics import CallStatistics
from .limits.concurrency import INITIAL, Concurrency
from .limits.estimator import Estimators, Outputs
from .limits.group import LearnedLimits, RateLimitGroup, Reservation
from .limits.quota import QuotaHold
from .retry_state import RetryState

SHARED_GROUP = "*"  # all models of a provider with limits for the provider as a whole


class ModelState:
    """One model of one provider. All times are UTC epoch seconds."""

    __slots__ = (
        "config",
        "doubt",
        "error",
        "group",
        "is_out",
        "name",
        "out_until",
        "price",
        "price_is_unknown",
        "trial",
        "trial_until",
        "was_out",
        "worked",
    )

    def __init__(self, name: str, config: ModelConfig, group: RateLimitGroup) -> None:
        self.name, self.config, self.group = name, config, group
        self.is_out = False  # not available (404)
        self.out_until = math.inf  # then one call tries it again
        self.was_out = False  # and no call has succeeded since
        self.trial = 0  # the permit of the call that tries it again ...
        self.trial_until = 0.0  # ... for which others wait until then
        self.doubt = Doubt()
        self.error = ""  # the answer that raised it
        self.worked = False
        self.price: CompiledPrice | None = None
        self.price_is_unknown = False  # and an event said so

    def call_placed(self, permit: int, trial_until: float) -> None:
        """A call goes to the model; one that was out is tried by one call at a time."""
        if self.was_out:
            self.trial, self.trial_until = permit, trial_until

    def call_ended(self, permit: int) -> bool:
        """A call has ended, in any way. Whether it was the one that tried the model again."""
        was_trial = permit == self.trial
        if was_trial:
            self.trial = 0
        return was_trial

    def answered(self) -> bool:
        """A call was answered. Whether the model was out before."""
        self.worked = True
        if self.doubt.raised:
            self.doubt.clear()
        if not self.was_out or self.is_out:
            return False
        self.was_out = False
        return True

    def take_out(self, until: float) -> bool:
        """The model is not available until a call has tried it again. Whether this changes its state."""
        self.doubt.clear()
        self.is_out, self.out_until = True, until
        is_news, self.was_out = not self.was_out, True
        return is_news

    def let_in(self, now: float) -> bool:
        """Let one call try it again when its time is up. Whether that has changed."""
        if not self.is_out or now < self.out_until:
            return False
        self.is_out = False
        return True

    def resume(self) -> None:
        """End its outage on request."""
        self.is_out = self.was_out = False
        self.doubt.clear()


class ProviderState:
    """One configured provider: its components, its calls in flight and its score.

    Each component is changed by its own methods; this class has what concerns several of them.
    """

    __slots__ = (
        "_shared_groups",
        "answered",
        "backoff",
        "bit",
        "breaker",
        "concurrency",
        "config",
        "connection",
        "estimators",
        "granted_at",
        "groups",
        "history",
        "in_flight",
        "index",
        "key",
        "learned",
        "models",
        "name",
        "no_canary",
        "paused",
        "performance_multiplier",
        "preferring",
        "quota",
        "score",
        "shown_state",
        "statistics",
        "time_multiplier",
        "unseen",
        "weight",
    )

    def __init__(
        self,
        index: int,
        name: str,
        config: ProviderConfig,
        settings: Settings,
        jitter: random.Random,
        outputs: dict[str, Outputs],
    ) -> None:
        self.index, self.bit = index, 1 << index
        self.name, self.config, self.weight = name, config, config.weight
        self.paused = False
        # Components
        self.breaker = CircuitBreaker(settings.breaker, jitter)
        self.history = History(settings.routing.history_window_s)
        self.concurrency = Concurrency(INITIAL)  # the registry knows how many slots there are
        self.connection = Connection()
        self.backoff = BackOff()
        self.quota = QuotaHold()
        self.key = KeyState()
        self.statistics = CallStatistics()
        self.estimators = Estimators(outputs)
        self.models: dict[str, ModelState] = {}
        self.groups: dict[str, RateLimitGroup] = {}
        self._shared_groups = self.groups
        self.learned: Mapping[str, LearnedLimits] = {}  # limits of earlier runs, by group
        # Calls
        self.in_flight = 0
        self.unseen = 0  # of these: at workers that do not answer
        self.granted_at = float("-inf")  # when the last call was placed
        self.answered = 0  # the highest permit number of a call that was answered
        self.preferring = 0  # waiting tasks that prefer it
        self.no_canary = (0, 0)  # the breaker's stage at which a canary could not go or showed nothing
        # Score and condition
        self.score = self.weight
        self.performance_multiplier = self.time_multiplier = 1.0
        self.shown_state = ProviderCondition.HEALTHY

    def share_groups(self, groups: dict[str, RateLimitGroup]) -> None:
        """Use these rate-limit groups, by name, together with others, and add those that are missing.

        To be called before the first task is placed.
        """
        self._shared_groups = groups

    def model(self, name: str, settings: Settings, now: float) -> ModelState:
        """The state of a model, made at its first use."""
        found = self.models.get(name)
        if found is None:
            config = settings.lookup_model(name)
            found = self.models[name] = ModelState(name, config, self._group_of(name, config, now))
        return found

    def _group_of(self, model: str, config: ModelConfig, now: float) -> RateLimitGroup:
        own = self.config.model_limits.get(model)
        shared = self.config.limits
        if own is not None:
            name, limits = model, own
        elif shared.model_dump(exclude_none=True):
            name, limits = SHARED_GROUP, shared
        else:
            name, limits = config.group or model, LimitSettings()
        if name not in self._shared_groups:
            group = self._shared_groups[name] = RateLimitGroup(name, self.config.api.limits, limits, now)
            group.restore(self.learned.get(name, {}), now)
        return self.groups.setdefault(name, self._shared_groups[name])

    def held_until(self, model: str) -> float:
        """Until when calls to a model are held, UTC epoch seconds; 0.0: no such model."""
        found = self.models.get(model)
        return found.group.held_until if found is not None else 0.0

    # ------------------------------------------------------------------ calls

    def call_placed(self, permit: int, now: float, floor_s: float) -> None:
        """A call goes to the provider. `floor_s`: the shortest silence that is suspicious."""
        if self.in_flight == self.unseen:
            self.connection.heard(now)
        if self.connection.probe_allowed:
            self.connection.probe_placed(now, floor_s)
        self.backoff.call_placed(permit, now + floor_s)
        self.in_flight += 1
        self.concurrency.placed(self.in_flight)
        self.granted_at = now

    def call_ended(self, permit: int, now: float, floor_s: float, *, ok: bool, heard: bool) -> None:
        """A call has ended. `heard`: by the provider, and not by a time limit or the loss of its worker."""
        if ok and now - self.connection.heard_at > self.stall_timeout_s(floor_s):
            self.connection.trust(now)  # the first answer after a silence
        self.in_flight -= 1
        if heard:
            self.connection.heard(now)
        self.backoff.call_ended(permit)

    def call_answered(self, permit: int) -> None:
        """A call was answered, so that failures of calls sent before it are not the provider's."""
        self.answered = max(self.answered, permit)

    def restore(
        self,
        limits: Mapping[str, LearnedLimits],
        estimates: Mapping[str, Mapping[str, Any]] | None = None,
        concurrency: int = 0,
    ) -> None:
        """Start from what earlier runs learned: limits by group, estimates by task type, calls in flight.

        To be called before the first task is placed.
        """
        self.learned = limits
        self.estimators.restore(estimates or {})
        self.concurrency.start_at(concurrency)

    def set_paused(self, paused: bool) -> None:
        """A paused provider gets no tasks; its calls in flight continue."""
        self.paused = paused

    def resume(self, now: float) -> None:
        """Resume on request: lift pause, quota hold, rejected key and models that are out."""
        self.paused = False
        self.key.accept()
        self.quota.lift()
        for group in self.groups.values():
            group.release(now)
        for model in self.models.values():
            model.resume()

    # ------------------------------------------------------------------ silence

    def stall_timeout_s(self, floor_s: float) -> float:
        """How long its silence may last before no new call goes to it, in seconds."""
        quantiles = self.history.quantiles()
        return max(floor_s, 3.0 * quantiles[1]) if quantiles else floor_s

    def see(self, calls: int, oldest_at: float) -> None:
        """So many more of its calls are at workers that answer; below 0: fewer.

        `oldest_at`: since when the oldest of those has been seen. The provider's silence counts from then on.
        """
        self.unseen -= calls
        self.connection.heard(max(self.connection.heard_at, oldest_at))

    def silent_since(self, now: float, floor_s: float) -> float | None:
        """Since when nothing was heard although calls are in flight; None while that is not suspicious."""
        heard_at = self.connection.heard_at
        if self.in_flight > self.unseen and now - heard_at > self.stall_timeout_s(floor_s):
            return heard_at
        return None

    def answers_health(self, now: float, floor_s: float) -> bool:
        """Its health check answers while it is suspect: one call may try it. Whether its state changes."""
        return self.silent_since(now, floor_s) is not None and self.connection.allow_probe(now)

    # ------------------------------------------------------------------ of several components

    @property
    def may_open_up(self) -> bool:
        """Whether the end of a call in flight changes what it admits, although time alone would too.

        A probe, a forced call, one of a slow start, one after failures in a row, one on a spent quota or a
        rejected key.
        """
        if not self.in_flight:
            return False
        if self.key.rejection or self.quota.until > 0.0 or self.backoff.count > 0:
            return True
        breaker = self.breaker
        return breaker.state is not CLOSED or breaker.in_slow_start or breaker.consecutive > 0

    @property
    def doubted(self) -> bool:
        """Whether its key or one of its models is in doubt, or a model that was out is tried again."""
        if self.key.doubt.raised:
            return True
        for model in self.models.values():  # noqa: SIM110  # at every decision
            if model.trial or model.doubt.raised_at < math.inf:
                return True
        return False

    def wants_look(self, asked_at: float) -> bool:
        """Whether no health check has begun since a doubt was raised. `asked_at`: when the last one began."""
        return self.key.doubt.wants_look(asked_at) or any(
            model.doubt.wants_look(asked_at) for model in self.models.values()
        )

    @property
    def on_trial(self) -> bool:
        """Whether the next call to it is a probe."""
        return self.half_open or self.connection.probe_allowed

    @property
    def half_open(self) -> bool:
        """Whether one probe decides about it."""
        return self.breaker.state is HALF_OPEN


class AgentState:
    """One agent's slots. Tasks that name it may take free slots of others, so it can have more in flight."""

    __slots__ = ("home", "in_flight", "kind", "name", "served", "slots", "task_types")

    def __init__(self, name: str, config: AgentConfig) -> None:
        self.name, self.home = name, config.home
        kind, _, number = name.rpartition("-")
        self.kind = kind if number.isdecimal() else name  # the same for numbered copies
        self.task_types = frozenset(config.task_types)
        self.slots = config.calls_in_flight
        self.in_flight = 0
        self.served: Counter[str] = Counter()  # answers by provider

    @property
    def done(self) -> int:
        """Its answers since the start."""
        return self.served.total()


def agent_rows(rows: Sequence[AgentConfig]) -> list[tuple[str, AgentConfig]]:
    """`(name, config)` of every agent: a config with a count above 1 stands for numbered copies."""
    return [(name, config) for config in rows for name in config.names]


@dataclass(slots=True)
class Permit:
    """The right to make one attempt, held from `place` to `settle`."""

    number: int
    provider: ProviderState
    model: ModelState
    agent: AgentState
    reservation: Reservation
    probe: int
    forced: bool
    placed_at: float
    task_type: str
    chars: int
    messages: int
    cut_short: bool  # by the task's deadline, before the provider's own time limit
    budget: int | None = None  # the token of its reservation
    upper_bound_nanos: int = 0
    lease: CacheLease | None = None  # what it does with a shared prefix
    retry: RetryState | None = None  # of its task; None for a canary
    canary: bool = False
    compared: bool = False  # abandoned to compare with another provider, which shows nothing about health
    may_move: bool = False  # another provider may serve its task as well
    has_begun: bool = False  # part of its answer was delivered
    has_media: bool = False  # its prompt holds images or documents
    embeds: bool = False  # as `Task.embeds`
    is_flex: bool = False  # with service tier flex: its time and its silence show nothing of the provider
    in_flight: int = 1  # calls to the provider when it was placed, itself included
    seen_from: float | None = (
        None  # when its worker answered again; infinity: it does not; None: it has always
    )
