"""A provider's key in a stream that is passed on: it reaches nobody, wherever it stands."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from src.providers.stream_flow import StreamFlow
from src.stream_events import StreamEvent, refuse

from .conftest import KEY
from .test_stream_readers import Recorded, adapter_of, recorded

__all__ = ["recorded"]  # a fixture


@pytest.mark.parametrize("form", ["anthropic", "openai", "responses"])
@given(
    cuts=st.lists(st.integers(0, 30_000), max_size=30),
    places=st.lists(st.integers(0, 50), min_size=1, max_size=4),
)
@settings(deadline=None, max_examples=20)
def test_no_event_that_is_passed_on_has_the_key(
    recorded: dict[tuple[str, str], Recorded], form: str, cuts: list[int], places: list[int]
) -> None:
    case = recorded[form, "text"]
    blocks = case.stream.split(b"\n\n")
    for each in places:
        number = each % len(blocks)
        blocks[number] = blocks[number].replace(b"{", b'{"echo": "%b", ' % KEY.encode(), 1)
    stream = b"\n\n".join(blocks)
    assume(KEY.encode() in stream)
    at = sorted({0, len(stream), *(cut % len(stream) for cut in cuts), stream.find(KEY.encode()) + 5})
    adapter, request = adapter_of(case.api), case.request(native=True)
    reader = adapter._reader(request)
    flow = StreamFlow(reader, 10**7, refuse, adapter._errors.without_key_in_bytes)
    events: list[StreamEvent] = []
    for start, end in pairwise(at):
        if not flow.take(stream[start:end]):
            assert flow.error is None
            events.extend(flow.pending)
    raws = b"".join(event.raw for event in events) + reader.final_raw
    assert KEY.encode() not in raws
    assert raws.count(b'"echo"') == stream.count(b'"echo"')
    completion = adapter._whole(reader.body(), request, {}, (), ())
    assert KEY not in json.dumps(completion.raw)
