"""Anthropic Messages as clients speak it: answers, whole and as a stream of events.

    message_start
    content_block_start, content_block_delta ..., content_block_stop      for each block, one after the other
    message_delta           why it ended, and the usage
    message_stop

What it read is not known when a message of another provider starts: its usage comes with `message_delta`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...messages import Reasoning, Text, ToolCall
from ...records import Completion, FinishReason, Usage
from ...stream_events import Finished, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from .base import CallerRequest, Json, Served, StreamWriter
from .messages_reading import read_message
from .problems import ANTHROPIC, Problem, ProblemKind, retry_headers
from .relaying import Writer, mixed_up
from .sealing import seal
from .writing import arguments_object, call_id, end_of, json_bytes, named_event, parts_of, quoted

_FINISH = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.REFUSED: "refusal",
    FinishReason.TOOL: "tool_use",
    FinishReason.OTHER: "end_turn",
}
_PING = named_event("ping", {"type": "ping"})
_STOP = named_event("message_stop", {"type": "message_stop"})
# Clients look for these words of the API before they shorten a conversation.
_TOO_LONG = "prompt is too long: "


class MessagesFormat:
    """The `Format` of Messages."""

    form = "anthropic"

    def read(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> CallerRequest:
        """As `Format.read`."""
        return read_message(body, headers)

    def read_count(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> CallerRequest:
        """A request of `count_tokens`, which has no `max_tokens`. Raises FormatError."""
        return read_message(body, headers, only_counts=True)

    def count(self, tokens: int) -> bytes:
        """The body of an answer of `count_tokens`."""
        return json_bytes({"input_tokens": tokens})

    def answer(self, request: CallerRequest, served: Served, completion: Completion) -> bytes:
        """As `Format.answer`."""
        if completion.raw is not None:
            return json_bytes(completion.raw)
        shown, blocks, calls = shows_thinking(request), list[Json](), 0
        for part in parts_of(completion):
            if isinstance(part, Text) and part.text.strip():  # the API refuses others in the next turn
                blocks.append({"type": "text", "text": part.text, "citations": None})
            elif isinstance(part, Reasoning):
                blocks.extend(_thinking(part, shown=shown))
            elif isinstance(part, ToolCall):
                ident = call_id(part.id, "toolu_", served.id, calls)
                blocks.append(_call(ident, part.name, arguments_object(part)))
                calls += 1
        message = {**_opened(served), "content": blocks, "usage": _usage(completion.usage)}
        return json_bytes({**message, "stop_reason": _FINISH[end_of(completion)]})

    def stream(self, request: CallerRequest, served: Served) -> StreamWriter:
        """As `Format.stream`."""
        return _Events(request, served)

    def error(self, problem: Problem) -> bytes:
        """As `Format.error`."""
        return json_bytes(_error(problem))

    def status(self, problem: Problem) -> int:
        """As `Format.status`."""
        return ANTHROPIC[problem.kind].status

    def error_headers(self, problem: Problem) -> dict[str, str]:
        """As `Format.error_headers`."""
        return retry_headers(problem)


MESSAGES = MessagesFormat()


def shows_thinking(request: CallerRequest) -> bool:
    """Whether the caller wants to read what was thought."""
    thinking = request.native.body.get("thinking") or {}
    return thinking.get("type", "disabled") != "disabled" and thinking.get("display") != "omitted"


def _error(problem: Problem) -> Json:
    message = problem.message
    if problem.kind is ProblemKind.CONTEXT_TOO_LONG:
        message = _TOO_LONG + message
    return {"type": "error", "error": {"type": ANTHROPIC[problem.kind].type, "message": message}}


def _opened(served: Served) -> Json:
    return {
        "id": f"msg_{served.id}",
        "type": "message",
        "role": "assistant",
        "model": served.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(Usage()),
    }


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
    }


def _call(ident: str, name: str, given: Json) -> Json:
    return {"type": "tool_use", "id": ident, "name": name, "input": given}


def _thinking(reasoning: Reasoning, *, shown: bool) -> list[Json]:
    """A thinking block to read, a redacted one that is only sent back, or nothing."""
    if shown and reasoning.text:
        word = seal(reasoning, with_text=False)
        return [{"type": "thinking", "thinking": reasoning.text, "signature": word}]
    if reasoning.opaque:
        return [_redacted(reasoning)]
    return []


def _redacted(reasoning: Reasoning, place: int = -1) -> Json:
    return {"type": "redacted_thinking", "data": seal(reasoning, with_text=True, place=place)}


class _Events(Writer):
    """One stream: at most one block is open at a time."""

    def __init__(self, request: CallerRequest, served: Served) -> None:
        super().__init__(served)
        self._shows = shows_thinking(request)
        self._index = -1  # of the last block
        self._kind = ""  # of the open block: text, thinking, tool_use
        self._calls = 0
        self._thought: list[str] = []  # of the open block of thinking
        self._before = b""  # of a delta of the open block
        self._space = ""  # white space that a block of text begins with, if more than that comes

    def keep_alive(self) -> bytes:
        """As `StreamWriter.keep_alive`."""
        return _PING

    def error(self, problem: Problem) -> bytes:
        """As `StreamWriter.error`."""
        return named_event("error", _error(problem))

    def _opening(self, event: StreamEvent) -> bytes:
        return named_event("message_start", {"type": "message_start", "message": _opened(self._served)})

    def _written(self, event: StreamEvent) -> bytes:
        if type(event) is TextDelta:
            if self._kind == "text":
                return self._delta(event.text)
            return self._first_text(event.text)
        if type(event) is ToolCallDelta:
            return self._call_delta(event)
        if type(event) is ReasoningDelta:
            return self._reasoning_delta(event)
        if type(event) is Finished:
            return self._finish(event.completion)
        return b""

    def _first_text(self, text: str) -> bytes:
        """Open a block of text: one of white space alone would be refused in the next turn."""
        text = self._space + text
        if not text.strip():
            self._space = text
            return b""
        return self._open("text", {"type": "text", "text": ""}) + self._delta(text)

    def _delta(self, text: str) -> bytes:
        return b"%b%b}}\n\n" % (self._before, quoted(text))

    def _event(self, name: str, data: Json) -> bytes:
        return named_event(name, {"type": name, "index": self._index, **data})

    def _open(self, kind: str, block: Json) -> bytes:
        closed = self._close()
        self._kind, self._index, self._space = kind, self._index + 1, ""
        delta, key = _DELTAS[kind]
        start = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,' % self._index
        self._before = start + b'"delta":{"type":"%b","%b":' % (delta, key)
        return closed + self._event("content_block_start", {"content_block": block})

    def _close(self) -> bytes:
        if not self._kind:
            return b""
        if self._kind == "thinking":
            return self._close_thinking(Reasoning("", ""))
        self._kind = ""
        return self._event("content_block_stop", {})

    def _call_delta(self, event: ToolCallDelta) -> bytes:
        opening = b""
        if event.number != self._calls - 1 or self._kind != "tool_use":
            if event.number < self._calls:
                raise mixed_up()
            self._calls = event.number + 1
            ident = call_id(event.id, "toolu_", self._served.id, event.number)
            opening = self._open("tool_use", _call(ident, event.name, {}))
        return opening + self._delta(event.arguments) if event.arguments else opening

    def _reasoning_delta(self, event: ReasoningDelta) -> bytes:
        found = b"" if self._kind == "thinking" else self._close()
        if event.text and self._shows:
            if self._kind != "thinking":
                found += self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""})
            found += self._delta(event.text)
        if event.text:
            self._thought.append(event.text)
        if event.whole is None:
            return found
        self._wholes += bool(event.whole.opaque)
        return found + self._end_thought(event.whole)

    def _end_thought(self, whole: Reasoning) -> bytes:
        if self._kind == "thinking":
            return self._close_thinking(whole)
        text, self._thought = "".join(self._thought) or whole.text, []
        found = b""
        for block in _thinking(Reasoning(whole.opaque, whole.origin, text), shown=self._shows):
            if block["type"] == "thinking":
                found = self._open("thinking", {**block, "thinking": "", "signature": ""})
                found += self._delta(text) + self._close_thinking(whole)
            else:
                found = self._redacted(block)
        return found

    def _redacted(self, block: Json) -> bytes:
        return self._open("redacted_thinking", block) + self._close()

    def _close_thinking(self, whole: Reasoning) -> bytes:
        self._kind, self._thought = "", []
        delta = {"type": "signature_delta", "signature": seal(whole, with_text=False)}
        return self._event("content_block_delta", {"delta": delta}) + self._event("content_block_stop", {})

    def _finish(self, completion: Completion) -> bytes:
        delta = {"stop_reason": _FINISH[end_of(completion)], "stop_sequence": None}
        ended = {"type": "message_delta", "delta": delta, "usage": _usage(completion.usage)}
        late = b"".join(self._redacted(_redacted(part, place)) for place, part in self._unwritten(completion))
        return (late or self._close()) + named_event("message_delta", ended) + _STOP


_DELTAS = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "tool_use": (b"input_json_delta", b"partial_json"),
    "redacted_thinking": (b"", b""),  # it has none
}
