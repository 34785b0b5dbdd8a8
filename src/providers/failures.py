"""From a failed call to a `ProviderError`: an answer with an error, or an exception without an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..errors import (
    AuthFailed,
    BadRequest,
    InvalidResponse,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    TimedOut,
    Unreachable,
)
from ..masking import KeyMask, without_keys
from ..records import Completion, CompletionRequest
from . import values
from .error_classes import MESSAGE_CHARS_READ, ErrorAnswer, MessagePattern, classify, too_large
from .headers import LONG_WAIT_S, day_is_spent, retry_after_s
from .network import RejectedAnswer

MAX_QUOTA_WAIT_S = 36 * 3600.0  # a day, and half a day more for clocks and time zones

Verdict = tuple[type[ProviderError], bool]
"""For a failure without an answer: our class, and whether the request may have reached the provider."""

NEVER_SENT: Verdict = (Unreachable, False)
CUT_OFF: Verdict = (Unreachable, True)
NO_ANSWER: Verdict = (TimedOut, True)
UNREADABLE: Verdict = (InvalidResponse, True)
REDIRECTED: Verdict = (InvalidResponse, False)  # by a server that has done nothing with the request
NO_CREDENTIALS: Verdict = (AuthFailed, False)
SDK_REFUSED: Verdict = (BadRequest, False)  # an SDK refused before it sent anything

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
    "TypeError": SDK_REFUSED,
    "ValueError": SDK_REFUSED,
}


LEAST_KEY_BYTES = 16  # servers on the same machine take keys such as `ollama`


@dataclass(frozen=True, slots=True)
class ErrorFactory:
    """Makes the errors of one provider, whose messages never repeat its `key`."""

    provider: str
    key: str = field(repr=False)
    _mask: KeyMask = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_mask", KeyMask(self.key))

    def masked(self, text: str) -> str:
        """`text` on one line, at most `values.MESSAGE_CHARS` long, without the key or anything like one."""
        text = self._mask.everywhere(values.text(text, MESSAGE_CHARS_READ))
        text = without_keys(" ".join(text.split()))
        return text if len(text) <= values.MESSAGE_CHARS else text[: values.MESSAGE_CHARS - 3] + "..."

    def mask_key(self, text: str) -> str:
        """A name that the provider chose (of a code, a model, an answer), without the key."""
        return self._mask.whole(text)

    def without_key_in(self, completion: Completion) -> Completion:
        """An answer whose names do not repeat the key. Its text is the model's and stays as it is."""
        if not self.key or not any(
            self.key in text for text in (completion.model, completion.request_id, *completion.warnings)
        ):
            return completion
        return replace(
            completion,
            model=self.mask_key(completion.model),
            request_id=self.mask_key(completion.request_id),
            warnings=tuple(map(self.mask_key, completion.warnings)),
        )

    def without_key_in_bytes(self, data: bytes) -> bytes:
        """Bytes that are passed on as they are, without the key. A short one may be an ordinary word."""
        key = self.key.encode()
        if len(key) < LEAST_KEY_BYTES or key not in data:
            return data
        return data.replace(key, self.mask_key(self.key).encode())

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
            facts["code"] = self.mask_key(facts["code"])
        return cls(f"{self.provider}: {self.masked(message)}", provider=self.provider, model=model, **facts)

    def of_exception(
        self,
        verdict: Verdict,
        said: BaseException,
        request: CompletionRequest | None,
        status: int | None = None,
    ) -> ProviderError:
        """The error of a call without a whole answer. `said`: the exception with the clearest message."""
        cls, sent = verdict
        what = _WORDS.get(verdict, "the SDK refused")
        message = str(said) if isinstance(said, RejectedAnswer) else f"{what} ({type(said).__name__}: {said})"
        return self.error(cls, message, request, sent=sent, status=status)

    def of_answer(
        self,
        answer: ErrorAnswer,
        codes: Mapping[str, type[ProviderError]],
        request: CompletionRequest | None,
        now: float,
        message_patterns: Sequence[MessagePattern] = (),
    ) -> ProviderError:
        """The error of an answer with an error status. Waits count from `now`, whatever its own date is."""
        cls, code = classify(answer, codes, request, message_patterns)
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
            resets_at=None if resets_at is None else values.time_ahead(resets_at, now, MAX_QUOTA_WAIT_S),
            reset_guessed=is_guess,
            limits=answer.limits,
        )


def _in_numbers(answer: ErrorAnswer, request: CompletionRequest | None) -> str:
    found = too_large(answer, request) if request is not None else None
    return f" ({found[1]:,} tokens, limit {found[0]:,})" if found else ""


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
