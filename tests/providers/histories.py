"""Conversations as people, clients and several models write them, for Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from src.messages import (
    ContentPart,
    Document,
    Image,
    Message,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from src.providers.answers import json_text
from src.simulator.reasoning import signature

from ..simulator.media import b64, gif, jpeg, pdf, png, webp
from .conftest import MODELS

WEATHER = Tool(
    "get_weather",
    "The weather of a city.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "array"}},
        "required": ["city"],
    },
)
CLOCK = Tool("get_time")
ODD = Tool("9.odd name/with: dots" + "x" * 120, "Odd.", {"anyOf": [{"type": "object"}], "type": "object"})
TOOLS = (WEATHER, CLOCK, ODD)

_IDS = st.sampled_from(["", "a", "b", "call_1", "functions.get:0", "é " * 40, "toolu_" + "x" * 300])
_NAMES = st.sampled_from([tool.name for tool in TOOLS] + ["gone", "old.tool"])
_ARGUMENTS = st.sampled_from(
    [
        "{}",
        "",
        '{"city": "Oslo"}',
        "[1]",
        '"x"',
        "not JSON",
        '{"n": NaN}',
        '{"deep": {"a": [1, {"b": null}]}}',
    ]
)
_WORDS = st.sampled_from(["", " ", "\n\t", "Hello.", "  with spaces  ", "Grüße, 世界", "no \x7f control"])
_TEXTS = _WORDS | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
_IMAGES = st.sampled_from(
    [
        Image("image/png", b64(png(8, 8))),
        Image("image/jpeg", b64(png(8, 8))),  # called what it is not
        Image("image/jpeg", b64(jpeg(8, 8)), detail="high"),
        Image("image/gif", b64(gif(8, 8)), detail="ultra"),
        Image("image/webp", b64(webp(8, 8))),
        Image("image/tiff", "SUkqAA=="),
        Image(url="https://example.com/a.png"),
        Image(url="http://example.com/a.png"),
        Image(url="ftp://example.com/a.png"),
    ]
)
_DOCUMENTS = st.sampled_from(
    [
        Document("application/pdf", b64(pdf(2)), name="two.pdf"),
        Document("text/plain", b64("Grüße".encode())),
        Document("text/yaml", b64(b"a: 1"), name="a.yaml"),
        Document("text/plain", ""),
        Document("application/zip", "UEsDBA=="),
        Document(url="https://example.com/a.pdf"),
        Document(url="gs://bucket/a.pdf"),
    ]
)


def anthropic_reasoning(model: str, text: str) -> Reasoning:
    block = {"type": "thinking", "thinking": text, "signature": signature(model, text)}
    return Reasoning(json_text(block), f"anthropic/{model}", text)


def gemini_reasoning(model: str, name: str) -> Reasoning:
    return Reasoning(json_text({"thoughtSignature": signature("", name)}), f"gemini/{model}")


_REASONING = st.sampled_from(
    [
        anthropic_reasoning(MODELS["anthropic"], "Let me see."),
        anthropic_reasoning("claude-another", "Let me see."),
        gemini_reasoning(MODELS["gemini"], "gone"),
        gemini_reasoning("gemini-another", "gone"),
        Reasoning('{"reasoning_content": "hm"}', f"openai/{MODELS['openai']}", "hm"),
        Reasoning("not JSON", f"anthropic/{MODELS['anthropic']}"),
        Reasoning("[]", f"gemini/{MODELS['gemini']}"),
        Reasoning("", ""),
    ]
)
_CACHE = st.sampled_from([False, False, False, True])
_PLAIN = st.builds(Text, _TEXTS, _CACHE) | _IMAGES | _DOCUMENTS
_RESULTS = st.builds(ToolResult, _IDS, st.lists(_PLAIN, max_size=3).map(tuple), st.booleans(), _CACHE)
_CALLS = st.builds(ToolCall, _IDS, _NAMES, _ARGUMENTS, _CACHE)
_PARTS: st.SearchStrategy[ContentPart] = _PLAIN | _RESULTS | _CALLS
_OF_ROLE: dict[str, st.SearchStrategy[Any]] = {
    "system": st.builds(Text, _TEXTS, _CACHE),
    "user": _PLAIN | _RESULTS,
    "assistant": st.builds(Text, _TEXTS, _CACHE) | _CALLS,
    "tool": _RESULTS,
}


def _message(role: str) -> st.SearchStrategy[Message]:
    usual = st.lists(_OF_ROLE[role], max_size=4).map(tuple)
    return st.builds(
        Message, st.just(role), st.one_of(_TEXTS, usual, st.lists(_PARTS, max_size=3).map(tuple))
    )


# Gemini's signature is of the call that it stands before, as the simulator makes it.
_GEMINI_CALLS = st.builds(
    lambda call: (gemini_reasoning(MODELS["gemini"], call.name), call),
    st.builds(ToolCall, _IDS, st.sampled_from(["get_weather", "get_time"]), _ARGUMENTS),
)
_THINKING_FIRST = st.builds(lambda part, rest: (part, *rest), _REASONING, st.lists(_CALLS, max_size=2))
_OTHER_REASONING = _THINKING_FIRST.filter(lambda parts: "gemini/gemini-3.5" not in parts[0].origin)
_ANSWERS = st.builds(Message, st.just("assistant"), _GEMINI_CALLS | _OTHER_REASONING.map(tuple))
MESSAGES = st.one_of(*map(_message, ("system", "user", "assistant", "tool")), _ANSWERS)
HISTORIES = st.lists(MESSAGES, min_size=1, max_size=8).map(tuple)
