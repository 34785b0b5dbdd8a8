"""What the answers of a provider mean: a `Completion`, or the error that stands in its place.

One place for answers that come at once and for those that are put together from a stream.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from ..config import ProviderAccess
from ..errors import InvalidResponse, ProviderError
from ..records import Completion, CompletionRequest, FinishReason, LimitReport
from . import values
from .answers import Answer, content_for, finish_with
from .error_bodies import error_beside, error_of, status_in
from .error_classes import ErrorAnswer, MessagePattern
from .failures import ErrorFactory
from .prompts import Json, unknown_end, why_unusable
from .usage import NO_REASON, NOTHING, Reported, is_whole, of_answer, of_error


class AnswerReader(ABC):
    """Reads the answers of one provider. Subclasses hold what differs between the APIs."""

    codes: ClassVar[Mapping[str, type[ProviderError]]]
    message_patterns: ClassVar[tuple[MessagePattern, ...]] = ()
    answer_keys: ClassVar[tuple[str, ...]]  # keys of the answer in the body of a 200

    def __init__(self, access: ProviderAccess) -> None:
        self._errors = ErrorFactory(access.name, access.key.get_secret_value())
        self._native_forms = access.config.native_forms

    @abstractmethod
    def _limits(self, found: Mapping[str, str]) -> tuple[LimitReport, ...]:
        """The limits that the headers report."""

    @abstractmethod
    def _read_answer(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
    ) -> Answer:
        """What a body says. Raises where there can be no answer in it."""

    @abstractmethod
    def _codes_of(self, error: Json) -> tuple[str, ...]:
        """The codes in an error body, most specific first."""

    # -- answers

    def _is_native(self, request: CompletionRequest) -> bool:
        """Whether the request came in this API's own form."""
        return request.native is not None and request.native.form in self._native_forms

    def _answer(
        self,
        content: bytes,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
        warnings: tuple[str, ...],
    ) -> Completion:
        """The answer in a body that came whole. `warnings` are those about the request."""
        if self._is_native(request):  # its body is passed on
            content = self._errors.without_key_in_bytes(content)
        body, more = self._json(content, request, limits)
        return self._checked(body, request, found, limits, (*warnings, *more))

    def _checked(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
        warnings: tuple[str, ...],
    ) -> Completion:
        if error := error_beside(body, self.answer_keys):
            raise self._answered_error(error, status_in(error), found, request)
        return self._whole(body, request, found, limits, warnings)

    def read_row(self, body: Json, request: CompletionRequest, warnings: tuple[str, ...]) -> Completion:
        """The answer to one row of a batch. `warnings`: those of its rendering. Raises like `_answer`."""
        return self._checked(body, request, {}, (), warnings)

    def row_error(self, error: Json, status: int, request: CompletionRequest) -> ProviderError:
        """The error that stands in the place of such an answer."""
        return self._answered_error(error_of(error), status, {}, request)

    def _whole(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
        warnings: tuple[str, ...],
    ) -> Completion:
        completion = self._errors.without_key_in(self._completion(body, request, found, limits))
        raw = body if self._is_native(request) else None
        if warnings or raw is not None:
            completion = replace(completion, warnings=(*completion.warnings, *warnings), raw=raw)
        return completion

    def _completion(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
    ) -> Completion:
        """The answer as a `Completion`; also of a body that was put together from a stream.

        Raises where there is no usable answer. To a native request any end that the API gives is one.
        """
        answer = self._read_answer(body, request, found, limits)
        content = content_for(answer, request)
        finish, more = answer.finish, unknown_end(answer.finish, answer.reason)
        if finish is None and is_whole(answer.used, request, content.written):
            finish, more = FinishReason.OTHER, (NO_REASON,)
        unusable = why_unusable(content.written, finish, answer.why, content.other)
        if unusable and not (isinstance(finish, FinishReason) and self._may_be_empty(request, finish)):
            cls, message = self._explained(*unusable, answer.reason)
            raise self._unusable(cls, message, request, limits, answer.used, answer.reason)
        usage, warnings = of_answer(answer.used, request, content.written)
        return Completion(
            content.text,
            finish_with(content, finish if isinstance(finish, FinishReason) else FinishReason.OTHER),
            usage,
            answer.model or request.model,
            limits,
            warnings + more,
            answer.request_id,
            content.parts,
        )

    def _may_be_empty(self, request: CompletionRequest, finish: FinishReason) -> bool:
        return self._is_native(request) and finish is not FinishReason.REFUSED

    def _explained(
        self, cls: type[ProviderError], message: str, reason: str
    ) -> tuple[type[ProviderError], str]:
        """`(error class, message)` of an unusable answer that ended with `reason`."""
        return cls, message

    def _answered_error(
        self, error: Json, status: int, found: Mapping[str, str], request: CompletionRequest | None
    ) -> ProviderError:
        """The error that the provider answered with, `error` as `error_in` reads it."""
        answer = ErrorAnswer(
            status,
            self._codes_of(error),
            str(error["message"]),
            found,
            self._limits(found),
            from_api=not error["is_page"],
            flagged=error["is_flagged"],
        )
        return self._errors.of_answer(answer, self.codes, request, time.time(), self.message_patterns)

    def _json(
        self, content: bytes, request: CompletionRequest | None, limits: tuple[LimitReport, ...]
    ) -> tuple[Json, tuple[str, ...]]:
        try:
            body, warnings = values.read_json(content)
        except values.NotJson as error:
            message = f"the answer is not JSON ({error})"
            raise self._unusable(InvalidResponse, message, request, limits) from error
        if not isinstance(body, dict):
            raise self._unusable(InvalidResponse, "the answer is not a JSON object", request, limits)
        return body, warnings

    def _unusable(
        self,
        cls: type[ProviderError],
        message: str,
        request: CompletionRequest | None,
        limits: tuple[LimitReport, ...],
        used: Reported = NOTHING,
        code: str = "",
    ) -> ProviderError:
        """The error of a 200 that is not an answer; it is billed where `used` can be true."""
        usage = of_error(used, request) if request else None
        return self._errors.error(cls, message, request, status=200, code=code, limits=limits, usage=usage)
