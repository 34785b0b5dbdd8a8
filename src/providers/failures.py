"""From what went wrong to one of our errors: what the three adapters share.

Each adapter brings a table of the provider's error codes; the HTTP status decides where no code does. Words
in a message decide nothing, with one plain exception: `names_an_overrun`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import (
    AuthFailed,
    BadRequest,
    ContextTooLong,
    InvalidResponse,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    ServerError,
    TimedOut,
    Unreachable,
)
from ..masking import MASK, without_keys
from ..records import CompletionRequest, LimitReport
from . import values
from .headers import LONG_WAIT_S, answered_at, day_is_spent, retry_after_s

STATUSES: Mapping[int, type[ProviderError]] = {
    400: BadRequest,
    401: AuthFailed,
    402: QuotaExhausted,  # no credit left
    403: AuthFailed,
    404: ModelUnavailable,
    405: BadRequest,
    408: TimedOut,
    409: BadRequest,
    410: ModelUnavailable,
    411: BadRequest,
    412: BadRequest,
    413: BadRequest,
    415: BadRequest,
    416: BadRequest,
    422: BadRequest,
    429: RateLimited,
    431: BadRequest,
    499: ServerError,  # the server says that the caller left, and we did not
    500: ServerError,
    501: ServerError,
    502: ServerError,
    503: Overloaded,
    504: ServerError,
    529: Overloaded,
}

Verdict = tuple[type[ProviderError], bool]
"""For a failure without an answer: our class, and whether the request may have reached the provider."""

NEVER_SENT: Verdict = (Unreachable, False)
CUT_OFF: Verdict = (Unreachable, True)
NO_ANSWER: Verdict = (TimedOut, True)
UNREADABLE: Verdict = (InvalidResponse, True)
NO_CREDENTIALS: Verdict = (AuthFailed, False)
NOT_OUR_CALL: Verdict = (BadRequest, False)  # an SDK refused before it sent anything

_WORDS: Mapping[Verdict, str] = {
    NEVER_SENT: "could not be reached",
    CUT_OFF: "the connection broke",
    NO_ANSWER: "no answer in time",
    UNREADABLE: "the answer can't be read",
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
_COUNT = re.compile(r"(?<![\w.-])\d[\d,_]*(?![\w-]|[.]\d)")
_LEAST_TOKENS = 1_000  # no model's window is smaller; what a message counts below this is something else


@dataclass(frozen=True, slots=True)
class Answered:
    """An error that the provider answered with. `codes` are its own words for it, most telling first."""

    status: int
    codes: tuple[str, ...]
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)
    limits: tuple[LimitReport, ...] = ()
    retry_after_s: float | None = None  # where it is not in the headers
    resets_at: float | None = None


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

    def error(
        self,
        cls: type[ProviderError],
        message: str,
        request: CompletionRequest | None,
        **facts: Any,
    ) -> ProviderError:
        """One of our errors, with the provider and model in it and no key in its message."""
        model = request.model if request else ""
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
        return self.error(cls, f"{what} ({type(said).__name__}: {said})", request, sent=sent, status=status)

    def answered(
        self,
        answer: Answered,
        codes: Mapping[str, type[ProviderError]],
        request: CompletionRequest | None,
        now: float,
    ) -> ProviderError:
        """The error of an answer with an error status. `now` is used only where the answer has no date."""
        cls = class_of(answer, codes, request)
        wait_s = retry_after_s(answer.headers, now) if answer.retry_after_s is None else answer.retry_after_s
        resets_at = answer.resets_at
        if cls is RateLimited and (day_is_spent(answer.limits) or (wait_s or 0.0) > LONG_WAIT_S):
            cls = QuotaExhausted
        if cls is QuotaExhausted and resets_at is None and wait_s is not None:
            resets_at = answered_at(answer.headers, now) + wait_s
        code = next((code for code in answer.codes if code), "")
        said = f"{answer.status} {code}".rstrip()
        return self.error(
            cls,
            f"answered {said}: {answer.message}",
            request,
            status=answer.status,
            code=code,
            retry_after_s=wait_s,
            resets_at=resets_at,
            limits=answer.limits,
        )


def class_of(
    answer: Answered, codes: Mapping[str, type[ProviderError]], request: CompletionRequest | None
) -> type[ProviderError]:
    """A code decides where the table has it, else the status; an unknown status by its hundred."""
    for code in answer.codes:
        if code in codes:
            return codes[code]
    cls = STATUSES.get(answer.status) or _by_hundred(answer.status)
    if cls is BadRequest and request is not None and names_an_overrun(answer.message, request.max_tokens):
        return ContextTooLong
    return cls


def _by_hundred(status: int) -> type[ProviderError]:
    if status < 400:
        return InvalidResponse
    return BadRequest if status < 500 else ServerError


def names_an_overrun(message: str, max_tokens: int) -> bool:
    """Whether a refusal names two different token counts: how long the prompt is, and how long it may be.

    The exception to "never by a message". Anthropic ("prompt is too long: 208310 tokens > 200000 maximum"),
    Gemini ("The input token count (1196417) exceeds the maximum number of tokens allowed (1048576).") and
    some OpenAI-compatible servers have no code for a prompt that does not fit. Only the numbers are read, so
    the wording may change. `max_tokens` is none of them: a refusal that names it is about the answer.
    """
    found = _COUNT.findall(message[:_MASKED_CHARS])
    counts = {values.count(re.sub(r"\D", "", number)) or 0 for number in found} - {max_tokens}
    return len({count for count in counts if count >= _LEAST_TOKENS}) >= 2


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
    """The `error` object of an error answer. Where there is none, what came instead is its `message`."""
    try:
        body = values.read_json(content).value
    except values.NotJson:
        return {"message": content[: 4 * _LONGEST_MESSAGE].decode("utf-8", "replace")}
    if isinstance(body, list) and body:  # Gemini answers a list where it would have streamed
        body = body[0]
    error = body.get("error", body) if isinstance(body, dict) else body
    return error if isinstance(error, dict) else {"message": values.text(error, _LONGEST_MESSAGE)}
