"""What the balancer knows of each provider, each of its models, and each agent.

Plain mutable state without decisions; `balancer.py` alone changes it.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..records import Usage
from ..settings import AgentConfig, LimitSettings, ModelConfig, ProviderConfig, Settings
from .breaker import CLOSED, HALF_OPEN, Breaker
from .concurrency import INITIAL, Concurrency
from .doubts import Doubt
from .estimates import CHARS_PER_TOKEN, Estimator, Outputs
from .limits import ModelGroup, Reservation
from .prefixes import Ticket
from .pricing import CompiledPrice
from .scoring import History

if TYPE_CHECKING:
    from .surveys import Memory

SHARED_GROUP = "*"  # all models of a provider whose limits were told for the provider as a whole


class ModelState:
    """One model of one provider."""

    __slots__ = (
        "config",
        "doubt",
        "error",
        "group",
        "name",
        "out",
        "out_until",
        "price",
        "price_is_unknown",
        "trial",
        "trial_until",
        "was_out",
        "worked",
    )

    def __init__(self, name: str, config: ModelConfig, group: ModelGroup) -> None:
        self.name, self.config, self.group = name, config, group
        self.out = ""  # why it is out (404), empty while it is in
        self.out_until = math.inf  # then one call tries it again
        self.was_out = False  # and no call has succeeded since
        self.trial = 0  # the permit of the call that tries it again ...
        self.trial_until = 0.0  # ... which is waited for until then
        self.doubt = Doubt()
        self.error = ""  # the answer that raised it
        self.worked = False
        self.price: CompiledPrice | None = None
        self.price_is_unknown = False  # and somebody was told


class ProviderState:
    """One configured provider: health, limits, counters."""

    __slots__ = (
        "answered",
        "answered_at",
        "backoff_count",
        "backoff_from",
        "backoff_needless",
        "backoff_number",
        "backoff_told",
        "backoff_trial",
        "backoff_trial_until",
        "backoff_until",
        "bit",
        "breaker",
        "calls",
        "concurrency",
        "config",
        "cost_nanos",
        "cut_at",
        "estimates",
        "estimators",
        "exhausted_at",
        "exhausted_reason",
        "exhausted_until",
        "failed",
        "granted_at",
        "groups",
        "heard_at",
        "history",
        "in_flight",
        "index",
        "key_doubt",
        "key_error",
        "key_worked",
        "last_errors",
        "learned",
        "list_is_public",
        "lists_models",
        "lost_from",
        "misconfigured",
        "misconfigured_at",
        "models",
        "most_tokens_per_char",
        "name",
        "neutral",
        "no_canary",
        "output_tokens",
        "outputs",
        "paused",
        "performance_multiplier",
        "preferring",
        "prompt_tokens",
        "reached_at",
        "score",
        "shown_state",
        "succeeded",
        "suspect_probe",
        "suspect_probe_after",
        "suspect_probes",
        "time_multiplier",
        "trusted_from",
        "unreachable_at",
        "unreachable_since",
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
        self.breaker = Breaker(settings.breaker, jitter)
        self.history = History(settings.routing.history_window_s)
        self.concurrency = Concurrency(INITIAL)  # the pool knows how many there may be at most
        self.groups: dict[str, ModelGroup] = {}
        self.models: dict[str, ModelState] = {}
        self.estimators: dict[str, Estimator] = {}
        self.most_tokens_per_char = 1.0 / CHARS_PER_TOKEN  # of all its estimators, ever
        self.estimates: Mapping[str, Mapping[str, Any]] = {}  # known from earlier runs, by task type
        self.outputs = outputs  # by task type, of all providers together
        self.learned: Mapping[str, Mapping[str, float | bool]] = {}  # limits known from earlier runs
        self.preferring = 0  # waiting tasks that prefer it
        self.granted_at = float("-inf")  # when the last call was placed
        self.in_flight = 0
        self.heard_at = 0.0  # last return, or when the first call of an idle provider went out
        self.answered_at = 0.0  # the same without time-outs, which are our giving up and not a return
        self.suspect_probe = False  # one call may go although it is suspect: its health call answers
        self.suspect_probe_after = 0.0
        self.suspect_probes = 0  # how many were let go in vain: each waits twice as long as the last
        self.trusted_from = float("-inf")  # time-outs of calls placed before say nothing: it was silent then
        self.paused = False
        self.misconfigured = ""
        self.misconfigured_at = float("-inf")
        self.key_doubt = Doubt()
        self.key_error = ""  # the answer that raised it
        self.list_is_public = False  # its list of models is given although the key is refused
        self.key_worked = False
        self.exhausted_at = float("-inf")
        self.exhausted_until = 0.0  # above 0: spent, and nobody told until when
        self.exhausted_reason = ""
        self.reached_at = float("-inf")  # when anything last came from it over the network
        self.unreachable_since: float | None = None
        self.unreachable_at = float("-inf")  # the newest evidence for that
        self.lists_models = False  # its free call has been answered: now a silence of it means something
        self.cut_at = float("-inf")  # calls placed up to then were cut off ...
        self.lost_from = float("inf")  # ... and are given up from then on
        self.answered = 0  # the highest permit number of a call that it has answered well
        self.backoff_until = 0.0
        self.backoff_count = 0  # overloads in a row, a burst counted once: the exponent of the back-off
        self.backoff_from = float("-inf")  # calls sent before are of the burst that began it
        self.backoff_number = 0  # the permit of the call that began it
        self.backoff_needless = 0  # back-offs lately that the first call after them ended
        self.backoff_told = False  # the provider named the time itself
        self.backoff_trial = 0  # the permit of the one call that goes first after it ...
        self.backoff_trial_until = 0.0  # ... and until when the others wait for it
        self.score = self.weight
        self.performance_multiplier = self.time_multiplier = 1.0
        self.no_canary = (0, 0)  # the breaker's stage at which a canary could not go or said nothing
        self.calls = self.succeeded = self.failed = self.neutral = 0
        self.prompt_tokens = self.output_tokens = self.cost_nanos = 0
        self.last_errors: deque[str] = deque(maxlen=5)
        self.shown_state = "healthy"

    def estimator(self, task_type: str) -> Estimator:
        found = self.estimators.get(task_type)
        if found is None:
            found = self.estimators[task_type] = Estimator(self.outputs.setdefault(task_type, Outputs()))
            found.restore(self.estimates.get(task_type, {}))
            self.most_tokens_per_char = max(self.most_tokens_per_char, found.tokens_per_char)
        return found

    def observe(self, task_type: str, chars: int, messages: int, usage: Usage) -> None:
        """Learn from one answered call what such calls need."""
        estimator = self.estimator(task_type)
        estimator.observe(chars, messages, usage)
        if estimator.tokens_per_char > self.most_tokens_per_char:
            self.most_tokens_per_char = estimator.tokens_per_char

    def model(self, name: str, settings: Settings, now: float) -> ModelState:
        """The state of a model, made at its first use."""
        found = self.models.get(name)
        if found is None:
            config = settings.lookup_model(name)
            found = self.models[name] = ModelState(name, config, self._group_of(name, config, now))
        return found

    def _group_of(self, model: str, config: ModelConfig, now: float) -> ModelGroup:
        own = self.config.model_limits.get(model)
        shared = self.config.limits
        if own is not None:
            name, told = model, own
        elif shared.model_dump(exclude_none=True):
            name, told = SHARED_GROUP, shared
        else:
            name, told = config.group or model, LimitSettings()
        if name not in self.groups:
            group = self.groups[name] = ModelGroup(name, self.config.api.limits, told, now)
            group.restore(self.learned.get(name, {}), now)
        return self.groups[name]

    def held_until(self, model: str) -> float:
        """Until when calls to a model are held."""
        found = self.models.get(model)
        return found.group.held_until if found is not None else 0.0

    def stall_timeout_s(self, floor_s: float) -> float:
        """How long its silence may last before no new call goes to it."""
        quantiles = self.history.quantiles()
        return max(floor_s, 3.0 * quantiles[1]) if quantiles else floor_s

    def silent_since(self, now: float, floor_s: float) -> float | None:
        """Since when nothing has come back although calls are out; None while that is not suspicious."""
        if self.in_flight and now - self.heard_at > self.stall_timeout_s(floor_s):
            return self.heard_at
        return None

    def breaks_silence(self, now: float, floor_s: float) -> bool:
        """Whether an answer that has come now is the first after a silence, time-outs left out."""
        return now - self.answered_at > self.stall_timeout_s(floor_s)

    def answers_health(self, now: float, floor_s: float) -> bool:
        """Its free health call answers while it is suspect: one call may try. Whether that is news."""
        if self.silent_since(now, floor_s) is None or now < self.suspect_probe_after or self.suspect_probe:
            return False
        self.suspect_probe = True
        return True

    def let_suspect_probe_go(self, now: float, floor_s: float) -> None:
        self.suspect_probe = False
        self.suspect_probe_after = now + floor_s * 2.0 ** min(self.suspect_probes, 6)
        self.suspect_probes += 1

    def trust(self, now: float) -> None:
        """It has answered: what was silent before is not held against it when its time is up."""
        if self.suspect_probes or self.suspect_probe:
            self.suspect_probe, self.suspect_probes, self.suspect_probe_after = False, 0, 0.0
        self.trusted_from = now

    @property
    def may_open_up(self) -> bool:
        """Whether the end of a call that is out changes what it admits, although time alone would too.

        A probe, a forced call, one of those let in while it recovers, one on a spent quota or a refused key.
        """
        if not self.in_flight:
            return False
        doubtful = bool(self.misconfigured) or self.exhausted_until > 0.0 or self.backoff_count > 0
        return doubtful or self.breaker.state is not CLOSED or self.breaker.ramping

    @property
    def doubted(self) -> bool:
        """Whether its key or one of its models is doubted, or one that was out is tried again."""
        return self.key_doubt.raised or any(m.doubt.raised or m.trial for m in self.models.values())

    def wants_look(self, asked_at: float) -> bool:
        """Whether its health check has not been asked since a doubt was raised."""
        return self.key_doubt.wants_look(asked_at) or any(
            model.doubt.wants_look(asked_at) for model in self.models.values()
        )

    @property
    def on_trial(self) -> bool:
        """Whether the next call to it is a probe."""
        return self.half_open or self.suspect_probe

    @property
    def half_open(self) -> bool:
        return self.breaker.state is HALF_OPEN


class AgentState:
    """One agent's slots."""

    __slots__ = ("done", "home", "in_flight", "name", "slots", "system_prompt", "task_types")

    def __init__(self, name: str, config: AgentConfig) -> None:
        self.name, self.home = name, config.home
        self.task_types = frozenset(config.task_types)
        self.slots = config.calls_in_flight
        self.system_prompt = config.system_prompt
        self.in_flight = self.done = 0


def agent_rows(rows: Sequence[AgentConfig]) -> list[tuple[str, AgentConfig]]:
    """`(name, config)` of every agent: a config with a count above 1 stands for numbered copies."""
    return [
        (config.name if config.count == 1 else f"{config.name}-{copy + 1}", config)
        for config in rows
        for copy in range(config.count)
    ]


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
    budget: int | None = None
    upper_bound_nanos: int = 0
    ticket: Ticket | None = None  # what it does with a beginning that other tasks share
    memory: Memory | None = None  # what its task remembers
    canary: bool = False
    compared: bool = False  # given up to see how long another provider takes: that says nothing of health
    may_move: bool = False  # another provider may serve its task as well
    in_flight: int = 1  # calls to the provider when it was placed, with it
