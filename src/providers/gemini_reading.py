"""How Gemini's errors and answers are read: codes, exceptions, finish reasons, text and usage. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import (
    AuthFailed,
    ContentRefused,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    ServerError,
    UnusableAnswer,
)
from ..records import FinishReason
from . import values
from .failures import (
    CUT_OFF,
    NEVER_SENT,
    NO_ANSWER,
    NO_CREDENTIALS,
    REDIRECTED,
    SDK_REFUSED,
    UNREADABLE,
    Verdict,
    by_class,
)
from .network import RejectedAnswer
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

# Exceptions of the package and of what it is built on, without an answer. UNDERLYING is asked first.
CLASSES: Mapping[str, Verdict] = {
    # google.generativeai.types
    "BlockedPromptException": (ContentRefused, True),
    "StopCandidateException": (ContentRefused, True),
    "IncompleteIterationError": UNREADABLE,
    "BrokenResponseError": UNREADABLE,
    # google.api_core: what has an HTTP status is decided by it
    "RetryError": NO_ANSWER,
    "DuplicateCredentialArgs": NO_CREDENTIALS,
    "GoogleAPIError": UNREADABLE,
    "GoogleAPICallError": UNREADABLE,
    "Redirection": UNREADABLE,
    "ClientError": SDK_REFUSED,
    "ServerError": (ServerError, True),
    "Unknown": (ServerError, True),
    "DataLoss": (ServerError, True),
    "AsyncRestUnsupportedParameterError": SDK_REFUSED,
    # google.auth
    "GoogleAuthError": NO_CREDENTIALS,
    "TransportError": CUT_OFF,
    # google.protobuf
    "ParseError": UNREADABLE,
    # requests
    "ConnectTimeout": NEVER_SENT,
    "ReadTimeout": NO_ANSWER,
    "Timeout": NO_ANSWER,
    "SSLError": NEVER_SENT,
    "ProxyError": NEVER_SENT,
    "ConnectionError": CUT_OFF,
    "ChunkedEncodingError": CUT_OFF,
    "InvalidURL": NEVER_SENT,
    "MissingSchema": NEVER_SENT,
    "InvalidSchema": NEVER_SENT,
    "InvalidHeader": NEVER_SENT,
    "TooManyRedirects": REDIRECTED,
    "RequestException": UNREADABLE,
    # the system's
    "OSError": CUT_OFF,
}
UNDERLYING: Mapping[str, Verdict] = {
    "NewConnectionError": NEVER_SENT,  # refused, no such host
    "NameResolutionError": NEVER_SENT,
    "ConnectTimeoutError": NEVER_SENT,
    "ReadTimeoutError": NO_ANSWER,  # the silence began inside the body
    "SSLError": NEVER_SENT,
    "ProtocolError": CUT_OFF,
}

# The package asks for the numbers of these enums. Both lists go on beyond what it knows.
FINISH_NUMBERS = (
    "FINISH_REASON_UNSPECIFIED", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "LANGUAGE",
    "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY",
    "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "IMAGE_PROHIBITED_CONTENT", "IMAGE_OTHER", "NO_IMAGE",
    "IMAGE_RECITATION", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE",
)  # fmt: skip
BLOCK_NUMBERS = (
    "BLOCK_REASON_UNSPECIFIED", "SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY",
)  # fmt: skip

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


def verdict_on(error: BaseException) -> Verdict:
    """Our class for an exception without an answer, by what lies beneath it where the table knows that.

    `requests` puts its cause into the arguments (and urllib3 its own into `reason`) instead of `__cause__`.
    """
    if isinstance(error, RejectedAnswer):
        return UNREADABLE if error.billed else REDIRECTED
    beneath: object = error.args[0] if error.args else None
    beneath = getattr(beneath, "reason", None) or beneath
    if isinstance(beneath, Exception):
        for cls in type(beneath).__mro__:
            if cls.__name__ in UNDERLYING:
                return UNDERLYING[cls.__name__]
    return by_class(error, CLASSES)


def answer_text(parts: object) -> str:
    """The text of all parts; thoughts are none."""
    each = map(values.mapping, values.sequence(parts))
    found = (part.get("text") for part in each if not part.get("thought"))
    return "".join(text for text in found if isinstance(text, str))


def other_content(parts: object) -> str:
    """What an answer holds beside its text."""
    each = list(map(values.mapping, values.sequence(parts)))
    if any(part.get("functionCall") for part in each):
        return "function calls that were not asked for"
    return "thoughts" if any(part.get("thought") for part in each) else ""


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


def enum_name(value: object, names: Sequence[str]) -> str:
    """The name of an enum's value, also where its number came; "" where none did."""
    if isinstance(value, int) and 0 <= value < len(names):
        return names[value]
    return values.text(value)
