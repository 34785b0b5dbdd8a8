"""The page and the JSON of a task whose conversation has images, tools and reasoning."""

from __future__ import annotations

from flask.testing import FlaskClient

from src.core.store import Store
from src.messages import Image, Message, Reasoning, Text, Tool, ToolCall, ToolResult
from src.records import Result, Task, TaskStatus
from tests.conversations import PIXEL

from .filled import ME, SCRIPT, FilledState

MESSAGES = (
    Message("user", (Text("What is this?"), Image("image/png", PIXEL))),
    Message(
        "assistant", (Reasoning("{}", "a/b", "I could look."), ToolCall("c1", "look_up", '{"word":"a"}'))
    ),
    Message("tool", (ToolResult("c1", (Text(SCRIPT),), is_error=True),)),
)


def answered(store: Store, filled: FilledState) -> int:
    task = Task(
        "talk", "b", MESSAGES, tools=(Tool("look_up"),), tool_choice="required", reasoning_effort="low"
    )
    store.intake.add_tasks([task], now=filled.now)
    (claimed,) = store.queue.claim(ME, 1, now=filled.now, batch="b")
    parts = (Reasoning("{}", "a/b", "Once more."), ToolCall("c2", "look_up", '{"word":"other"}'))
    result = Result(claimed, TaskStatus.SUCCEEDED, filled.now, output="", finish_reason="tool", parts=parts)
    store.queue.finish(ME, [result])
    found = store.tasks.find("b", "talk")
    assert found is not None
    return found.row.row


def test_the_page_shows_every_part(client: FlaskClient, store: Store, filled: FilledState) -> None:
    page = client.get(f"/rows/{answered(store, filled)}").text
    for shown in (
        "What is this?", "image/png, 70 B, 1 x 1 px", "Calls <b>look_up</b>", "Error of <b>look_up</b>",
        "<summary>Reasoning</summary>", "I could look.", "Once more.", "look_up (required)",
        "&#34;other&#34;",
    ):  # fmt: skip
        assert shown in page, shown
    assert SCRIPT not in page
    assert PIXEL not in page


def test_an_image_of_unknown_size_is_shown_without_one(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    parts = (Image("image/heic", "AAAA"), Image(url="https://example.com/a.png"))
    store.intake.add_tasks([Task("unsized", "b", (Message("user", parts),))], now=filled.now)
    page = client.get("/tasks/b/unsized").text
    assert "image/heic, 3 B" in page and "https://example.com/a.png" in page and " px" not in page


def test_the_json_has_the_form_in_which_tasks_are_sent(
    client: FlaskClient, store: Store, filled: FilledState
) -> None:
    found = client.get(f"/api/rows/{answered(store, filled)}").json
    assert found["messages"][0]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{PIXEL}"},
    }
    assert found["messages"][1]["tool_calls"][0]["id"] == "c1"
    assert found["messages"][2] == {
        "role": "tool", "tool_call_id": "c1", "content": SCRIPT, "is_error": True
    }  # fmt: skip
    assert found["tools"] == [{"type": "function", "function": {"name": "look_up"}}]
    assert (found["tool_choice"], found["reasoning_effort"]) == ("required", "low")
    assert found["result"]["tool_calls"][0]["function"]["name"] == "look_up"


def test_an_export_has_the_tool_calls(client: FlaskClient, store: Store, filled: FilledState) -> None:
    answered(store, filled)
    assert '"tool_calls":[{"id":"c2"' in client.get("/tasks/export.jsonl?batch=b").text
    table = client.get("/tasks/export.csv?batch=b").text
    assert "tool_calls" in table.splitlines()[0]
    assert '""id"":""c2""' in table
