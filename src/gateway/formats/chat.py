"""OpenAI Chat Completions as clients speak it: answers, whole and as a stream of chunks.

    {"choices": [{"delta": {"role": "assistant", ...}}]}      once, before anything else
    {"choices": [{"delta": {"content": "..."}}]}              text, or pieces of tool calls
    {"choices": [{"delta": {}, "finish_reason": "stop"}]}     once
    {"choices": [], "usage": {...}}                           once, where the request asks for it
    [DONE]

The API has no place for reasoning: it is not sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...messages import Text, tool_calls_in
from ...records import Completion, FinishReason, Usage
from ...stream_events import Finished, StreamEvent, TextDelta, ToolCallDelta
from .base import CallerRequest, Json, Served, StreamWriter
from .chat_reading import read_chat
from .openai_shared import KEEP_ALIVE, OpenAIErrors, error_object
from .problems import Problem
from .relaying import Writer
from .writing import call_id, end_of, json_bytes, parts_of, quoted

_FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.REFUSED: "content_filter",
    FinishReason.TOOL: "tool_calls",
    FinishReason.OTHER: "stop",
}
_DONE = b"data: [DONE]\n\n"


class ChatFormat(OpenAIErrors):
    """The `Format` of Chat Completions."""

    form = "openai"

    def read(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> CallerRequest:
        """As `Format.read`."""
        return read_chat(body, headers)

    def answer(self, request: CallerRequest, served: Served, completion: Completion) -> bytes:
        """As `Format.answer`."""
        if completion.raw is not None:
            return json_bytes(completion.raw)
        parts = parts_of(completion)
        message: Json = {
            "role": "assistant",
            "content": "".join(part.text for part in parts if isinstance(part, Text)) or None,
            "refusal": None,
            "annotations": [],
        }
        if calls := tool_calls_in(parts):
            message["tool_calls"] = [
                {
                    "id": call_id(call.id, "call_", served.id, i),
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for i, call in enumerate(calls)
            ]
        reason = _FINISH[end_of(completion)]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        head = _head(served, "chat.completion")
        return json_bytes({**head, "choices": [choice], "usage": _usage(completion.usage)})

    def stream(self, request: CallerRequest, served: Served) -> StreamWriter:
        """As `Format.stream`."""
        return _Chunks(request, served)


CHAT = ChatFormat()


def _head(served: Served, kind: str) -> Json:
    return {
        "id": f"chatcmpl-{served.id}",
        "object": kind,
        "created": int(served.created_at),
        "model": served.model,
        "system_fingerprint": None,
    }


def _usage(usage: Usage) -> Json:
    """The counts of the prompt include the cached tokens, those of the completion the reasoning."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


class _Chunks(Writer):
    """One stream of chunks."""

    def __init__(self, request: CallerRequest, served: Served) -> None:
        super().__init__(served)
        self._with_usage = request.include_usage
        head = json_bytes(_head(served, "chat.completion.chunk"))[:-1]
        self._before = b'data: %b,"choices":[{"index":0,"delta":' % head
        self._after = b',"usage":null}\n\n' if self._with_usage else b"}\n\n"
        self._open = b',"logprobs":null,"finish_reason":null}]' + self._after
        self._before_text = self._before + b'{"content":'
        self._after_text = b"}" + self._open

    def keep_alive(self) -> bytes:
        """As `StreamWriter.keep_alive`."""
        return KEEP_ALIVE

    def error(self, problem: Problem) -> bytes:
        """As `StreamWriter.error`."""
        return b"data: %b\n\n" % json_bytes({"error": error_object(problem)})

    def end(self, comment_text: str) -> bytes:
        """As `StreamWriter.end`: the comment is before the terminator, behind which clients read nothing."""
        return super().end(comment_text) + _DONE

    def _opening(self, event: StreamEvent) -> bytes:
        content = "" if type(event) is TextDelta else None
        return self._chunk({"role": "assistant", "content": content, "refusal": None})

    def _written(self, event: StreamEvent) -> bytes:
        if type(event) is TextDelta:
            return self._before_text + quoted(event.text) + self._after_text
        if type(event) is ToolCallDelta:
            return self._call(event)
        if type(event) is Finished:
            return self._finish(event.completion)
        return b""

    def _chunk(self, delta: Json) -> bytes:
        return self._before + json_bytes(delta) + self._open

    def _call(self, event: ToolCallDelta) -> bytes:
        call: Json = {"index": event.number}
        if event.name:
            call["id"] = call_id(event.id, "call_", self._served.id, event.number)
            call["type"] = "function"
            call["function"] = {"name": event.name, "arguments": event.arguments}
        else:
            call["function"] = {"arguments": event.arguments}
        return self._chunk({"tool_calls": [call]})

    def _finish(self, completion: Completion) -> bytes:
        reason = json_bytes(_FINISH[end_of(completion)])
        ended = self._before + b'{},"logprobs":null,"finish_reason":%b}]%b' % (reason, self._after)
        if not self._with_usage:
            return ended
        head = _head(self._served, "chat.completion.chunk")
        return ended + b"data: %b\n\n" % json_bytes(
            {**head, "choices": [], "usage": _usage(completion.usage)}
        )
