"""A task's next step after a failed attempt: one row per error class, independent of messages.

`RetryPolicy.decide` reads the row and either ends the task or writes into its `RetryState` what the next
placement has to know: which provider failed it, which model can't serve it, which provider gets one more try.
Whether another provider takes it at once, or all have failed it and it waits (`backoff_s`), is then decided
by the selection: providers that failed a task come last, but are never ruled out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..errors import (
    PROVIDER_ERRORS,
    AuthFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    FlexUnavailable,
    InternalError,
    InvalidResponse,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    SchemaMismatch,
    ServerError,
    TimedOut,
    Truncated,
    Unreachable,
    UnusableAnswer,
    WorkerLost,
)
from ..messages import Message
from ..records import Attempt, Task, TaskStatus
from ..settings import PoolSettings, Settings
from .limits.attribution import SURELY_OWN
from .retry_state import RetryState
from .state import ProviderState

LARGER_MAX_TOKENS = 4  # after an answer without text, by this factor and at least ...
LARGER_AT_LEAST = 2048
BY_CHANCE = 3  # answers 429 of one task: where a fifth of all calls draw one, one task in 125 draws so many


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `again`: tries on the same provider before it is excluded."""

    again: int = 0
    exclude_provider: bool = False
    exclude_model: bool = False  # at any provider
    exclude_here: bool = False  # the model at this provider alone
    more_tokens: bool = False
    repair: bool = False  # the next try contains the answer and its errors
    at_most: int | None = None  # so many failures of this class end the task
    ends_as: TaskStatus = TaskStatus.FAILED


RULES: dict[type[ProviderError], Rule] = {
    RateLimited: Rule(),  # its group is held, and that is exclusion enough
    QuotaExhausted: Rule(),
    Overloaded: Rule(exclude_provider=True),
    FlexUnavailable: Rule(again=1, exclude_provider=True),  # again without flex: see `RetryState.is_standard`
    ServerError: Rule(again=1, exclude_provider=True),
    TimedOut: Rule(exclude_provider=True),
    Unreachable: Rule(exclude_provider=True),
    InvalidResponse: Rule(exclude_provider=True),
    UnusableAnswer: Rule(exclude_provider=True),
    # Two providers, each with one try and one correction of it.
    SchemaMismatch: Rule(again=1, exclude_provider=True, repair=True, at_most=4),
    AuthFailed: Rule(exclude_provider=True),
    ModelUnavailable: Rule(again=1, exclude_here=True),
    ContextTooLong: Rule(exclude_model=True),
    RequestTooLarge: Rule(exclude_here=True),
    ContentRefused: Rule(at_most=1, ends_as=TaskStatus.REFUSED),
    BadRequest: Rule(exclude_model=True, exclude_provider=True, at_most=2),
    Truncated: Rule(again=1, more_tokens=True, at_most=2),
    # A task whose workers die each time probably kills them. The limit is high because the tasks beside it on
    # those workers are lost as often, and because workers also die for other reasons.
    WorkerLost: Rule(at_most=10),
    InternalError: Rule(at_most=3),  # excludes no provider: what fails three times fails for ever
}
# For ContentRefused, where the settings allow another provider.
FAILOVER_ON_REFUSAL = Rule(exclude_provider=True, at_most=2, ends_as=TaskStatus.REFUSED)


def backoff_s(failures: int, pool: PoolSettings) -> float:
    """Seconds to wait after so many failures: `backoff_base_s`, doubled each time, to `backoff_max_s`."""
    exponent = min(max(failures - 1, 0), 16)
    return float(min(pool.backoff_base_s * 2.0**exponent, pool.backoff_max_s))


class Failure(NamedTuple):
    """A failed attempt: the last one of `attempts`. `costed`: how many of them count.

    `delivered`: some of its answer has reached the submitter, so that another one can't begin.
    """

    error: ProviderError
    provider: ProviderState
    attempts: Sequence[Attempt]
    costed: int
    delivered: bool = False

    @property
    def tries_here(self) -> int:
        """Attempts at this provider that failed in this way."""
        return _tries_here(self.attempts, self.provider.name, self.error.kind)


class RetryPolicy:
    """Decides what a task does after each failed attempt. All times are UTC epoch seconds."""

    def __init__(self, settings: Settings) -> None:
        self._pool = settings.pool
        self._failover_on_refusal = settings.routing.failover_on_refusal
        self._max_hold_s = settings.routing.max_hold_s

    def decide(self, failure: Failure, retry: RetryState, now: float) -> tuple[TaskStatus, str] | None:
        """`(final status, why)`, or None: the task continues as `retry` says."""
        rule = self._rule_of(failure.error)
        end = self._end(failure, rule, retry)
        if end is not None:
            return end
        error, provider, attempts = failure.error, failure.provider, failure.attempts
        retry.attempt = len(attempts) + 1
        retry.again = -1
        if isinstance(error, RateLimited):
            self._wait_for_limit(failure, retry, now)
        if _may_try_again(failure, rule, retry):
            retry.again = provider.index
        elif rule.exclude_provider:
            retry.tried |= provider.bit
            retry.tried_until = now + backoff_s(failure.costed, self._pool)
        if isinstance(error, ContentRefused):
            retry.refused |= provider.bit
        if retry.again < 0:
            retry.turns = ()  # another provider starts from the user's own messages
        elif rule.repair and isinstance(error, SchemaMismatch):
            retry.turns = _repair_turns(error)
        _note_model(retry, rule, attempts[-1], again=retry.again >= 0)
        return None

    def _rule_of(self, error: ProviderError) -> Rule:
        if isinstance(error, ContentRefused) and self._failover_on_refusal:
            return FAILOVER_ON_REFUSAL
        return RULES[type(error)]

    def _end(self, failure: Failure, rule: Rule, retry: RetryState) -> tuple[TaskStatus, str] | None:
        """How the task ends, if this was its last attempt."""
        attempts, kind = failure.attempts, failure.error.kind
        if failure.delivered:
            return rule.ends_as, _explain(attempts, "part of the answer was delivered already")
        if rule.at_most is not None and sum(a.error_kind == kind for a in attempts) >= rule.at_most:
            return rule.ends_as, _explain(attempts, kind)
        own_429s = max(0, retry.own_429s - SURELY_OWN)
        failed, allowed = failure.costed + own_429s, self._pool.max_attempts
        if failed >= allowed:
            beside = f", {own_429s} of them with 429 while other calls were answered" if own_429s else ""
            # Failures that may have been the provider's own count once it is clear that they were not.
            more = f", and {failed - allowed} more that counted only later" if failed > allowed else ""
            return TaskStatus.FAILED, _explain(attempts, f"{allowed} attempts failed{beside}{more}")
        if len(attempts) >= self._pool.max_calls:
            return TaskStatus.FAILED, _explain(attempts, f"{len(attempts)} calls were made")
        return None

    def _wait_for_limit(self, failure: Failure, retry: RetryState, now: float) -> None:
        """A task with repeated 429s lets others go first, since it may be the cause.

        Its first 429 holds the group, which is wait enough. After later ones only the task waits. While 429s
        come by chance, it waits only as long as they state.
        """
        provider, drawn = failure.provider, failure.tries_here
        held_until = provider.held_until(failure.attempts[-1].model)
        if held_until > now and drawn == 1:
            return
        group = provider.models[failure.attempts[-1].model].group
        wait_s = stated_s = min(failure.error.retry_after_s or 0.0, self._max_hold_s)
        by_chance = drawn <= BY_CHANCE or group.rejections.is_stray(now)
        if not stated_s or not by_chance:
            wait_s = max(stated_s, backoff_s(drawn, self._pool))
        retry.tried |= provider.bit
        retry.tried_until = max(held_until, now) + wait_s

    def recall(
        self, retry: RetryState, attempts: Sequence[Attempt], by_name: Mapping[str, ProviderState]
    ) -> None:
        """Write the consequences of attempts before a restart into `retry`, as `decide` did after each.

        A second try on the same provider is lost, since the answer that it would correct is lost.
        """
        failures = 0
        for number, attempt in enumerate(attempts, 1):
            if not attempt.error_kind:
                continue
            failures += 1
            kind, provider = PROVIDER_ERRORS[attempt.error_kind], by_name.get(attempt.provider)
            refused = kind is ContentRefused  # and the task continued, so another provider was allowed
            rule = FAILOVER_ON_REFUSAL if refused else RULES[kind]
            again = _tries_here(attempts[:number], attempt.provider, attempt.error_kind) <= rule.again
            _note_model(retry, rule, attempt, again=again)
            if provider is None:  # it is not configured any more
                continue
            if kind.counts_against_health:
                retry.failed = (*retry.failed, (provider.index, 0))
            if rule.exclude_provider and not again:
                retry.tried |= provider.bit
                ended_at = attempt.started_at + attempt.latency_s
                retry.tried_until = ended_at + backoff_s(failures, self._pool)
            if refused:
                retry.refused |= provider.bit


def _may_try_again(failure: Failure, rule: Rule, retry: RetryState) -> bool:
    """Whether the task may try the same provider once more, at once.

    One failure may be chance. A provider that fails in a row gets no immediate second call from the same
    task. Nor does a provider that is tried after another one has failed the task, since the task may be the
    cause.
    """
    error, provider = failure.error, failure.provider
    if failure.tries_here > rule.again or provider.breaker.consecutive > 1:
        return False
    return not (error.counts_against_health and any(index != provider.index for index, _ in retry.failed))


def _note_model(retry: RetryState, rule: Rule, attempt: Attempt, *, again: bool) -> None:
    if rule.exclude_model and not again:
        retry.avoid = retry.avoid | {attempt.model}
    if rule.exclude_here and not again:
        retry.avoid = retry.avoid | {f"{attempt.provider}/{attempt.model}"}
    if rule.more_tokens:
        retry.max_tokens = max(attempt.max_tokens * LARGER_MAX_TOKENS, LARGER_AT_LEAST)


def as_asked_next(task: Task, retry: RetryState) -> Task:
    """The task as its next call sends it: after a wrong answer with two more turns, which cost tokens."""
    return replace(task, messages=(*task.messages, *retry.turns)) if retry.turns else task


def _repair_turns(error: SchemaMismatch) -> tuple[Message, ...]:
    correction = (
        f"That answer does not match the JSON schema:\n{error.problems}\n"
        "Give the whole answer again, corrected: JSON that matches the schema, and nothing else."
    )
    return Message("assistant", error.answer), Message("user", correction)


def _tries_here(attempts: Sequence[Attempt], provider: str, kind: str) -> int:
    return sum(a.provider == provider and a.error_kind == kind for a in attempts)


def _explain(attempts: Sequence[Attempt], why: str) -> str:
    """All failed attempts, the first one first: the last error must not hide the original one."""
    failed = "; ".join(describe(a) for a in attempts if a.error_kind)
    return f"{why}: {failed}"


def describe(attempt: Attempt) -> str:
    """One failed attempt in a few words."""
    status = f" {attempt.status}" if attempt.status else ""
    return f"{attempt.provider}/{attempt.model} {attempt.error_kind}{status} {attempt.error}".rstrip()
