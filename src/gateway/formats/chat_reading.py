"""OpenAI Chat Completions: a body becomes a neutral request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...messages import Tool
from ...records import Native
from .base import CallerRequest, Json
from .chat_history import ChatHistory
from .fields import EFFORTS, JSON_OBJECT, effort_of, hints_in, only_in
from .openai_shared import (
    CHECKS,
    PASSED_HEADERS,
    ToolSettings,
    check_array,
    chosen,
    narrowed,
    passed_headers,
    read_function,
    read_name,
)

_LEGACY = {"functions": "tools", "function_call": "tool_choice"}
_ONLY = {
    "n": lambda value: value != 1,
    "logprobs": bool,
    "top_logprobs": bool,
    "logit_bias": bool,
    "audio": bool,
    "modalities": lambda value: value != ["text"],
    "prediction": bool,
    "web_search_options": lambda value: True,
}
_KNOWN = frozenset(
    {"model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "seed"}
    | {"max_tokens", "max_completion_tokens", "temperature", "top_p", "stop", "reasoning_effort"}
    | {"response_format", *_ONLY, *_LEGACY}
)
_USUAL = {"store": False, "service_tier": "auto", "frequency_penalty": 0, "presence_penalty": 0}
_FORMATS = ("text", "json_object", "json_schema")
_MOST_STOPS = 4


def read_chat(body: Mapping[str, Any], headers: Mapping[str, str]) -> CallerRequest:
    """The request in a body. Raises FormatError."""
    for name, instead in _LEGACY.items():
        if body.get(name) is not None:
            text = f"'{name}' is deprecated and not supported here: use '{instead}' instead."
            raise CHECKS.refused(text, name, "unsupported_parameter")
    model = CHECKS.required_text(body, "model")
    if not model:
        raise CHECKS.missing("model")
    history = ChatHistory()
    history.read(body)
    tools = _read_tools(body)
    stream = CHECKS.flag(body, "stream") or False
    CHECKS.integer(body, "n", 1, 128)
    return CallerRequest(
        form="openai",
        model=model,
        messages=tuple(history.messages),
        native=Native("openai", body, passed_headers(headers, PASSED_HEADERS)),
        stream=stream,
        tools=tools.tools,
        tool_choice=tools.choice,
        parallel_tool_calls=CHECKS.flag(body, "parallel_tool_calls"),
        max_tokens=_max_tokens(body),
        temperature=CHECKS.number(body, "temperature", 0, 2),
        top_p=CHECKS.number(body, "top_p", 0, 1),
        seed=CHECKS.integer(body, "seed"),
        stop=_stops(body),
        reasoning_effort=effort_of(CHECKS.choice(body, "reasoning_effort", EFFORTS)),
        response_schema=_schema(body),
        only_form=(*only_in(body, _ONLY), *tools.only_form, *history.only_form),
        hints=hints_in(body, _KNOWN, _USUAL, history.hints),
        include_usage=_includes_usage(body, stream=stream),
    )


def _max_tokens(body: Mapping[str, Any]) -> int | None:
    old, new = CHECKS.integer(body, "max_tokens", 1), CHECKS.integer(body, "max_completion_tokens", 1)
    if old is not None and new is not None:
        text = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
        raise CHECKS.refused(text, "max_tokens", "invalid_parameter_combination")
    return old if new is None else new


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    if isinstance(body.get("stop"), str):
        return (body["stop"],)
    stops = CHECKS.texts(body, "stop")
    if len(stops) > _MOST_STOPS:
        text = f"array too long. Expected an array with maximum length {_MOST_STOPS}, but got an array with"
        raise CHECKS.refused(f"Invalid 'stop': {text} length {len(stops)} instead.", "stop", "invalid_value")
    return stops


def _includes_usage(body: Mapping[str, Any], *, stream: bool) -> bool:
    options = CHECKS.mapping(body, "stream_options")
    if options is None:
        return False
    if not stream:
        text = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise CHECKS.refused(text, "stream_options")
    return CHECKS.flag(options, "include_usage", "stream_options") or False


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    form = CHECKS.mapping(body, "response_format")
    if form is None:
        return None
    CHECKS.required_text(form, "type", "response_format")
    kind = CHECKS.choice(form, "type", _FORMATS, "response_format")
    if kind == "text":
        return None
    if kind == "json_object":
        return JSON_OBJECT
    where = "response_format.json_schema"
    described = CHECKS.required_mapping(form, "json_schema", "response_format")
    read_name(described, where)
    CHECKS.flag(described, "strict", where)
    return CHECKS.mapping(described, "schema", where) or JSON_OBJECT


def _read_tools(body: Mapping[str, Any]) -> ToolSettings:
    tools = CHECKS.objects(body, "tools")
    if tools is None:
        for name in ("tool_choice", "parallel_tool_calls"):
            if body.get(name) not in (None, "none"):
                text = f"Invalid value for '{name}': '{name}' is only allowed when 'tools' are specified."
                raise CHECKS.refused(text, name)
        return ToolSettings()
    check_array(tools, "tools")
    found: list[Tool] = []
    only: list[str] = []
    for i, tool in enumerate(tools):
        where = f"tools[{i}]"
        CHECKS.required_text(tool, "type", where)
        if CHECKS.choice(tool, "type", ("function", "custom"), where) == "custom":
            only.append(f"{where}.custom")
        else:
            found.append(read_function(CHECKS.required_mapping(tool, "function", where), f"{where}.function"))
    if only:  # the choice may name one of them
        return ToolSettings(tuple(found), "", tuple(only))
    return _choose(tuple(found), body.get("tool_choice"))


def _choose(tools: tuple[Tool, ...], choice: Any) -> ToolSettings:
    if not isinstance(choice, dict):
        return ToolSettings(tools, chosen(choice, tools, None))
    where, kind = "tool_choice", choice.get("type")
    if kind == "allowed_tools":
        where, allowed = f"{where}.{kind}", CHECKS.required_mapping(choice, kind, where)
        names = [_function_name(each) for each in CHECKS.objects(allowed, "tools", where) or ()]
        mode = CHECKS.choice(allowed, "mode", ("auto", "required"), where)
        return ToolSettings(narrowed(tools, names), mode or "auto")
    if kind != "function":
        raise CHECKS.wrong_value(f"{where}.type", kind, ("function", "allowed_tools", "custom"))
    return ToolSettings(tools, chosen(choice, tools, _function_name(choice) or ""))


def _function_name(holder: Json) -> str | None:
    function = holder.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else None
