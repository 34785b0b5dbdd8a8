"""Which targets take rows, after what they have refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from src.core.batching.rooms import FULL_S, REFUSED_S, Rooms
from src.core.store import ProviderBatch

from .test_batch_events import BATCH, NOW

SAME, SISTER, OTHER = ("openai", "gpt-6-luna"), ("openai", "gpt-6.1-sol"), ("gemini", "gpt-6-luna")
Refusal = Callable[[Rooms, ProviderBatch], None]


@pytest.mark.parametrize(
    ("refusal", "refused", "without_room", "lasts_s"),
    [
        (lambda rooms, batch: rooms.refused(batch, NOW, by_key=True), {SAME, SISTER}, set(), REFUSED_S),
        (lambda rooms, batch: rooms.refused(batch, NOW, by_key=False), {SAME}, set(), REFUSED_S),
        (lambda rooms, batch: rooms.full(batch, NOW), set(), {SAME}, FULL_S),
        (lambda rooms, batch: rooms.busy(batch, NOW), set(), {SAME}, FULL_S),
    ],
    ids=["key", "model", "full", "busy"],
)
def test_a_refusal_concerns_its_target_for_a_time(
    refusal: Refusal, refused: set[tuple[str, str]], without_room: set[tuple[str, str]], lasts_s: float
) -> None:
    rooms, targets = Rooms(), (SAME, SISTER, OTHER)
    refusal(rooms, BATCH)
    for at, some in ((NOW + lasts_s - 1, True), (NOW + lasts_s, False)):
        assert {each for each in targets if rooms.refuses(each, at)} == (refused if some else set())
        assert {each for each in targets if not rooms.of(each, at)} == (without_room if some else set())


@pytest.mark.parametrize(("rows", "next_rows"), [(5_000, 2_500), (150, 100), (7, 100)])
def test_a_batch_that_found_no_room_is_halved(rows: int, next_rows: int) -> None:
    rooms = Rooms()
    rooms.full(replace(BATCH, rows=rows), NOW)
    assert rooms.of(SAME, NOW + FULL_S) == next_rows
