"""How Gemini's errors and answers are read: codes, exceptions, finish reasons and usage. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import (
    AuthFailed,
    ContentRefused,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    UnusableAnswer,
)
from ..records import FinishReason
from . import values
from .failures import (
    UNREADABLE,
    Verdict,
)
from .prompts import Finish
from .usage import NOTHING, Reported

_MOST_DETAILS = 100  # of an error that are read

# ErrorInfo.reason and error.status, where they say more than the HTTP status does.
CODES: Mapping[str, type[ProviderError]] = {
    "API_KEY_INVALID": AuthFailed,
    "API_KEY_EXPIRED": AuthFailed,
    "CONSUMER_SUSPENDED": AuthFailed,
    "BILLING_DISABLED": QuotaExhausted,
    "RESOURCE_EXHAUSTED": RateLimited,
    "UNAUTHENTICATED": AuthFailed,
    "PERMISSION_DENIED": AuthFailed,
    "FAILED_PRECONDITION": AuthFailed,  # not offered in this country, or only with billing
}

# Exceptions of the package and of what it is built on, where the transport's causes say nothing.
CLASSES: Mapping[str, Verdict] = {
    # google.generativeai.types
    "BlockedPromptException": (ContentRefused, True),
    "StopCandidateException": (ContentRefused, True),
    "IncompleteIterationError": UNREADABLE,
    "BrokenResponseError": UNREADABLE,
    # google.protobuf
    "ParseError": UNREADABLE,
}

NOT_BLOCKED = ("", "BLOCK_REASON_UNSPECIFIED")

# Closed: Google's other reasons are all failures, so one that is not here is an UnusableAnswer with its name.
FINISH: Mapping[str, Finish | None] = {
    "": None,
    "FINISH_REASON_UNSPECIFIED": None,
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    "SAFETY": FinishReason.REFUSED,
    "RECITATION": FinishReason.REFUSED,
    "LANGUAGE": FinishReason.REFUSED,
    "BLOCKLIST": FinishReason.REFUSED,
    "PROHIBITED_CONTENT": FinishReason.REFUSED,
    "SPII": FinishReason.REFUSED,
    "IMAGE_SAFETY": FinishReason.REFUSED,
    "IMAGE_PROHIBITED_CONTENT": FinishReason.REFUSED,
    "IMAGE_RECITATION": FinishReason.REFUSED,
    "MODEL_ARMOR": FinishReason.REFUSED,  # of Vertex AI
    "OTHER": UnusableAnswer,
    "MALFORMED_FUNCTION_CALL": UnusableAnswer,
    "UNEXPECTED_TOOL_CALL": UnusableAnswer,
    "TOO_MANY_TOOL_CALLS": UnusableAnswer,
    "MISSING_THOUGHT_SIGNATURE": UnusableAnswer,
    "MALFORMED_RESPONSE": UnusableAnswer,
    "IMAGE_OTHER": UnusableAnswer,
    "NO_IMAGE": UnusableAnswer,
}


def token_quota(details: object) -> int:
    """The least quota of input tokens that a 429 is about, 0 where it is about none."""
    quotas = (
        quota
        for detail in map(values.mapping, values.sequence(details)[:_MOST_DETAILS])
        for quota in map(values.mapping, values.sequence(detail.get("violations"))[:_MOST_DETAILS])
        if "InputTokens" in values.text(quota.get("quotaId"))
    )
    return min(filter(None, (values.count(quota.get("quotaValue")) for quota in quotas)), default=0)


def reported_usage(usage: object) -> Reported:
    """The prompt includes what was cached; the total includes thinking, which candidates leave out."""
    if not isinstance(usage, dict):
        return NOTHING
    count = values.count
    prompt, shown = count(usage.get("promptTokenCount")), count(usage.get("candidatesTokenCount"))
    total, thoughts = count(usage.get("totalTokenCount")), count(usage.get("thoughtsTokenCount")) or 0
    output = None if shown is None and total is None else (shown or 0) + thoughts
    if output is not None and prompt is not None and total is not None:
        output = max(output, total - prompt)
    reasoning = 0 if output is None else output - (shown or 0)
    return Reported(prompt, output, count(usage.get("cachedContentTokenCount")) or 0, 0, reasoning)
