"""The stream of Gemini: partial answers, each of the form of a whole one. The last one says why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..records import CompletionRequest
from ..stream_events import ReasoningDelta, StreamEvent, TextDelta
from . import values
from .answers import ID_CHARS, json_text, new_call_id
from .error_bodies import error_beside
from .gemini_messages import ORIGIN, SIGNATURE, tool_name
from .gemini_reading import FINISH, NOT_BLOCKED
from .prompts import Json
from .stream_reader import ErrorEvent, Pieces, StreamReader, joined

_ANSWER_KEYS = ("candidates", "promptFeedback", "usageMetadata")
_ONLY_TEXT = ({"text"}, {"text", "thought"})


class GeminiStream(StreamReader):
    """One answer. Its first candidate counts, as without streaming."""

    ending = "finishReason"
    origin = ORIGIN

    def __init__(self, request: CompletionRequest) -> None:
        super().__init__(request, tool_name, native=False)
        self._last: Json = {}
        self._usage: Json = {}
        self._feedback: Json = {}
        self._candidate: Json = {}
        self._content: Json = {}
        self._parts: list[Json] = []
        self._calls = 0
        self._thoughts: list[str] = []
        self._signature = ""

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
            self._part(values.mapping(part), found)
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

    def last(self) -> Sequence[StreamEvent]:
        """As `StreamReader.last`."""
        found: list[StreamEvent] = []
        self._end_reasoning(found)
        return found

    def _part(self, part: Json, found: list[StreamEvent]) -> None:
        signature = part.get(SIGNATURE)
        if type(signature) is str and signature:
            self._signature = signature
        text = part.get("text")
        if type(text) is str:
            self._text(part, text, found)
            return
        call = values.mapping(part.get("functionCall"))
        if call:
            ident = values.text(call.get("id"), ID_CHARS) or new_call_id()
            part = {**part, "functionCall": {**call, "id": ident}}
            self._end_reasoning(found)
            found.append(self.called(self._calls, ident, call.get("name"), _arguments(call), b""))
            self._calls += 1
        self._parts.append(part)

    def _text(self, part: Json, text: str, found: list[StreamEvent]) -> None:
        is_thought = bool(part.get("thought"))
        if text and is_thought:
            self._thoughts.append(text)
            found.append(ReasoningDelta(text))
        elif text:
            self._end_reasoning(found)
            found.append(TextDelta(text))
        self._add(part, text, is_thought)

    def _add(self, part: Json, text: str, is_thought: bool) -> None:
        """Text continues text of its kind. A part with more, such as a signature, stays one of its own."""
        if part.keys() not in _ONLY_TEXT:
            self._parts.append(part)
            return
        last: Any = self._parts[-1] if self._parts else {}
        if type(last.get("text")) is Pieces and bool(last.get("thought")) == is_thought:
            last["text"].append(text)
        elif text:
            self._parts.append({**part, "text": Pieces([text])})

    def _end_reasoning(self, found: list[StreamEvent]) -> None:
        """A signature belongs to the part that bears it, with the thoughts before that."""
        if self._signature:
            found.append(self.thought({SIGNATURE: self._signature}, "".join(self._thoughts)))
        self._thoughts.clear()
        self._signature = ""


def _arguments(call: Json) -> str:
    return json_text(values.mapping(call.get("args")))
