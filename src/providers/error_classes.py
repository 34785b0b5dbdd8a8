"""Which of our error classes an answer with an error is.

Each adapter has a table of its provider's error codes; where no code decides, the HTTP status does. The text
of a message decides nothing, with two exceptions: the numbers in it (`names_an_overrun`, `names_a_limit`) and
an adapter's `MessagePattern`s, for errors that have no code of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..errors import (
    AuthFailed,
    BadRequest,
    ContentRefused,
    ContextTooLong,
    InvalidResponse,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    ServerError,
    TimedOut,
    Unreachable,
)
from ..records import CompletionRequest, LimitReport
from . import values
from .prompt_size import media_tokens_at_most, text_bytes, text_chars

# A fault of the request is a BadRequest; a temporary fault is not. An unassigned 4xx says nothing about the
# request, so it is a ServerError like an unassigned 5xx.
STATUSES: Mapping[int, type[ProviderError]] = {
    400: BadRequest,
    401: AuthFailed,
    402: QuotaExhausted,  # no credit left
    403: AuthFailed,
    404: ModelUnavailable,
    405: BadRequest,
    406: BadRequest,
    407: Unreachable,  # a proxy requires a login
    408: TimedOut,
    409: ServerError,  # a lock is held, or a deployment is changing
    410: ModelUnavailable,
    411: BadRequest,
    412: BadRequest,
    413: RequestTooLarge,
    414: BadRequest,
    415: BadRequest,
    416: BadRequest,
    417: BadRequest,
    418: BadRequest,
    420: RateLimited,  # an old word for 429
    421: ServerError,
    422: BadRequest,
    423: ServerError,
    424: ServerError,  # a dependency of the provider has failed
    425: ServerError,
    426: BadRequest,
    428: BadRequest,
    429: RateLimited,
    431: BadRequest,
    451: AuthFailed,  # not offered in this country
    498: Overloaded,  # Groq: no capacity for this tier now
    499: ServerError,  # the server reports that the client left, which it did not
    500: ServerError,
    501: ServerError,
    502: ServerError,
    503: Overloaded,
    504: ServerError,
    511: Unreachable,  # a network requires a login
    529: Overloaded,
}

# Plain names of kinds, as servers put them into an error inside a 200. An error status says as much.
PLAIN_CODES: Mapping[str, type[ProviderError]] = {
    "invalid_request_error": BadRequest,
    "invalid_request": BadRequest,
    "bad_request": BadRequest,
    "BadRequestError": BadRequest,
    "invalid_argument": BadRequest,
    "INVALID_ARGUMENT": BadRequest,
    "authentication_error": AuthFailed,
    "unauthorized": AuthFailed,
    "permission_error": AuthFailed,
    "permission_denied": AuthFailed,
    "not_found_error": ModelUnavailable,
    "not_found": ModelUnavailable,
    "NOT_FOUND": ModelUnavailable,
    "rate_limit_error": RateLimited,
    "rate_limit_exceeded": RateLimited,
    "rate_limited": RateLimited,
    "too_many_requests": RateLimited,
    "rate_limit_daily": QuotaExhausted,
    "quota_exceeded": QuotaExhausted,
    "payment_required": QuotaExhausted,
    "api_error": ServerError,
    "server_error": ServerError,
    "internal_error": ServerError,
    "internal_server_error": ServerError,
    "InternalServerError": ServerError,
    "INTERNAL": ServerError,
    "DEADLINE_EXCEEDED": ServerError,
    "timeout_error": ServerError,
    "timeout": ServerError,
    "overloaded_error": Overloaded,
    "service_unavailable": Overloaded,
    "UNAVAILABLE": Overloaded,
}

MessagePattern = tuple[str, str, type[ProviderError]]
"""Part of a message in lower case, for an error with the code of every bad request: our code and class."""

MESSAGE_CHARS_READ = 20 * values.MESSAGE_CHARS  # of a message: the rest is cut off
FLAGGED = "flagged_input"  # our code where fields of the body, not a code, say that the prompt was flagged
_COUNT = re.compile(r"(?<![\w.-])\d[\d,_]*(?![\w-]|[.]\d)")
_LEAST_TOKENS = 1_000  # no model's window is smaller, so a smaller count is something else
_CHARS_PER_TOKEN_AT_MOST = 6  # more than any tokenizer packs into a token of prose
_TOKENS = ("tokens", "input_tokens")  # dimensions that a single prompt can exceed


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error that the provider answered with. `codes` are its codes, most specific first.

    `status` is that of the answer, or of the error inside a 200 (200 where it has none). `from_api` False:
    the body is empty or a web page, not an API's error.
    """

    status: int
    codes: tuple[str, ...]
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[LimitReport, ...] = ()
    retry_after_s: float | None = None  # where it is not in the headers
    resets_at: float | None = None
    from_api: bool = True
    flagged: bool = False  # it names what a moderation has found in the prompt
    token_limit: int = 0  # in the body, where there is one; 0: none


def classify(
    answer: ErrorAnswer,
    codes: Mapping[str, type[ProviderError]],
    request: CompletionRequest | None,
    message_patterns: Sequence[MessagePattern] = (),
) -> tuple[type[ProviderError], str]:
    """`(our class, the code to show)`. A code decides where the table has it, else the status.

    A fault of this one request takes precedence over its code: too large for a limit, too long for the
    context window, or a match of one of the patterns.
    """
    shown = _shown_code(answer)
    if answer.flagged:
        return ContentRefused, shown or FLAGGED
    known = next(filter(codes.__contains__, answer.codes), None)
    cls = class_of_status(answer) if known is None else codes[known]
    if cls is RateLimited and (answer.status == 413 or _is_too_large(answer, request)):
        return RequestTooLarge, shown
    if cls is BadRequest and known is None:
        return _by_message(answer, request, message_patterns) or (cls, shown)
    return cls, shown


def _shown_code(answer: ErrorAnswer) -> str:
    return next((code for code in answer.codes if code and code != str(answer.status)), "")


def _by_message(
    answer: ErrorAnswer, request: CompletionRequest | None, patterns: Sequence[MessagePattern]
) -> tuple[type[ProviderError], str] | None:
    """The same for a bad request without a known code, where its message says more; else None."""
    message = answer.message.lower()
    for part, code, cls in patterns:
        if part in message:
            return cls, code
    if request is not None and names_an_overrun(answer.message, request.max_tokens):
        return ContextTooLong, _shown_code(answer)
    return None


def class_of_status(answer: ErrorAnswer) -> type[ProviderError]:
    """Our class for an answer whose codes say nothing."""
    if answer.status == 403 and not answer.from_api:
        return Unreachable  # a firewall, a portal or a country's filter refuses
    if answer.status == 200:  # an error inside a 200, without a status of its own
        return next((PLAIN_CODES[code] for code in answer.codes if code in PLAIN_CODES), Overloaded)
    return STATUSES.get(answer.status) or _by_hundred(answer.status)


def _by_hundred(status: int) -> type[ProviderError]:
    return InvalidResponse if status < 400 else ServerError


def names_an_overrun(message: str, max_tokens: int) -> bool:
    """Whether a refusal names two different token counts: how long the prompt is, and how long it may be.

    The exception to "never by a message". Anthropic ("prompt is too long: 208310 tokens > 200000 maximum"),
    Gemini ("The input token count (1196417) exceeds the maximum number of tokens allowed (1048576).") and
    some OpenAI-compatible servers have no code for a prompt that does not fit. Only the numbers are read, so
    the wording may change. `max_tokens` is none of them: a refusal that names it is about the answer.
    """
    counts = set(_counts(message)) - {max_tokens}
    return len({count for count in counts if count >= _LEAST_TOKENS}) >= 2


def names_a_limit(message: str, max_tokens: int) -> tuple[int, int] | None:
    """`(limit, requested)` of a refusal that counts one request against its limit and nothing else.

    "Limit 30000, Requested 48211" and its like at OpenAI, Azure, Groq and Cerebras have the code of every
    other 429. Where waiting helps, a message also counts what is used, and says how long to wait. So two
    different counts and no third one decide, whatever the words and their order.
    """
    counts = _counts(message)
    if len(counts) > 2:  # it may repeat what the request asked for
        counts = [count for count in counts if count != max_tokens]
    if len(counts) != 2 or max(counts) < _LEAST_TOKENS or counts[0] == counts[1]:
        return None
    return min(counts), max(counts)


def too_large(answer: ErrorAnswer, request: CompletionRequest) -> tuple[int, int] | None:
    """`(limit, tokens of this request)` where a 429 is about this one request, so that waiting does not help.

    Some report only the limit (Anthropic in its headers, Gemini in `quotaValue`): the least that the prompt
    can be is compared with it then.
    """
    least = -(-text_chars(request) // _CHARS_PER_TOKEN_AT_MOST)
    limits = [answer.token_limit, *(each.limit for each in answer.limits if each.dimension in _TOKENS)]
    passed = [limit for limit in limits if 0 < limit < least]
    if passed:
        return min(passed), least
    found = None if "requests" in answer.codes else names_a_limit(answer.message, request.max_tokens)
    if found is None or not _names_a_wait(answer):
        return found
    # It says when to come back, so the counts may be a limit and a time. Both must be what they seem to be.
    limit, requested = found
    return found if limit in limits and least <= requested <= _tokens_at_most(request) else None


def _names_a_wait(answer: ErrorAnswer) -> bool:
    return answer.retry_after_s is not None or any(name.startswith("retry-after") for name in answer.headers)


def _is_too_large(answer: ErrorAnswer, request: CompletionRequest | None) -> bool:
    return request is not None and too_large(answer, request) is not None


def _tokens_at_most(request: CompletionRequest) -> int:
    """A token of text is a byte at least; a message has some around it."""
    prompt = text_bytes(request) + 16 * len(request.messages)
    return prompt + media_tokens_at_most(request) + request.max_tokens


def _counts(message: str) -> list[int]:
    found = _COUNT.findall(message[:MESSAGE_CHARS_READ])
    return [values.count(re.sub(r"\D", "", number)) or 0 for number in found]
