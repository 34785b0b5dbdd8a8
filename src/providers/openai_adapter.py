"""OpenAI Chat Completions over the openai SDK, and the many servers that speak the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from ..config import ProviderAccess
from ..errors import (
    AuthFailed,
    ContentRefused,
    ContextTooLong,
    FlexUnavailable,
    InvalidResponse,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    Truncated,
    UnusableAnswer,
)
from ..messages import Message, text_length
from ..records import EMBEDDINGS, FLEX, Completion, CompletionRequest, FinishReason, LimitReport
from . import values
from .answers import Answer
from .conversations import with_mark
from .error_bodies import reason_in
from .failures import CUT_OFF, NO_ANSWER, NO_CREDENTIALS, SDK_REFUSED, UNREADABLE, Verdict
from .headers import openai_limits
from .network import NO_KEY
from .openai_answers import parts_of
from .openai_embeddings import read_embeddings, without_vectors
from .openai_messages import rendered_messages, rendered_tools
from .openai_responses import FORM, ResponsesStream, read_response
from .openai_stream import ChatStream
from .prompts import Finish, Json, apply_schema, finish_of
from .rendering import Rendered
from .sdk_adapter import SdkAdapter
from .stream_reader import StreamReader
from .usage import NOTHING, Reported

# `error.code` and `error.type`, where they say more than the status does. OpenAI's own come first.
CODES: Mapping[str, type[ProviderError]] = {
    "insufficient_quota": QuotaExhausted,
    "credit_balance_exhausted": QuotaExhausted,
    "organization_spend_limit_exceeded": QuotaExhausted,
    "project_spend_limit_exceeded": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "exceeded_current_quota_error": QuotaExhausted,  # Kimi
    "insufficient_balance": QuotaExhausted,
    "insufficient_user_quota": QuotaExhausted,  # one-api
    "budget_exceeded": QuotaExhausted,  # LiteLLM
    "Arrearage": QuotaExhausted,  # Alibaba
    "AccountOverdueError": QuotaExhausted,  # Volcengine
    "1008": QuotaExhausted,  # MiniMax
    "1113": QuotaExhausted,  # Zhipu
    "rate_limit_exceeded": RateLimited,
    "rate_limit_reached_error": RateLimited,  # Kimi
    "1002": RateLimited,  # MiniMax
    "1302": RateLimited,  # Zhipu
    "resource_unavailable": FlexUnavailable,  # of the service tier flex
    "slow_down": Overloaded,
    "server_is_overloaded": Overloaded,
    "engine_overloaded": Overloaded,
    "engine_overloaded_error": Overloaded,  # Kimi
    "capacity_exceeded": Overloaded,  # Groq
    "1305": Overloaded,  # Zhipu
    "context_length_exceeded": ContextTooLong,
    "string_above_max_length": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,  # llama.cpp
    "token_limit_exceeded": ContextTooLong,  # OpenRouter
    "1039": ContextTooLong,  # MiniMax
    "1261": ContextTooLong,  # Zhipu
    "request_too_large": RequestTooLarge,
    "content_policy_violation": ContentRefused,
    "content_filter": ContentRefused,  # Azure, Kimi
    "ResponsibleAIPolicyViolation": ContentRefused,  # Azure's inner code
    "moderation_blocked": ContentRefused,
    "invalid_prompt": ContentRefused,  # a prompt that the usage policy does not allow
    "data_inspection_failed": ContentRefused,  # Alibaba
    "DataInspectionFailed": ContentRefused,
    "InputTextSensitiveContentDetected": ContentRefused,  # Volcengine
    "1026": ContentRefused,  # MiniMax
    "1027": ContentRefused,
    "1301": ContentRefused,  # Zhipu
    "model_not_found": ModelUnavailable,
    "model_decommissioned": ModelUnavailable,  # Groq
    "model_permission_blocked_org": ModelUnavailable,  # Groq
    "model_permission_blocked_project": ModelUnavailable,
    "model_terms_required": ModelUnavailable,
    "model_not_available": ModelUnavailable,  # Together
    "invalid_model": ModelUnavailable,  # Mistral, with a 400
    "ModelNotOpen": ModelUnavailable,  # Volcengine
    "DeploymentNotFound": ModelUnavailable,  # Azure
    "invalid_api_key": AuthFailed,
    "incorrect_api_key_error": AuthFailed,  # Kimi
    "invalid_authentication_error": AuthFailed,
    "account_deactivated": AuthFailed,
    "organization_restricted": AuthFailed,  # Groq, with a 400
    "unsupported_country_region_territory": AuthFailed,
    "1004": AuthFailed,  # MiniMax
    # 400s about the model's output, not about the request
    "json_validate_failed": UnusableAnswer,  # Groq
    "tool_use_failed": UnusableAnswer,
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
    "MissingDependencyError": SDK_REFUSED,
    "APIRemovedInV1": SDK_REFUSED,
    "_AmbiguousModuleClientUsageError": SDK_REFUSED,
    "WebSocketConnectionClosedError": SDK_REFUSED,  # this and the rest: interfaces that are not used here
    "WebSocketQueueFullError": SDK_REFUSED,
    "AgentOutputParseError": SDK_REFUSED,
    "AgentTurnResultError": SDK_REFUSED,
    "AgentFilePreparationError": SDK_REFUSED,
    "AgentFileStagingError": SDK_REFUSED,
}

_LEAST_CACHED_CHARS = 4 * 1024  # four characters a token, and nothing shorter is cached

# A reason that is not here becomes OTHER with a warning. Other servers' words are in lower case.
FINISH: Mapping[str, Finish] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.REFUSED,
    "tool_calls": FinishReason.TOOL,
    "function_call": FinishReason.TOOL,
    "eos": FinishReason.STOP,  # Together
    "eos_token": FinishReason.STOP,  # text-generation-inference
    "stop_sequence": FinishReason.STOP,
    "end_turn": FinishReason.STOP,  # xAI
    "complete": FinishReason.STOP,  # Cohere
    "model_length": FinishReason.LENGTH,  # Mistral
    "max_tokens": FinishReason.LENGTH,
    "sensitive": FinishReason.REFUSED,  # Zhipu
    "safety": FinishReason.REFUSED,
    "recitation": FinishReason.REFUSED,
    "error": InvalidResponse,  # OpenRouter, Mistral
    "abort": InvalidResponse,  # vLLM, SGLang
    "network_error": InvalidResponse,  # Zhipu
    "insufficient_system_resource": Overloaded,  # DeepSeek
    "model_context_window_exceeded": ContextTooLong,  # Zhipu
    "malformed_function_call": UnusableAnswer,
}


class OpenAIAdapter(SdkAdapter):
    """GPT, or a compatible server. What it leaves out of an answer becomes a warning, not an error."""

    path = "/chat/completions"
    models_path = "/models"
    codes = CODES
    classes = CLASSES
    answer_keys = ("choices", "output")
    options: ClassVar[Json] = {  # the key given, never OPENAI_ADMIN_KEY
        **SdkAdapter.options,
        "security": {"bearer_auth": True},
    }

    def __init__(self, access: ProviderAccess, slots: int, max_bytes: int) -> None:
        super().__init__(access, slots, max_bytes)
        self._is_openai = access.key_source.startswith("OPENAI_")
        self._has_own_key = access.variable != "OPENAI_API_KEY"

    def _build(self) -> Any:
        from openai import AsyncOpenAI

        from .transport import http_client

        client = AsyncOpenAI(
            api_key=self._key or NO_KEY,
            base_url=self._base_url,
            max_retries=0,
            http_client=http_client(self._base_url, self._slots, self._connect_timeout_s, self._max_bytes),
        )
        if self._has_own_key:  # OPENAI_ORG_ID and OPENAI_PROJECT_ID belong to that key
            client.organization = client.project = None
        return self._lean(client)

    def _rendered(self, request: CompletionRequest) -> Rendered:
        has_marks = _takes_marks(request)
        messages: Sequence[Message] = request.messages
        if has_marks:
            messages = with_mark(messages, request.cached_turns, ("system", "user", "tool"))
        in_words = bool(request.parameters.get("schema_in_words"))
        messages, schema = apply_schema(request, self._schema_form, messages, in_words=in_words)
        turns, warnings = rendered_messages(messages, request.model, marks=has_marks)
        body: Json = {
            "model": request.model,
            "messages": turns,
            self._limit_name(request): request.max_tokens,
        }
        if request.parameters.get("prompt_cache") and request.cache_key:
            body["prompt_cache_key"] = request.cache_key
        if has_marks:
            body["prompt_cache_options"] = {"mode": "explicit"}
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.top_p is not None:
            body["top_p"] = request.top_p
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        if request.reasoning_effort is not None:
            body["reasoning_effort"] = request.reasoning_effort
        if request.service_tier:
            body["service_tier"] = request.service_tier
        if schema is not None:
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return Rendered({**body, **rendered_tools(request)}, tuple(warnings))

    def _limit_name(self, request: CompletionRequest) -> str:
        if self._embeds(request):
            return ""
        if self._takes_responses(request):
            return "max_output_tokens"
        return str(request.parameters.get("max_tokens_parameter") or "max_tokens")

    def _path(self, request: CompletionRequest) -> str:
        if self._embeds(request):
            return "/embeddings"
        return "/responses" if self._takes_responses(request) else self.path

    def _takes_responses(self, request: CompletionRequest) -> bool:
        """Whether the request goes to the Responses API, which its caller speaks."""
        return request.native is not None and request.native.form == FORM and self._is_native(request)

    @staticmethod
    def _embeds(request: CompletionRequest) -> bool:
        return request.native is not None and request.native.form == EMBEDDINGS

    def _answer(
        self,
        content: bytes,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
        warnings: tuple[str, ...],
    ) -> Completion:
        if not self._embeds(request):
            return super()._answer(content, request, found, limits, warnings)
        completion = super()._answer(without_vectors(content), request, found, limits, warnings)
        return replace(completion, raw=content)

    def _streamed(self, body: Json, request: CompletionRequest) -> Json:
        native = request.native.body if request.native and self._is_native(request) else {}
        options = dict(values.mapping(native.get("stream_options")))
        if not self._takes_responses(request):
            options["include_usage"] = True
        return {**body, "stream": True, **({"stream_options": options} if options else {})}

    def _reader(self, request: CompletionRequest) -> StreamReader:
        if self._takes_responses(request):
            return ResponsesStream(request)
        native = request.native
        options = values.mapping(native.body.get("stream_options")) if native else {}
        return ChatStream(
            request,
            native=self._is_native(request),
            shows_usage=options.get("include_usage") is True,
            needs_done=self._is_openai,
        )

    def _limits(self, found: Mapping[str, str]) -> tuple[LimitReport, ...]:
        return openai_limits(found)

    def _completion(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
    ) -> Completion:
        completion = super()._completion(body, request, found, limits)
        tier = values.text(body.get("service_tier"))
        return replace(completion, service_tier=tier) if tier == FLEX else completion

    def _answered_error(
        self, error: Json, status: int, found: Mapping[str, str], request: CompletionRequest | None
    ) -> ProviderError:
        """A 429 to service tier flex whose code says nothing else is about that tier, as is a 400 to it."""
        if request is not None and request.service_tier == FLEX:
            has_no_room = status == 429 and not set(self._codes_of(error)) & CODES.keys()
            if has_no_room or (status == 400 and error.get("param") == "service_tier"):
                error = {**error, "code": "resource_unavailable"}
        return super()._answered_error(error, status, found, request)

    def _codes_of(self, error: Json) -> tuple[str, ...]:
        more = values.mapping(error.get("provider_specific_fields"))  # LiteLLM, of Azure's
        inner = values.mapping(error.get("innererror") or more.get("innererror"))  # Azure
        found = (error.get("code"), error.get("type"), inner.get("code"), error.get("status_code"))
        return tuple(values.text(code) for code in found)

    def _read_answer(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
    ) -> Answer:
        request_id = found.get("x-request-id", "")
        if self._embeds(request):
            return read_embeddings(body, request, request_id)
        if self._takes_responses(request):
            return read_response(body, request, request_id)
        choices = values.sequence(body.get("choices"))
        choice = values.mapping(choices[0]) if choices else {}
        message = values.mapping(choice.get("message"))
        reason = values.text(choice.get("finish_reason"))
        finish, why = finish_of(reason, FINISH), reason
        if choice.get("error"):
            finish, why = InvalidResponse, f"error ({reason_in(choice['error'])})"
        if message.get("refusal"):
            finish, why = FinishReason.REFUSED, values.sentence(message["refusal"])
        return Answer(
            *parts_of(message, request),
            finish,
            reason,
            why,
            _usage(body.get("usage")),
            values.text(body.get("model")),
            request_id or values.text(body.get("id")),
        )


def _takes_marks(request: CompletionRequest) -> bool:
    """Whether the prompt is cached at marks.

    From gpt-5.6 on the API writes every long prompt into the cache, at extra cost, unless marks are
    requested; then it writes and finds only marked prefixes.
    """
    if request.parameters.get("prompt_cache") != "marks":
        return False
    return sum(map(text_length, request.messages)) >= _LEAST_CACHED_CHARS


# Tokens read from the cache, beside `prompt_tokens_details.cached_tokens`; all are part of `prompt_tokens`.
_CACHE_READS = (
    "prompt_cache_hit_tokens",  # DeepSeek
    "cached_tokens",  # Kimi
    "cache_read_input_tokens",  # LiteLLM
    "num_cached_tokens",  # Mistral, vLLM
)


def _usage(usage: object) -> Reported:
    """`prompt_tokens` includes what was read from and written to the cache; reasoning is part of the output.

    A few servers leave reasoning out of `completion_tokens`, but not out of the total: so the larger counts.
    """
    if not isinstance(usage, dict):
        return NOTHING
    count = values.count
    inputs = values.mapping(usage.get("prompt_tokens_details"))
    outputs = values.mapping(usage.get("completion_tokens_details"))
    prompt, output = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    if prompt is not None and (total := count(usage.get("total_tokens"))) is not None and output is not None:
        output = max(output, total - prompt)
    read = max(count(found) or 0 for found in (inputs.get("cached_tokens"), *map(usage.get, _CACHE_READS)))
    return Reported(
        prompt,
        output,
        read,
        count(inputs.get("cache_write_tokens")) or 0,
        count(outputs.get("reasoning_tokens")) or 0,
    )
