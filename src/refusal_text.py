"""Refusals and wait reasons as text: the one place where a `RefusalKind` becomes words."""

from __future__ import annotations

from collections.abc import Sequence

from .records import Candidate, RefusalKind, WaitReason

_LIMITS = {
    "requests": "request limit reached",
    "tokens": "token limit reached",
    "input_tokens": "input token limit reached",
    "output_tokens": "output token limit reached",
    "requests_per_day": "daily request limit reached",
}

# `{}` stands for the refusal's detail.
_TEXTS = {
    RefusalKind.OFFLINE: "offline",
    RefusalKind.NOT_CONFIGURED: "{}",
    RefusalKind.PAUSED: "paused",
    RefusalKind.KEY_REJECTED: "{}",
    RefusalKind.KEY_IN_DOUBT: "its key was rejected once, checking again",
    RefusalKind.QUOTA_SPENT: "quota spent ({})",
    RefusalKind.BREAKER_OPEN: "circuit breaker open",
    RefusalKind.BREAKER_HALF_OPEN: "circuit breaker half-open, one probe decides",
    RefusalKind.OVERLOADED: "overloaded, backing off",
    RefusalKind.OVERLOAD_TRIAL: "overloaded, one call goes first",
    RefusalKind.FAILING: "failing, the calls in flight decide",
    RefusalKind.SUSPECT: "no reply to the calls in flight",
    RefusalKind.CONCURRENCY_LIMIT: "at its concurrency limit",
    RefusalKind.CONCURRENCY_SHARE: "at its maximum share of all slots",
    RefusalKind.SLOW_START: "recovering, in slow start",
    RefusalKind.HELD_AFTER_429: "rate limited (429)",
    RefusalKind.TRIAL_AFTER_429: "rate limited (429), one call goes first",
    RefusalKind.NEIGHBOUR_FIRST: "rate limited (429) twice, another call goes first",
    RefusalKind.LIMITS_UNKNOWN: "waiting for its first reply, which reports its limits",
    RefusalKind.PINNED_ELSEWHERE: "excluded by the task's provider list",
    RefusalKind.MODEL_NOT_SERVED: "serves none of the task's models",
    RefusalKind.PARAMETER_UNSUPPORTED: "{}",
    RefusalKind.INPUT_UNSUPPORTED: "{}",
    RefusalKind.MODEL_UNAVAILABLE: "{} is not available",
    RefusalKind.MODEL_IN_DOUBT: "{} was not found, checking again",
    RefusalKind.MODEL_UNSUITABLE: "the task does not fit {}",
    RefusalKind.ZERO_WEIGHT: "weight is 0",
    RefusalKind.REFUSED_TASK: "has refused this task",
    RefusalKind.FAILED_TASK: "has just failed this task",
    RefusalKind.HEAD_OF_LINE: "queued behind an older task",
    RefusalKind.RESERVED: "reserved for tasks that cost less of its limits",
    RefusalKind.UNKNOWN_PRICE: "its price is unknown, and a budget is set",
    RefusalKind.BUDGET_IN_USE: "{}: in use by calls in flight",
    RefusalKind.BUDGET_SPENT: "{}: exhausted",
    RefusalKind.BUDGET_TOO_SMALL: "{}: too little left",
    RefusalKind.SLOTS: "free agent slots",
    RefusalKind.PREFERRED: "its preferred provider",
    RefusalKind.OTHER: "{}",
}
# These name the thing that is waited for themselves.
_WITHOUT_PROVIDER = frozenset(
    {
        RefusalKind.BUDGET_IN_USE,
        RefusalKind.BUDGET_SPENT,
        RefusalKind.BUDGET_TOO_SMALL,
        RefusalKind.KEY_REJECTED,
        RefusalKind.SLOTS,
        RefusalKind.PREFERRED,
        RefusalKind.OTHER,
    }
)


def refusal_text(kind: str, detail: str = "") -> str:
    """Why a provider is not eligible, to stand beside its name. Of an unknown kind: its name."""
    if kind == RefusalKind.RATE_LIMIT:
        return _LIMITS.get(detail, detail)
    template = _TEXTS.get(kind)  # type: ignore[call-overload]
    return str(template).format(detail) if template is not None else kind.replace("_", " ")


def candidate_text(candidate: Candidate) -> str:
    """Why the candidate was not eligible; empty where it was."""
    return refusal_text(candidate.kind, candidate.detail) if candidate.kind else ""


def exclusions_text(candidates: Sequence[Candidate]) -> str:
    """Why none of the candidates is eligible: `openai: its price is unknown; gemini: paused`.

    Those that do not serve the model are left out, unless there are no others.
    """
    refused = [each for each in candidates if each.kind]
    telling = [each for each in refused if each.kind != RefusalKind.MODEL_NOT_SERVED] or refused
    return "; ".join(
        candidate_text(each) if each.kind in _WITHOUT_PROVIDER else f"{each.provider}: {candidate_text(each)}"
        for each in telling
    )


def wait_text(reason: WaitReason, *, between: str = ": ") -> str:
    """What a task waits for: `openai tokens`, `the network`, `gemini: at its concurrency limit`.

    `between` separates a provider from the rest.
    """
    if reason.kind == RefusalKind.OFFLINE:
        return "the network"
    if reason.kind == RefusalKind.RATE_LIMIT:
        return f"{reason.provider} {reason.detail.replace('_', ' ')}"
    text = refusal_text(reason.kind, reason.detail)
    return (
        text
        if reason.kind in _WITHOUT_PROVIDER or not reason.provider
        else f"{reason.provider}{between}{text}"
    )
