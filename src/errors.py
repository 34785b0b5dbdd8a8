"""Every error this project raises, in one tree.

    OrchestratorError
    |-- ConfigError            the configuration is wrong: what, where, what is allowed
    |   `-- KeyRejected        every provider has rejected its key
    |-- InputError             a task, a file or an argument is wrong
    |-- StoreError             the database refused: locked, newer than this program, not writable
    |   |-- ConnectionLost     the connection ended while it was used; whether it committed is not known
    |   |-- LockTimeout        another session held a lock for too long; nothing was written
    |   |-- UnstorableError    it refused a value: the same write fails again, others may pass
    |   `-- LeadershipLost     another orchestrator leads meanwhile: no write of this one counts any more
    |-- PoolClosed             a Pool is used that is not open, or not any more
    |-- RequestDeclined        a request that waits for its answer ended without one, and no call decided that
    |   |-- WaitingLimit       too many requests wait: come back in `retry_after_s`
    |   |-- Expired            its deadline passed, or can't be met any more
    |   |-- BudgetSpent        a budget is spent; nothing was called
    |   |-- NoRoute            no provider can ever serve it, for these reasons
    |   |-- NotServing         the pool does not serve, or no longer: another one may
    |   |-- Withdrawn          a person cancelled it while it waited
    |   `-- KeyReused          its idempotency key can't be used
    |-- PermitError            a permit was settled twice, or never issued: a bug of the caller
    `-- ProviderError          one call to one model of one provider did not give a usable answer
        |-- RateLimited        429, a per-minute quota: hold the model group, go elsewhere
        |-- QuotaExhausted     daily quota, spend cap, no credit: hold until the reset, alert
        |-- Overloaded         529, 503, slow_down: the provider's load, not our quota
        |-- FlexUnavailable    429 to service tier flex alone: no capacity there now, and nothing is billed
        |-- ServerError        500, 502, 504 and every other 5xx
        |-- TimedOut           no complete answer in time; it may have been billed
        |-- Unreachable        reset, refused, DNS, TLS; `sent`: whether the request may have left
        |-- InvalidResponse    malformed, empty, or cut off without a stop reason
        |-- UnusableAnswer     a whole answer without text, as some models give it now and then
        |-- SchemaMismatch     an answer, but not the JSON that was asked for
        |-- AuthFailed         401, 403
        |-- ModelUnavailable   404 for the model
        |-- ContextTooLong     the prompt does not fit the model's window
        |-- RequestTooLarge    more than one request may take at this limit
        |-- ContentRefused     content policy or a safety stop
        |-- Truncated          all of max_tokens was spent and no text came
        |-- WorkerLost         the process or machine that made the call was lost, not the provider
        |-- InternalError      our own code failed during the call, not the provider or the task
        `-- BadRequest         every other 4xx

Class attributes say where the fault is and what happens next, so that no caller compares messages:

`counts_against_health`  the breaker counts it as a failure (False: neutral)
`costs_attempt`          it uses up one of the task's attempts
`may_be_billed`          the provider may charge for it although no answer came
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar


class OrchestratorError(Exception):
    """Base of all errors of this project. `exit_code`: how a command ends that raises it."""

    exit_code: ClassVar[int] = 2  # the input or the configuration is wrong: the same command fails again

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: one line, as on the terminal. IPython looks for a method of this name."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(OrchestratorError):
    """A setting is wrong. `where` names the file and key, `allowed` what would be accepted."""

    def __init__(self, what: str, *, where: str = "", allowed: str = "") -> None:
        self.what, self.where, self.allowed = what, where, allowed
        parts = [f"{where}: {what}" if where else what]
        if allowed:
            parts.append(f"allowed: {allowed}")
        super().__init__("; ".join(parts))


class KeyRejected(ConfigError):
    """Every provider that can be called has rejected its key."""


class InputError(OrchestratorError):
    """A task, a line of a task file or an argument is wrong.

    `line` counts from 1, where there is one. `field` is the key of the task that is wrong, if it is one.
    """

    def __init__(self, what: str, *, line: int | None = None, field: str = "") -> None:
        self.what, self.line, self.field = what, line, field
        super().__init__(f"line {line}: {what}" if line is not None else what)


def unreadable(error: OSError) -> str:
    """Why a file can't be read, in the same words wherever it is named."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    return f"cannot be read ({error.strerror or error})"


def not_utf_8(error: UnicodeDecodeError) -> str:
    """Where a text is no UTF-8, in the same words for every file."""
    return f"not UTF-8 at byte {error.start + 1}; save the file as UTF-8"


class StoreError(OrchestratorError):
    """The store could not be opened, read or written."""

    exit_code: ClassVar[int] = 3  # the same command may succeed later


class ConnectionLost(StoreError):
    """The connection to the database ended while it was in use: what can be repeated may be tried again."""


class LockTimeout(StoreError):
    """Another session held a lock for too long. The transaction was rolled back and may be tried again."""


class LeadershipLost(StoreError):
    """Another orchestrator has taken over: the write was refused, and every later one will be."""

    def __init__(self) -> None:
        super().__init__("another orchestrator has taken over meanwhile")


class UnstorableError(StoreError):
    """The database takes writes, but not this value: a number out of range, a text that is none."""


class PoolClosed(OrchestratorError):
    """A Pool takes no tasks before it is opened and after it is closed."""


class RequestDeclined(OrchestratorError):
    """A request ended without an answer before a call, or between calls."""

    exit_code: ClassVar[int] = 3


class WaitingLimit(RequestDeclined):
    """As many requests wait as may wait. `retry_after_s`: when there is probably room for another one."""

    def __init__(self, what: str, retry_after_s: float) -> None:
        super().__init__(what)
        self.retry_after_s = retry_after_s


class Expired(RequestDeclined):
    """The deadline has passed, or can't be met any more."""


class BudgetSpent(RequestDeclined):
    """A budget does not allow the request. `resets_at`: UTC epoch seconds; None: it never resets."""

    def __init__(self, what: str, resets_at: float | None) -> None:
        super().__init__(what)
        self.resets_at = resets_at


class NoRoute(RequestDeclined):
    """No provider can ever serve the request. `reasons`: a `Candidate` for each of them."""

    def __init__(self, what: str, reasons: Sequence[Any]) -> None:
        super().__init__(what)
        self.reasons = tuple(reasons)


class NotServing(RequestDeclined):
    """The pool does not serve: it has not begun, is ending, or another orchestrator leads.

    `may_be_billed`: a call of the request was cut off, so another orchestrator would make it a second time.
    """

    def __init__(self, what: str, *, may_be_billed: bool = False) -> None:
        super().__init__(what)
        self.may_be_billed = may_be_billed


class Withdrawn(RequestDeclined):
    """The request was cancelled by a command while it waited."""


class KeyReused(RequestDeclined):
    """An idempotency key that stands for another request, or can't be kept since contents are not stored."""


class PermitError(OrchestratorError):
    """A permit was settled a second time or was never issued. Nothing has been changed."""


class ProviderError(OrchestratorError):
    """One call failed.

    `status` is the HTTP status where there was one, `code` the provider's own error code or type,
    `retry_after_s` the wait it asked for, `resets_at` (UTC epoch seconds) when a quota comes back
    (`reset_guessed`: by that wait alone, for nothing names a daily quota),
    `sent` whether the request may have reached the provider, `limits` the `LimitReport`s of its headers,
    `usage` the `Usage` where the provider reported what it charges for an unusable answer.
    `message` is the provider's sentence without keys; it is for people and never parsed.
    """

    counts_against_health: ClassVar[bool] = False
    costs_attempt: ClassVar[bool] = True
    may_be_billed: ClassVar[bool] = False

    def __init__(  # many parameters: each is one fact that a caller may read, all by keyword and optional
        self,
        message: str,
        *,
        provider: str = "",
        model: str = "",
        status: int | None = None,
        code: str = "",
        retry_after_s: float | None = None,
        resets_at: float | None = None,
        reset_guessed: bool = False,
        sent: bool = True,
        limits: Sequence[Any] = (),
        usage: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.provider, self.model = provider, model
        self.status, self.code = status, code
        self.retry_after_s, self.resets_at = retry_after_s, resets_at
        self.reset_guessed = reset_guessed
        self.sent = sent
        self.limits = tuple(limits)
        self.usage = usage

    @property
    def kind(self) -> str:
        """The class name: the stable word stored with an attempt."""
        return type(self).__name__


class RateLimited(ProviderError):
    """429: too many requests or tokens for now."""

    costs_attempt = False


class QuotaExhausted(ProviderError):
    """A quota of hours, days or money is spent."""

    costs_attempt = False


class Overloaded(ProviderError):
    """The provider has no capacity now (529, 503)."""

    counts_against_health = True


class FlexUnavailable(ProviderError):
    """The cheaper service tier has no capacity now: no sign of limits or health, and nothing is billed."""

    costs_attempt = False


class ServerError(ProviderError):
    """The provider failed (5xx)."""

    counts_against_health = True


class TimedOut(ProviderError):
    """No whole answer in time."""

    counts_against_health = True
    may_be_billed = True


class Unreachable(ProviderError):
    """No connection, or it broke."""

    counts_against_health = True
    may_be_billed = True  # only where `sent`; a refused connection was never sent


class InvalidResponse(ProviderError):
    """A response that is not an answer of the API."""

    counts_against_health = True
    may_be_billed = True


class UnusableAnswer(ProviderError):
    """A whole answer without text: tool calls that were not asked for, reasoning alone, a paused turn.

    Neutral, since it is a quirk of the model at this prompt and no sign of an outage.
    """

    may_be_billed = True


class SchemaMismatch(ProviderError):
    """The answer does not match the task's schema: neutral, since no answer may be able to match the schema.

    `answer` is what came and `problems` what is wrong with it, for the model that gets both back.
    """

    def __init__(self, message: str, *, answer: str, problems: str, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.answer, self.problems = answer, problems


class AuthFailed(ProviderError):
    """A failure or `misconfigured`: the balancer knows whether the key ever worked."""


class ModelUnavailable(ProviderError):
    """The provider does not serve this model, or not with this key."""

    costs_attempt = False


class ContextTooLong(ProviderError):
    """The prompt does not fit the model's context window."""

    costs_attempt = False


class RequestTooLarge(ProviderError):
    """The limit of this model is below what this one request takes: waiting does not help."""

    costs_attempt = False


class ContentRefused(ProviderError):
    """Refused for its content."""

    costs_attempt = False
    may_be_billed = True


class Truncated(ProviderError):
    """max_tokens was spent before a usable answer was complete."""

    may_be_billed = True


class InternalError(ProviderError):
    """An unexpected exception of this program: it says nothing about provider, model or task."""

    costs_attempt = False  # the rule in `retry_policy` ends the task where it persists
    may_be_billed = True  # the request may have left, and the answer come


class WorkerLost(ProviderError):
    """The worker that made the call was lost: it says nothing about provider and model."""

    costs_attempt = False  # the rule in `retry_policy` ends a task that takes its workers with it
    may_be_billed = True  # the request may have left, and the answer come


class BadRequest(ProviderError):
    """The request itself is wrong, and no provider would take it."""


PROVIDER_ERRORS: dict[str, type[ProviderError]] = {
    cls.__name__: cls
    for cls in (
        RateLimited,
        QuotaExhausted,
        Overloaded,
        FlexUnavailable,
        ServerError,
        TimedOut,
        Unreachable,
        InvalidResponse,
        UnusableAnswer,
        SchemaMismatch,
        AuthFailed,
        ModelUnavailable,
        ContextTooLong,
        RequestTooLarge,
        ContentRefused,
        Truncated,
        WorkerLost,
        InternalError,
        BadRequest,
    )
}


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that was probably meant, whatever its case and hyphens, or nothing."""
    plain = {_plain(each): each for each in known}
    matches = difflib.get_close_matches(_plain(word), list(plain), n=1)
    return plain[matches[0]] if matches else ""


def hint(word: str, known: Iterable[str]) -> str:
    """What was probably meant, else all that is allowed."""
    allowed = list(known)
    near = nearest(word, allowed)
    return f"did you mean {near!r}?" if near else f"known: {', '.join(allowed)}"


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
