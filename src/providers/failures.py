"""From what went wrong to one of our errors: what the three adapters share.

Each adapter brings a table of the provider's error codes; the HTTP status decides where no code does. The
text of a message decides nothing, with two exceptions: the numbers in it (`names_an_overrun`,
`names_a_limit`), and the `Sentence`s of an adapter, for errors that have no code of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

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
from ..masking import MASK, without_keys
from ..records import Completion, CompletionRequest, LimitReport
from . import values
from .headers import LONG_WAIT_S, day_is_spent, retry_after_s
from .network import Refused

# What is true of the request is a BadRequest; what passes by itself is not. An unassigned 4xx says nothing
# about the request, so it is a ServerError like an unassigned 5xx.
STATUSES: Mapping[int, type[ProviderError]] = {
    400: BadRequest,
    401: AuthFailed,
    402: QuotaExhausted,  # no credit left
    403: AuthFailed,
    404: ModelUnavailable,
    405: BadRequest,
    406: BadRequest,
    407: Unreachable,  # a proxy on the way wants a login
    408: TimedOut,
    409: ServerError,  # a lock that is held, a deployment that is being changed
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
    424: ServerError,  # what the provider depends on has failed
    425: ServerError,
    426: BadRequest,
    428: BadRequest,
    429: RateLimited,
    431: BadRequest,
    451: AuthFailed,  # not offered in this country
    498: Overloaded,  # Groq: no capacity for this tier now
    499: ServerError,  # the server says that the caller left, and we did not
    500: ServerError,
    501: ServerError,
    502: ServerError,
    503: Overloaded,
    504: ServerError,
    511: Unreachable,  # a network that wants a login
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

Sentence = tuple[str, str, type[ProviderError]]
"""Part of a message in lower case, for an error with the code of every bad request: our code and class."""

Verdict = tuple[type[ProviderError], bool]
"""For a failure without an answer: our class, and whether the request may have reached the provider."""

NEVER_SENT: Verdict = (Unreachable, False)
CUT_OFF: Verdict = (Unreachable, True)
NO_ANSWER: Verdict = (TimedOut, True)
UNREADABLE: Verdict = (InvalidResponse, True)
REDIRECTED: Verdict = (InvalidResponse, False)  # by a server that has done nothing with the request
NO_CREDENTIALS: Verdict = (AuthFailed, False)
NOT_OUR_CALL: Verdict = (BadRequest, False)  # an SDK refused before it sent anything

_WORDS: Mapping[Verdict, str] = {
    NEVER_SENT: "could not be reached",
    CUT_OFF: "the connection broke",
    NO_ANSWER: "no answer in time",
    UNREADABLE: "the answer can't be read",
    REDIRECTED: "redirected without end",
    NO_CREDENTIALS: "no valid credentials",
}

# What an SDK raises of Python itself: it does not know how to send a request, or how to read an answer.
_PYTHONS_OWN: Mapping[str, Verdict] = {
    "UnicodeDecodeError": UNREADABLE,
    "TypeError": NOT_OUR_CALL,
    "ValueError": NOT_OUR_CALL,
}

_LONGEST_MESSAGE = values.MESSAGE_CHARS
_MASKED_CHARS = 20 * _LONGEST_MESSAGE  # what is looked through for keys: the rest is cut off anyway
LONGEST_QUOTA_S = 36 * 3600.0  # a day, and half of one for clocks and zones
FLAGGED = "flagged_input"  # our code where a body says it with fields and not with a code
_PAGE = "a web page came instead of the API's answer"
_COUNT = re.compile(r"(?<![\w.-])\d[\d,_]*(?![\w-]|[.]\d)")
_LEAST_TOKENS = 1_000  # no model's window is smaller; what a message counts below this is something else
_CHARS_PER_TOKEN_AT_MOST = 6  # more than any tokenizer packs into a token of prose
_TOKENS = ("tokens", "input_tokens")  # dimensions that a single prompt alone can exceed


@dataclass(frozen=True, slots=True)
class Answered:
    """An error that the provider answered with. `codes` are its own words for it, most telling first.

    `status` is that of the answer, or of the error inside a 200 (200 where it has none). `from_api` False:
    the body is no error of an API, but a web page, or empty.
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


@dataclass(frozen=True, slots=True)
class Speaker:
    """Whose errors these are: the provider's name, and the key that must not be repeated."""

    provider: str
    key: str = field(repr=False)

    def masked(self, text: str) -> str:
        """`text` on one line, of bearable length, without anything that looks like a key."""
        text = values.text(text, _MASKED_CHARS)
        if self.key:
            text = text.replace(self.key, MASK)
        text = without_keys(" ".join(text.split()))
        return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 3] + "..."

    def name(self, text: str) -> str:
        """A name that the provider chose (of a code, a model, an answer), without the key."""
        return text.replace(self.key, MASK) if self.key else text

    def said(self, completion: Completion) -> Completion:
        """An answer whose names do not repeat the key. Its text is the model's and stays as it is."""
        if not self.key or not any(
            self.key in text for text in (completion.model, completion.request_id, *completion.warnings)
        ):
            return completion
        return replace(
            completion,
            model=self.name(completion.model),
            request_id=self.name(completion.request_id),
            warnings=tuple(map(self.name, completion.warnings)),
        )

    def error(
        self,
        cls: type[ProviderError],
        message: str,
        request: CompletionRequest | None,
        **facts: Any,
    ) -> ProviderError:
        """One of our errors, with the provider and model in it and no key in its message."""
        model = request.model if request else ""
        if facts.get("code"):
            facts["code"] = self.name(facts["code"])
        return cls(f"{self.provider}: {self.masked(message)}", provider=self.provider, model=model, **facts)

    def unanswered(
        self,
        verdict: Verdict,
        said: BaseException,
        request: CompletionRequest | None,
        status: int | None = None,
    ) -> ProviderError:
        """The error of a call without a whole answer; `said` is the exception that tells most."""
        cls, sent = verdict
        what = _WORDS.get(verdict, "the SDK refused")
        message = str(said) if isinstance(said, Refused) else f"{what} ({type(said).__name__}: {said})"
        return self.error(cls, message, request, sent=sent, status=status)

    def answered(
        self,
        answer: Answered,
        codes: Mapping[str, type[ProviderError]],
        request: CompletionRequest | None,
        now: float,
        sentences: Sequence[Sentence] = (),
    ) -> ProviderError:
        """The error of an answer with an error status. Waits count from `now`, whatever its own date is."""
        cls, code = judged(answer, codes, request, sentences)
        wait_s = retry_after_s(answer.headers, now) if answer.retry_after_s is None else answer.retry_after_s
        resets_at = answer.resets_at
        is_guess = False
        if cls is RateLimited and (day_is_spent(answer.limits) or (wait_s or 0.0) > LONG_WAIT_S):
            cls = QuotaExhausted
            is_guess = not day_is_spent(answer.limits)
        if cls is QuotaExhausted and resets_at is None and wait_s is not None:
            resets_at = now + wait_s
        said = f"answered {answer.status} {code}".rstrip()
        if cls is RequestTooLarge:
            said = f"the request is too large for its limit{_in_numbers(answer, request)}: {said}"
        return self.error(
            cls,
            f"{said}: {answer.message or 'no message'}",
            request,
            status=answer.status,
            code=code,
            retry_after_s=wait_s,
            resets_at=None if resets_at is None else values.time_ahead(resets_at, now, LONGEST_QUOTA_S),
            reset_guessed=is_guess,
            limits=answer.limits,
        )


def class_of(
    answer: Answered,
    codes: Mapping[str, type[ProviderError]],
    request: CompletionRequest | None,
    sentences: Sequence[Sentence] = (),
) -> type[ProviderError]:
    """Our class for an answered error: see `judged`."""
    return judged(answer, codes, request, sentences)[0]


def judged(
    answer: Answered,
    codes: Mapping[str, type[ProviderError]],
    request: CompletionRequest | None,
    sentences: Sequence[Sentence] = (),
) -> tuple[type[ProviderError], str]:
    """`(our class, the code shown)`. A code decides where the table has it, else the status.

    What is true of this one request goes before what its code says of the provider: too large for a limit,
    too long for the window, or what one of the sentences says.
    """
    shown = next((code for code in answer.codes if code and code != str(answer.status)), "")
    if answer.flagged:
        return ContentRefused, shown or FLAGGED
    known = next((code for code in answer.codes if code in codes), "")
    cls = codes[known] if known else class_of_status(answer)
    if cls is RateLimited and (answer.status == 413 or _is_too_large(answer, request)):
        return RequestTooLarge, shown
    if cls is BadRequest and not known:
        for part, code, found in sentences:
            if part in answer.message.lower():
                return found, code
        if request is not None and names_an_overrun(answer.message, request.max_tokens):
            return ContextTooLong, shown
    return cls, shown


def class_of_status(answer: Answered) -> type[ProviderError]:
    """Our class for an answer whose codes say nothing."""
    if answer.status == 403 and not answer.from_api:
        return Unreachable  # something on the way refuses: a firewall, a portal, a country's filter
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
    other 429. Where waiting helps, a message counts what is used as well, and tells how long to wait. So two
    different counts and no third one decide, whatever the words and their order.
    """
    counts = _counts(message)
    if len(counts) > 2:  # it may repeat what the request asked for
        counts = [count for count in counts if count != max_tokens]
    if len(counts) != 2 or max(counts) < _LEAST_TOKENS or counts[0] == counts[1]:
        return None
    return min(counts), max(counts)


def too_large(answer: Answered, request: CompletionRequest) -> tuple[int, int] | None:
    """`(limit, tokens of this request)` where a 429 is about this one request, which no waiting helps.

    Some tell only the limit (Anthropic in its headers, Gemini in `quotaValue`): then the least that the
    prompt can be is compared with it.
    """
    least = -(-sum(len(m.content) for m in request.messages) // _CHARS_PER_TOKEN_AT_MOST)
    limits = [answer.token_limit, *(each.limit for each in answer.limits if each.dimension in _TOKENS)]
    if limit := min((limit for limit in limits if 0 < limit < least), default=0):
        return limit, least
    found = None if "requests" in answer.codes else names_a_limit(answer.message, request.max_tokens)
    waits = answer.retry_after_s is not None or any(name.startswith("retry-after") for name in answer.headers)
    if found is None or not waits:
        return found
    # It says when to come back, so the counts may be a limit and a time. Both must be what they seem to be.
    return found if found[0] in limits and least <= found[1] <= _tokens_at_most(request) else None


def _is_too_large(answer: Answered, request: CompletionRequest | None) -> bool:
    return request is not None and too_large(answer, request) is not None


def _tokens_at_most(request: CompletionRequest) -> int:
    """A token is a byte at least; a message has some around it."""
    prompt = sum(len(m.content.encode("utf-8", "replace")) + 16 for m in request.messages)
    return prompt + request.max_tokens


def _in_numbers(answer: Answered, request: CompletionRequest | None) -> str:
    found = too_large(answer, request) if request is not None else None
    return f" ({found[1]:,} tokens, limit {found[0]:,})" if found else ""


def _counts(message: str) -> list[int]:
    found = _COUNT.findall(message[:_MASKED_CHARS])
    return [values.count(re.sub(r"\D", "", number)) or 0 for number in found]


def causes(error: BaseException) -> Iterable[BaseException]:
    """`error` and what it was raised from, outermost first.

    Not `__context__`: inside a caller's `except` that would lead into the failure of the attempt before.
    """
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__


def by_class(error: BaseException, classes: Mapping[str, Verdict]) -> Verdict:
    """The verdict on the nearest class in the table: by name, so that the table needs no SDK imported."""
    for cls in type(error).__mro__:
        verdict = classes.get(cls.__name__) or _PYTHONS_OWN.get(cls.__name__)
        if verdict:
            return verdict
    return UNREADABLE


def error_in(content: bytes) -> dict[str, Any]:
    """The error of an error answer: its `error` object, or what stands in its place. `message` is the reason.

    `is_page` is set where the body is no error of an API: a web page, which is not repeated, or nothing;
    `is_flagged` where it names what a moderation has found in the prompt.
    """
    try:
        body = values.read_json(content).value
    except values.NotJson:
        text = content[: 4 * _LONGEST_MESSAGE].decode("utf-8", "replace").strip()
        is_page = text.startswith("<") or not text
        message = _PAGE if text.startswith("<") else text
        return {"message": message, "is_page": is_page, "is_flagged": False}
    return error_of(body)


def error_of(body: object) -> dict[str, Any]:
    """The same for a body that has been read."""
    if isinstance(body, list) and body:  # Gemini answers a list where it would have streamed
        body = body[0]
    if not isinstance(body, dict):
        return {"message": reason_in(body), "is_page": body in (None, [], ""), "is_flagged": False}
    inner = next((body[key] for key in _ERRORS if body.get(key)), None)
    first = inner[0] if isinstance(inner, list) else inner
    error = first if isinstance(first, dict) else body
    message = reason_in(inner) or reason_in(body) or _each_reason(first) or _each_reason(body)
    return {**error, "message": message, "is_page": not body, "is_flagged": _is_flagged(error)}


def _is_flagged(error: Mapping[str, Any]) -> bool:
    """By the fields of OpenRouter's moderation (`metadata`), Azure's (`content_filter_result`), OpenAI's."""
    told = values.mapping(error.get("metadata"))
    if told.get("reasons") or told.get("flagged_input") or error.get("safety_violations"):
        return True
    more = values.mapping(error.get("provider_specific_fields"))  # LiteLLM, of Azure's
    inner = values.mapping(error.get("innererror") or more.get("innererror"))
    found = values.mapping(inner.get("content_filter_result") or error.get("content_filter_result"))
    return any(values.mapping(category).get("filtered") is True for category in found.values())


# Where the reason stands, most telling first: OpenAI and Anthropic, FastAPI, pydantic, RFC 9457, others.
_REASONS = (
    "message", "error", "errors", "detail", "msg", "details", "error_message", "error_msg", "status_msg",
    "Message", "reason", "title", "faultstring", "fault", "description",
)  # fmt: skip
_ERRORS = ("error", "errors", "base_resp", "detail")  # where the object with the codes stands
_PLACES = ("loc", "path")  # lists of steps
_DEEPEST = 6


def reason_in(value: object, depth: int = 0) -> str:
    """The sentence in an error body of any shape, with the place in the request that it names."""
    if isinstance(value, str):
        return value
    if depth > _DEEPEST:
        return ""
    if isinstance(value, list):
        return "; ".join(text for item in value if (text := reason_in(item, depth + 1)))
    if not isinstance(value, dict):
        return ""
    text = next((text for key in _REASONS if (text := reason_in(value.get(key), depth + 1))), "")
    place = next((value[key] for key in _PLACES if isinstance(value.get(key), list)), ())
    return f"{'.'.join(str(step) for step in place)}: {text}" if place and text else text


def _each_reason(body: object) -> str:
    """For a body that has a reason under the name of each field."""
    if not isinstance(body, dict):
        return ""
    return "; ".join(f"{key}: {text}" for key, value in body.items() if (text := reason_in(value)))


def status_in(error: Mapping[str, Any]) -> int:
    """The status of an error inside a 200, as gateways send them; 200 where it has none."""
    for key in ("status_code", "statusCode", "http_status", "status", "code"):
        value = error.get(key)
        text = value.strip() if isinstance(value, str) else value if isinstance(value, int) else ""
        if str(text).isdecimal() and len(str(text)) == 3 and 400 <= int(text) < 600:
            return int(text)
    return 200


def error_beside(body: Mapping[str, Any], answer_keys: Iterable[str]) -> dict[str, Any] | None:
    """The error inside a 200, None where the body holds none. An empty `error` beside an answer is none."""
    if body.get("error"):
        return error_of(body)
    base = body.get("base_resp")  # MiniMax: 0 where all is well
    if isinstance(base, dict) and base.get("status_code"):
        return error_of(body)
    if any(body.get(key) for key in answer_keys) or not (reason_in(body) or body.get("type") == "error"):
        return None
    return error_of(body)
