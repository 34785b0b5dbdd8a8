"""Anthropic Messages over the anthropic SDK."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import (
    AuthFailed,
    ContextTooLong,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Truncated,
)
from ..messages import ROLES, Message, Reasoning
from ..records import CompletionRequest, FinishReason, LimitReport
from . import values
from .answers import Answer
from .anthropic_answers import parts_of
from .anthropic_messages import MOST_MARKS, rendered_messages, rendered_tools
from .anthropic_stream import AnthropicStream
from .anthropic_thinking import add_thinking
from .conversations import with_mark
from .error_classes import MessagePattern
from .failures import CUT_OFF, NO_ANSWER, NO_CREDENTIALS, SDK_REFUSED, UNREADABLE, Verdict
from .headers import anthropic_limits
from .network import NO_KEY
from .prompts import Finish, Json, apply_schema, finish_of
from .rendering import Rendered
from .sdk_adapter import SdkAdapter
from .usage import NOTHING, Reported

# `error.details.error_code` and `error.type`, where they say more than the status does.
CODES: Mapping[str, type[ProviderError]] = {
    "enforced_spend_limit_reached": QuotaExhausted,
    "contract_spend_limit_reached": QuotaExhausted,
    "linked_organization_spend_limit_reached": QuotaExhausted,
    "linked_organization_billing_unavailable": QuotaExhausted,
    "user_profile_not_billable": QuotaExhausted,
    "user_profile_billing_not_authorized": QuotaExhausted,
    "billing_error": QuotaExhausted,
    "ramp_limit_exceeded": RateLimited,  # a limit on how fast use may grow, with the time to wait
    "organization_on_hold": AuthFailed,
    "authentication_error": AuthFailed,
    "permission_error": AuthFailed,
    "rate_limit_error": RateLimited,
    "overloaded_error": Overloaded,
    "not_found_error": ModelUnavailable,
    "request_too_large": RequestTooLarge,
}

# A spent credit and a spending limit of the console have the code of every bad request.
MESSAGE_PATTERNS: tuple[MessagePattern, ...] = (
    ("credit balance is too low", "credit_balance_too_low", QuotaExhausted),
    ("reached your specified api usage limits", "usage_limit_reached", QuotaExhausted),
)

# The SDK's exceptions without an answer, where the transport's causes say nothing.
CLASSES: Mapping[str, Verdict] = {
    "APITimeoutError": NO_ANSWER,
    "APIConnectionError": CUT_OFF,
    "APIResponseValidationError": UNREADABLE,
    "APIWebhookValidationError": UNREADABLE,
    "StreamAlreadyConsumed": UNREADABLE,
    "RetryableError": UNREADABLE,
    "APIError": UNREADABLE,
    "APIStatusError": UNREADABLE,
    "AnthropicError": UNREADABLE,
    "CredentialsError": NO_CREDENTIALS,
    "IdentityTokenFileError": NO_CREDENTIALS,
    "WorkloadIdentityError": NO_CREDENTIALS,
    "MutuallyExclusiveAuthError": NO_CREDENTIALS,
    "MissingDependencyError": SDK_REFUSED,
    "ToolsetUsageError": SDK_REFUSED,  # this and the rest: tools, which are not used here
    "ToolsetConfigError": SDK_REFUSED,
    "ToolsetContractError": SDK_REFUSED,
    "ToolsetsFixedError": SDK_REFUSED,
    "ToolsetClosedError": SDK_REFUSED,
    "BrowserStateError": SDK_REFUSED,
    "NestedCallError": SDK_REFUSED,
    "AsyncOnSyncToolsetError": SDK_REFUSED,
    "SyncOnAsyncToolsetError": SDK_REFUSED,
}

WINDOW_FULL = "model_context_window_exceeded"
# A reason that is not here, such as a paused turn, becomes OTHER with a warning.
FINISH: Mapping[str, Finish] = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    WINDOW_FULL: FinishReason.LENGTH,
    "refusal": FinishReason.REFUSED,
    "tool_use": FinishReason.TOOL,
}


class AnthropicAdapter(SdkAdapter):
    """Claude, or a server that speaks its format."""

    path = "/v1/messages"
    models_path = "/v1/models?limit=1000"  # all on one page: one that is not on it is not there
    codes = CODES
    classes = CLASSES
    message_patterns = MESSAGE_PATTERNS
    answer_keys = ("content",)

    def _build(self) -> Any:
        from anthropic import AsyncAnthropic

        from .transport import http_client

        client = AsyncAnthropic(
            api_key=self._key or NO_KEY,
            base_url=self._base_url,
            max_retries=0,
            open_telemetry=False,
            http_client=http_client(self._base_url, self._slots, self._connect_timeout_s, self._max_bytes),
        )
        return self._lean(client)

    def _rendered(self, request: CompletionRequest) -> Rendered:
        messages: Sequence[Message] = request.messages
        if request.cached_turns and _marks_in(messages) < MOST_MARKS:
            messages = with_mark(messages, request.cached_turns, ROLES)
        in_words = bool(request.parameters.get("schema_in_words"))
        messages, schema = apply_schema(request, self._schema_form, messages, in_words=in_words)
        turns, of_turns = rendered_messages(messages, request.model)
        tools, of_tools = rendered_tools(request)
        body: Json = {"model": request.model, "max_tokens": request.max_tokens, **turns, **tools}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return Rendered(body, (*of_turns, *of_tools, *add_thinking(request, body)))

    def _reader(self, request: CompletionRequest) -> AnthropicStream:
        return AnthropicStream(request, native=self._is_native(request))

    def _limits(self, found: Mapping[str, str]) -> tuple[LimitReport, ...]:
        return anthropic_limits(found)

    def _codes_of(self, error: Json) -> tuple[str, ...]:
        code = values.mapping(error.get("details")).get("error_code")
        return values.text(code), values.text(error.get("type"))

    def _read_answer(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
    ) -> Answer:
        reason = values.text(body.get("stop_reason"))
        return Answer(
            *parts_of(body.get("content"), request),
            finish_of(reason, FINISH),
            reason,
            _stop_reason_of(body, reason),
            _usage(body.get("usage")),
            values.text(body.get("model")),
            found.get("request-id") or values.text(body.get("id")),
        )

    def _explained(
        self, cls: type[ProviderError], message: str, reason: str
    ) -> tuple[type[ProviderError], str]:
        if cls is Truncated and reason == WINDOW_FULL:
            return ContextTooLong, "the prompt leaves no room for an answer in the model's window"
        return cls, message


def _marks_in(messages: Sequence[Message]) -> int:
    """How many cache marks the caller has set."""
    return sum(
        not isinstance(part, Reasoning) and part.cache
        for message in messages
        if not isinstance(message.content, str)
        for part in message.content
    )


def _usage(usage: object) -> Reported:
    """`input_tokens` leaves out what was read from and written to the cache."""
    if not isinstance(usage, dict):
        return NOTHING
    count = values.count
    fresh = count(usage.get("input_tokens"))
    read = count(usage.get("cache_read_input_tokens")) or 0
    write = count(usage.get("cache_creation_input_tokens")) or 0
    return Reported(
        None if fresh is None else fresh + read + write,
        count(usage.get("output_tokens")),
        read,
        write,
        count(values.mapping(usage.get("output_tokens_details")).get("thinking_tokens")) or 0,
    )


def _stop_reason_of(body: Json, reason: str) -> str:
    """The stop reason, and what a refusal adds to it."""
    details = values.mapping(body.get("stop_details"))
    extra = [values.sentence(details[key]) for key in ("category", "explanation") if details.get(key)]
    return ": ".join([reason, *extra])
