"""Random conversations for property tests, and one of each part."""

from __future__ import annotations

import base64

from hypothesis import strategies as st

from src.messages import Document, Image, Message, Reasoning, Text, Tool, ToolCall, ToolResult

PIXEL = (  # a PNG of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_WORDS = st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1, max_size=8)
_DATA = st.binary(min_size=1, max_size=40).map(lambda data: base64.b64encode(data).decode())
_CACHE = st.booleans()

texts = st.builds(Text, _TEXTS, _CACHE)
images = st.one_of(
    st.builds(Image, st.sampled_from(["image/png", "image/jpeg"]), data=_DATA, cache=_CACHE),
    st.builds(Image, url=_WORDS.map("https://example.org/{}".format), detail=st.sampled_from(["", "low"])),
)
documents = st.one_of(
    st.builds(Document, st.just("application/pdf"), data=_DATA, name=_WORDS),
    st.builds(Document, url=_WORDS.map("https://example.org/{}.pdf".format)),
)
calls = st.builds(ToolCall, _WORDS, _WORDS, st.sampled_from(["{}", '{"city": "Köln"}']), _CACHE)
results = st.builds(
    ToolResult, _WORDS, st.lists(texts | images | documents, max_size=3).map(tuple), st.booleans(), _CACHE
)
reasonings = st.builds(Reasoning, _TEXTS, st.just("anthropic/claude"), _TEXTS)
messages = st.one_of(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), _TEXTS),
    st.builds(Message, st.just("system"), st.lists(texts, min_size=1, max_size=2).map(tuple)),
    st.builds(
        Message, st.just("user"), st.lists(texts | images | documents, min_size=1, max_size=4).map(tuple)
    ),
    st.builds(
        Message, st.just("assistant"), st.lists(texts | calls | reasonings, min_size=1, max_size=4).map(tuple)
    ),
    st.builds(Message, st.just("tool"), st.lists(results, min_size=1, max_size=2).map(tuple)),
)
tools = st.builds(
    Tool,
    _WORDS,
    _TEXTS,
    st.sampled_from([None, {"type": "object", "properties": {"city": {"type": "string"}}}]),
    st.sampled_from([None, True, False]),
)
