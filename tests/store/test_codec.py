"""Records are read from JSON as they were written, and the JSON of other versions is harmless."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.store.codec import (
    decode_parts,
    decode_task,
    dump_record,
    encode_parts,
    encode_task,
    load_record,
)
from src.messages import Message, Text, Tool, ToolCall
from src.records import AgentSnapshot, PoolSnapshot, Task
from tests import conversations
from tests.routing.build import START, make_balancer, make_settings

SNAPSHOT = replace(
    make_balancer(make_settings()).snapshot(START),
    agents=(AgentSnapshot("gpt-engineer", "openai", ("code",), 1, 4, 7),),
    waiting=3,
)


def test_a_snapshot_is_read_as_it_was_written() -> None:
    assert load_record(PoolSnapshot, dump_record(SNAPSHOT)) == SNAPSHOT


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e-300, 0.1 + 0.2])
def test_every_number_is_read_as_it_was_written(value: float) -> None:
    odd = replace(SNAPSHOT, offline_since=value)
    assert load_record(PoolSnapshot, dump_record(odd)) == odd


def test_text_that_is_not_valid_unicode_can_be_dumped() -> None:
    (first, *rest) = SNAPSHOT.providers
    odd = replace(SNAPSHOT, providers=(replace(first, name="a\ud800"), *rest))
    assert json.loads(dump_record(odd))["providers"][0]["name"] == "a\ud800"


@pytest.mark.parametrize(
    ("change", "is_readable"),
    [
        pytest.param({"of_a_newer_version": {"x": 1}}, True, id="another field"),
        pytest.param({"oldest_waiting_at": ...}, True, id="a field with a default is missing"),
        pytest.param({"waiting": ...}, False, id="a field without a default is missing"),
        pytest.param({"waiting": "many"}, False, id="another type"),
        pytest.param({"providers": [{}]}, False, id="another shape inside"),
    ],
)
def test_a_snapshot_of_another_version_is_read_as_far_as_it_fits_or_not_at_all(
    change: dict[str, object], is_readable: bool
) -> None:
    fields = json.loads(dump_record(SNAPSHOT)) | change
    text = json.dumps({name: value for name, value in fields.items() if value is not ...})
    assert load_record(PoolSnapshot, text) == (SNAPSHOT if is_readable else None)


# ---------------------------------------------------------------- tasks


def test_a_plain_prompt_keeps_the_json_and_the_fingerprint_that_stored_batches_have() -> None:
    """With any other one, rows of a batch that is resumed would count as changed."""
    turns = (Message("system", "Be brief."), Message("user", "Wie heißt\n du?"))
    task = Task(
        "t", "b", turns, tier="economy", max_tokens=5, temperature=0.5, stop=("END",), metadata={"a": 1}
    )
    digest, preview, body = encode_task(task)
    assert digest.hex() == "ffa713461c43efaafdc96af3169c1081"
    assert preview == "Wie heißt du?"
    assert body == (
        '{"messages":[["system","Be brief."],["user","Wie heißt\\n du?"]],"task_type":"general",'
        '"tier":"economy","max_tokens":5,"temperature":0.5,"stop":["END"],"metadata":{"a":1}}'
    )


@given(
    st.lists(conversations.messages, min_size=1, max_size=4).map(tuple),
    st.lists(conversations.tools, max_size=2).map(tuple),
    st.sampled_from(["", "auto", "required", "weather"]),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, "low", "high"]),
)
def test_every_conversation_is_read_as_it_was_written(
    messages: tuple[Message, ...],
    tools: tuple[Tool, ...],
    choice: str,
    parallel: bool | None,
    effort: str | None,
) -> None:
    if not tools:
        choice, parallel = "", None  # which mean nothing without tools
    task = Task(
        "t",
        "b",
        messages,
        tools=tools,
        tool_choice=choice,
        parallel_tool_calls=parallel,
        reasoning_effort=effort,
    )
    digest, _, body = encode_task(task)
    found = decode_task(body, id="t", batch="b")
    assert found == task
    assert encode_task(found)[0] == digest


@given(st.lists(conversations.messages, min_size=1, max_size=3), st.none() | st.text(max_size=5))
def test_the_parts_of_an_answer_are_read_as_they_were_written(
    messages: list[Message], output: str | None
) -> None:
    parts = tuple(part for message in messages for part in message.parts)
    assert decode_parts(encode_parts(parts, output), output) == parts


def test_the_parts_of_an_answer_do_not_repeat_its_text() -> None:
    call = ToolCall("c1", "weather", "{}")
    stored = encode_parts((Text("A long text."), call), "A long text.")
    assert stored is not None
    assert "long" not in stored
    assert decode_parts(stored, "A long text.") == (Text("A long text."), call)


def test_a_part_of_a_later_version_is_an_error_and_not_lost() -> None:
    with pytest.raises(ValueError, match="unknown part of a message: 'video'"):
        decode_task('{"messages":[["user",[{"video":"x"}]]]}', id="t", batch="b")
