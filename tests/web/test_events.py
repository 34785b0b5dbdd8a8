"""The page of events: filters, pages, links."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from src.core.store import Store
from src.core.store import events as event_store
from src.core.store.events import EventSelection
from src.records import Event

from .filled import FilledState


@pytest.fixture
def eventful(client: FlaskClient, store: Store, filled: FilledState) -> FlaskClient:
    """The filled events and: two tasks rejected, a batch cancelled."""
    store.events.add(
        [
            Event(
                filled.now - 50,
                "answer_refused",
                "the database rejected an answer",
                "openai",
                "t-1",
                "warning",
            ),
            Event(
                filled.now - 40,
                "answer_refused",
                "the database rejected an answer",
                "gemini",
                "t-2",
                "warning",
            ),
            Event(filled.now - 7200, "batch_cancelled", "alice cancelled it", fields={"batch": 'say "hi"'}),
        ]
    )
    return client


def kinds(client: FlaskClient, query: str) -> list[str]:
    answer = client.get(f"/api/events?{query}")
    assert answer.status_code == 200, answer.text
    return [event["kind"] for event in answer.json["events"]]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["batch_cancelled", "answer_refused", "answer_refused", "unknown_price", "breaker_opened"]),
        ("kind=answer_refused", ["answer_refused", "answer_refused"]),
        ("kind=nothing", []),
        ("level=alert", ["unknown_price"]),
        ("level=warning&provider=openai", ["answer_refused", "breaker_opened"]),
        ("about=t-2", ["answer_refused"]),
        ("about=ALICE", ["batch_cancelled"]),
        ("about=say+%22hi%22", ["batch_cancelled"]),
        ("about=%25", []),
        ("within=hour", ["answer_refused", "answer_refused", "unknown_price", "breaker_opened"]),
        ("until=2020-01-01", []),
        ("limit=1", ["batch_cancelled"]),
    ],
)
def test_events_are_filtered(eventful: FlaskClient, query: str, expected: list[str]) -> None:
    assert kinds(eventful, query) == expected
    assert eventful.get(f"/events?{query}").status_code == 200
    if "limit" not in query:
        assert kinds(eventful, f"{query}&after=0") == expected[::-1], "the filters hold there too"


def test_events_are_paged_by_id(eventful: FlaskClient) -> None:
    seen: list[int] = []
    query = "limit=2"
    while query:
        answer = eventful.get(f"/api/events?{query}").json
        seen += [event["id"] for event in answer["events"]]
        query = f"limit=2&before={answer['next_before']}" if answer["next_before"] else ""
    assert seen == sorted(seen, reverse=True) and len(seen) == 5
    page = eventful.get("/events?limit=2&level=warning").text
    assert f"before={seen[2]}" in page and "level=warning" in page


def test_a_page_looks_at_a_bounded_number_of_events(
    store: Store, monkeypatch: pytest.MonkeyPatch, filled: FilledState
) -> None:
    monkeypatch.setattr(event_store, "SEARCHED", 2)
    page = store.events.page(5, EventSelection(level="nothing"))
    assert (page.rows, page.next_before is None) == ((), True)
    store.events.add([Event(filled.now, "started", "") for _ in range(3)])
    pages = 0
    before = None
    while True:
        page = store.events.page(5, EventSelection(level="alert"), before=before)
        pages += 1
        before = page.next_before
        if page.rows or before is None:
            break
    assert pages == 2 and [row.event.kind for row in page.rows] == ["unknown_price"]


def test_an_event_links_to_what_it_names(eventful: FlaskClient) -> None:
    page = eventful.get("/events").text
    for link in (
        "/provider-status#openai",
        "/tasks?id=t-1",
        "/tasks?batch=say+%22hi%22",
        "/events?kind=unknown_price",
    ):
        assert f'href="{link}"' in page
    assert "<script>document.title" not in page, "messages are text"
    assert '<option value="batch_cancelled">' in page


def test_a_wrong_filter_is_named(eventful: FlaskClient) -> None:
    for wrong in ("level=fatal", "before=0", "since=soon", "kinds=x", "since=2026-01-02&until=2026-01-01"):
        assert eventful.get(f"/api/events?{wrong}").status_code == 422
        page = eventful.get(f"/events?{wrong}")
        assert page.status_code == 200 and 'class="problem"' in page.text
        page = eventful.get(f"/events?about=t-2&{wrong}").text
        assert 'name="about" value="t-2"' in page and "cancelled it" not in page, "what is right stays"


@pytest.mark.parametrize(
    ("kind", "level", "tone"),
    [
        ("provider_open", "alert", "alert"),
        ("provider_degraded", "alert", "good"),  # after an outage
        ("provider_degraded", "info", "info"),  # before one
        ("online", "alert", "good"),
    ],
)
def test_the_end_of_an_outage_is_no_bad_news(
    client: FlaskClient, store: Store, filled: FilledState, kind: str, level: str, tone: str
) -> None:
    store.events.add([Event(filled.now - 1, kind, "openai changed", "openai", "", level)])
    page = client.get("/events").get_data(as_text=True)
    assert f'<li class="{tone}"' in page.partition("openai changed")[0].rpartition("<time")[0][-60:]
