"""What happens to a task after a failed attempt: one row per error class, no comparing of messages.

`decide` reads the row and either ends the task or writes into its `Memory` what the next placement must
know: who failed it, which model can't serve it, who gets one more try. Whether another provider takes it
at once or everybody has failed it and it waits (`backoff_s`) is then the balancer's to see: exclusion
sorts last, it never forbids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..errors import (
    PROVIDER_ERRORS,
    AuthFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
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
)
from ..records import Attempt, Message, Task, TaskStatus
from ..settings import PoolSettings
from .limits.attribution import SURELY_OWN
from .retry_state import RetryState
from .state import ProviderState

HOUR_S = 3600.0
LARGER_MAX_TOKENS = 4  # after an answer without text, by this factor and at least ...
LARGER_AT_LEAST = 1024


@dataclass(frozen=True, slots=True)
class Rule:
    """One row. `again` counts the tries on the same provider before it is excluded."""

    again: int = 0
    exclude_provider: bool = False
    exclude_model: bool = False  # wherever it is served
    exclude_here: bool = False  # the model at this provider alone
    more_tokens: bool = False
    repair: bool = False  # the try on the same provider goes on with the answer and what is wrong with it
    at_most: int | None = None  # so many failures of this class end the task
    ends_as: TaskStatus = TaskStatus.FAILED


RULES: dict[type[ProviderError], Rule] = {
    RateLimited: Rule(),  # its model group is on hold: that is exclusion enough
    QuotaExhausted: Rule(),
    Overloaded: Rule(exclude_provider=True),
    ServerError: Rule(again=1, exclude_provider=True),
    TimedOut: Rule(exclude_provider=True),
    Unreachable: Rule(exclude_provider=True),
    InvalidResponse: Rule(exclude_provider=True),
    UnusableAnswer: Rule(exclude_provider=True),
    # Two providers, each asked once and then shown what is wrong with what it said.
    SchemaMismatch: Rule(again=1, exclude_provider=True, repair=True, at_most=4),
    AuthFailed: Rule(exclude_provider=True),
    ModelUnavailable: Rule(again=1, exclude_here=True),
    ContextTooLong: Rule(exclude_model=True),
    RequestTooLarge: Rule(exclude_here=True),
    ContentRefused: Rule(at_most=1, ends_as=TaskStatus.REFUSED),
    BadRequest: Rule(exclude_model=True, exclude_provider=True, at_most=2),
    Truncated: Rule(again=1, more_tokens=True, at_most=2),
    InternalError: Rule(at_most=3),  # excludes no provider; what fails three times would fail for ever
}
FAILOVER_ON_REFUSAL = Rule(exclude_provider=True, at_most=2, ends_as=TaskStatus.REFUSED)  # only if so wished


def backoff_s(failures: int, pool: PoolSettings) -> float:
    """1 s x 2 for each failure after the first, to a minute."""
    exponent = min(max(failures - 1, 0), 16)
    return float(min(pool.backoff_base_s * 2.0**exponent, pool.backoff_max_s))


def decide(
    error: ProviderError,
    provider: ProviderState,
    retry: RetryState,
    attempts: Sequence[Attempt],
    costed: int,
    now: float,
    pool: PoolSettings,
    *,
    failover_on_refusal: bool = False,
    max_hold_s: float = HOUR_S,
) -> tuple[TaskStatus, str] | None:
    """`(final status, why)`, or None: the task goes on and `retry` says how.

    `attempts` holds all attempts, the failed one last; `costed` how many of them count.
    """
    refused = isinstance(error, ContentRefused)
    rule = FAILOVER_ON_REFUSAL if refused and failover_on_refusal else RULES[type(error)]
    same_kind = sum(a.error_kind == error.kind for a in attempts)
    if rule.at_most is not None and same_kind >= rule.at_most:
        return rule.ends_as, _explain(attempts, error.kind)
    own_429s = max(0, retry.own_429s - SURELY_OWN)
    if costed + own_429s >= pool.max_attempts:
        beside = f", {own_429s} of them with 429 while other calls were answered" if own_429s else ""
        return TaskStatus.FAILED, _explain(attempts, f"{costed + own_429s} attempts failed{beside}")
    if len(attempts) >= pool.max_calls:
        return TaskStatus.FAILED, _explain(attempts, f"{len(attempts)} calls were made")
    retry.attempt = len(attempts) + 1
    retry.again = -1
    if isinstance(error, RateLimited):
        _wait_for_limit(retry, error, provider, attempts, now, pool, max_hold_s)
    once_more = _tries_here(attempts, provider.name, error.kind) <= rule.again
    # One failure is an accident. A provider that fails in a row is not asked twice at once by one task, nor
    # is any that is asked after another has failed it: the failure may be the task's.
    follows = error.counts_against_health and any(index != provider.index for index, _ in retry.failed)
    if once_more and not follows and provider.breaker.consecutive <= 1:
        retry.again = provider.index
    elif rule.exclude_provider:
        retry.tried |= provider.bit
        retry.tried_until = now + backoff_s(costed, pool)
    if refused:
        retry.refused |= provider.bit
    if retry.again < 0:
        retry.turns = ()  # whoever comes next starts from what the user asked
    elif rule.repair and isinstance(error, SchemaMismatch):
        retry.turns = _repair_turns(error)
    _note_model(retry, rule, attempts[-1], again=retry.again >= 0)
    return None


def _wait_for_limit(
    retry: RetryState,
    error: ProviderError,
    provider: ProviderState,
    attempts: Sequence[Attempt],
    now: float,
    pool: PoolSettings,
    max_hold_s: float,
) -> None:
    """A task that draws one 429 after the other lets the others go first: the cause may be the task.

    Its first one holds the model group, and that is wait enough; else the task alone waits.
    """
    held_until = provider.held_until(attempts[-1].model)
    drawn = _tries_here(attempts, provider.name, error.kind)
    if held_until > now and drawn == 1:
        return
    told_s = min(error.retry_after_s or 0.0, max_hold_s)
    wait_s = told_s if told_s and drawn == 1 else max(told_s, backoff_s(drawn, pool))
    retry.tried |= provider.bit
    retry.tried_until = max(held_until, now) + wait_s


def _note_model(retry: RetryState, rule: Rule, attempt: Attempt, *, again: bool) -> None:
    if rule.exclude_model and not again:
        retry.avoid = retry.avoid | {attempt.model}
    if rule.exclude_here and not again:
        retry.avoid = retry.avoid | {f"{attempt.provider}/{attempt.model}"}
    if rule.more_tokens:
        retry.max_tokens = max(attempt.max_tokens * LARGER_MAX_TOKENS, LARGER_AT_LEAST)


def recall(
    retry: RetryState, attempts: Sequence[Attempt], by_name: Mapping[str, ProviderState], pool: PoolSettings
) -> None:
    """Write into `retry` what attempts of an earlier life have shown, as `decide` did after each of them.

    What a try on the same provider would have gone on with is lost: nobody gets one.
    """
    failures = 0
    for number, attempt in enumerate(attempts, 1):
        if not attempt.error_kind:
            continue
        failures += 1
        kind, provider = PROVIDER_ERRORS[attempt.error_kind], by_name.get(attempt.provider)
        if kind.counts_against_health and provider is not None:
            retry.failed = (*retry.failed, (provider.index, 0))
        refused = kind is ContentRefused  # and the task went on: so it was wished
        rule = FAILOVER_ON_REFUSAL if refused else RULES[kind]
        again = _tries_here(attempts[:number], attempt.provider, attempt.error_kind) <= rule.again
        _note_model(retry, rule, attempt, again=again)
        if provider is None:  # it has no key any more
            continue
        if rule.exclude_provider and not again:
            retry.tried |= provider.bit
            retry.tried_until = attempt.started_at + attempt.latency_s + backoff_s(failures, pool)
        if refused:
            retry.refused |= provider.bit


def as_asked_next(task: Task, retry: RetryState) -> Task:
    """The task as its next call asks it: after a wrong answer with two turns more, which cost and count."""
    return replace(task, messages=(*task.messages, *retry.turns)) if retry.turns else task


def _repair_turns(error: SchemaMismatch) -> tuple[Message, ...]:
    told = (
        f"That answer does not match the JSON schema:\n{error.problems}\n"
        "Give the whole answer again, corrected: JSON that matches the schema, and nothing else."
    )
    return Message("assistant", error.answer), Message("user", told)


def _tries_here(attempts: Sequence[Attempt], provider: str, kind: str) -> int:
    return sum(a.provider == provider and a.error_kind == kind for a in attempts)


def _explain(attempts: Sequence[Attempt], why: str) -> str:
    """Every attempt, the first one first: the fallback's error must not hide the original one."""
    told = "; ".join(describe(a) for a in attempts if a.error_kind)
    return f"{why}: {told}"


def describe(attempt: Attempt) -> str:
    """One failed attempt in a few words."""
    status = f" {attempt.status}" if attempt.status else ""
    return f"{attempt.provider}/{attempt.model} {attempt.error_kind}{status} {attempt.error}".rstrip()
