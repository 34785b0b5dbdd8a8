"""Tasks that name an agent: what they send, and how they are stored, named and planned."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import pytest

from src.config import load_settings
from src.core.intake import BadLine, ReadOptions, RowDefaults, TaskContext, make_task, read_tasks
from src.core.plans import TaskSample
from src.core.store.codec import decode_task, encode_task
from src.errors import InputError
from src.messages import Message
from src.records import Task
from src.settings import Settings, with_slots

SETTINGS = load_settings(environ={})
ENGINEER = SETTINGS.agent_named("gpt-engineer")
assert ENGINEER is not None
PROMPT = Message("system", ENGINEER.system_prompt)
HI = Message("user", "Hi")


def made(fields: Mapping[str, Any], settings: Settings = SETTINGS) -> Task:
    return make_task({"prompt": "Hi"} | fields, TaskContext("b", settings, 0.0))


@pytest.mark.parametrize(
    ("fields", "messages"),
    [
        ({}, (HI,)),
        ({"task_type": "code_generation"}, (HI,)),
        ({"agent": "gpt-engineer"}, (PROMPT, HI)),
        ({"agent": "gpt-engineer", "system": "Mine."}, (Message("system", "Mine."), HI)),
    ],
    ids=["none", "a type is no agent", "named", "with a system prompt of its own"],
)
def test_only_a_task_that_names_an_agent_gets_its_system_prompt(
    fields: dict[str, Any], messages: tuple[Message, ...]
) -> None:
    assert made(fields).messages == messages


def test_an_agent_without_a_system_prompt_adds_nothing() -> None:
    silent = ENGINEER.model_copy(update={"system_prompt": ""})
    settings = SETTINGS.model_copy(update={"agents": (silent,)})
    assert made({"agent": "gpt-engineer"}, settings).messages == (HI,)


@pytest.mark.parametrize("slots", [1, 500])
def test_an_agent_may_be_named_whatever_the_concurrency(slots: int) -> None:
    settings = SETTINGS.model_copy(update={"agents": with_slots(SETTINGS.agents, slots)})
    for agent in SETTINGS.agents:
        assert made({"agent": agent.name}, settings).messages[0].content == agent.system_prompt


def test_a_copy_of_an_agent_may_be_named() -> None:
    twins = ENGINEER.model_copy(update={"count": 2})
    settings = SETTINGS.model_copy(update={"agents": (twins,)})
    assert made({"agent": "gpt-engineer-2"}, settings).messages == (PROMPT, HI)


def test_an_unknown_agent_is_refused_with_the_names_of_all() -> None:
    with pytest.raises(InputError) as raised:
        made({"agent": "gpt-engineeer"})
    names = ", ".join(agent.name for agent in SETTINGS.agents)
    assert raised.value.what == f"unknown agent 'gpt-engineeer'; choose from {names}"
    how = ReadOptions(defaults=RowDefaults(agent="nobody"))
    with pytest.raises(InputError, match=r"^--agent: unknown agent 'nobody'; choose from claude-analyst, "):
        list(read_tasks(io.BytesIO(b"Hi"), TaskContext("b", SETTINGS, 0.0), how))


def test_a_row_with_an_unknown_agent_is_a_bad_line() -> None:
    lines = b'{"prompt": "Hi", "agent": "nobody"}\n{"prompt": "Hi", "agent": "gpt-engineer"}\n'
    bad, good = read_tasks(io.BytesIO(lines), TaskContext("b", SETTINGS, 0.0), ReadOptions(fmt="jsonl"))
    assert isinstance(bad, BadLine) and "unknown agent" in bad.reason
    assert isinstance(good, Task)


def test_another_prompt_of_the_agent_keeps_the_id_of_a_row_and_is_another_content() -> None:
    """As after an edit of a template."""
    other = ENGINEER.model_copy(update={"system_prompt": "Be brief."})
    settings = SETTINGS.model_copy(update={"agents": (other,)})
    before, after = made({"agent": "gpt-engineer"}), made({"agent": "gpt-engineer"}, settings)
    assert before.id == after.id != made({}).id
    assert encode_task(before)[0] != encode_task(after)[0]


def test_the_agent_is_stored_with_its_task() -> None:
    task = made({"agent": "gpt-engineer"})
    _, _, body = encode_task(task)
    assert decode_task(body, id=task.id, batch="b") == task
    assert "agent" not in json.loads(encode_task(made({}))[2])


def test_a_task_is_estimated_with_the_prompt_of_its_agent() -> None:
    task = made({"agent": "gpt-engineer"})
    assert task.text_chars == len("Hi") + len(PROMPT.content)


def test_a_sample_counts_the_agents_that_are_named() -> None:
    sample = TaskSample(at_most=2)
    for n in range(9):
        sample.add(made({"prompt": str(n)} | ({"agent": "gpt-engineer"} if n % 3 == 0 else {})))
    assert sample.agents == {"gpt-engineer": 3}
