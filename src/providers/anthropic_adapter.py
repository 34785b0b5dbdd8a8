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
from ..messages import Message
from ..records import Completion, CompletionRequest, FinishReason, LimitReport
from . import values
from .anthropic_stream import AnthropicStream
from .error_classes import MessagePattern
from .failures import CUT_OFF, NO_ANSWER, NO_CREDENTIALS, SDK_REFUSED, UNREADABLE, Verdict
from .headers import anthropic_limits
from .network import NO_KEY
from .prompts import (
    Finish,
    Json,
    apply_schema,
    finish_of,
    leading_system,
    system_apart,
    unknown_end,
    why_unusable,
)
from .sdk_adapter import SdkAdapter
from .usage import NO_REASON, NOTHING, Reported, is_whole, of_answer

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

    def _body(self, request: CompletionRequest) -> Json:
        messages, schema = apply_schema(request, self._schema_form)
        system, turns = system_apart(messages)
        body: Json = {
            "model": request.model,
            "max_tokens": request.max_tokens,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
        }
        if system:
            body["system"] = system
        if request.cached_turns:
            _mark(body, messages, request)
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.stop:
            body["stop_sequences"] = list(request.stop)
        if schema is not None:
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        return body

    def _reader(self, request: CompletionRequest) -> AnthropicStream:
        return AnthropicStream(native=request.native is not None and request.native.form == "anthropic")

    def _limits(self, found: Mapping[str, str]) -> tuple[LimitReport, ...]:
        return anthropic_limits(found)

    def _codes_of(self, error: Json) -> tuple[str, ...]:
        code = values.mapping(error.get("details")).get("error_code")
        return values.text(code), values.text(error.get("type"))

    def _completion(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
    ) -> Completion:
        text = _text(body.get("content"))
        reason = values.text(body.get("stop_reason"))
        finish = finish_of(reason, FINISH)
        used = _usage(body.get("usage"))
        more = unknown_end(finish, reason)
        if finish is None and is_whole(used, request, text):
            finish, more = FinishReason.OTHER, (NO_REASON,)
        if unusable := why_unusable(
            text, finish, _stop_reason_of(body, reason), _other_content(body.get("content"))
        ):
            cls, message = unusable
            if cls is Truncated and reason == WINDOW_FULL:
                cls, message = ContextTooLong, "the prompt leaves no room for an answer in the model's window"
            raise self._unusable(cls, message, request, limits, used, reason)
        usage, warnings = of_answer(used, request, text)
        return Completion(
            text,
            finish if isinstance(finish, FinishReason) else FinishReason.OTHER,
            usage,
            values.text(body.get("model")) or request.model,
            limits,
            warnings + more,
            found.get("request-id") or values.text(body.get("id")),
        )


def _mark(body: Json, messages: Sequence[Message], request: CompletionRequest) -> None:
    """Mark the last block of the first `cached_turns` messages, so that the prompt cache keeps them.

    All system messages come first in this API, so a mark in the conversation covers them too.
    """
    keep: Json = {"cache_control": {"type": "ephemeral"}}
    turns, leading = request.cached_turns, leading_system(request.messages)
    if turns > leading:
        turn = body["messages"][turns - leading - 1]
        turn["content"] = [{"type": "text", "text": turn["content"], **keep}]
        return
    system = [m.text for m in messages if m.role == "system"]
    rest = [{"type": "text", "text": "\n\n".join(system[turns:])}] if system[turns:] else []
    body["system"] = [{"type": "text", "text": "\n\n".join(system[:turns]), **keep}, *rest]


def _text(content: object) -> str:
    """The text of all blocks; thinking and tools are none."""
    blocks = map(values.mapping, values.sequence(content))
    parts = (block.get("text") for block in blocks if block.get("type") == "text")
    return "".join(part for part in parts if isinstance(part, str))


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


def _other_content(content: object) -> str:
    """What an answer holds beside its text, by the types of its blocks."""
    kinds = {values.text(block.get("type")) for block in map(values.mapping, values.sequence(content))}
    return ", ".join(sorted(kinds - {"", "text"}))


def _stop_reason_of(body: Json, reason: str) -> str:
    """The stop reason, and what a refusal adds to it."""
    details = values.mapping(body.get("stop_details"))
    extra = [values.sentence(details[key]) for key in ("category", "explanation") if details.get(key)]
    return ": ".join([reason, *extra])
