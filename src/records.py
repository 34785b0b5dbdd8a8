"""The values that pass between all parts of the program. None is ever changed; methods are simple sums.

Units are in the names: `_s` seconds, `_at` UTC epoch seconds (float), `_tokens` tokens,
`_nanos` integer nano-dollars (1 USD = 1_000_000_000). Money is integer so that sums are exact.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from .answer_choices import longest_choice_bytes
from .media_sizes import MediaSize, sizes_of
from .messages import ContentPart, Message, Tool, media_in, text_parts

NANOS_PER_USD = 1_000_000_000
MAX_USD = 1_000_000_000  # of a cap: nine times as much fits the 64 bits of the databases
GENERAL = "general"  # the task type of a task that names none
EMBEDDINGS = "embeddings"  # the form of `Native` whose answer is vectors, not text
RUNS = "runs/"  # what the batches of runs begin with: runs/SUBMITTER/ID
REQUEST_BATCHES = ("gateway/", RUNS)  # how the names of batches begin that hold requests of the gateway
FLEX = "flex"  # the service tier at a lower price, with slower answers
STANDARD = "standard"
BATCH = "batch"  # the `choice` of an attempt that was a row of a provider's batch
DEFERS = "within_s"  # the option of a batch whose tasks may take until their deadline
LOCAL = "local"  # who submits without a token: the command line, and the pages where no token is set
# Some models take none of them.
PARAMETERS = ("temperature", "top_p", "seed", "stop", "reasoning_effort", "response_schema")
SCHEMA_FRAME_CHARS = 400  # what a provider, or a prompt, puts around a schema


class TaskStatus(StrEnum):
    """Where a task stands.

        queued      waits for an orchestrator to claim it
        running     claimed by an orchestrator, for a live call
        deferred    waits for a place in a provider's batch, or to be queued for a live call
        batched     in a batch at a provider, whatever becomes of the orchestrator

    These four are open, the others final.
    """

    QUEUED = "queued"
    RUNNING = "running"
    DEFERRED = "deferred"
    BATCHED = "batched"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the task has ended."""
        return self not in OPEN_STATUSES


LIVE_STATUSES = (TaskStatus.QUEUED, TaskStatus.RUNNING)  # on the way to a live call
OPEN_STATUSES = (*LIVE_STATUSES, TaskStatus.DEFERRED, TaskStatus.BATCHED)


class Outcome(StrEnum):
    """How a permit is settled, exactly once."""

    OK = "ok"
    FAILED = "failed"  # counts against the provider's health
    NEUTRAL = "neutral"  # says nothing about health: 429, 400, refusals
    CANCELLED = "cancelled"  # provably never sent
    UNCERTAIN = "uncertain"  # cut off or timed out: may have been billed


class FinishReason(StrEnum):
    """Why a model stopped, in one vocabulary for all providers."""

    STOP = "stop"
    LENGTH = "length"
    REFUSED = "refused"
    TOOL = "tool"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Native:
    """A request as a caller wrote it for one API. A provider of that API gets it unchanged but for the model.

    `form` is `openai` (Chat Completions), `responses`, `embeddings` or `anthropic`; `headers` are
    those to pass on.
    """

    form: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """What a user submits. Unique by (`batch`, `id`) for life."""

    id: str
    batch: str
    messages: tuple[Message, ...]
    task_type: str = GENERAL
    tier: str = "auto"  # auto, economy, standard, premium
    max_tokens: int | None = None  # None: the tier's default
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    models: tuple[str, ...] = ()  # pins; empty: any
    providers: tuple[str, ...] = ()  # pins; empty: any
    deadline_at: float | None = None
    priority: int = 0  # higher goes first
    metadata: Mapping[str, Any] = field(default_factory=dict)
    line: int | None = None  # where it stood in its file, counted from 1
    submitter: str = LOCAL
    created_at: float = 0.0
    claims: int = 0  # how often an orchestrator has taken it up
    attempts: int = field(default=0, compare=False)  # stored so far, over its whole life
    agent: str = ""  # the agent that it names; its system prompt is among `messages` already
    response_schema: Mapping[str, Any] | None = None
    reasoning_effort: str | None = None  # of REASONING_EFFORTS; None: the model's default
    tools: tuple[Tool, ...] = ()
    tool_choice: str = ""  # of TOOL_CHOICES, or the name of a tool; empty: the API's default
    parallel_tool_calls: bool | None = (
        None  # whether an answer may ask for several calls; None: the API's default
    )
    native: Native | None = None  # where it came in through the gateway
    service_tier: str = ""  # FLEX: where its model takes it and its deadline allows; STANDARD or empty: never
    row: int = 0  # the store's number for it; 0 while it is not stored

    # Derived once, since routing asks for them at every decision.
    text_chars: int = field(init=False, compare=False, default=0)  # with schema and tools, which are sent too
    prompt_bytes: int = field(init=False, compare=False, default=0)  # UTF-8, at most
    schema_chars: int = field(init=False, compare=False, default=0)
    choice_bytes: int = field(init=False, compare=False, default=0)  # the longest choice; 0: none
    parameters: tuple[str, ...] = field(init=False, compare=False, default=())  # of `PARAMETERS`, those set
    media: tuple[MediaSize, ...] = field(init=False, compare=False, default=())  # counted apart from text
    content_bytes: int = field(init=False, compare=False, default=0)  # of text and media in memory, about
    needs: tuple[str, ...] = field(init=False, compare=False, default=())  # what its model must take

    @property
    def embeds(self) -> bool:
        """Whether its answer is vectors: its provider is chosen already, and its call generates nothing."""
        return self.native is not None and self.native.form == EMBEDDINGS

    def __post_init__(self) -> None:
        chars, size = _text_sizes(self.messages, self.tools)
        if self.response_schema is not None:
            schema = len(json.dumps(self.response_schema)) + SCHEMA_FRAME_CHARS
            object.__setattr__(self, "schema_chars", schema)
            object.__setattr__(self, "choice_bytes", longest_choice_bytes(self.response_schema))
            chars += schema
            size += 2 * schema  # where an API format can't say all of it, it goes out in words as well
        given = tuple(name for name in PARAMETERS if getattr(self, name) not in (None, ()))
        object.__setattr__(self, "parameters", given)
        content_bytes = size
        if any(type(message.content) is not str for message in self.messages):
            media = media_in(self.messages)
            object.__setattr__(self, "media", sizes_of(media))
            content_bytes += sum(len(each.data) for each in media)
        if self.media or self.tools:
            object.__setattr__(self, "needs", _needs(self.media, self.tools))
        object.__setattr__(self, "text_chars", chars)
        object.__setattr__(self, "prompt_bytes", size)
        object.__setattr__(self, "content_bytes", content_bytes)


def _text_sizes(messages: Iterable[Message], tools: Iterable[Tool]) -> tuple[int, int]:
    """`(characters, UTF-8 bytes at most)` of all that counts as text."""
    chars = size = 0
    for message in messages:
        if isinstance(message.content, str):
            chars += len(message.content)
            size += _utf8_bytes(message.content)
            continue
        for text in text_parts(message):
            chars += len(text)
            size += _utf8_bytes(text)
    for tool in tools:
        written = len(tool.name) + len(tool.description) + len(json.dumps(tool.parameters or {}))
        chars += written
        size += 4 * written
    return chars, size


def _needs(media: Iterable[MediaSize], tools: Sequence[Tool]) -> tuple[str, ...]:
    found = {need for each in media for need in each.needs}
    return tuple(sorted(found | {"tools"} if tools else found))


def _utf8_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call. `input_tokens` excludes cached ones; `output_tokens` includes reasoning."""

    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Everything that was read: fresh, cached and written to the cache."""
        return self.input_tokens + self.cache_read_tokens + self.cache_write_tokens

    @property
    def uncached(self) -> Usage:
        """The same tokens, none of them from or to a cache."""
        return Usage(self.prompt_tokens, 0, 0, self.output_tokens, self.reasoning_tokens)

    @property
    def total_tokens(self) -> int:
        """Tokens of prompt and answer."""
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class LimitReport:
    """One limit as a provider's answer reported it.

    `dimension` is `requests`, `tokens`, `input_tokens` or `output_tokens`; `window_s` the length of
    the window the limit counts over (60 or 86,400), None where the header does not say.
    """

    dimension: str
    limit: int
    remaining: int | None = None
    window_s: float | None = None


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One call for an adapter: everything resolved, nothing to decide any more."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    timeout_s: float = 120.0
    response_schema: Mapping[str, Any] | None = None
    reasoning_effort: str | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: str = ""
    parallel_tool_calls: bool | None = None
    native: Native | None = None
    first_token_timeout_s: float | None = None  # of a stream: until its first event; None: only the total
    stall_timeout_s: float | None = None  # of a stream: between two events
    parameters: Mapping[str, Any] = field(default_factory=dict)  # the flags of the row of the model
    cache_key: str = ""  # names the prefix that other calls share; empty: none do
    cached_turns: int = 0  # so many of `messages` are to be kept in the provider's cache; 0: none
    service_tier: str = ""  # FLEX, or empty: as the API has it


@dataclass(frozen=True, slots=True)
class Completion:
    """A usable answer: text that is not empty, tool calls, or a finish reason that explains their absence.

    `parts` is the assistant's turn in its order where it is more than its text. `raw` is the body as the
    provider sent it, where the request has a `native` form and went to the API of that form: its bytes where
    the answer is embeddings, which nobody else reads.
    """

    text: str
    finish_reason: FinishReason
    usage: Usage
    model: str  # as the provider named it
    limits: tuple[LimitReport, ...] = ()
    warnings: tuple[str, ...] = ()
    request_id: str = ""
    parts: tuple[ContentPart, ...] = ()
    raw: Mapping[str, Any] | bytes | None = None
    service_tier: str = ""  # that served it, as the provider named it


class RefusalKind(StrEnum):
    """Why a provider can't serve a task now, or what a waiting task waits for.

    Decisions compare kinds; `refusal_text.py` makes text of them, with the detail named here.
    """

    # The pool or the provider
    OFFLINE = "offline"
    NOT_CONFIGURED = "not_configured"  # detail: what is missing
    PAUSED = "paused"
    KEY_REJECTED = "key_rejected"  # detail: the provider's answer
    KEY_IN_DOUBT = "key_in_doubt"
    QUOTA_SPENT = "quota_spent"  # detail: the provider's error code
    BREAKER_OPEN = "breaker_open"
    BREAKER_HALF_OPEN = "breaker_half_open"
    OVERLOADED = "overloaded"
    OVERLOAD_TRIAL = "overload_trial"  # one call goes first after an overload
    FAILING = "failing"  # the calls in flight decide whether the breaker opens
    SUSPECT = "suspect"  # calls in flight, no reply
    CONCURRENCY_LIMIT = "concurrency_limit"
    CONCURRENCY_SHARE = "concurrency_share"  # the most of all slots that one provider may take
    SLOW_START = "slow_start"
    # A rate-limit group
    RATE_LIMIT = "rate_limit"  # detail: the dimension
    HELD_AFTER_429 = "held_after_429"
    TRIAL_AFTER_429 = "trial_after_429"  # one call goes first after a hold
    NEIGHBOUR_FIRST = "neighbour_first"  # another call shows whether the task's 429s are its own
    LIMITS_UNKNOWN = "limits_unknown"  # the first reply reports them
    # The task
    PINNED_ELSEWHERE = "pinned_elsewhere"
    MODEL_NOT_SERVED = "model_not_served"
    PARAMETER_UNSUPPORTED = "parameter_unsupported"  # detail: the model and the parameter
    INPUT_UNSUPPORTED = "input_unsupported"  # detail: the model and what it does not take, such as images
    MODEL_UNAVAILABLE = "model_unavailable"  # detail: the model
    MODEL_IN_DOUBT = "model_in_doubt"  # detail: the model
    MODEL_UNSUITABLE = "model_unsuitable"  # detail: the model
    ZERO_WEIGHT = "zero_weight"
    REFUSED_TASK = "refused_task"
    FAILED_TASK = "failed_task"
    HEAD_OF_LINE = "head_of_line"  # an older task waits for the same capacity
    RESERVED = "reserved"  # for tasks that are charged less there
    UNKNOWN_PRICE = "unknown_price"
    BUDGET_IN_USE = "budget_in_use"  # by calls in flight; detail: the budget
    BUDGET_SPENT = "budget_spent"  # detail: the budget
    BUDGET_TOO_SMALL = "budget_too_small"  # for this call; detail: the budget
    # What only a waiting task waits for
    SLOTS = "slots"
    PREFERRED = "preferred"
    # Text of a database that was written before kinds were stored
    OTHER = "other"  # detail: the text


class Candidate(NamedTuple):
    """One line of a placement's reasons: a provider with its score, or why it was not eligible.

    `kind` is a `RefusalKind`, empty for an eligible provider; `detail` as that kind says.
    """

    provider: str
    model: str
    score: float
    kind: str = ""
    detail: str = ""


@dataclass(slots=True)
class Placement:
    """The decision for a task: the provider that serves it, the reasons, and what was reserved.

    Placements, attempts and results are never changed; but they are made at every decision, and a frozen one
    takes three times as long.
    """

    permit: int
    task: Task
    provider: str
    model: str
    group: str  # model group whose limits it draws on
    tier: str
    agent: str
    max_tokens: int
    choice: str  # preferred, weighted, spilled, retry, probe, forced
    reasons: tuple[Candidate, ...]
    at: float
    timeout_s: float
    attempt: int  # 1 for the task's first
    warnings: tuple[str, ...] = ()
    reserved_nanos: int = 0
    forced: bool = False
    cache_key: str = ""  # of a prefix of the prompt that other tasks share
    cached_turns: int = 0  # so many of its messages are marked for the provider's cache
    service_tier: str = ""  # FLEX, or empty


@dataclass(frozen=True, slots=True)
class Wait:
    """No placement now. `until` is the moment to ask again (None: when something settles)."""

    until: float | None
    reasons: tuple[Candidate, ...] = ()


@dataclass(slots=True)  # see `Placement`
class Attempt:
    """One call as it is stored and shown."""

    number: int
    provider: str
    model: str
    agent: str
    outcome: Outcome
    started_at: float
    latency_s: float
    choice: str  # as of `Placement`, or BATCH
    reasons: tuple[Candidate, ...]
    forced: bool = False
    error_kind: str = ""  # class name from src.errors, empty when ok
    error: str = ""
    status: int | None = None
    usage: Usage = field(default_factory=Usage)
    cost_nanos: int | None = 0  # None: the price is unknown
    max_tokens: int = 0
    cache_saved_nanos: int = 0  # on the cost, by a prompt cache; stored in sums alone
    discount_nanos: int = 0  # on the cost, by a lower price; stored in sums alone


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the answer of a task comes from that was not asked itself: an equal one of its batch."""

    task_id: str
    provider: str
    model: str
    agent: str


class Declined(NamedTuple):
    """Why a task ended without a call that decided: no provider can serve it, or a budget keeps it.

    `budget` names the budget, which resets at `until` (UTC epoch seconds; None: never); empty: no route.
    """

    reasons: tuple[Candidate, ...]
    budget: str = ""
    until: float | None = None


@dataclass(slots=True)  # see `Placement`
class Result:
    """How a task ended: what goes to the store and, after its commit, to the results file."""

    task: Task
    status: TaskStatus
    finished_at: float
    attempts: tuple[Attempt, ...] = ()
    output: str | None = None
    finish_reason: str = ""
    truncated: bool = False
    error: str = ""
    warnings: tuple[str, ...] = ()
    tier: str = ""
    baseline_nanos: int | None = None  # the same tokens on the stated baseline model
    origin: Origin | None = None  # None: it was asked itself
    parts: tuple[ContentPart, ...] = ()  # the answer where it is more than `output`
    declined: Declined | None = None  # not stored

    @property
    def final(self) -> Attempt | None:
        """The attempt that decided: the last one."""
        return self.attempts[-1] if self.attempts else None

    @property
    def answered_by(self) -> Attempt | Origin | None:
        """Where `provider`, `model` and `agent` of the answer stand; None for a task never called."""
        return self.origin or self.final

    @property
    def provider(self) -> str:
        """The provider that answered, or was called last; empty for a task that was never sent."""
        return self.answered_by.provider if self.answered_by else ""

    @property
    def model(self) -> str:
        """The model that answered, or was called last; empty for a task that was never sent."""
        return self.answered_by.model if self.answered_by else ""

    @property
    def usage(self) -> Usage:
        """All tokens, those of failed attempts included: what `cost_usd` pays for."""
        used = [attempt.usage for attempt in self.attempts]
        if len(used) == 1:
            return used[0]
        return Usage(
            input_tokens=sum(u.input_tokens for u in used),
            cache_read_tokens=sum(u.cache_read_tokens for u in used),
            cache_write_tokens=sum(u.cache_write_tokens for u in used),
            output_tokens=sum(u.output_tokens for u in used),
            reasoning_tokens=sum(u.reasoning_tokens for u in used),
        )

    @property
    def cost_usd(self) -> float | None:
        """What all attempts cost, USD; None as soon as one price is unknown."""
        return None if self.cost_nanos is None else self.cost_nanos / NANOS_PER_USD

    @property
    def cost_nanos(self) -> int | None:
        """Sum over all attempts; None as soon as one price is unknown."""
        total = 0
        for attempt in self.attempts:
            if attempt.cost_nanos is None:
                return None
            total += attempt.cost_nanos
        return total


@dataclass(frozen=True, slots=True)
class Event:
    """Something a person may want to know: a breaker opened, a provider was exhausted, a start."""

    at: float
    kind: str  # breaker_opened, provider_limited, offline, alert, ...
    message: str
    provider: str = ""
    task_id: str = ""
    level: str = "info"  # info, warning, alert
    fields: Mapping[str, Any] = field(default_factory=dict)


class LimitSource(StrEnum):
    """Where a limit is known from: the settings, the provider's headers, or the answers 429 alone."""

    CONFIGURED = "configured"
    LEARNED = "learned"
    INFERRED = "inferred"


@dataclass(frozen=True, slots=True)
class LimitGauge:
    """How full one limit's bucket is. `level` may be below zero after settling; `window_s` 60 or 86,400."""

    group: str
    dimension: str
    level: float
    capacity: float
    per_minute: float
    source: LimitSource
    window_s: float = 60.0


class ProviderCondition(StrEnum):
    """The condition of a provider, as status pages and events name it."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    SUSPECT = "suspect"
    LIMITED = "limited"
    OPEN = "open"
    HALF_OPEN = "half_open"
    EXHAUSTED = "exhausted"
    MISCONFIGURED = "misconfigured"
    OFFLINE = "offline"
    PAUSED = "paused"
    NOT_CONFIGURED = "not_configured"
    UNKNOWN = "unknown"  # no orchestrator has run yet


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """Equal errors of a provider: how often they came since the start, and when the last one did."""

    text: str
    count: int
    last_at: float


@dataclass(frozen=True, slots=True)
class ProviderSnapshot:
    """One provider as status pages show it: all that the balancer knows at `PoolSnapshot.at`.

    `until` (epoch seconds) is set where the state has a known end.
    """

    name: str
    state: ProviderCondition
    reason: str
    until: float | None
    weight: float
    score: float
    performance_multiplier: float
    time_multiplier: float
    share: float  # of untyped tasks right now, 0..1
    error_rate: float
    avg_response_s: float | None
    p50_s: float | None
    p95_s: float | None
    in_flight: int
    calls: int
    succeeded: int
    failed: int
    neutral: int
    prompt_tokens: int
    output_tokens: int
    cost_nanos: int
    limits: tuple[LimitGauge, ...] = ()
    errors: tuple[ErrorCount, ...] = ()  # the newest kinds, newest first
    models: tuple[str, ...] = ()
    opened_count: int = 0
    concurrency_limit: int = 0  # calls in flight at most, by latency and failures; 0: not known


@dataclass(frozen=True, slots=True)
class AgentSnapshot:
    """One agent at a moment."""

    name: str
    home: str
    task_types: tuple[str, ...]
    in_flight: int
    slots: int
    done: int
    served: Mapping[str, int] = field(default_factory=dict)  # answers since the start, by provider


@dataclass(frozen=True, slots=True)
class WorkerSnapshot:
    """A worker at a moment. `state`: attached, draining or away. `cpu_s`: of its process, since it began."""

    name: str
    host: str
    version: str
    state: str
    in_flight: int
    done: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class WaitReason:
    """What a task waits for. `kind` is a `RefusalKind`; `detail` as that kind says."""

    kind: str
    provider: str = ""
    detail: str = ""
    budget_scope: str = ""  # of a budget: all, provider, batch, submitter


@dataclass(frozen=True, slots=True)
class WaitingFor:
    """How many waiting tasks wait for the same thing, and until when (None: until a call settles)."""

    tasks: int
    until: float | None
    reason: WaitReason = WaitReason("")


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """The pool at one moment; written to the store for the web and `status`."""

    at: float
    providers: tuple[ProviderSnapshot, ...]
    agents: tuple[AgentSnapshot, ...]
    waiting: int
    in_flight: int
    waiting_for: tuple[WaitingFor, ...] = ()
    offline_since: float | None = None
    oldest_waiting_at: float | None = None
    rows_in_flight: tuple[int, ...] = ()  # of the store: tasks whose call has left
    workers: tuple[WorkerSnapshot, ...] = ()  # empty: calls are made by the orchestrator itself
