"""Everything that can end a request as the `Problem` that its client gets."""

from __future__ import annotations

from ..errors import (
    BudgetSpent,
    Expired,
    KeyReused,
    NoRoute,
    NotServing,
    ProviderError,
    RequestDeclined,
    WaitingLimit,
    Withdrawn,
)
from ..records import RefusalKind
from ..refusal_text import exclusions_text
from .formats.base import FormatError
from .formats.problems import Problem, ProblemKind, problem_of

RETRY_AFTER_S = 2.0

_KINDS: dict[type[RequestDeclined], ProblemKind] = {
    WaitingLimit: ProblemKind.RATE_LIMITED,
    Expired: ProblemKind.EXPIRED,
    BudgetSpent: ProblemKind.QUOTA_SPENT,
    NoRoute: ProblemKind.BAD_REQUEST,
    NotServing: ProblemKind.UNAVAILABLE,
    Withdrawn: ProblemKind.CONFLICT,
    KeyReused: ProblemKind.CONFLICT,
}


def problem(error: RequestDeclined | ProviderError | FormatError) -> Problem:
    """What the client gets for an error of the pool, or of the request itself."""
    if isinstance(error, FormatError):
        return error.problem
    if isinstance(error, ProviderError):
        return problem_of(error)
    text, retry_after_s = str(error), None
    if isinstance(error, WaitingLimit):
        retry_after_s = error.retry_after_s
    elif isinstance(error, NotServing):
        retry_after_s = RETRY_AFTER_S
    elif isinstance(error, NoRoute):
        reasons = exclusions_text(error.reasons)
        text = f"no provider can serve this request: {reasons}" if reasons else text
        if any(each.kind == RefusalKind.MODEL_UNAVAILABLE for each in error.reasons):
            return Problem(ProblemKind.MODEL_NOT_FOUND, text)  # as the calls that showed it were answered
    return Problem(_KINDS[type(error)], text, retry_after_s=retry_after_s)


def not_leading() -> NotServing:
    """The refusal while this process does not place requests."""
    return NotServing("the orchestrator is starting, ending or on standby")
