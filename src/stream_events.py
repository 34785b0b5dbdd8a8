"""What a streamed answer is made of, in one form for all APIs.

    TextDelta, ReasoningDelta, ToolCallDelta, Passed ...   any number, in the order of the answer
    Finished                                               once, at the end: the whole answer

`raw` is the server-sent event as the provider wrote it, without the blank line behind it, where the request
has a `native` form and went to the API of that form; else empty. A reader of that API gets `raw` unchanged,
and everyone else what the fields say. Then there is one event for each that was received, also where it holds
several deltas; OpenAI's `[DONE]` is none. A stream that ends without `Finished` has raised a `ProviderError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from .messages import Reasoning, Text, ToolCall
from .records import Completion


class TextDelta(NamedTuple):
    """More text of the answer."""

    text: str
    raw: bytes = b""


class ReasoningDelta(NamedTuple):
    """More of what the model shows of its reasoning.

    The last delta of a block has the `whole` of it where that holds something opaque, which the model wants
    back: a signature, encrypted reasoning. What is opaque without a text is one delta with an empty text.
    """

    text: str
    raw: bytes = b""
    whole: Reasoning | None = None


class ToolCallDelta(NamedTuple):
    """More of the tool call `number`, counted from 0; the first delta has `id` and `name`.

    `arguments` is a piece of JSON text.
    """

    number: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    raw: bytes = b""


class Passed(NamedTuple):
    """An event that only its own API knows: the start of a block, a ping."""

    raw: bytes


class Finished(NamedTuple):
    """The whole answer, checked like one that was not streamed."""

    completion: Completion
    raw: bytes = b""


StreamEvent = TextDelta | ReasoningDelta | ToolCallDelta | Passed | Finished

Offer = Callable[[Sequence[StreamEvent]], bool]
"""Gets events at once, outside of the task that reads a stream: a chunk costs little while that task sleeps.

False: it has taken none of them, and the stream yields them. It never gets `Finished`, and must not raise.
"""


def refuse(_: Sequence[StreamEvent]) -> bool:
    """An `Offer` that takes nothing: the stream yields all events."""
    return False


def deltas_of(completion: Completion) -> Iterator[StreamEvent]:
    """The deltas of an answer that came at once, without its `Finished`; none of an empty text."""
    number = 0
    for part in completion.parts or (Text(completion.text),):
        if isinstance(part, Text):
            if part.text:
                yield TextDelta(part.text)
        elif isinstance(part, Reasoning):
            yield ReasoningDelta(part.text, whole=part)
        elif isinstance(part, ToolCall):
            yield ToolCallDelta(number, part.id, part.name, part.arguments)
            number += 1
