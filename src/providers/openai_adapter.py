"""OpenAI Chat Completions over the openai SDK, and the many servers that speak the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..config import ProviderAccess
from ..errors import (
    AuthFailed,
    ContentRefused,
    ContextTooLong,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    Truncated,
)
from ..records import Completion, CompletionRequest, FinishReason, LimitReport
from . import values
from .failures import CUT_OFF, NO_ANSWER, NO_CREDENTIALS, NOT_OUR_CALL, UNREADABLE, Verdict
from .headers import openai_limits
from .network import NO_KEY
from .prompts import Json, leading_system, why_unusable, with_schema_in_words
from .schemas import openai_form
from .sdk_adapter import SdkAdapter
from .usage import NO_REASON, NOTHING, Reported, is_whole, of_answer

# `error.code` and `error.type`, where they say more than the status does.
CODES: Mapping[str, type[ProviderError]] = {
    "insufficient_quota": QuotaExhausted,
    "credit_balance_exhausted": QuotaExhausted,
    "organization_spend_limit_exceeded": QuotaExhausted,
    "project_spend_limit_exceeded": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "rate_limit_exceeded": RateLimited,
    "slow_down": Overloaded,
    "server_is_overloaded": Overloaded,
    "engine_overloaded": Overloaded,
    "context_length_exceeded": ContextTooLong,
    "string_above_max_length": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,  # llama.cpp
    "content_policy_violation": ContentRefused,
    "content_filter": ContentRefused,  # Azure
    "moderation_blocked": ContentRefused,
    "invalid_prompt": ContentRefused,  # a prompt that the usage policy does not allow
    "model_not_found": ModelUnavailable,
    "model_decommissioned": ModelUnavailable,  # Groq
    "DeploymentNotFound": ModelUnavailable,  # Azure
    "invalid_api_key": AuthFailed,
    "account_deactivated": AuthFailed,
    "unsupported_country_region_territory": AuthFailed,
}

# The SDK's exceptions without an answer, where the transport's causes say nothing.
CLASSES: Mapping[str, Verdict] = {
    "APITimeoutError": NO_ANSWER,
    "APIConnectionError": CUT_OFF,
    "APIResponseValidationError": UNREADABLE,
    "APIError": UNREADABLE,
    "APIStatusError": UNREADABLE,
    "OpenAIError": UNREADABLE,
    "StreamAlreadyConsumed": UNREADABLE,
    "LengthFinishReasonError": (Truncated, True),
    "ContentFilterFinishReasonError": (ContentRefused, True),
    "SubjectTokenProviderError": NO_CREDENTIALS,
    "MutuallyExclusiveAuthError": NO_CREDENTIALS,
    "MissingDependencyError": NOT_OUR_CALL,
    "APIRemovedInV1": NOT_OUR_CALL,
    "_AmbiguousModuleClientUsageError": NOT_OUR_CALL,
    "WebSocketConnectionClosedError": NOT_OUR_CALL,  # this and the rest: interfaces that are not used here
    "WebSocketQueueFullError": NOT_OUR_CALL,
    "AgentOutputParseError": NOT_OUR_CALL,
    "AgentTurnResultError": NOT_OUR_CALL,
    "AgentFilePreparationError": NOT_OUR_CALL,
    "AgentFileStagingError": NOT_OUR_CALL,
}

_LEAST_CACHED_CHARS = 4 * 1024  # four characters a token, and nothing shorter is cached

FINISH: Mapping[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.REFUSED,
    "tool_calls": FinishReason.TOOL,
    "function_call": FinishReason.TOOL,
}


class OpenAIAdapter(SdkAdapter):
    """GPT, or a compatible server: what it leaves out of an answer is done without, and said."""

    path = "/chat/completions"
    models_path = "/models"
    codes = CODES
    classes = CLASSES
    options: ClassVar[Json] = {"security": {"bearer_auth": True}}  # the key given, never OPENAI_ADMIN_KEY

    def __init__(self, access: ProviderAccess, slots: int) -> None:
        super().__init__(access, slots)
        self._is_openai = access.key_source.startswith("OPENAI_")

    def _build(self) -> Any:
        from openai import AsyncOpenAI, DefaultAioHttpClient

        from .transport import client_options

        client = AsyncOpenAI(
            api_key=self._key or NO_KEY,
            base_url=self._base_url,
            max_retries=0,
            http_client=DefaultAioHttpClient(
                **client_options(self._base_url, self._slots, self._connect_timeout_s)
            ),
        )
        if not self._is_openai:  # OPENAI_ORG_ID and OPENAI_PROJECT_ID are nobody else's business
            client.organization = client.project = None
        return client

    def _body(self, request: CompletionRequest) -> Json:
        messages, schema = request.messages, request.response_schema
        form = None
        if schema is not None:
            form = None if request.parameters.get("schema_in_words") else openai_form(schema)
            messages = messages if form else with_schema_in_words(messages, schema)
        body: Json = {
            "model": request.model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in messages],
            str(request.parameters.get("max_tokens_parameter") or "max_tokens"): request.max_tokens,
        }
        _use_cache(body, request, len(messages) - len(request.messages))
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.stop:
            body["stop"] = list(request.stop)
        if form is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    def _limits(self, found: Mapping[str, str]) -> tuple[LimitReport, ...]:
        return openai_limits(found)

    def _codes_of(self, error: Json) -> tuple[str, ...]:
        return values.text(error.get("code")), values.text(error.get("type"))

    def _completion(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
    ) -> Completion:
        choices = values.sequence(body.get("choices"))
        choice = values.mapping(choices[0]) if choices else {}
        message = values.mapping(choice.get("message"))
        text = _text(message.get("content"))
        reason = values.text(choice.get("finish_reason"))
        finish = FINISH.get(reason, FinishReason.OTHER) if reason else None
        why = reason
        if message.get("refusal"):
            finish, why = FinishReason.REFUSED, values.sentence(message["refusal"])
        used = _usage(body.get("usage"))
        more: tuple[str, ...] = ()
        if finish is None and is_whole(used, request, text):
            finish, more = FinishReason.OTHER, (NO_REASON,)
        if unusable := why_unusable(text, finish, why):
            raise self._unusable(*unusable, request, limits, used, reason)
        usage, warnings = of_answer(used, request, text)
        return Completion(
            text,
            finish or FinishReason.OTHER,
            usage,
            values.text(body.get("model")) or request.model,
            limits,
            warnings + more,
            found.get("x-request-id") or values.text(body.get("id")),
        )


def _use_cache(body: Json, request: CompletionRequest, told: int) -> None:
    """The key of a beginning that other calls share, and where the model takes marks, its end.

    From gpt-5.6 on a write into the cache costs more than reading once, and is made at the end of every long
    prompt unless marks are asked for; then only marked beginnings are written and found. `told` messages
    stand behind the leading system messages that the request does not have.
    """
    how = request.parameters.get("prompt_cache")
    if how and request.cache_key:
        body["prompt_cache_key"] = request.cache_key
    if how != "marks" or sum(len(m.content) for m in request.messages) < _LEAST_CACHED_CHARS:
        return
    body["prompt_cache_options"] = {"mode": "explicit"}
    turns = request.cached_turns
    last = turns - 1 + (told if turns > leading_system(request.messages) else 0)
    while last >= 0 and body["messages"][last]["role"] == "assistant":
        last -= 1  # an answer takes no mark
    if last >= 0:
        turn = body["messages"][last]
        mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
        turn["content"] = [{"type": "text", "text": turn["content"], **mark}]


def _text(content: object) -> str:
    """A message's text: a string, or on some servers a list of parts."""
    if isinstance(content, list):
        parts = (part.get("text") for part in map(values.mapping, content) if part.get("type") == "text")
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _usage(told: object) -> Reported:
    """`prompt_tokens` includes what was read from and written to the cache; reasoning is part of the output.

    A few servers leave reasoning out of `completion_tokens`, but not out of the total: so the larger counts.
    """
    if not isinstance(told, dict):
        return NOTHING
    count = values.count
    inputs = values.mapping(told.get("prompt_tokens_details"))
    outputs = values.mapping(told.get("completion_tokens_details"))
    prompt, output = count(told.get("prompt_tokens")), count(told.get("completion_tokens"))
    if prompt is not None and (total := count(told.get("total_tokens"))) is not None and output is not None:
        output = max(output, total - prompt)
    return Reported(
        prompt,
        output,
        count(inputs.get("cached_tokens")) or 0,
        count(inputs.get("cache_write_tokens")) or 0,
        count(outputs.get("reasoning_tokens")) or 0,
    )
