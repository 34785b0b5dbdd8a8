"""The stream of OpenAI Chat Completions: chunks with deltas, one with the usage, and [DONE]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..records import CompletionRequest
from ..stream_events import Passed, ReasoningDelta, StreamEvent, TextDelta
from . import values
from .answers import ID_CHARS, new_call_id
from .error_bodies import error_beside
from .openai_messages import ORIGIN, REASONING_FIELDS, tool_name
from .prompts import Json
from .sse import ServerSentEvent
from .stream_reader import PASSED, BrokenStream, ErrorEvent, Pieces, StreamReader, joined, merge, place

_DONE = b"[DONE]"
_OF_A_CHUNK = ("object", "choices", "usage", "obfuscation")
_OF_A_CHOICE = ("index", "delta", "message", "finish_reason")
_MOST_CALLS = 1_000


class ChatStream(StreamReader):
    """One completion. `shows_usage`: the caller of a native stream has asked for the chunk with the usage.

    `needs_done` False: a finish reason ends the answer of servers that leave out `[DONE]`.
    """

    ending = "[DONE]"
    origin = ORIGIN

    def __init__(
        self,
        request: CompletionRequest,
        *,
        native: bool,
        shows_usage: bool = True,
        needs_done: bool = True,
    ) -> None:
        super().__init__(request, tool_name, native=native)
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
        self.only_text(None)
        return self.one([event for each in found for event in each], raw)

    def _choice(self, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        number = place(chunk.get("index"))
        choice = self._choices.get(number)
        if choice is None:
            choice = self._choices[number] = _Choice(self)
        found = choice.add(chunk, raw)
        if not self._needs_done and chunk.get("finish_reason"):
            self.whole = True
        if not found or number:  # other choices than the first are for a reader of the raw events
            return (Passed(raw),) if raw else PASSED
        return found[:1] if raw else found

    def last(self) -> Sequence[StreamEvent]:
        """As `StreamReader.last`."""
        found: list[StreamEvent] = []
        if 0 in self._choices:
            self._choices[0].end_reasoning(found)
        return found

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

    def __init__(self, reader: ChatStream) -> None:
        self._reader = reader
        self._is_reasoning = False
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
            if self._is_reasoning:
                self.end_reasoning(found)
            found.append(TextDelta(text, raw))
            if len(delta) == 1 and not (chunk.get("logprobs") or chunk.get("finish_reason")):
                if len(found) == 1 and not chunk.get("index"):
                    self._reader.only_text(self._text.append)
                return found
        elif type(text) is list:  # parts, as Mistral streams them
            self._parts(text, found, raw)
        elif text == "" and self._message["content"] is None:
            self._message["content"] = ""
        self._add_rest(delta, found, raw)
        self._add_end(chunk)
        return found

    def _add_end(self, chunk: Json) -> None:
        """What a chunk of a choice has beside its delta."""
        more = {key: value for key, value in chunk.items() if key not in _OF_A_CHOICE}
        reason = chunk.get("finish_reason")
        merge(self._more, {**more, "finish_reason": None})
        if reason:
            self._more["finish_reason"] = reason

    def _add_rest(self, delta: Json, found: list[StreamEvent], raw: bytes) -> None:
        """What a delta has beside its text."""
        rest = {key: value for key, value in delta.items() if key not in ("content", "tool_calls")}
        thoughts = (rest.get(name) for name in REASONING_FIELDS)
        thought = next((each for each in thoughts if type(each) is str and each), "")
        if thought:
            found.append(ReasoningDelta(thought, raw))
        merge(self._message, rest)
        self._is_reasoning = self._is_reasoning or any(map(rest.get, REASONING_FIELDS))
        for call in map(values.mapping, values.sequence(delta.get("tool_calls"))):
            self.end_reasoning(found)
            found.append(self._call(call, raw))

    def end_reasoning(self, found: list[StreamEvent]) -> None:
        """Something else follows, or nothing: what compatible servers want back of the reasoning."""
        if self._is_reasoning and not self._reader.native:
            said = self._message
            fields = {name: joined(said[name]) for name in REASONING_FIELDS if said.get(name)}
            shown = next((each for each in fields.values() if isinstance(each, str)), "")
            found.append(self._reader.thought(fields, shown))
        self._is_reasoning = False

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
            return self._reader.continued(number, arguments, raw)
        ident = values.text(delta.get("id"), ID_CHARS) or new_call_id()
        self._calls[number]["id"] = ident
        return self._reader.called(number, ident, function.get("name"), arguments, raw)

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
