"""Streams as a connection delivers them: any division into chunks and reads gives the same events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.providers.chunks import Chunks
from src.providers.event_body import HELD_BYTES, EventBody
from src.providers.network import AnswerTooLarge
from src.providers.stream_flow import StreamFlow
from src.records import Completion
from src.stream_events import Offer, StreamEvent, refuse

from .test_stream_readers import CASES, Recorded, adapter_of, recorded, without_id

__all__ = ["recorded"]  # a fixture

MOST = 10_000_000
LAST = b"0\r\n\r\n"


def chunk(data: bytes, form: str = "%x\r\n") -> bytes:
    return (form % len(data)).encode() + data + b"\r\n"


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    at = sorted({0, len(data), *(each % (len(data) + 1) for each in places)})
    return [data[start:end] for start, end in pairwise(at)]


def unchunked(body: bytes) -> bytes:
    """The content of a body, read as plainly as can be. Raises ValueError for what is none."""
    found = b""
    while not body.startswith(LAST):
        size, _, body = body.partition(b"\r\n")
        length = int(re.fullmatch(rb"([0-9a-fA-F]+)(;.*)?", size)[1], 16)  # type: ignore[index]
        if body[length : length + 2] != b"\r\n":
            raise ValueError("a chunk without its end")
        found, body = found + body[:length], body[length + 2 :]
    return found


def read(pieces: Sequence[bytes]) -> tuple[bytes, bytes]:
    """The content of the plain chunks, and what is left to another parser."""
    chunks, found = Chunks(), b""
    for number, piece in enumerate(pieces, 1):
        found += chunks.feed(piece)
        if not chunks.is_plain:
            return found, chunks.rest() + b"".join(pieces[number:])
    return found, chunks.rest()


CUTS = st.lists(st.integers(0, 2_000), max_size=12)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), CUTS)
def test_chunks_in_any_pieces_are_their_content(contents: list[bytes], cuts: list[int]) -> None:
    content, rest = read(cut(b"".join(map(chunk, contents)) + LAST, cuts))
    assert content == b"".join(contents)
    assert rest == LAST


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=4), st.binary(min_size=1, max_size=20), CUTS)
def test_another_parser_goes_on_where_a_chunk_is_odd(
    contents: list[bytes], odd: bytes, cuts: list[int]
) -> None:
    body = b"".join(map(chunk, contents)) + chunk(odd, "%X;name=value\r\n") + chunk(odd) + LAST
    content, rest = read(cut(body, cuts))
    assert content + unchunked(rest) == b"".join(contents) + odd + odd


BROKEN = {
    "longer than its size": b"3\r\nabcd\r\n" + LAST,
    "no size": b"3\r\nabc\r\n\r\nabc",
    "a sign": b"+3\r\nabc\r\n" + LAST,
    "an underscore": b"1_0\r\n" + b"a" * 16 + b"\r\n" + LAST,
    "bare line feeds": b"3\nabc\n0\n\n",
    "a size that fits its content": b"3\r\nabc2\r\nxx\r\n" + LAST,
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_broken_chunks_are_left_to_another_parser_which_sees_that(body: bytes) -> None:
    for pieces in ([body], [body[i : i + 1] for i in range(len(body))]):
        content, rest = read(pieces)
        assert content in (b"", b"abc")
        with pytest.raises((ValueError, TypeError)):
            unchunked(rest)


@pytest.mark.parametrize("size", range(1, 12))
def test_the_end_within_a_chunk_is_no_end(size: int) -> None:
    """A parser that gets the rest and then the end of the connection must not find a last chunk."""
    body = chunk(b"abcdefgh")[:size]
    content, rest = read([body])
    assert b"abcdefgh".startswith(content)
    assert not rest.endswith(LAST) and (len(content) == 8 or rest or size < 4)


class Transport:
    """Counts; `paused` says whether the server has to wait."""

    def __init__(self) -> None:
        self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Connection:
    """A body and what it leaves to aiohttp."""

    def __init__(self) -> None:
        self.transport, self.left = Transport(), bytearray()
        self.body = EventBody(self.transport, self.left.extend)

    def receive(self, data: bytes) -> None:
        (self.left.extend if self.body.is_over else self.body.received)(data)


def run(
    case: Recorded, reads: Sequence[bytes], offer: Offer, found: list[StreamEvent], *, native: bool
) -> Completion:
    """The answer of a stream whose bytes come in these reads; events that are yielded go to `found`."""
    adapter, request, connection = adapter_of(case.api), case.request(native=native), Connection()
    reader = adapter._reader(request)
    flow = StreamFlow(reader, MOST, offer)

    async def send() -> None:
        for number, data in enumerate(reads):
            connection.receive(data)
            for _ in range(number % 3):  # several reads come together
                await asyncio.sleep(0)

    async def job() -> None:
        sending = asyncio.create_task(send())
        while await connection.body.pump(flow.take, MOST):
            found.extend(flow.pending)
            if flow.error is not None:
                raise flow.error
            await asyncio.sleep(0)  # as a slow reader
        flow.end()
        found.extend(flow.pending)
        await sending

    asyncio.run(asyncio.wait_for(job(), 30))
    assert bytes(connection.left) == LAST
    found.extend(reader.last())
    whole: Completion = adapter._whole(reader.body(), request, {}, (), ())
    return whole


@pytest.mark.parametrize("native", [False, True], ids=["written", "passed-on"])
@pytest.mark.parametrize(("form", "kind"), CASES)
@given(st.data())
@settings(deadline=None, max_examples=6)
def test_any_division_into_chunks_and_reads_gives_the_same_events(
    recorded: dict[tuple[str, str], Recorded], form: str, kind: str, native: bool, data: st.DataObject
) -> None:
    case = recorded[form, kind]
    native = native and form != "gemini"
    expected, whole = case.read([case.stream], native=native)
    places = st.lists(st.integers(0, 30_000), max_size=60)
    chunks_at, reads_at = data.draw(places), data.draw(places)
    answers = list(data.draw(st.lists(st.booleans(), min_size=1, max_size=7)))
    body = b"".join(map(chunk, cut(case.stream, chunks_at))) + LAST
    found: list[StreamEvent] = []  # taken or yielded

    def sometimes(events: Sequence[StreamEvent]) -> bool:
        answers.append(answers.pop(0))
        if answers[-1]:
            found.extend(events)
        return answers[-1]

    completion = run(case, cut(body, reads_at), sometimes, found, native=native)
    assert list(map(without_id, found)) == list(map(without_id, expected))
    assert completion.text == whole.text and completion.usage == whole.usage


# ------------------------------------------------------------------ the body alone


def pumped(job: Callable[[Connection], Any]) -> Any:
    async def main() -> Any:
        return await asyncio.wait_for(job(Connection()), 10)

    return asyncio.run(main())


def test_what_nobody_takes_is_held_and_then_the_server_has_to_wait() -> None:
    async def job(connection: Connection) -> None:
        found: list[bytes] = []
        connection.receive(chunk(b"a"))
        assert await connection.body.pump(lambda data: bool(found.append(data)), MOST)
        piece = b"x" * 60_000
        for _ in range(HELD_BYTES // len(piece) + 1):
            assert not connection.transport.paused
            connection.receive(chunk(piece))
        assert connection.transport.paused
        assert await connection.body.pump(lambda data: bool(found.append(data)), MOST)
        assert not connection.transport.paused
        assert b"".join(found) == b"a" + piece * (HELD_BYTES // len(piece) + 1)

    pumped(job)


def test_more_than_an_answer_may_have_is_refused() -> None:
    async def job(connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            loop.call_later(0.001, connection.receive, chunk(b"x" * 400))
        with pytest.raises(AnswerTooLarge):
            await connection.body.pump(bool, 1_000)

    pumped(job)


def test_a_body_that_nobody_reads_as_events_is_left_as_it_came() -> None:
    connection = Connection()
    connection.receive(b"3\r\nab")
    connection.body.hand_over()
    connection.receive(b"c\r\n" + LAST)
    assert bytes(connection.left) == chunk(b"abc") + LAST


def test_a_connection_that_ends_wakes_the_reader() -> None:
    async def job(connection: Connection) -> None:
        asyncio.get_running_loop().call_later(0.001, connection.body.hand_over)
        assert not await connection.body.pump(refuse, MOST)  # type: ignore[arg-type]

    pumped(job)
