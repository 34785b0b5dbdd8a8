"""The stream of Gemini: partial answers, each of the form of a whole one. The last one says why it ended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ..stream_events import ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from . import values
from .error_bodies import error_beside
from .gemini_reading import FINISH, NOT_BLOCKED
from .prompts import Json
from .stream_reader import ErrorEvent, Pieces, StreamReader, joined

_ANSWER_KEYS = ("candidates", "promptFeedback", "usageMetadata")
_ONLY_TEXT = ({"text"}, {"text", "thought"})


class GeminiStream(StreamReader):
    """One answer. Its first candidate counts, as without streaming."""

    ending = "finishReason"

    def __init__(self, *, native: bool) -> None:
        super().__init__(native=native)
        self._last: Json = {}
        self._usage: Json = {}
        self._feedback: Json = {}
        self._candidate: Json = {}
        self._content: Json = {}
        self._parts: list[Json] = []
        self._calls = 0

    def chunk(self, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        """As `StreamReader.chunk`."""
        if ("candidates" not in chunk or "error" in chunk) and (error := error_beside(chunk, _ANSWER_KEYS)):
            raise ErrorEvent(error)
        self._last = chunk
        self._usage.update(values.mapping(chunk.get("usageMetadata")))
        if "promptFeedback" in chunk:
            self._feedback.update(values.mapping(chunk["promptFeedback"]))
        if values.text(self._feedback.get("blockReason")) not in NOT_BLOCKED:
            self.whole = True
        candidates = values.sequence(chunk.get("candidates"))
        if not candidates:
            return self.one([], raw)
        candidate = values.mapping(candidates[0])
        content = values.mapping(candidate.get("content"))
        self._candidate.update(candidate)
        self._content.update(content)
        reason = candidate.get("finishReason")
        if reason and FINISH.get(values.text(reason).upper(), reason) is not None:
            self.whole = True
        found: list[StreamEvent] = []
        for part in values.sequence(content.get("parts")):
            self._part(values.mapping(part), found, raw)
        return self.one(found, raw)

    def body(self) -> Json:
        """As `StreamReader.body`."""
        body = {key: value for key, value in self._last.items() if key not in _ANSWER_KEYS}
        if self._candidate:
            content = {**self._content, "parts": joined(self._parts)}
            body["candidates"] = [{**self._candidate, "content": content}]
        if self._feedback:
            body["promptFeedback"] = self._feedback
        if self._usage:
            body["usageMetadata"] = self._usage
        return body

    def _part(self, part: Json, found: list[StreamEvent], raw: bytes) -> None:
        text = part.get("text")
        if type(text) is str:
            self._text(part, text)
            if text:
                found.append(ReasoningDelta(text, raw) if part.get("thought") else TextDelta(text, raw))
            return
        self._parts.append(part)
        call = values.mapping(part.get("functionCall"))
        if call:
            found.append(self._call(call, raw))

    def _call(self, call: Json, raw: bytes) -> StreamEvent:
        """A call comes whole."""
        arguments = json.dumps(values.mapping(call.get("args")), ensure_ascii=False)
        self._calls += 1
        name = values.text(call.get("name"))
        return ToolCallDelta(self._calls - 1, values.text(call.get("id")), name, arguments, raw)

    def _text(self, part: Json, text: str) -> None:
        """Text continues text of its kind. A part with more, such as a signature, stays one of its own."""
        if part.keys() not in _ONLY_TEXT:
            self._parts.append(part)
            return
        last: Any = self._parts[-1] if self._parts else {}
        if type(last.get("text")) is Pieces and bool(last.get("thought")) == bool(part.get("thought")):
            last["text"].append(text)
        elif text:
            self._parts.append({**part, "text": Pieces([text])})
