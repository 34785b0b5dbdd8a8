"""Options for all rows of a file: each one in each format, and a row's own value wins."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.config import load_settings
from src.core.intake import (
    BadLine,
    ReadOptions,
    RowDefaults,
    TaskContext,
    changes,
    earlier_options,
    for_batch,
    make_task,
    option_of,
    read_tasks,
    stored_options,
)
from src.errors import InputError
from src.messages import Message
from src.records import Task
from src.settings import Settings, TaskTypeConfig

NOW = 1_800_000_000.0
SETTINGS = load_settings(environ={})

# By field: the value of the option, and that of a row.
VALUES: dict[str, tuple[Any, Any]] = {
    "task_type": ("research", "analysis"),
    "agent": ("gpt-reviewer", "claude-writer"),
    "tier": ("economy", "premium"),
    "models": (("gpt-6-luna",), ("gemini-4-argon", "gpt-6-luna")),
    "max_tokens": (100, 200),
    "temperature": (0.5, 0.0),
    "top_p": (0.9, 0.1),
    "seed": (1, 0),
    "reasoning_effort": ("low", "high"),
    "system": ("Be brief.", "Be long."),
    "response_schema": ({"type": "object"}, {"type": "array"}),
    "choices": (("yes", "no"), ("a", "b")),
}
FORMATS = ("jsonl", "csv", "text", "openai-batch")
# The names of fields in a batch line; it has no others, and always a model.
IN_BATCH_LINES = {
    "max_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "reasoning_effort": "reasoning_effort",
}


def file_of(fmt: str, row: dict[str, Any]) -> bytes:
    """A file with one row that asks "Hi" and sets these fields."""
    if fmt == "jsonl":
        return json.dumps({"prompt": "Hi"} | row).encode()
    if fmt == "text":
        return b"Hi\n"
    if fmt == "csv":
        text = io.StringIO()
        cells = {name: value if isinstance(value, str) else json.dumps(value) for name, value in row.items()}
        writer = csv.DictWriter(text, ["prompt", *VALUES])
        writer.writeheader()
        writer.writerow({"prompt": "Hi"} | cells)
        return text.getvalue().encode()
    body = {IN_BATCH_LINES[name]: value for name, value in row.items()}
    turns = [{"role": "user", "content": "Hi"}]
    line = {"custom_id": "1", "body": {"model": "gpt-4o", "messages": turns, **body}}
    return json.dumps(line).encode()


def read(fmt: str, row: dict[str, Any], **options: Any) -> Task:
    how = ReadOptions(fmt=fmt, **options)
    (task,) = read_tasks(io.BytesIO(file_of(fmt, row)), TaskContext("b", SETTINGS, NOW), how)
    assert isinstance(task, Task), task
    return task


def value_in(task: Task, field: str) -> Any:
    if field == "system":
        return next((m.content for m in task.messages if m.role == "system"), None)
    if field == "choices" and task.response_schema is not None:
        return tuple(task.response_schema["properties"]["choice"]["enum"])
    return getattr(task, field)


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("field", VALUES)
def test_an_option_sets_a_field_of_a_row_that_does_not(field: str, fmt: str) -> None:
    of_all, _ = VALUES[field]
    plain, task = read(fmt, {}), read(fmt, {}, defaults=RowDefaults(**{field: of_all}))
    if (fmt, field) == ("openai-batch", "models"):  # each line names its model
        assert task == plain
        return
    assert value_in(task, field) == of_all
    assert task.id == plain.id, "an option is no part of a row"


@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS if fmt != "text"])
@given(
    own=st.sets(st.sampled_from(sorted({*VALUES} - {"choices"}))),
    of_all=st.sets(st.sampled_from(sorted({*VALUES} - {"choices"}))),
)
def test_a_rows_own_value_always_wins(fmt: str, own: set[str], of_all: set[str]) -> None:
    if fmt == "openai-batch":
        own &= IN_BATCH_LINES.keys()
    defaults = RowDefaults(**{field: VALUES[field][0] for field in of_all})
    task = read(fmt, {field: VALUES[field][1] for field in own}, defaults=defaults)
    for field in own:
        assert value_in(task, field) == VALUES[field][1]
    for field in of_all - own - ({"models"} if fmt == "openai-batch" else set()):
        assert value_in(task, field) == VALUES[field][0]


@pytest.mark.parametrize(("own", "of_all"), [("choices", "response_schema"), ("response_schema", "choices")])
def test_a_row_with_a_form_of_its_own_does_not_get_the_other_one(own: str, of_all: str) -> None:
    task = read("jsonl", {own: VALUES[own][1]}, defaults=RowDefaults(**{of_all: VALUES[of_all][0]}))
    assert value_in(task, own) == VALUES[own][1]


def test_a_system_message_is_a_system_prompt_of_the_rows_own() -> None:
    turns = [{"role": "system", "content": "Mine."}, {"role": "user", "content": "Hi"}]
    line = json.dumps({"messages": turns}).encode()
    how = ReadOptions(fmt="jsonl", defaults=RowDefaults(system="For all."))
    (task,) = read_tasks(io.BytesIO(line), TaskContext("b", SETTINGS, NOW), how)
    assert isinstance(task, Task)
    assert task.messages == (Message("system", "Mine."), Message("user", "Hi"))


def test_null_is_no_value_of_its_own() -> None:
    task = read("jsonl", {"max_tokens": None, "system": None}, defaults=RowDefaults(max_tokens=7, system="S"))
    assert (task.max_tokens, task.messages[0].content) == (7, "S")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"temperature": 3.0}, "--temperature must be at most 2, not 3"),
        ({"top_p": -0.1}, "--top-p must be at least 0, not -0.1"),
        ({"task_type": ""}, "--task-type must be at least 1 character, not empty"),
        ({"choices": ("a", "a")}, "--choices contains a duplicate"),
        ({"choices": ("a",), "response_schema": {}}, "both --response-schema and --choices are given"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_a_value_that_no_row_may_have_is_refused_by_the_name_of_the_option(
    options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError) as raised:
        RowDefaults(**options).check(option_of)
    assert reason in str(raised.value)


IDS = {
    "csv": ("sku,prompt\nA-1,Hi\n", None, "A-1"),
    "csv beside id": ("id,sku,prompt\n7,A-1,Hi\n", None, "A-1"),
    "csv in capitals": ("ID,prompt\nA-1,Hi\n", "ID", "A-1"),
    "csv, its id": ("id,prompt\nA-1,Hi\n", "id", "A-1"),
    "jsonl": ('{"sku": "A-1", "prompt": "Hi"}', None, "A-1"),
    "jsonl, a number": ('{"sku": 7, "prompt": "Hi"}', None, "7"),
    "jsonl beside id": ('{"sku": 7, "id": 8, "prompt": "Hi"}', None, "both 'id' and 'sku' (--id-column)"),
    "jsonl without it": ('{"prompt": "Hi"}', None, "no 'sku' (--id-column)"),
}


@pytest.mark.parametrize(("text", "column", "expected"), IDS.values(), ids=IDS.keys())
def test_ids_come_from_the_column_that_the_option_names(
    text: str, column: str | None, expected: str, settings: Settings = SETTINGS
) -> None:
    fmt = "jsonl" if text.startswith("{") else "csv"
    how = ReadOptions(fmt=fmt, id_column=column or "sku")
    (task,) = read_tasks(io.BytesIO(text.encode()), TaskContext("b", settings, NOW), how)
    if isinstance(task, BadLine):
        assert expected in task.reason
        return
    assert task.id == expected
    if fmt == "csv" and column != "id":
        assert task.metadata[column or "sku"] == "A-1", "the column comes back with the result"


@pytest.mark.parametrize("fmt", ["text", "openai-batch"])
def test_a_format_without_columns_has_no_id_column(fmt: str) -> None:
    with pytest.raises(InputError, match=f"--id-column needs a CSV file or JSON Lines, but this is {fmt}"):
        read(fmt, {}, id_column="sku")


TYPES = {"general": "standard", "translation": "economy", "no such type": "standard"}


@pytest.mark.parametrize(("task_type", "tier"), TYPES.items())
def test_a_row_without_a_tier_has_that_of_its_type_whatever_its_length(task_type: str, tier: str) -> None:
    types = {**SETTINGS.task_types, "translation": TaskTypeConfig(tier="economy")}
    settings = SETTINGS.model_copy(update={"task_types": types})
    for prompt in ("Hi", "long " * 10_000):
        fields = {"prompt": prompt, "task_type": task_type}
        assert make_task(fields, TaskContext("b", settings, NOW)).tier == tier
        assert make_task(fields | {"tier": "auto"}, TaskContext("b", settings, NOW)).tier == "auto"


def test_options_are_stored_with_a_batch_and_read_back() -> None:
    defaults = RowDefaults(**{name: of_all for name, (of_all, _) in VALUES.items() if name != "choices"})
    options = ReadOptions(defaults=defaults, only=("openai",))
    stored = json.loads(json.dumps(stored_options(options)))
    assert earlier_options(options, stored) is None
    assert earlier_options(ReadOptions(), stored) == options
    assert for_batch(options, stored) == options


@pytest.mark.parametrize("stored", [{}, {"ids": 2}], ids=["first version", "second version"])
def test_a_batch_of_an_earlier_version_keeps_ids_and_tier(stored: dict[str, Any]) -> None:
    options = for_batch(ReadOptions(), stored)
    assert (options.ids, options.defaults.tier) == (stored.get("ids", 1), "auto")
    assert earlier_options(options, stored) is None
    new, old = read("jsonl", {}), read("jsonl", {}, defaults=options.defaults, ids=options.ids)
    assert (new.tier, old.tier) == ("standard", "auto")
    assert (new.id == old.id) == (options.ids == 2)


def test_the_options_that_differ_are_named_with_both_values() -> None:
    before = ReadOptions(defaults=RowDefaults(models=("a", "b"), max_tokens=5, seed=0), only=("openai",))
    after = ReadOptions(defaults=RowDefaults(models=("a",), system="Be brief."))
    assert list(changes(before, after)) == [
        "--model a (was a,b)",
        "--max-tokens not set (was 5)",
        "--seed not set (was 0)",
        "--only not set (was openai)",
        "--system 'Be brief.' (was not set)",
    ]


def sampled(text: str, **options: Any) -> list[str]:
    found = read_tasks(io.BytesIO(text.encode()), TaskContext("b", SETTINGS, NOW), ReadOptions(**options))
    return [item.id if isinstance(item, Task) else "bad" for item in found]


LINES = "".join(f"Question {n % 90}?\n" for n in range(100))  # ten of them twice


@given(size=st.integers(1, 120), more=st.integers(0, 50), seed=st.integers(0, 1000))
def test_a_sample_is_random_repeatable_and_part_of_a_larger_one(size: int, more: int, seed: int) -> None:
    every = sampled(LINES)
    sample = sampled(LINES, sample=size, sample_seed=seed)
    assert len(sample) == min(size, 100) and [name for name in every if name in sample] == sample
    assert sample == sampled(LINES, sample=size, sample_seed=seed)
    assert {*sample} <= {*sampled(LINES, sample=size + more, sample_seed=seed)}


def test_each_row_is_as_likely_as_any_other() -> None:
    drawn = Counter(name for seed in range(300) for name in sampled(LINES, sample=10, sample_seed=seed))
    assert len(drawn) == 100 and max(drawn.values()) < 60  # 30 expected, with a deviation of 5


def test_bad_rows_are_reported_beside_a_sample() -> None:
    rows = '{"prompt": 1}\n' + "".join(f'{{"id": "{n}", "prompt": "x"}}\n' for n in range(20))
    assert sampled(rows, sample=3)[0] == "bad" and len(sampled(rows, sample=3)) == 4
