"""Anthropic Messages: a body becomes a neutral request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ...messages import Tool
from ...records import Native
from .base import CallerRequest, FormatError, Json
from .checks import AnthropicChecks
from .fields import effort_of, hints_in, only_in
from .messages_history import MessagesHistory

CHECKS = AnthropicChecks()
_PASSED_HEADERS = ("anthropic-beta", "anthropic-version")
_ONLY = {"container": bool, "mcp_servers": bool}
_KNOWN = frozenset(
    {"model", "messages", "max_tokens", "system", "stream", "temperature", "top_p", "stop_sequences", "tools"}
    | {"tool_choice", "thinking", "output_config", "output_format", *_ONLY}
)
_USUAL = {"service_tier": "auto"}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")
_THINKING = ("enabled", "disabled", "adaptive", "between_tools")
_LEAST_BUDGET = 1_024
_BUDGETS = ((4_096, "low"), (16_384, "medium"))  # tokens of thinking at most, and the effort that is about it
_CHOICES = ("auto", "any", "tool", "none")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


def read_message(
    body: Mapping[str, Any], headers: Mapping[str, str], *, only_counts: bool = False
) -> CallerRequest:
    """The request in a body; `only_counts`: of one that asks for a count of tokens. Raises FormatError."""
    model = CHECKS.required_text(body, "model")
    if not model:
        raise CHECKS.refused("String should have at least 1 character", "model")
    max_tokens = CHECKS.integer(body, "max_tokens", 1)
    if max_tokens is None and not only_counts:
        raise CHECKS.missing("max_tokens")
    history = MessagesHistory(CHECKS, model)
    sent = history.read(body)
    tools, only_tools = _read_tools(body)
    choice, parallel = _choose(body, tools)
    thinking = _read_thinking(body, max_tokens)
    if thinking is not None and history.lacks_thinking:  # with a budget, such a history is refused
        sent = {**sent, "thinking": {"type": "disabled"}}
    output = CHECKS.mapping(body, "output_config") or {}
    effort = CHECKS.choice(output, "effort", _EFFORTS, "output_config")
    return CallerRequest(
        form="anthropic",
        model=model,
        messages=tuple(history.messages),
        native=Native("anthropic", sent, _passed(headers)),
        stream=CHECKS.flag(body, "stream") or False,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        max_tokens=max_tokens,
        temperature=CHECKS.number(body, "temperature", 0, 1),
        top_p=CHECKS.number(body, "top_p", 0, 1),
        stop=CHECKS.texts(body, "stop_sequences"),
        reasoning_effort=effort_of(effort) or thinking,
        response_schema=_schema(body, output),
        only_form=(*only_in(body, _ONLY), *only_tools, *history.only_form),
        hints=hints_in(body, _KNOWN, _USUAL),
    )


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name] for name in _PASSED_HEADERS if name in headers}


def _read_thinking(body: Mapping[str, Any], max_tokens: int | None) -> str | None:
    """The effort that a budget of thinking is about; None where none is set."""
    thinking = CHECKS.mapping(body, "thinking")
    if thinking is None:
        return None
    CHECKS.required_text(thinking, "type", "thinking")
    if CHECKS.choice(thinking, "type", _THINKING, "thinking") != "enabled":
        return None
    where = "thinking.enabled.budget_tokens"
    budget = thinking.get("budget_tokens")
    if budget is None:
        raise CHECKS.missing(where)
    if type(budget) is not int:
        raise CHECKS.wrong_type(where, "integer", budget)
    if budget < _LEAST_BUDGET:
        raise CHECKS.out_of_range(where, budget, _LEAST_BUDGET, budget)
    if max_tokens is not None and budget >= max_tokens:
        text = "`max_tokens` must be greater than `thinking.budget_tokens`."
        raise FormatError(text, "max_tokens")
    return next((effort for most, effort in _BUDGETS if budget <= most), "high")


def _schema(body: Mapping[str, Any], output: Json) -> Mapping[str, Any] | None:
    form, where = CHECKS.mapping(output, "format", "output_config"), "output_config.format"
    if form is None:
        form, where = CHECKS.mapping(body, "output_format"), "output_format"
    if form is None:
        return None
    CHECKS.required_text(form, "type", where)
    CHECKS.choice(form, "type", ("json_schema",), where)
    return CHECKS.required_mapping(form, "schema", where)


def _read_tools(body: Mapping[str, Any]) -> tuple[tuple[Tool, ...], list[str]]:
    """The functions, and the tools of Anthropic's own: those that run there, and those that Claude knows."""
    found: dict[str, Tool] = {}
    only: list[str] = []
    for i, tool in enumerate(CHECKS.objects(body, "tools") or ()):
        kind = CHECKS.text(tool, "type", f"tools.{i}") or "custom"
        if kind != "custom":
            only.append(f"tools.{i}.{kind}")
            continue
        read = _read_tool(tool, f"tools.{i}.custom")
        if read.name in found:
            raise CHECKS.refused("Tool names must be unique.", "tools")
        found[read.name] = read
    return tuple(found.values()), only


def _read_tool(tool: Json, where: str) -> Tool:
    name = CHECKS.required_text(tool, "name", where)
    if _NAME.fullmatch(name) is None:
        raise CHECKS.refused("String should match pattern '^[a-zA-Z0-9_-]{1,128}$'", f"{where}.name")
    schema = CHECKS.required_mapping(tool, "input_schema", where)
    if "type" not in schema:
        raise CHECKS.missing(f"{where}.input_schema.type")
    if schema["type"] != "object":
        raise CHECKS.refused("Input should be 'object'", f"{where}.input_schema.type")
    description = CHECKS.text(tool, "description", where) or ""
    return Tool(name, description, schema, CHECKS.flag(tool, "strict", where))


def _choose(body: Mapping[str, Any], tools: tuple[Tool, ...]) -> tuple[str, bool | None]:
    """`(tool choice, whether an answer may have several calls)`, both neutral."""
    choice = CHECKS.mapping(body, "tool_choice")
    if choice is None:
        return "", None
    if not body.get("tools"):
        raise CHECKS.refused("tool_choice may only be specified while providing tools.", "tool_choice")
    CHECKS.required_text(choice, "type", "tool_choice")
    kind = CHECKS.choice(choice, "type", _CHOICES, "tool_choice") or ""
    disabled = CHECKS.flag(choice, "disable_parallel_tool_use", "tool_choice")
    parallel = None if disabled is None else not disabled
    if kind != "tool":
        return ("required" if kind == "any" else kind), parallel
    name = CHECKS.required_text(choice, "name", "tool_choice.tool")
    if name not in [tool.get("name") for tool in body["tools"]]:
        raise CHECKS.refused(f"Tool '{name}' not found in provided tools", "tool_choice")
    return name if any(tool.name == name for tool in tools) else "", parallel
