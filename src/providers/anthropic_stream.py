"""The stream of Anthropic Messages: message_start, blocks with their deltas, message_delta, message_stop."""

from __future__ import annotations

from collections.abc import Sequence

from ..records import CompletionRequest
from ..stream_events import Passed, ReasoningDelta, StreamEvent, TextDelta
from . import values
from .answers import ID_CHARS, new_call_id
from .anthropic_messages import ORIGIN, tool_name
from .error_bodies import error_of
from .prompts import Json
from .stream_reader import PASSED, BrokenStream, ErrorEvent, Pieces, StreamReader, joined, merge, place

_PARTIAL = "partial_json"  # of a block that is incomplete: its input as text
_TEXTS = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": _PARTIAL}


class AnthropicStream(StreamReader):
    """One message. Blocks are those of the answer; deltas that are not known continue their block."""

    ending = "message_stop"
    origin = ORIGIN

    def __init__(self, request: CompletionRequest, *, native: bool) -> None:
        super().__init__(request, tool_name, native=native)
        self._message: Json = {}
        self._blocks: dict[int, Json] = {}
        self._calls: dict[int, int] = {}  # number of a tool call by that of its block

    def chunk(self, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        """As `StreamReader.chunk`."""
        kind = chunk.get("type")
        if kind == "content_block_delta":
            return self._delta(chunk, raw)
        if kind == "content_block_start":
            return self._start(chunk, raw)
        if kind == "error":
            raise ErrorEvent(error_of(chunk))
        if kind == "content_block_stop":
            return self._stop(chunk, raw)
        if kind == "message_start":
            self._message = values.mapping(chunk.get("message"))
        elif kind == "message_delta":
            self._end(chunk)
        elif kind == "message_stop":
            self.whole = self.terminated = True
            self.final_raw = raw
            return ()
        return (Passed(raw),) if raw else PASSED

    def body(self) -> Json:
        """As `StreamReader.body`."""
        for block in self._blocks.values():
            _close(block)
        content = [joined(self._blocks[number]) for number in sorted(self._blocks)]
        return {**self._message, "content": content}

    def _start(self, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        number = place(chunk.get("index"))
        block = dict(values.mapping(chunk.get("content_block")))
        self._blocks[number] = block
        if block.get("type") != "tool_use":
            text = block.get("text")
            if type(text) is str and text:
                return (TextDelta(text, raw),)
            return (Passed(raw),) if raw else PASSED
        call = self._calls[number] = len(self._calls)
        if not values.text(block.get("id")):
            block["id"] = new_call_id()
        return (self.called(call, values.text(block["id"], ID_CHARS), block.get("name"), "", raw),)

    def _delta(self, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        number = place(chunk.get("index"))
        block, delta = self._blocks.get(number), values.mapping(chunk.get("delta"))
        if block is None:
            raise BrokenStream("a part of the stream belongs to a block that has not begun")
        kind = values.text(delta.get("type"))
        key = _TEXTS.get(kind)
        if key is not None and type(text := delta.get(key)) is str:
            _add(block, key, text)
            if kind == "text_delta":
                if len(delta) == 2:
                    self.only_text(block[key].append)
                return (TextDelta(text, raw),)
            if kind == "thinking_delta":
                return (ReasoningDelta(text, raw),)
            if number in self._calls:
                return (self.continued(self._calls[number], text, raw),)
        elif kind == "citations_delta":
            merge(block, {"citations": [delta.get("citation")]})
        else:
            merge(block, {key: value for key, value in delta.items() if key != "type"})
        return (Passed(raw),) if raw else PASSED

    def _stop(self, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        block = self._blocks.get(place(chunk.get("index")))
        if block is None:
            raise BrokenStream("a part of the stream ends a block that has not begun")
        _close(block)
        if block.get("type") in ("thinking", "redacted_thinking") and not raw:
            fields = joined(block)
            return (self.thought(fields, fields.get("thinking")),)
        return (Passed(raw),) if raw else PASSED

    def _end(self, chunk: Json) -> None:
        """The end of the message, and counts that replace those of its start."""
        found = {key: value for key, value in chunk.items() if key not in ("type", "delta", "usage")}
        usage = {k: v for k, v in values.mapping(chunk.get("usage")).items() if v is not None}
        before = values.mapping(self._message.get("usage"))
        delta = values.mapping(chunk.get("delta"))
        self._message = {**self._message, **found, **delta, "usage": {**before, **usage}}


def _add(block: Json, key: str, text: str) -> None:
    held = block.get(key)
    if type(held) is Pieces:
        held.append(text)
    else:
        block[key] = Pieces([held, text] if type(held) is str else [text])


def _close(block: Json) -> None:
    """The input of a call as its object. One that a token limit has cut is empty, as without streaming."""
    written = joined(block.pop(_PARTIAL, None))
    if written is None:
        return
    try:
        found = values.read_json(written.encode("utf-8", "replace")).value if written.strip() else {}
    except values.NotJson:
        found = {}
    block["input"] = found
