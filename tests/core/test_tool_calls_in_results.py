"""Tool calls of an answer in every form of results, and conversations as they are written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from src.agents.real_agent import matching
from src.answer_schema import Reading
from src.core.intake import (
    TaskContext,
    make_task,
    written_calls,
    written_choice,
    written_messages,
    written_tools,
)
from src.core.results import ResultsFile, TableColumns, form_of, result_row
from src.messages import Message, Reasoning, Text, Tool, ToolCall, ToolResult
from src.records import Completion, FinishReason, Usage
from src.routing.cost.prompt_cache import beginnings
from tests import conversations

from .test_conversations import ASKED, CONTEXT, CONVERSATIONS, WEATHER
from .test_results import result

CALL = ToolCall("c1", "weather", '{"city":"Köln"}')
WRITTEN = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Köln"}'}}
ANSWER = (Reasoning("{}", "anthropic/x", "Hm."), Text("Hello"), CALL)


def test_a_row_has_the_tool_calls_behind_the_output() -> None:
    row = result_row(result(parts=ANSWER, finish_reason=FinishReason.TOOL), simulated=True)
    assert list(row)[3:6] == ["output", "tool_calls", "finish_reason"]
    assert (row["output"], row["tool_calls"], row["finish_reason"]) == ("Hello", [WRITTEN], "tool")
    assert "tool_calls" not in result_row(result(parts=ANSWER[:2]), simulated=True)


def test_the_calls_of_a_row_can_be_given_back() -> None:
    (call,) = result_row(result(parts=ANSWER), simulated=True)["tool_calls"]
    turns = [
        ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "Rain"},
    ]
    assert make_task({"messages": turns}, CONTEXT).messages[1:] == (
        Message("assistant", (CALL,)),
        Message("tool", (ToolResult("c1", (Text("Rain"),)),)),
    )


def test_a_table_has_them_as_json(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    form = form_of(str(path), columns=TableColumns(all=True))
    with ResultsFile(path, simulated=True, form=form) as file:
        file.append([result("a", parts=ANSWER), result("b")])
    with path.open(encoding="utf-8", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert json.loads(first["tool_calls"]) == [WRITTEN]
    assert second["tool_calls"] == ""


def test_openais_package_reads_them() -> None:
    from openai.types.chat import ChatCompletion

    form = form_of("out.jsonl", "openai-batch")
    calls = result(output="", parts=(CALL,), finish_reason=FinishReason.TOOL)
    body = json.loads(form.encode(calls, simulated=True))["response"]["body"]
    (choice,) = ChatCompletion.model_validate(body, strict=True).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    assert choice.message.tool_calls[0].id == "c1"


# ------------------------------------------------------------------ written and read


def test_every_conversation_of_a_user_is_written_as_it_was_read() -> None:
    for turns, messages in CONVERSATIONS.values():
        again = written_messages(messages)
        assert make_task({"messages": again}, CONTEXT).messages == messages, turns


@given(st.lists(conversations.messages, max_size=5), st.lists(conversations.tools, max_size=3))
def test_any_conversation_can_be_written(messages: list[Message], tools: list[Tool]) -> None:
    """Those of the gateway too, which hold what no user writes: reasoning, and marks for the cache."""
    assert json.dumps([written_messages(messages), written_tools(tools)])
    calls = [part for message in messages for part in message.parts if isinstance(part, ToolCall)]
    assert len(written_calls(calls)) == len(calls)


def test_tools_are_written_as_they_were_read() -> None:
    for choice in (None, "required", {"type": "function", "function": {"name": "weather"}}):
        task = make_task({"messages": [ASKED], "tools": [WEATHER], "tool_choice": choice}, CONTEXT)
        assert written_tools(task.tools) == [WEATHER]
        assert written_choice(task.tool_choice) == choice


# ------------------------------------------------------------------ schemas and prompt caches


def test_an_answer_with_a_schema_is_reduced_in_its_parts_too() -> None:
    reasoning = Reasoning("{}", "anthropic/x", "Hm.")
    completion = Completion(
        'It is {"a": 1}', FinishReason.STOP, Usage(), "m", parts=(reasoning, Text('It is {"a": 1}'))
    )
    found = matching(completion, Reading('{"a": 1}'), "openai", "gpt-6.1-sol")
    assert (found.text, found.parts) == ('{"a": 1}', (reasoning, Text('{"a": 1}')))


def test_tools_are_part_of_the_prefix_that_providers_cache() -> None:
    turns = [{"role": "system", "content": "s" * 50}, ASKED]
    context = TaskContext("b", CONTEXT.settings, CONTEXT.now)
    plain, with_tools, others = (
        make_task({"messages": turns, "tools": tools}, context)
        for tools in ([], [WEATHER], [WEATHER, {"type": "function", "function": {"name": "now"}}])
    )
    assert beginnings(plain, 60) == ()
    keys = [beginnings(task, 50)[0].key for task in (plain, with_tools, others)]
    assert len(set(keys)) == 3
    assert len(beginnings(with_tools, 60)) == 1, "the tools count as text of the prefix"
