"""OpenAI Responses as clients speak it: the `Format`, and a stream of events.

response.created, response.in_progress
response.output_item.added          for each item: reasoning, a message, a call of a function
  reasoning   reasoning_summary_part.added, reasoning_summary_text.delta ... .done, _part.done
  message     content_part.added, output_text.delta ... .done, content_part.done
  call        function_call_arguments.delta ... .done
response.output_item.done
response.completed, or response.incomplete
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...messages import Reasoning, ToolCall
from ...records import Completion, FinishReason
from ...stream_events import Finished, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from .base import CallerRequest, Json, Served, StreamWriter
from .openai_shared import KEEP_ALIVE, OpenAIErrors, error_object
from .problems import Problem
from .relaying import Writer, mixed_up
from .responses_output import (
    call_item,
    ended,
    item_id,
    items_of,
    message_item,
    opened,
    reasoning_item,
    shows_reasoning,
    text_part,
)
from .responses_reading import read_response
from .writing import call_id, end_of, json_bytes, named_event, parts_of, quoted

_CUT = (FinishReason.LENGTH, FinishReason.REFUSED)


class ResponsesFormat(OpenAIErrors):
    """The `Format` of Responses."""

    form = "responses"

    def read(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> CallerRequest:
        """As `Format.read`."""
        return read_response(body, headers)

    def answer(self, request: CallerRequest, served: Served, completion: Completion) -> bytes:
        """As `Format.answer`."""
        if completion.raw is not None:
            return json_bytes(completion.raw)
        is_cut = end_of(completion) in _CUT
        items = items_of(parts_of(completion), served, shown=shows_reasoning(request), cut=is_cut)
        return json_bytes(ended(opened(request, served), completion, items))

    def stream(self, request: CallerRequest, served: Served) -> StreamWriter:
        """As `Format.stream`."""
        return _Events(request, served)


RESPONSES = ResponsesFormat()


class _Events(Writer):
    """One stream: at most one item is open at a time."""

    def __init__(self, request: CallerRequest, served: Served) -> None:
        super().__init__(served)
        self._response = opened(request, served)
        self._shows = shows_reasoning(request)
        self._number = 0  # of the next event
        self._output: list[Json] = []  # items that are done
        self._kind = ""  # of the open item: reasoning, message, call
        self._item_id = ""
        self._call = ToolCall("", "", "")  # the open one, without its arguments
        self._calls = 0
        self._texts: list[str] = []  # of the open item
        self._before = b""  # of a delta of the open item, around its number
        self._between = b""

    def keep_alive(self) -> bytes:
        """As `StreamWriter.keep_alive`."""
        return KEEP_ALIVE

    def error(self, problem: Problem) -> bytes:
        """As `StreamWriter.error`: once as SDKs read it, which raise it, once as the documentation has it."""
        found = error_object(problem)
        flat = {name: found[name] for name in ("code", "message", "param")}
        short = {"code": found["code"] or "server_error", "message": found["message"]}
        failed = {**self._response, "status": "failed", "error": short, "output": self._output}
        return self._event("error", {**flat, "error": found}) + self._event(
            "response.failed", {"response": failed}
        )

    def _opening(self, event: StreamEvent) -> bytes:
        about = {"response": self._response}
        return self._event("response.created", about) + self._event("response.in_progress", about)

    def _event(self, name: str, data: Json) -> bytes:
        number, self._number = self._number, self._number + 1
        return named_event(name, {"type": name, "sequence_number": number, **data})

    def _delta(self, text: str) -> bytes:
        number, self._number = self._number, self._number + 1
        self._texts.append(text)
        return b"%b%d%b%b}\n\n" % (self._before, number, self._between, quoted(text))

    def _written(self, event: StreamEvent) -> bytes:
        if type(event) is TextDelta:
            if self._kind == "message":
                return self._delta(event.text)
            return self._close() + self._open_message() + self._delta(event.text)
        if type(event) is ToolCallDelta:
            return self._call_delta(event)
        if type(event) is ReasoningDelta:
            return self._reasoning_delta(event)
        if type(event) is Finished:
            return self._finish(event.completion)
        return b""

    def _open(self, kind: str, prefix: str) -> Json:
        """The place of a new item."""
        self._kind, self._texts = kind, []
        self._item_id = item_id(prefix, self._served, len(self._output))
        return {"output_index": len(self._output)}

    def _place(self, **more: int) -> Json:
        return {"item_id": self._item_id, "output_index": len(self._output), **more}

    def _deltas(self, name: str, place: Json, more: Json | None = None) -> None:
        """Prepare the deltas of the open item, since there are many."""
        self._before = b'event: %b\ndata: {"type":"%b","sequence_number":' % (name.encode(), name.encode())
        self._between = b',%b,"delta":' % json_bytes({**place, **(more or {})})[1:-1]

    def _open_message(self) -> bytes:
        place = self._open("message", "msg")
        added = {**place, "item": message_item(self._item_id, [], "in_progress")}
        at = self._place(content_index=0)
        self._deltas("response.output_text.delta", at, {"logprobs": []})
        return self._event("response.output_item.added", added) + self._event(
            "response.content_part.added", {**at, "part": text_part("")}
        )

    def _call_delta(self, event: ToolCallDelta) -> bytes:
        if event.number == self._calls - 1 and self._kind == "call":
            return self._delta(event.arguments) if event.arguments else b""
        if event.number < self._calls:
            raise mixed_up()
        closed, place = self._close(), self._open("call", "fc")
        self._call = ToolCall(call_id(event.id, "call_", self._served.id, event.number), event.name, "")
        self._calls = event.number + 1
        added = {**place, "item": call_item(self._item_id, self._call, "in_progress")}
        self._deltas("response.function_call_arguments.delta", self._place())
        opening = closed + self._event("response.output_item.added", added)
        return opening + self._delta(event.arguments) if event.arguments else opening

    def _reasoning_delta(self, event: ReasoningDelta) -> bytes:
        found = b""
        if self._kind != "reasoning":
            found = self._close()
            self._open("reasoning", "rs")
        if event.text and self._shows:
            found += b"" if self._texts else self._open_summary()
            found += self._delta(event.text)
        elif event.text:
            self._texts.append(event.text)
        if event.whole is None:
            return found
        self._wholes += bool(event.whole.opaque)
        return found + self._close_reasoning(event.whole)

    def _open_summary(self) -> bytes:
        item = {"id": self._item_id, "type": "reasoning", "summary": []}
        at = self._place(summary_index=0)
        self._deltas("response.reasoning_summary_text.delta", at)
        return self._event(
            "response.output_item.added", {"output_index": len(self._output), "item": item}
        ) + self._event(
            "response.reasoning_summary_part.added", {**at, "part": {"type": "summary_text", "text": ""}}
        )

    def _close(self, status: str = "completed") -> bytes:
        if self._kind == "message":
            return self._close_message(status)
        if self._kind == "call":
            return self._close_call(status)
        if self._kind == "reasoning":
            return self._close_reasoning(Reasoning("", ""))
        return b""

    def _done(self, item: Json) -> bytes:
        at = len(self._output)
        self._output.append(item)
        self._kind = ""
        return self._event("response.output_item.done", {"output_index": at, "item": item})

    def _close_message(self, status: str) -> bytes:
        text, at = "".join(self._texts), self._place(content_index=0)
        part = text_part(text)
        return (
            self._event("response.output_text.done", {**at, "text": text, "logprobs": []})
            + self._event("response.content_part.done", {**at, "part": part})
            + self._done(message_item(self._item_id, [part], status))
        )

    def _close_call(self, status: str) -> bytes:
        call = ToolCall(self._call.id, self._call.name, "".join(self._texts))
        done = {**self._place(), "name": call.name, "arguments": call.arguments}
        return self._event("response.function_call_arguments.done", done) + self._done(
            call_item(self._item_id, call, status)
        )

    def _close_reasoning(self, whole: Reasoning) -> bytes:
        text = "".join(self._texts) or whole.text
        if not whole.opaque and not (self._shows and text):  # nothing to read and nothing to send back
            self._kind = ""
            return b""
        found = b""
        if not self._texts and self._shows and text:
            found = self._open_summary() + self._delta(text)
        item = reasoning_item(self._item_id, Reasoning(whole.opaque, whole.origin, text), shown=self._shows)
        if item["summary"]:
            at, part = self._place(summary_index=0), item["summary"][0]
            found += self._event("response.reasoning_summary_text.done", {**at, "text": text})
            found += self._event("response.reasoning_summary_part.done", {**at, "part": part})
            return found + self._done(item)
        return found + self._sealed(item)

    def _sealed(self, item: Json) -> bytes:
        """An item of reasoning without a summary."""
        added = {"output_index": len(self._output), "item": {**item, "encrypted_content": None}}
        return self._event("response.output_item.added", added) + self._done(item)

    def _finish(self, completion: Completion) -> bytes:
        is_cut = end_of(completion) in _CUT
        closed = self._close("incomplete" if is_cut else "completed")
        for place, reasoning in self._unwritten(completion):
            self._open("reasoning", "rs")
            closed += self._sealed(reasoning_item(self._item_id, reasoning, shown=False, place=place))
        response = ended(self._response, completion, self._output)
        return closed + self._event(f"response.{response['status']}", {"response": response})
