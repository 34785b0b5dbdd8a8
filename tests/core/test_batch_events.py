"""Events of batches at providers: what they say, and of which level they are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from src.core.batching import events
from src.core.store import BatchState, ProviderBatch
from src.records import Event

NOW = 1_800_000_000.0
BATCH = ProviderBatch(
    7, "openai", "gpt-6-luna", "ao0123456789abcdef", BatchState.SUBMITTED, NOW, NOW, NOW, None, None,
    NOW + 86_400, "batch_1", (), 300, 300, 0, 0, 0, 0, 0, 0.1, 5_000_000, NOW, "",
)  # fmt: skip
DONE = replace(
    BATCH, state=BatchState.COLLECTED, ended_at=NOW + 720, left_rows=0, answered=290, failed=3, unanswered=7,
    cost_nanos=1_500_000_000,
)  # fmt: skip


@pytest.mark.parametrize(
    ("event", "kind", "level", "text"),
    [
        (
            events.created(BATCH, NOW),
            "batch_created",
            "info",
            "300 tasks sent to gpt-6-luna, at half the price",
        ),
        (
            events.late(BATCH, NOW + 4 * 3600),
            "batch_late",
            "warning",
            "late, after 4 h: 300 tasks wait for it, and go live in time if need be",
        ),
        (
            events.undecided(BATCH, NOW),
            "batch_undecided",
            "warning",
            "its creation was not answered, and a batch of 300 tasks is running there, which shows at its "
            "end whether it is this one; until then none is sent again, and all go live in time if need be",
        ),
        (
            events.recalled(BATCH, NOW),
            "batch_late",
            "warning",
            "cancelled, since a deadline is near: 300 tasks go live, for up to $0.0050 more",
        ),
        (
            events.pulled_back(BATCH, 120, NOW),
            "batch_pulled_back",
            "warning",
            "120 of its 300 tasks go live at the full price, since their deadline is near; what it still "
            "answers costs up to $0.0050 in vain",
        ),
        (
            events.ended(DONE, NOW),
            "batch_expired",
            "warning",
            "ended after 12 min: 290 of 300 tasks answered, 3 failed, 7 not done; $1.50; the provider did "
            "not do the rest",
        ),
        (
            events.ended(replace(DONE, cancel_sent_at=NOW + 60), NOW),
            "batch_ended",
            "info",
            "ended after 12 min: 290 of 300 tasks answered, 3 failed, 7 not done; $1.50",
        ),
        (
            events.ended(
                replace(DONE, cancel_sent_at=NOW + 60, unanswered=5, late=2, late_nanos=20_000_000), NOW
            ),
            "batch_ended",
            "warning",
            "ended after 12 min: 290 of 300 tasks answered, 3 failed, 5 not done, 2 answered too late; $1.50"
            ", $0.0200 of it paid late",
        ),
        (
            events.failed(BATCH, "the queue is full", NOW, comes_again=True),
            "batch_failed",
            "info",
            "no task was done: the queue is full; its 300 tasks wait for another batch",
        ),
        (
            events.failed(BATCH, "no such model", NOW, comes_again=False),
            "batch_failed",
            "warning",
            "no task was done: no such model; its 300 tasks go on without it",
        ),
        (
            events.lost(BATCH, "its results lack 3 of 300 tasks", 5_000_000, NOW),
            "batch_lost",
            "warning",
            "its results lack 3 of 300 tasks, which may have cost up to $0.0050; these tasks go live",
        ),
        (
            events.refused(BATCH, "answered 403", NOW),
            "batch_refused",
            "warning",
            "not accepted: answered 403; such tasks go into other batches, or live",
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Event) else "",
)
def test_an_event_says_what_happened_to_how_many_tasks(
    event: Event, kind: str, level: str, text: str
) -> None:
    assert (event.kind, event.level, event.provider) == (kind, level, "openai")
    assert event.message == f"batch 7 at openai: {text}"
    assert event.fields["marker"] == BATCH.marker


def test_tasks_that_can_not_be_collected_are_told_once_for_their_provider() -> None:
    event = events.unreachable("openai", "no key in OPENAI_API_KEY", 2, 340, NOW)
    assert (event.kind, event.level, event.provider) == ("batch_unreachable", "warning", "openai")
    assert event.message == (
        "340 tasks in 2 batches at openai can't be collected: no key in OPENAI_API_KEY; they wait, and go "
        "live in time if need be"
    )
