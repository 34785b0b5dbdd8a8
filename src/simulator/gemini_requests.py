"""Gemini: what a request asks for, and what Gemini refuses in it.

Sources of the messages: recorded 400s, for instance in google-gemini/gemini-cli#3814 (numbers of calls and
results), #26486 (order of turns), kaitranntt/ccs#25 (names), cline/cline#7339 (schemas).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .demands import gemini_objection
from .gemini_parts import Turn, read_turn
from .gemini_tools import read_tools
from .prompt import Prompt
from .reasoning import gemini_reasoning
from .shapes import Ask, Json, StreamForm, first_violation, numbers, positive_int, refused

_RANGES = {"temperature": (0.0, 2.0), "top_p": (0.0, 1.0), "top_k": (1.0, math.inf)}
_SAMPLING = {"temperature": "temperature", "topP": "top_p", "topK": "top_k"}
_FIELDS = frozenset(
    {"contents", "systemInstruction", "system_instruction", "generationConfig", "generation_config", "model"}
    | {"tools", "toolConfig", "tool_config", "safetySettings", "safety_settings", "cachedContent"}
    | {"cached_content", "labels", "serviceTier", "service_tier", "store"}
)


def read_content(body: Json, model: str, query: Mapping[str, str], kind: str) -> Ask:
    """The request in a body. Raises Fail for what Gemini refuses."""
    for name in body:
        if name not in _FIELDS:
            raise refused(f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.')
    contents = body.get("contents")
    if not contents:
        raise refused("* GenerateContentRequest.contents: contents is not specified\n")
    tools, chars_of_tools = read_tools(body)
    prompt = Prompt()
    _read_system(prompt, body.get("systemInstruction") or body.get("system_instruction"))
    settings = body.get("generationConfig") or body.get("generation_config") or {}
    sampling = _check_settings(settings)
    _read_contents(prompt, contents, settings)
    return Ask(
        model=model,
        prompt=prompt.joined(),
        chars=prompt.chars + chars_of_tools,
        messages=len(contents),
        last=prompt.last,
        max_tokens=positive_int(settings, "maxOutputTokens"),
        sampling=sampling,
        stops=tuple(settings.get("stopSequences") or ()),
        wants_json=settings.get("responseMimeType") == "application/json",
        schema=settings.get("responseSchema") or settings.get("responseJsonSchema"),
        integer_enums="enum-encoding=int" in query.get("$alt", ""),
        stream=StreamForm(as_array=query.get("alt") != "sse") if kind == "stream" else None,
        tools=tools,
        calls_since=prompt.calls_since,
        talks_before_calls=True,
        extra_tokens=prompt.extra_tokens,
        reasoning=gemini_reasoning(settings),
        unsigned_call=prompt.unsigned_call,
    )


def _check_settings(settings: Json) -> dict[str, float]:
    """The sampling parameters."""
    sampling = numbers(settings, _SAMPLING)
    wrong = first_violation(_RANGES, sampling)
    if wrong:
        raise refused(f"* GenerateContentRequest.generation_config.{wrong}: {wrong} is out of range.\n")
    if "responseSchema" in settings and (objection := gemini_objection(settings["responseSchema"])):
        raise refused(objection)
    return sampling


def _read_system(prompt: Prompt, system: Any) -> None:
    for part in (system or {}).get("parts") or ():
        text = part.get("text")
        if not isinstance(text, str):
            raise refused(
                "* GenerateContentRequest.system_instruction.parts: only text parts are supported\n"
            )
        prompt.text("system", text)


def _read_contents(prompt: Prompt, contents: Any, settings: Json) -> None:
    if not isinstance(contents, list) or not all(isinstance(turn, dict) for turn in contents):
        raise refused("Invalid value at 'contents'")
    before = Turn(role="")
    for i, content in enumerate(contents):
        role = content.get("role", "user")
        if role not in ("user", "model", "function"):
            raise refused(f"* contents[{i}].role: Please use a valid role: user, model.")
        turn = read_turn(prompt, "assistant" if role == "model" else role, content.get("parts"), i, settings)
        _check_order(before, turn)
        if turn.calls:
            prompt.calls_ended()
        before = turn
    if before.calls:
        raise refused(_COUNTS)


_COUNTS = (
    "Please ensure that the number of function response parts is equal to the number of function call parts "
    "of the function call turn."
)


def _check_order(before: Turn, turn: Turn) -> None:
    if turn.calls and before.role in ("", "assistant"):
        raise refused(
            "Please ensure that function call turn comes immediately after a user turn or after a function "
            "response turn."
        )
    if turn.results and not before.calls:
        raise refused(
            "Please ensure that function response turn comes immediately after a function call turn."
        )
    if before.calls != turn.results:
        raise refused(_COUNTS)
