"""The streams of OpenAI: chunks of Chat Completions, and the events of Responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..stream_events import Passed, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from . import values
from .error_bodies import error_beside, error_of
from .prompts import Json
from .sse import ServerSentEvent
from .stream_reader import PASSED, BrokenStream, ErrorEvent, Pieces, StreamReader, joined, merge, place

_DONE = b"[DONE]"
_OF_A_CHUNK = ("object", "choices", "usage", "obfuscation")
_OF_A_CHOICE = ("index", "delta", "message", "finish_reason")
_MOST_CALLS = 1_000
_ENDS = ("response.completed", "response.incomplete", "response.cancelled")
_REASONING = ("reasoning_content", "reasoning", "thinking")  # DeepSeek and many more, OpenRouter, others


class ChatStream(StreamReader):
    """One completion. `shows_usage`: the caller of a native stream has asked for the chunk with the usage.

    `needs_done` False: a finish reason ends the answer of servers that leave out `[DONE]`.
    """

    ending = "[DONE]"

    def __init__(self, *, native: bool, shows_usage: bool = True, needs_done: bool = True) -> None:
        super().__init__(native=native)
        self._shows_usage, self._needs_done = shows_usage, needs_done
        self._first: Json = {}
        self._last: Json = {}
        self._usage: Any = None
        self._choices: dict[int, _Choice] = {}

    def read(self, event: ServerSentEvent) -> Sequence[StreamEvent]:
        """As `StreamReader.read`."""
        if event.data.strip() == _DONE:
            self.whole = self.terminated = True
            return ()
        return super().read(event)

    def chunk(self, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        """As `StreamReader.chunk`."""
        choices = chunk.get("choices")
        if (not choices or "error" in chunk) and (error := error_beside(chunk, _OF_A_CHUNK)):
            raise ErrorEvent(error)
        self._first = self._first or chunk
        self._last = chunk
        self._usage = chunk.get("usage") or self._usage
        if not choices and self._usage is not None and not self._shows_usage:
            return ()  # the caller has not asked for this chunk
        return self._events(values.sequence(choices), raw)

    def _events(self, choices: list[Any], raw: bytes) -> Sequence[StreamEvent]:
        found = [self._choice(values.mapping(choice), raw) for choice in choices]
        if len(found) == 1:
            return found[0]
        return self.one([event for each in found for event in each], raw)

    def _choice(self, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        number = place(chunk.get("index"))
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _Choice()
        found = choice.add(chunk, raw)
        if not self._needs_done and chunk.get("finish_reason"):
            self.whole = True
        if not found or number:  # other choices than the first are for a reader of the raw events
            return (Passed(raw),) if raw else PASSED
        return found[:1] if raw else found

    def body(self) -> Json:
        """As `StreamReader.body`."""
        body = {key: value for key, value in {**self._first, **self._last}.items() if key not in _OF_A_CHUNK}
        choices = [self._choices[number].whole(number) for number in sorted(self._choices)]
        body |= {"object": "chat.completion", "choices": choices}
        if self._usage is not None:
            body["usage"] = self._usage
        return body


class _Choice:
    """One choice: its message as far as it has come."""

    def __init__(self) -> None:
        self._text = Pieces()
        self._message: Json = {"role": "assistant", "content": None}
        self._calls: list[Json] = []
        self._by_index: dict[int, int] = {}
        self._more: Json = {}

    def add(self, chunk: Json, raw: bytes) -> list[StreamEvent]:
        """The events of a chunk. Nearly all have nothing but text."""
        delta = values.mapping(chunk.get("delta"))
        text = delta.get("content")
        found: list[StreamEvent] = []
        if type(text) is str and text:
            self._text.append(text)
            found.append(TextDelta(text, raw))
            if len(delta) == 1 and not (chunk.get("logprobs") or chunk.get("finish_reason")):
                return found
        elif type(text) is list:  # parts, as Mistral streams them
            self._parts(text, found, raw)
        elif text == "" and self._message["content"] is None:
            self._message["content"] = ""
        self._add_rest(delta, found, raw)
        more = {key: value for key, value in chunk.items() if key not in _OF_A_CHOICE}
        reason = chunk.get("finish_reason")
        merge(self._more, {**more, "finish_reason": None})
        if reason:
            self._more["finish_reason"] = reason
        return found

    def _add_rest(self, delta: Json, found: list[StreamEvent], raw: bytes) -> None:
        """What a delta has beside its text."""
        rest = {key: value for key, value in delta.items() if key not in ("content", "tool_calls")}
        thoughts = (rest.get(name) for name in _REASONING)
        thought = next((each for each in thoughts if type(each) is str and each), "")
        if thought:
            found.append(ReasoningDelta(thought, raw))
        merge(self._message, rest)
        found += [self._call(values.mapping(each), raw) for each in values.sequence(delta.get("tool_calls"))]

    def whole(self, number: int) -> Json:
        """The choice as it is without streaming."""
        message = joined(self._message)
        text = "".join(self._text)
        if text:
            parts = message["content"]
            message["content"] = [*parts, {"type": "text", "text": text}] if type(parts) is list else text
        if self._calls:
            message["tool_calls"] = joined(self._calls)
        return {"index": number, "message": message, "finish_reason": None, **joined(self._more)}

    def _parts(self, parts: list[Any], found: list[StreamEvent], raw: bytes) -> None:
        for part in map(values.mapping, parts):
            text = part.get("text")
            if part.get("type") == "text" and type(text) is str:
                self._text.append(text)
                found.append(TextDelta(text, raw))
            else:
                if type(self._message["content"]) is not list:
                    self._message["content"] = []
                self._message["content"].append(part)

    def _call(self, delta: Json, raw: bytes) -> StreamEvent:
        """More of a call."""
        function = values.mapping(delta.get("function"))
        arguments = function.get("arguments") or ""
        if type(arguments) is not str:
            raise BrokenStream("the arguments of a tool call are not text")
        number = self._number(delta)
        is_new = number == len(self._calls)
        if is_new:
            self._calls.append({})
        merge(self._calls[number], {key: value for key, value in delta.items() if key != "index"})
        if not is_new:
            return ToolCallDelta(number, "", "", arguments, raw)
        ident, name = values.text(delta.get("id")), values.text(function.get("name"))
        return ToolCallDelta(number, ident, name, arguments, raw)

    def _number(self, delta: Json) -> int:
        """Of a call, which may be the next one. Where a server does not number them, each id is a new one."""
        index = delta.get("index")
        if type(index) is int:
            number = self._by_index.setdefault(place(index), len(self._calls))
        else:
            number = len(self._calls) - (0 if delta.get("id") or not self._calls else 1)
        if number >= _MOST_CALLS:
            raise BrokenStream("a part of the stream has too many tool calls")
        return number


class ResponsesStream(StreamReader):
    """One response. Its last event has the whole of it."""

    ending = "response.completed"

    def __init__(self, *, native: bool) -> None:
        super().__init__(native=native)
        self._response: Json = {}
        self._calls: dict[int, int] = {}  # number of a function call by that of its item

    def chunk(self, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        """As `StreamReader.chunk`."""
        kind = values.text(chunk.get("type"))
        if type(delta := chunk.get("delta")) is str:
            return self._delta(kind, delta, chunk, raw)
        if kind in _ENDS:
            self._response = values.mapping(chunk.get("response"))
            self.whole = self.terminated = True
            self.final_raw = raw
            return ()
        if kind == "response.failed":
            raise ErrorEvent(error_of(values.mapping(chunk.get("response"))))
        if kind == "error" or (not kind and chunk.get("error")):
            raise ErrorEvent(error_of(chunk))
        item = values.mapping(chunk.get("item")) if kind == "response.output_item.added" else {}
        if item.get("type") == "function_call":
            number = self._calls.setdefault(place(chunk.get("output_index")), len(self._calls))
            ident, name = values.text(item.get("call_id")), values.text(item.get("name"))
            return (ToolCallDelta(number, ident, name, "", raw),)
        return (Passed(raw),) if raw else PASSED

    def _delta(self, kind: str, delta: str, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        if kind == "response.output_text.delta":
            return (TextDelta(delta, raw),)
        if kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            return (ReasoningDelta(delta, raw),)
        if kind == "response.function_call_arguments.delta":
            number = self._calls.get(place(chunk.get("output_index")))
            if number is not None:
                return (ToolCallDelta(number, "", "", delta, raw),)
        return (Passed(raw),) if raw else PASSED

    def body(self) -> Json:
        """As `StreamReader.body`."""
        return self._response
