"""Lines of OpenAI's Batch API: `{"custom_id": ..., "method": "POST", "url": ..., "body": {...}}`.

A line whose body has a parameter that cannot be passed on is a bad line, since the answer would be to another
request. `model` pins the task to that model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ...errors import InputError
from .chat_reading import check_tool_choice, read_messages, read_tool_choice, read_tools
from .fields import MAX_ID_CHARS, Name
from .json_values import check_values
from .validation_messages import validation_message

SCHEMA_FORM = '{"type": "json_schema", "json_schema": {"schema": {...}}}'

# Parameters that are not passed on, and the values of each that have no effect.
_NOT_SENT: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "frequency_penalty": (0,),
    "function_call": (),
    "functions": (),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "n": (1,),
    "prediction": (),
    "presence_penalty": (0,),
    "stream": (False,),
    "stream_options": (),
    "top_logprobs": (),
    "verbosity": (),
    "web_search_options": (),
}
_CHOICE = ("body", "tool_choice")
# Parameters that do not change the answer.
_WITHOUT_EFFECT = frozenset(
    ["prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "store", "user"]
)


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    model: Name
    messages: Any
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    response_format: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    reasoning_effort: str | None = None
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _without_what_is_not_sent(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        for key, without_effect in _NOT_SENT.items():
            given = value.get(key)
            if given is not None and given not in without_effect:
                raise ValueError(f"'body.{key}' is not supported; remove it")
        return {k: v for k, v in value.items() if k not in _NOT_SENT and k not in _WITHOUT_EFFECT}

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_limit(self) -> _Body:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError(
                "'body.max_tokens' and 'body.max_completion_tokens' are both given; one is allowed"
            )
        return self


class _BatchLine(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    custom_id: Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS)]
    method: Literal["POST"] = "POST"
    url: Literal["/v1/chat/completions"] = "/v1/chat/completions"
    body: _Body


def looks_like_batch_line(row: Mapping[str, Any]) -> bool:
    """Whether a row has the keys of such a line."""
    return "custom_id" in row and "body" in row


def fields_of_batch_line(row: Mapping[str, Any]) -> dict[str, Any]:
    """The line as the fields of a task. Raises InputError with a message of one line."""
    check_values(row)
    try:
        line = _BatchLine.model_validate(row)
    except ValidationError as error:
        raise InputError(validation_message(error, _BatchLine)) from None
    body = line.body
    limit = body.max_tokens if body.max_completion_tokens is None else body.max_completion_tokens
    fields = {
        "id": line.custom_id,
        "messages": read_messages(body.messages, ("body", "messages")),
        "models": [body.model],
        "max_tokens": limit,
        "temperature": body.temperature,
        "top_p": None if body.top_p == 1 else body.top_p,  # the default, which some models do not take
        "seed": body.seed,
        "stop": body.stop or [],
        "metadata": body.metadata or {},
        "response_schema": _schema(body.response_format),
        "reasoning_effort": body.reasoning_effort,
        **_tools(body),
    }
    return {key: value for key, value in fields.items() if value is not None}


def _tools(body: _Body) -> dict[str, Any]:
    """The tools, and how they may be called; nothing without tools."""
    tools = read_tools(body.tools or [], ("body", "tools"))
    if not tools and body.tool_choice in (None, "none"):
        return {"parallel_tool_calls": body.parallel_tool_calls}
    if body.tool_choice is not None:
        check_tool_choice(read_tool_choice(body.tool_choice, _CHOICE), tools, _CHOICE)
    given = {"tool_choice": body.tool_choice, "parallel_tool_calls": body.parallel_tool_calls}
    return {"tools": tools} | given


def _schema(response_format: Mapping[str, Any] | None) -> dict[str, Any] | None:
    kind = None if response_format is None else response_format.get("type")
    if response_format is None or kind == "text":
        return None
    if kind == "json_object":
        return {"type": "object"}
    form = response_format.get("json_schema")
    schema = form.get("schema") if kind == "json_schema" and isinstance(form, dict) else None
    if not isinstance(schema, dict):
        raise InputError(f"'body.response_format' must be {SCHEMA_FORM}, or of type 'text' or 'json_object'")
    return schema
