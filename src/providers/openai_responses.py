"""OpenAI Responses: its answers, whole and streamed. Pure.

Only requests that came in this form go to this API, as their callers wrote them. A whole answer is a response
whose `status` says how it ended; `output` has its items: reasoning, messages, function calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..messages import ContentPart, Text
from ..records import CompletionRequest, FinishReason
from ..stream_events import Passed, ReasoningDelta, StreamEvent, TextDelta
from . import values
from .answers import ID_CHARS, Answer, reasoning_of, tool_call
from .error_bodies import error_of
from .prompts import Finish, Json
from .stream_reader import ErrorEvent, StreamReader, place
from .usage import NOTHING, Reported

FORM = "responses"  # of `Native`
ORIGIN = "responses"
_ENDS = ("response.completed", "response.incomplete", "response.cancelled")

# `status`, or the reason of an incomplete one. Others are no end: `in_progress`, `queued`, `cancelled`.
_FINISH: Mapping[str, Finish] = {
    "completed": FinishReason.STOP,
    "max_output_tokens": FinishReason.LENGTH,
    "content_filter": FinishReason.REFUSED,
}


def read_response(body: Json, request: CompletionRequest, request_id: str) -> Answer:
    """What a response says."""
    status = values.text(body.get("status"))
    reason = values.text(values.mapping(body.get("incomplete_details")).get("reason"))
    if status == "incomplete":
        finish: Finish | None = _FINISH.get(reason, FinishReason.OTHER)
    else:
        finish = _FINISH.get(status)
    return Answer(
        *parts_of(body.get("output"), request),
        finish,
        reason or status,
        reason or status,
        _usage(body.get("usage")),
        values.text(body.get("model")),
        request_id or values.text(body.get("id")),
    )


def parts_of(output: object, request: CompletionRequest) -> tuple[list[ContentPart], str]:
    """`(parts, the types of the items beside them)`."""
    parts: list[ContentPart] = []
    others: set[str] = set()
    for item in map(values.mapping, values.sequence(output)):
        kind = values.text(item.get("type"))
        if kind == "message":
            parts += map(Text, _texts(item.get("content")))
        elif kind == "reasoning":
            shown = _texts(item.get("summary")) or _texts(item.get("content"))
            parts.append(reasoning_of(f"{ORIGIN}/{request.model}", item, "\n\n".join(shown)))
        elif kind == "function_call" and (
            call := tool_call(item.get("call_id"), item.get("name"), item.get("arguments"), {})
        ):
            parts.append(call)
        else:
            others.add(kind)
    return parts, ", ".join(sorted(others - {""}))


def _texts(content: object) -> list[str]:
    """The texts of a list of content; a refusal is what the model says, too."""
    found = (part.get("text", part.get("refusal")) for part in map(values.mapping, values.sequence(content)))
    return [text for text in found if isinstance(text, str)]


def _usage(usage: object) -> Reported:
    """`input_tokens` includes what was read from and written to the cache; the output includes reasoning."""
    if not isinstance(usage, dict):
        return NOTHING
    count = values.count
    inputs = values.mapping(usage.get("input_tokens_details"))
    outputs = values.mapping(usage.get("output_tokens_details"))
    return Reported(
        count(usage.get("input_tokens")),
        count(usage.get("output_tokens")),
        count(inputs.get("cached_tokens")) or 0,
        count(inputs.get("cache_write_tokens")) or 0,
        count(outputs.get("reasoning_tokens")) or 0,
    )


def _unused(_: str) -> None:
    """The last event repeats the text."""


class ResponsesStream(StreamReader):
    """One response. Its last event has the whole of it."""

    ending = "response.completed"
    origin = ORIGIN

    def __init__(self, request: CompletionRequest) -> None:
        super().__init__(request, native=True)
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
            return (
                self.called(number, values.text(item.get("call_id"), ID_CHARS), item.get("name"), "", raw),
            )
        return (Passed(raw),)

    def _delta(self, kind: str, delta: str, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        if kind == "response.output_text.delta":
            self.only_text(_unused)
            return (TextDelta(delta, raw),)
        if kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            return (ReasoningDelta(delta, raw),)
        if kind == "response.function_call_arguments.delta":
            number = self._calls.get(place(chunk.get("output_index")))
            if number is not None:
                return (self.continued(number, delta, raw),)
        return (Passed(raw),)

    def body(self) -> Json:
        """As `StreamReader.body`."""
        return self._response
