"""The common part of the streams: events in, deltas out, and at the end the body of the whole answer.

A reader does no more than its API's form needs: whether the answer is usable, and what it cost, is decided
once for both, by the adapter's reading of that body.

Bodies are put together of pieces: text that comes in many of them is joined once, at the end, since adding
to a string of megabytes copies it each time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from ..records import CompletionRequest
from ..stream_events import Passed, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta
from . import values
from .answers import may_call_tools, reasoning_of, tool_names
from .error_bodies import error_of
from .prompts import Json
from .repeated_text import RepeatedText
from .sse import ServerSentEvent

PASSED: tuple[StreamEvent, ...] = (Passed(b""),)  # something came, but nothing to tell
_REPLACED = frozenset({"id", "type", "role", "name", "index", "object"})  # named again, not continued
_DEEPEST = 20
_MOST_ITEMS = 10_000  # of a list, or of choices and blocks: `index` may be any number


class BrokenStream(ValueError):
    """An event that is not one of the API."""


class ErrorEvent(Exception):
    """The provider ends the stream with an error; `error` is as `error_in` reads one."""

    def __init__(self, error: Json) -> None:
        super().__init__(error.get("message"))
        self.error = error


class StreamReader(ABC):
    """One stream. `native`: each event gets the bytes that it was received as."""

    ending: ClassVar[str]  # what a whole stream ends with, for people
    origin: ClassVar[str]  # of `Reasoning`, without the model

    def __init__(
        self, request: CompletionRequest, sent_as: Callable[[str], str] = str, *, native: bool
    ) -> None:
        self.native = native
        self._model = request.model
        self._names = tool_names(request, sent_as)
        self._may_call_tools = may_call_tools(request)
        self.whole = False  # an end of the stream here is the end of the answer
        self.terminated = False  # the stream's last event has come
        self.final_raw = b""  # of that event
        self.warnings: dict[str, None] = {}  # in their order, each once
        self._repeated = RepeatedText()
        self._add_text: Callable[[str], object] | None = None

    def read(self, event: ServerSentEvent) -> Sequence[StreamEvent]:
        """What an event says: one event where the stream is native. Raises BrokenStream and ErrorEvent."""
        if (text := self._repeated.find(event.name, event.data)) is not None:
            return (TextDelta(text, event.raw if self.native else b""),)
        try:
            chunk, warnings = values.read_json(event.data)
        except values.NotJson as error:
            raise BrokenStream(f"a part of the stream is not JSON ({error})") from error
        if type(chunk) is not dict:
            raise BrokenStream("a part of the stream is not a JSON object")
        if warnings:
            self.warnings.update(dict.fromkeys(warnings))
        if event.name == b"error":
            raise ErrorEvent(error_of(chunk))
        self._add_text = None
        found = self.chunk(chunk, event.raw if self.native else b"")
        text = found[0].text if len(found) == 1 and isinstance(found[0], TextDelta) else ""
        self._repeated.follow(event.name, event.data, text, None if warnings else self._add_text)
        return found

    def only_text(self, add: Callable[[str], object] | None) -> None:
        """The event says only a text. `add` is all that another such one has to do; None: it says more."""
        self._add_text = add

    @abstractmethod
    def chunk(self, chunk: Json, raw: bytes) -> Sequence[StreamEvent]:
        """What the JSON of an event says. `raw` goes into the event, or into the first of several."""

    @abstractmethod
    def body(self) -> Json:
        """The answer as the API sends it without streaming."""

    def last(self) -> Sequence[StreamEvent]:
        """What is left to tell once the stream has ended."""
        return ()

    def called(self, number: int, ident: str, name: object, arguments: str, raw: bytes) -> StreamEvent:
        """The first delta of a tool call; calls that were not asked for are none of the answer."""
        if not self._may_call_tools:
            return Passed(raw)
        named = values.text(name)
        return ToolCallDelta(number, ident, self._names.get(named, named), arguments, raw)

    def continued(self, number: int, arguments: str, raw: bytes) -> StreamEvent:
        """More of a tool call."""
        return ToolCallDelta(number, "", "", arguments, raw) if self._may_call_tools else Passed(raw)

    def thought(self, fields: Json, text: object, raw: bytes = b"") -> StreamEvent:
        """The end of a block of reasoning with what its API wants back."""
        return ReasoningDelta("", raw, reasoning_of(f"{self.origin}/{self._model}", fields, text))

    def one(self, found: list[StreamEvent], raw: bytes) -> Sequence[StreamEvent]:
        """The events of one chunk. A native stream has one event for each that was received."""
        if not found:
            return (Passed(raw),) if raw else PASSED
        return found[:1] if raw else found


class Pieces(list[str]):
    """Text of which more may come."""


def merge(into: Json, more: Json, depth: int = 0) -> None:
    """Continue an object: text is added to text, items to those of their `index`; the rest is replaced."""
    for key, value in more.items():
        kind = type(value)
        if kind is str and key not in _REPLACED:
            _pieces(into, key).append(value)
        elif kind is dict and depth < _DEEPEST:
            merge(_container(into, key, dict), value, depth + 1)
        elif kind is list and depth < _DEEPEST:
            _merge_items(_container(into, key, list), value, depth + 1)
        elif into.get(key) is None or value not in (None, ""):
            into[key] = value


def _pieces(into: Json, key: str) -> Pieces:
    held = into.get(key)
    if type(held) is not Pieces:
        held = into[key] = Pieces([held] if type(held) is str else ())
    return held


def _container(into: Json, key: str, kind: type[Any]) -> Any:
    """The object or list under that key, which is one of ours already or becomes one."""
    held = into.get(key)
    if type(held) is not kind:
        held = into[key] = kind()
    return held


def _merge_items(held: list[Any], more: Iterable[Any], depth: int) -> None:
    for item in more:
        if type(item) is not dict:
            held.append(item)
            continue
        number = item.get("index")
        same = None
        if type(number) is int:
            same = next((each for each in held if type(each) is dict and each.get("index") == number), None)
        if same is None:
            if len(held) >= _MOST_ITEMS:
                raise BrokenStream("a part of the stream has too many items")
            held.append(same := {})
        merge(same, item, depth)


def joined(value: Any) -> Any:
    """A value without its `Pieces`."""
    if type(value) is Pieces:
        return "".join(value)
    if type(value) is dict:
        return {key: joined(item) for key, item in value.items()}
    if type(value) is list:
        return [joined(item) for item in value]
    return value


def place(value: object) -> int:
    """The number of a choice or block, 0 where there is none. Raises BrokenStream for one out of range."""
    if type(value) is int and 0 <= value < _MOST_ITEMS:
        return value
    if value is None:
        return 0
    raise BrokenStream("a part of the stream has an index out of range")
