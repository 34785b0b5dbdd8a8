"""OpenAI Responses: a body becomes a neutral request.

What an earlier response holds is not known here: state that is kept at OpenAI is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...messages import Message, Tool
from ...records import Native
from .base import CallerRequest, Json
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
from .responses_items import Items

_REFUSED = {
    "previous_response_id": "responses are not kept: send the items of the conversation in 'input' instead",
    "conversation": "conversations are not kept: send the items of the conversation in 'input' instead",
    "background": "responses can't be generated in the background: use 'stream' instead",
    "background_options": "responses can't be generated in the background: use 'stream' instead",
}
_ONLY = {"top_logprobs": bool, "prompt": bool, "moderation": bool}
_KNOWN = frozenset(
    {"model", "input", "instructions", "stream", "stream_options", "tools", "tool_choice", "temperature"}
    | {"parallel_tool_calls", "max_output_tokens", "top_p", "reasoning", "text", "include"}
    | {*_ONLY, *_REFUSED}
)
_USUAL = {"store": False, "service_tier": "auto", "truncation": "disabled"}
_SEALED = "reasoning.encrypted_content"  # always sent
_FORMATS = ("text", "json_object", "json_schema")
# Tools that models of OpenAI know and the client runs. All others that are no functions run at OpenAI.
_LOCAL_TOOLS = ("custom", "local_shell", "shell", "apply_patch")
_LEAST_TOKENS = 16


def read_response(body: Mapping[str, Any], headers: Mapping[str, str]) -> CallerRequest:
    """The request in a body. Raises FormatError."""
    for name, why in _REFUSED.items():
        if body.get(name):
            raise CHECKS.refused(f"'{name}' is not supported here: {why}.", name, "unsupported_parameter")
    model = CHECKS.required_text(body, "model")
    if not model:
        raise CHECKS.missing("model")
    items = Items(model)
    sent = items.read(body)
    instructions = CHECKS.text(body, "instructions")
    system = (Message("system", instructions),) if instructions else ()
    tools = _read_tools(body)
    effort = _effort(body)
    schema = _schema(body)
    return CallerRequest(
        form="responses",
        model=model,
        messages=(*system, *items.messages),
        native=Native("responses", sent, passed_headers(headers, PASSED_HEADERS)),
        stream=CHECKS.flag(body, "stream") or False,
        tools=tools.tools,
        tool_choice=tools.choice,
        parallel_tool_calls=CHECKS.flag(body, "parallel_tool_calls"),
        max_tokens=CHECKS.integer(body, "max_output_tokens", _LEAST_TOKENS),
        temperature=CHECKS.number(body, "temperature", 0, 2),
        top_p=CHECKS.number(body, "top_p", 0, 1),
        reasoning_effort=effort,
        response_schema=schema,
        only_form=(*only_in(body, _ONLY), *_only_included(body), *tools.only_form, *items.only_form),
        hints=hints_in(body, _KNOWN, _USUAL, _inner_hints(body)),
    )


def _effort(body: Mapping[str, Any]) -> str | None:
    reasoning = CHECKS.mapping(body, "reasoning") or {}
    return effort_of(CHECKS.choice(reasoning, "effort", EFFORTS, "reasoning"))


def _schema(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    form = CHECKS.mapping(CHECKS.mapping(body, "text") or {}, "format", "text")
    if form is None:
        return None
    where = "text.format"
    CHECKS.required_text(form, "type", where)
    kind = CHECKS.choice(form, "type", _FORMATS, where)
    if kind == "text":
        return None
    if kind == "json_object":
        return JSON_OBJECT
    read_name(form, where)
    CHECKS.flag(form, "strict", where)
    return CHECKS.required_mapping(form, "schema", where)


def _inner_hints(body: Mapping[str, Any]) -> list[str]:
    verbosity = (body.get("text") or {}).get("verbosity")
    return ["text.verbosity"] if verbosity not in (None, "medium") else []


def _only_included(body: Mapping[str, Any]) -> list[str]:
    """What a response is to include that no other API has."""
    return [f"include: {name}" for name in CHECKS.texts(body, "include") if name != _SEALED]


def _read_tools(body: Mapping[str, Any]) -> ToolSettings:
    tools = CHECKS.objects(body, "tools")
    found: list[Tool] = []
    only: list[str] = []
    if tools:
        check_array(tools, "tools")
    for i, tool in enumerate(tools or ()):
        where = f"tools[{i}]"
        kind = CHECKS.required_text(tool, "type", where)
        if kind == "function":
            found.append(read_function(tool, where))
        elif kind in _LOCAL_TOOLS:
            only.append(f"{where}.{kind}")
        else:
            text = f"The tool '{kind}' runs at OpenAI, which is not supported here: use functions instead."
            raise CHECKS.refused(text, f"{where}.type", "unsupported_value")
    given, choice = tuple(found), body.get("tool_choice")
    if only:
        return ToolSettings(given, "", tuple(only))
    return (
        _choose(given, choice)
        if isinstance(choice, dict)
        else ToolSettings(given, chosen(choice, given, None))
    )


def _choose(tools: tuple[Tool, ...], choice: Json) -> ToolSettings:
    kind = choice.get("type")
    if kind == "allowed_tools":
        listed = CHECKS.objects(choice, "tools", "tool_choice") or []
        mode = CHECKS.choice(choice, "mode", ("auto", "required"), "tool_choice")
        return ToolSettings(narrowed(tools, [each.get("name") for each in listed]), mode or "auto")
    if kind != "function":
        raise CHECKS.wrong_value("tool_choice.type", kind, ("function", "allowed_tools"))
    return ToolSettings(tools, chosen(choice, tools, CHECKS.required_text(choice, "name", "tool_choice")))
