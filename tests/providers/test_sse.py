"""Server-sent events: any division of the bytes gives the same events, and nothing is held for ever."""

from __future__ import annotations

import sys
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.providers.sse import EventParser, EventTooLong

MOST = 1_000_000


def events(*pieces: bytes, most: int = MOST) -> list[tuple[bytes, bytes]]:
    parser = EventParser(most)
    found = [event for piece in pieces for event in parser.feed(piece)]
    return [(event.name, event.data) for event in found + parser.rest()]


CASES = {
    "one": (b"data: a\n\n", [(b"", b"a")]),
    "without-a-space": (b"data:a\n\n", [(b"", b"a")]),
    "two-spaces": (b"data:  a\n\n", [(b"", b" a")]),
    "named": (b"event: ping\ndata: {}\n\n", [(b"ping", b"{}")]),
    "name-behind": (b"data: {}\nevent: ping\n\n", [(b"ping", b"{}")]),
    "several-lines": (b"data: a\ndata\ndata: b\n\n", [(b"", b"a\n\nb")]),
    "crlf": (b"event: x\r\ndata: a\r\n\r\ndata: b\r\n\r\n", [(b"x", b"a"), (b"", b"b")]),
    "cr": (b"data: a\r\rdata: b\r\r", [(b"", b"a"), (b"", b"b")]),
    "mixed-ends": (b"data: a\r\n\ndata: b\n\r\ndata: c\r\n\r", [(b"", c) for c in (b"a", b"b", b"c")]),
    "comment": (b": hello\n\ndata: a\n: more\n\n:\n\n", [(b"", b"a")]),
    "id-and-retry": (b"id: 1\nretry: 10\ndata: a\n\n", [(b"", b"a")]),
    "unknown-field": (b"datum: b\ndata: a\n\n", [(b"", b"a")]),
    "only-a-name": (b"event: end\n\n", []),
    "blank-lines": (b"\n\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [(b"", b"a"), (b"", b"b")]),
    "byte-order-mark": (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
    "no-blank-line-at-the-end": (b"data: a\n\ndata: [DONE]", [(b"", b"a"), (b"", b"[DONE]")]),
    "one-line-end-at-the-end": (b"data: a\n", [(b"", b"a")]),
    "nothing": (b"", []),
    "not-a-stream": (b'{"error": "no"}', []),
}  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), CASES.values(), ids=CASES)
def test_events_are_read_whole_and_byte_by_byte(content: bytes, expected: list[tuple[bytes, bytes]]) -> None:
    assert events(content) == expected
    assert events(*(content[i : i + 1] for i in range(len(content)))) == expected


LINES = st.sampled_from(
    [b"data: a", b"data:", b"data: \xf0\x9f\x8c\x8a", b"event: x", b": c", b"data", b"", b"x" * 40]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=30), st.lists(st.integers(0, 400)))
def test_any_division_gives_the_same_events(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    content = b"".join(line + end for line, end in lines)
    at = sorted({0, len(content), *(cut for cut in cuts if cut < len(content))})
    pieces = [content[start:end] for start, end in pairwise(at)]
    assert events(*pieces) == events(content)


def test_raw_is_the_event_as_it_was_received() -> None:
    found = EventParser(MOST).feed(b": c\nevent: x\nid: 7\ndata: a\n\n\ndata: b\r\n\r\n")
    assert [event.raw for event in found] == [b": c\nevent: x\nid: 7\ndata: a", b"data: b"]


def test_an_event_without_an_end_is_refused_at_the_limit() -> None:
    parser = EventParser(1_000)
    with pytest.raises(EventTooLong, match=r"0\.001 MB"):
        for _ in range(1_001):
            parser.feed(b"x")
    assert parser.rest() == []


def test_only_the_incomplete_event_is_held() -> None:
    parser = EventParser(MOST)
    for _ in range(1_000):
        assert len(parser.feed(b"data: " + b"x" * 10_000 + b"\n\nda")) == 1
        parser.feed(b"ta: y\n\n")
    assert sys.getsizeof(parser._held) < 100_000


def test_ten_megabytes_byte_by_byte_take_linear_time() -> None:
    def seconds(size: int) -> float:
        parser, content = EventParser(10 * MOST), b"data: " + b"x" * size
        pieces = [content[i : i + 64] for i in range(0, size, 64)]
        start = time.process_time()
        for piece in pieces:
            parser.feed(piece)
        return time.process_time() - start

    assert seconds(10_000_000 - 100) < 40 * seconds(1_000_000) + 0.5
