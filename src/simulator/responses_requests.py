"""OpenAI Responses: what a request asks for, and what OpenAI refuses in it.

Nothing is stored: `previous_response_id` and references to items find nothing, whatever `store` says. Hosted
tools and background runs are refused.
"""

from __future__ import annotations

import json
from typing import Any

from .demands import openai_objection
from .openai_requests import read_flex
from .openai_tools import BAD_CHOICE, allowed_names, check_length, check_name, checked_schema
from .prompt import Prompt
from .reasoning import openai_reasoning
from .responses_items import Items
from .shapes import Ask, Json, StreamForm, ToolSet, first_violation, numbers, positive_int, refused

_RANGES = {"temperature": (0.0, 2.0), "top_p": (0.0, 1.0)}
_SAMPLING = {name: name for name in _RANGES}
_LEAST_TOKENS = 16
_FIELDS = frozenset(
    {"background", "conversation", "include", "input", "instructions", "max_output_tokens", "max_tool_calls"}
    | {"metadata", "model", "parallel_tool_calls", "previous_response_id", "prompt", "prompt_cache_key"}
    | {"prompt_cache_options", "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier"}
    | {"store", "stream", "stream_options", "temperature", "text", "tool_choice", "tools", "top_logprobs"}
    | {"top_p", "truncation", "user", "context_management", "moderation"}
)


def read_response(body: Json) -> Ask:
    """The request in a body. Raises Fail for what OpenAI refuses."""
    _check_fields(body)
    tools, chars_of_tools = _read_tools(body)
    prompt = Prompt()
    prompt.model = str(body["model"])
    if body.get("instructions"):
        prompt.text("system", str(body["instructions"]))
    Items(prompt, is_stored=body.get("store") is not False).read(body["input"])
    sampling = numbers(body, _SAMPLING)
    wrong = first_violation(_RANGES, sampling)
    if wrong:
        raise refused(f"Invalid '{wrong}': expected a value between 0 and {_RANGES[wrong][1]:g}.", wrong)
    form = _checked_form(body)
    effort = (body.get("reasoning") or {}).get("effort")
    return Ask(
        model=str(body["model"]),
        prompt=prompt.joined(),
        chars=prompt.chars + chars_of_tools,
        messages=len(prompt.parts),
        last=prompt.last,
        max_tokens=positive_int(body, "max_output_tokens"),
        sampling=sampling,
        wants_json=form.get("type") in ("json_schema", "json_object"),
        schema=form.get("schema"),
        marked_prefix=prompt.marked,
        stream=_stream_form(body),
        tools=tools,
        calls_since=prompt.calls_since,
        extra_tokens=prompt.extra_tokens,
        flex=read_flex(body),
        reasoning=openai_reasoning(effort, "reasoning.effort"),
        has_effort=effort is not None,
        response_to=body,
    )


def _check_fields(body: Json) -> None:
    for name in ("model", "input"):
        if not body.get(name):
            raise refused(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    for name in body:
        if name not in _FIELDS:
            raise refused(f"Unknown parameter: '{name}'.", name, "unknown_parameter")
    before = body.get("previous_response_id")
    if before is not None:
        text = f"Previous response with id '{before}' not found."
        raise refused(text, "previous_response_id", "previous_response_not_found")
    if body.get("background"):
        raise refused("Background mode is not simulated.", "background", "unsupported_parameter")
    tokens = positive_int(body, "max_output_tokens")
    if tokens is not None and tokens < _LEAST_TOKENS:
        text = f"integer below minimum value. Expected a value >= {_LEAST_TOKENS}, but got {tokens} instead."
        raise refused(f"Invalid 'max_output_tokens': {text}", "max_output_tokens", "integer_below_min_value")


def _stream_form(body: Json) -> StreamForm | None:
    stream = body.get("stream")
    if not isinstance(stream, bool | None):
        raise refused("Invalid type for 'stream': expected a boolean.", "stream", "invalid_type")
    if not stream:
        return None
    return StreamForm(obfuscation=(body.get("stream_options") or {}).get("include_obfuscation", True))


def _checked_form(body: Json) -> Json:
    form: Json = (body.get("text") or {}).get("format") or {}
    if form.get("type") == "json_schema" and (objection := openai_objection(form)):
        raise refused(objection, "text.format.schema", "invalid_json_schema")
    return form


def _read_tools(body: Json) -> tuple[ToolSet | None, int]:
    tools = body.get("tools")
    if not tools:
        if body.get("tool_choice") not in (None, "none", "auto"):
            text = "Tool choice 'required' must be specified with 'tools' parameter."
            raise refused(text, "tool_choice")
        return None, 0
    check_length(tools, "tools")
    schemas = {}
    for i, tool in enumerate(tools):
        if tool.get("type") != "function":
            text = f"Invalid value: '{tool.get('type')}'. Supported values are: 'function'."
            raise refused(text, f"tools[{i}].type", "invalid_value")
        name = check_name(tool.get("name"), f"tools[{i}].name")
        schemas[name] = checked_schema(tool, f"tools[{i}].parameters")
    names, required = _choice(body.get("tool_choice"), schemas)
    parallel = body.get("parallel_tool_calls") is not False
    return ToolSet(schemas, names, required, parallel), len(json.dumps(tools))


def _choice(choice: Any, schemas: Json) -> tuple[tuple[str, ...], bool]:
    if choice in (None, "auto", "required"):
        return tuple(schemas), choice == "required"
    if choice == "none":
        return (), False
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind == "function":
        if choice.get("name") not in schemas:
            text = f"Tool choice '{choice.get('name')}' not found in 'tools' parameter."
            raise refused(text, "tool_choice", "invalid_value")
        return (str(choice["name"]),), True
    if kind == "allowed_tools":
        named = [each.get("name") for each in choice.get("tools") or ()]
        return allowed_names(named, schemas), choice.get("mode") == "required"
    raise refused(BAD_CHOICE, "tool_choice", "invalid_value")
