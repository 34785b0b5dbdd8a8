"""Conversations with images and tools, and answers that are more than a text, in the store."""

from __future__ import annotations

import pytest

from src.core.store import Store, TaskSelection, schema
from src.messages import Document, Image, Message, Reasoning, Text, Tool, ToolCall, ToolResult
from src.records import Task
from tests.conversations import PIXEL

from .makers import NOW, a_result, a_task, rows_of, with_claims

HISTORY = (
    Message("system", "Be brief."),
    Message("user", (Text("What is on this picture?"), Image("image/png", PIXEL))),
    Message("assistant", (Text("I look."), ToolCall("c1", "look_up", '{"word": "argument"}'))),
    Message("tool", (ToolResult("c1", (Text("A lighthouse."),), is_error=True),)),
)
TOOLS = (Tool("look_up", "Looks up a word.", {"type": "object", "properties": {"word": {"type": "string"}}}),)
ANSWER = (
    Reasoning('{"signature":"x\\u0000"}', "anthropic/claude", "I could ask."),
    Text("answer to t1"),
    ToolCall("c2", "look_up", '{"word": "coast \ud800"}'),
)


def a_conversation(**fields: object) -> Task:
    return Task("t1", "b", HISTORY, tools=TOOLS, tool_choice="required", reasoning_effort="low", **fields)  # type: ignore[arg-type]


def test_a_conversation_is_claimed_as_it_was_added(store: Store) -> None:
    (claimed,) = with_claims(store, a_conversation(parallel_tool_calls=False))
    assert claimed.messages == HISTORY
    assert (claimed.tools, claimed.tool_choice) == (TOOLS, "required")
    assert (claimed.parallel_tool_calls, claimed.reasoning_effort) == (False, "low")


def test_an_answer_keeps_its_parts(store: Store) -> None:
    (task,) = with_claims(store, a_conversation())
    (written,) = store.queue.finish("me", [a_result(task, parts=ANSWER)])
    found = store.tasks.find("b", "t1")
    assert found is not None
    assert found.result is not None
    assert found.result.parts == written.parts == ANSWER
    assert found.result.output == "answer to t1"


def test_an_answer_that_is_a_text_stores_no_parts(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    store.queue.finish("me", [a_result(task)])
    (row,) = rows_of(store, schema.answers)
    assert row.parts is None


def test_duplicates_get_the_parts_too(store: Store) -> None:
    both = [a_task(name, prompt="the same") for name in ("a", "b")]
    store.intake.add_tasks(both, now=NOW, once=True)
    (first,) = with_claims(store)
    written = store.queue.finish("me", [a_result(first, output="", parts=ANSWER)])
    assert [result.parts for result in written] == [ANSWER, ANSWER]


@pytest.mark.parametrize(
    ("differs", "other"),
    [("tools", ()), ("tool_choice", "none"), ("reasoning_effort", "low"), ("parallel_tool_calls", False)],
)
def test_tasks_that_differ_in_tools_or_effort_are_not_equal(
    store: Store, differs: str, other: object
) -> None:
    fields = {"prompt": "same", "tools": TOOLS}
    one, two = a_task("a", **fields), a_task("b", **(fields | {differs: other}))  # type: ignore[arg-type]
    assert store.intake.add_tasks([one, two], now=NOW, once=True).duplicates == 0


def test_an_earlier_end_keeps_the_parts_until_it_is_purged(store: Store) -> None:
    (task,) = with_claims(store, a_conversation())
    store.queue.finish("me", [a_result(task, parts=ANSWER)])
    store.admin.retry("b", ["t1"], now=NOW + 20)
    detail = store.tasks.find("b", "t1")
    assert detail is not None
    assert detail.earlier[0].parts == ANSWER
    assert detail.result is None


def test_a_purge_leaves_nothing_of_a_conversation(store: Store) -> None:
    (task,) = with_claims(store, a_conversation())
    store.queue.finish("me", [a_result(task, parts=ANSWER)])
    assert store.contents.purge(NOW + 100) == 1
    detail = store.tasks.find("b", "t1")
    assert detail is not None
    assert (detail.is_purged, detail.task.tools) == (True, ())
    assert detail.result is not None
    assert (detail.result.output, detail.result.parts) == (None, ())


def test_the_search_finds_texts_and_results_of_tools_and_no_data(store: Store) -> None:
    (task,) = with_claims(store, a_conversation())
    store.queue.finish("me", [a_result(task, parts=ANSWER)])
    assert store.search.prepare()
    assert store.search.index_some() == 1
    for words, is_found in {
        "picture": True, "lighthouse": True, "answer": True, "argument": False, "coast": False,
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhf": False,
    }.items():  # fmt: skip
        assert len(store.tasks.page(5, TaskSelection(search=words)).rows) == is_found, words


@pytest.mark.parametrize(
    ("content", "preview"),
    [
        pytest.param((Text("See"), Text("this"), Image("image/png", PIXEL)), "See this", id="texts"),
        pytest.param((Image("image/png", PIXEL),), "image/png, 70 B", id="an image alone"),
        pytest.param(
            (Document("application/pdf", PIXEL * 100, name="a.pdf"), Image(url="https://x.org/a.png")),
            "a.pdf, application/pdf, 7 KB, image https://x.org/a.png",
            id="a document and a URL",
        ),
    ],
)
def test_a_list_shows_the_text_of_a_prompt_or_what_it_is(
    store: Store, content: tuple[Text | Image | Document, ...], preview: str
) -> None:
    store.intake.add_tasks([Task("t", "b", (Message("user", content),))], now=NOW)
    (row,) = store.tasks.page().rows
    assert row.preview == preview


def test_only_text_teaches_how_many_tokens_a_character_has(store: Store) -> None:
    tasks = with_claims(store, a_conversation(), a_task("plain"))
    store.queue.finish("me", [a_result(task) for task in tasks])
    assert [size.chars for size in store.reports.prompt_sizes()] == [len("prompt of plain")]
