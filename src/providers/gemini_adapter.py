"""Gemini over google-generativeai.

The package is deprecated, and its successor is another one. It builds the request here; `gemini_client.py`
sends it, and the answer is read from its JSON.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import (
    ContentRefused,
    InvalidResponse,
    ProviderError,
    QuotaExhausted,
    UnusableAnswer,
)
from ..pacific import next_midnight_pacific
from ..records import CompletionRequest, LimitReport
from . import values
from .answers import Answer
from .error_classes import ErrorAnswer
from .gemini_answers import parts_of
from .gemini_messages import rendered_contents, rendered_thinking, rendered_tools
from .gemini_reading import CLASSES, CODES, FINISH, NOT_BLOCKED, reported_usage, token_quota
from .gemini_stream import GeminiStream
from .headers import answered_at, google_details
from .network import NO_KEY
from .prompts import Json, apply_schema
from .rendering import Rendered
from .sdk_adapter import SdkAdapter, Upload

SEEDS = 2**31  # the API takes 32 bits with a sign


class GeminiAdapter(SdkAdapter):
    """Gemini, or a server that speaks its format."""

    codes = CODES
    classes = CLASSES
    answer_keys = ("candidates", "promptFeedback")
    models_path = "models?pageSize=1000"  # one page: a model that is not on it is not there

    def _build(self) -> Any:
        _import_quietly()
        from .gemini_client import GeminiClient
        from .transport import http_client

        http = http_client(self._base_url, self._slots, self._connect_timeout_s, self._max_bytes)
        return GeminiClient(self._base_url, self._key or NO_KEY, http)

    async def _post(self, request: CompletionRequest, rendered: Rendered, limit: Any, stream: bool) -> Any:
        return await self._client.generate(request.model, rendered.body, limit, stream=stream)

    def _streamed(self, body: Json, request: CompletionRequest) -> Json:
        return body  # the address says it

    async def row(self, request: CompletionRequest) -> tuple[Json, tuple[str, ...]]:
        """As the API takes it, put together by the package."""
        given, warnings = await super().row(request)
        return await self._client.body(request.model, given), warnings

    async def _send(
        self, method: str, path: str, content: bytes | None, upload: Upload, limit: Any, stream: bool
    ) -> Any:
        return await self._client.exchange(method, path, content, limit, stream=stream)

    def _models(self, body: Json) -> list[str]:
        return [name.removeprefix("models/") for name in values.names(body.get("models"), "name")]

    def _rendered(self, request: CompletionRequest) -> Rendered:
        needs_signatures = request.parameters.get("thinking") != "budget"  # from Gemini 3 on
        in_words = bool(request.parameters.get("schema_in_words"))
        in_words |= bool(request.tools) and not needs_signatures  # no JSON beside functions before Gemini 3
        messages, schema = apply_schema(request, self._schema_form, request.messages, in_words=in_words)
        config: Json = {"max_output_tokens": request.max_tokens}
        if request.response_schema is not None and not in_words:
            config["response_mime_type"] = "application/json"  # every model can be held to JSON
        if schema is not None:
            config["response_schema"] = schema
        if request.temperature is not None:
            config["temperature"] = request.temperature
        if request.top_p is not None:
            config["top_p"] = request.top_p
        if request.stop:
            config["stop_sequences"] = list(request.stop)
        system, contents, of_turns = rendered_contents(
            messages, request.model, needs_signatures=needs_signatures
        )
        tools, of_tools = rendered_tools(request)
        thinking, of_thinking = rendered_thinking(request)
        more: Json = {"thinkingConfig": thinking} if thinking else {}
        if request.seed is not None:
            more["seed"] = request.seed % SEEDS
        beyond = {**tools, "generationConfig": more} if more else tools
        body = {"system": system, "contents": contents, "generation_config": config, "beyond": beyond}
        return Rendered(body, (*of_turns, *of_tools, *of_thinking))

    def _reader(self, request: CompletionRequest) -> GeminiStream:
        return GeminiStream(request)

    def _limits(self, found: Mapping[str, str]) -> tuple[LimitReport, ...]:
        return ()  # no header reports any

    def _codes_of(self, error: Json) -> tuple[str, ...]:
        reasons, quotas, _ = google_details(error.get("details"))
        return *reasons, _daily(quotas), values.text(error.get("status"))

    def _answered_error(
        self, error: Json, status: int, found: Mapping[str, str], request: CompletionRequest | None
    ) -> ProviderError:
        """The error that the provider answered with; its details name the quota and the wait."""
        _, quotas, delay_s = google_details(error.get("details"))
        daily = _daily(quotas)
        now = time.time()
        answered = answered_at(found, now)
        answer = ErrorAnswer(
            status,
            self._codes_of(error),
            str(error["message"]),
            found,
            retry_after_s=delay_s,
            resets_at=now + next_midnight_pacific(answered) - answered if daily else None,
            from_api=not error["is_page"],
            flagged=error["is_flagged"],
            token_limit=token_quota(error.get("details")),
        )
        codes = {**CODES, daily: QuotaExhausted} if daily else CODES
        return self._errors.of_answer(answer, codes, request, now)

    def _read_answer(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
    ) -> Answer:
        used = reported_usage(body.get("usageMetadata"))
        reason = values.text(values.mapping(body.get("promptFeedback")).get("blockReason"))
        if reason not in NOT_BLOCKED:
            message = f"refused the prompt ({reason})"
            raise self._unusable(ContentRefused, message, request, limits, used, reason)
        candidates = values.sequence(body.get("candidates"))
        if not candidates:
            raise self._unusable(InvalidResponse, "the answer has no candidate", request, limits, used)
        candidate = values.mapping(candidates[0])
        reason = values.text(candidate.get("finishReason"))
        return Answer(
            *parts_of(values.mapping(candidate.get("content")).get("parts"), request),
            FINISH.get(reason.upper(), UnusableAnswer),
            reason,
            reason,
            used,
            values.text(body.get("modelVersion")),
            values.text(body.get("responseId")),
        )


def _daily(quotas: Sequence[str]) -> str:
    """The quota of a day among those that are spent; "" if there is none."""
    return next((quota for quota in quotas if "PerDay" in quota), "")


def _import_quietly() -> None:
    """Import the package without its deprecation notice and the one of its dependencies.

    The filters are for these messages only, and stay: switching all warnings off around the import would hide
    those of other threads.
    """
    for message in (r"\s*All support for the `google\.generativeai`", r"You are using a Python version"):
        warnings.filterwarnings("ignore", message=message, category=FutureWarning)
    import google.generativeai  # noqa: F401
