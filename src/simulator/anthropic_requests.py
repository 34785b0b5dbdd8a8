"""Anthropic Messages: what a request asks for, and what Anthropic refuses in it.

Sources of the messages: recorded 400s, for instance in anthropics/claude-code#2697 (calls without results),
tghamm/Anthropic.SDK#184 (results without calls), anomalyco/opencode#3077 (thinking).
"""

from __future__ import annotations

import math
from typing import Any

from .anthropic_blocks import read_block
from .anthropic_tools import Pairs, read_tools
from .demands import anthropic_objection
from .prompt import Prompt
from .reasoning import anthropic_reasoning, check_thinking_first
from .shapes import Ask, Json, StreamForm, first_violation, numbers, positive_int, refused

_RANGES = {"temperature": (0.0, 1.0), "top_p": (0.0, 1.0), "top_k": (0.0, math.inf)}
_SAMPLING = {name: name for name in _RANGES}
_MOST_MARKS = 4
_FIELDS = frozenset(
    {"cache_control", "container", "context_management", "diagnostics", "inference_geo", "max_tokens"}
    | {"mcp_servers", "messages", "metadata", "model", "output_config", "output_format", "service_tier"}
    | {"speed", "stop_sequences", "stream", "system", "temperature", "thinking", "tool_choice", "tools"}
    | {"top_k", "top_p", "user_profile_id", "workspace_id"}
)

_COUNTED = _FIELDS - {"max_tokens", "stream", "temperature", "top_k", "top_p", "stop_sequences", "metadata"}


def read_message(body: Json, *, only_counts: bool = False) -> Ask:
    """The request in a body. Raises Fail for what Anthropic refuses."""
    _check_fields(body, only_counts=only_counts)
    tools, chars_of_tools = read_tools(body)
    prompt = Prompt()
    _read_system(prompt, body.get("system"))
    reasoning = anthropic_reasoning(body, forces_a_tool=tools is not None and tools.required)
    prompt.model = str(body["model"])
    _read_messages(prompt, body["messages"], has_tools=tools is not None)
    if reasoning is not None and reasoning.most_tokens is not None:
        check_thinking_first(body["messages"])
    _check_marks(body, prompt)
    sampling = _check_sampling(body)
    form = (body.get("output_config") or {}).get("format") or {}
    if objection := anthropic_objection(form.get("schema") or {}):
        raise refused(objection)
    return Ask(
        model=str(body["model"]),
        prompt=prompt.joined(),
        chars=prompt.chars + chars_of_tools,
        messages=len(body["messages"]),
        last=prompt.last,
        max_tokens=positive_int(body, "max_tokens"),
        sampling=sampling,
        stops=tuple(body.get("stop_sequences") or ()),
        wants_json=form.get("type") == "json_schema",
        schema=form.get("schema"),
        marked_prefix=prompt.marked,
        stream=StreamForm() if body.get("stream") else None,
        tools=tools,
        calls_since=prompt.calls_since,
        talks_before_calls=True,
        extra_tokens=prompt.extra_tokens,
        reasoning=reasoning,
    )


def _check_fields(body: Json, *, only_counts: bool) -> None:
    if not isinstance(body.get("stream"), bool | None):
        raise refused("stream: Input should be a valid boolean")
    for name in ("model", "messages", "max_tokens"):
        if not body.get(name) and not (only_counts and name == "max_tokens"):
            raise refused(f"{name}: Field required")
    for name in body:
        if name not in (_COUNTED if only_counts else _FIELDS):
            raise refused(f"{name}: Extra inputs are not permitted")


def _check_sampling(body: Json) -> dict[str, float]:
    """The sampling parameters."""
    sampling = numbers(body, _SAMPLING)
    wrong = first_violation(_RANGES, sampling)
    if wrong:
        raise refused(f"{wrong}: must be between {_RANGES[wrong][0]:g} and {_RANGES[wrong][1]:g}")
    return sampling


def _check_marks(body: Json, prompt: Prompt) -> None:
    marks = prompt.marks + sum(tool.get("cache_control") is not None for tool in body.get("tools") or ())
    if marks > _MOST_MARKS:
        text = f"A maximum of {_MOST_MARKS} blocks with cache_control may be provided. Found {marks}."
        raise refused(text)


def _blocks(content: Any, where: str) -> list[Json]:
    """Content as a list of blocks; a string is one block of text."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise refused(f"{where}: Input should be a valid string or list")
    return content


def _read_system(prompt: Prompt, system: Any) -> None:
    for j, block in enumerate([] if system is None or system == "" else _blocks(system, "system")):
        if block.get("type", "text") != "text":
            raise refused(f"system.{j}.type: Input should be 'text'")
        _check_text(block, "system", f"system.{j}")
        read_block(prompt, "system", {"type": "text", **block}, f"system.{j}")


def _read_messages(prompt: Prompt, messages: Any, *, has_tools: bool) -> None:
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise refused("messages: Input should be a valid list")
    pairs, last = Pairs(prompt, has_tools=has_tools), len(messages) - 1
    for i, message in enumerate(messages):
        role, content = _role(message, i), message.get("content")
        is_final = role == "assistant" and i == last
        pairs.enter(role, i)
        if isinstance(content, str):  # most messages
            if is_final or not content or content.isspace():
                _check_text({"text": content}, "messages", f"messages.{i}", is_final_answer=is_final)
            pairs.check_no_calls_open()
            prompt.text(role, content)
        else:
            _read_blocks(prompt, pairs, role, _blocks(content, f"messages.{i}.content"), i, is_final=is_final)
    pairs.end()


def _read_blocks(
    prompt: Prompt, pairs: Pairs, role: str, blocks: list[Json], i: int, *, is_final: bool
) -> None:
    if not blocks and not is_final:
        text = "all messages must have non-empty content except for the optional final assistant message"
        raise refused(f"messages.{i}: {text}")
    for j, block in enumerate(blocks):
        where = f"messages.{i}.content.{j}"
        _check_text(block, "messages", where, is_final_answer=is_final)
        read_block(prompt, role, block, where)
        pairs.add(block, where)


def _role(message: Json, i: int) -> str:
    role = message.get("role")
    if role == "system":
        text = "The Messages API accepts a top-level `system` parameter, not"
        raise refused(f'messages: Unexpected role "system". {text} "system" as an input message role.')
    if role not in ("user", "assistant"):
        raise refused(f"messages.{i}.role: Input should be 'user' or 'assistant'")
    if i == 0 and role != "user":
        raise refused('messages: first message must use the "user" role')
    return str(role)


def _check_text(block: Json, where: str, place: str, *, is_final_answer: bool = False) -> None:
    if block.get("type", "text") != "text":
        return
    text = block.get("text")
    if not isinstance(text, str):
        raise refused(f"{place}.text.text: Field required")
    if not text:
        if block.get("cache_control"):
            raise refused(f"{place}.text: cache_control cannot be set for empty text blocks")
        raise refused(f"{where}: text content blocks must be non-empty")
    if text.isspace():
        raise refused(f"{where}: text content blocks must contain non-whitespace text")
    if is_final_answer and text[-1].isspace():
        raise refused(f"{where}: final assistant content cannot end with trailing whitespace")
