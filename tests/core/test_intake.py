"""Reading tasks: valid rows become tasks, invalid ones bad lines with a message."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from src.config import load_settings
from src.core.intake import (
    MAX_LINE_BYTES,
    BadLine,
    ReadOptions,
    RowDefaults,
    TaskContext,
    make_task,
    read_tasks,
)
from src.errors import InputError
from src.messages import Message
from src.records import Task
from src.settings import Settings

NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(environ={})


def read(
    data: bytes | str, settings: Settings, fmt: str | None = None, **options: Any
) -> list[Task | BadLine]:
    stream = io.BytesIO(data.encode() if isinstance(data, str) else data)
    reading = {name: options.pop(name) for name in ("ids", "defaults", "configured") if name in options}
    how = ReadOptions(fmt=fmt, **reading)
    return list(read_tasks(stream, TaskContext("b", settings, NOW), options=how, **options))


def row(settings: Settings, **fields: Any) -> Task | BadLine:
    (only,) = read(json.dumps(fields), settings)
    return only


def test_a_full_row_becomes_a_task_with_every_field(settings: Settings) -> None:
    task = row(
        settings,
        id="a-1",
        messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        system="Be brief.",
        task_type="research",
        tier="premium",
        max_tokens=50,
        temperature=0,
        top_p=1,
        seed=0,
        stop="END",
        deadline=60,
        priority=-3,
        models=["gpt-4"],
        providers="openai",
        metadata={"row": 7},
        response_schema={"type": "object"},
    )
    assert task == Task(
        id="a-1",
        batch="b",
        messages=(Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello")),
        task_type="research",
        tier="premium",
        max_tokens=50,
        temperature=0.0,
        top_p=1.0,
        seed=0,
        stop=("END",),
        models=("gpt-4",),
        providers=("openai",),
        deadline_at=NOW + 60,
        priority=-3,
        metadata={"row": 7},
        line=1,
        created_at=NOW,
        response_schema={"type": "object"},
    )


def test_choices_become_a_schema_that_allows_nothing_else(settings: Settings) -> None:
    task = row(settings, prompt="Spam?", choices=["yes", "no"])
    assert isinstance(task, Task)
    assert task.response_schema == {
        "type": "object",
        "properties": {"choice": {"type": "string", "enum": ["yes", "no"]}},
        "required": ["choice"],
    }


def test_a_number_as_id_is_the_same_id_as_its_digits(settings: Settings) -> None:
    first, second = read('{"id": 7, "prompt": "a"}\n{"id": "7", "prompt": "b"}', settings)
    assert isinstance(first, Task) and first.id == "7"
    assert isinstance(second, BadLine) and "duplicate id '7'" in second.reason


BAD_ROWS = {
    "not JSON": ('{"prompt": "a"', "not JSON: Expecting ',' delimiter at column 15"),
    "duplicate key": ('{"id": "x", "prompt": "a", "prompt": "b"}', "duplicate key 'prompt'"),
    "duplicate key, inside": (
        '{"prompt": "a", "metadata": {"n": 1, "m": 2, "n": 1}}',
        "duplicate key 'n'",
    ),
    "not an object": ('"just text"', 'must be an object like {"prompt": "..."}, not text'),
    "a number": ("12", 'must be an object like {"prompt": "..."}, not the number 12'),
    "NaN": ('{"prompt": "a", "temperature": NaN}', "NaN is not a JSON number"),
    "infinity": ('{"prompt": "a", "deadline": -Infinity}', "-Infinity is not a JSON number"),
    "overflowing number": (
        '{"prompt": "a", "deadline": 1e999}',
        "'deadline' must be a finite number, not inf",
    ),
    "endless digits": (
        '{"prompt": "a", "priority": 1' + "0" * 5000 + "}",
        "unreadable JSON: a number has too many digits",
    ),
    "endless nesting": ("[" * 100_000, "unreadable JSON: nested too deeply"),
    "no prompt": ('{"id": "x"}', "no prompt: give 'prompt' or 'messages'"),
    "null prompt": ('{"prompt": null}', "no prompt: give 'prompt' or 'messages'"),
    "both": (
        '{"prompt": "a", "messages": [{"role": "user", "content": "b"}]}',
        "both 'prompt' and 'messages' are given; one of them is allowed",
    ),
    "empty prompt": ('{"prompt": " \\n"}', "'prompt' is empty"),
    "wrong type": ('{"prompt": 5}', "'prompt' must be text, not the number 5"),
    "no messages": ('{"messages": []}', "'messages' needs at least one message with role 'user'"),
    "messages no list": ('{"messages": "hi"}', "'messages' must be a list, not text"),
    "message no object": ('{"messages": ["hi"]}', "'messages[0]' must be an object, not text"),
    "bad role": (
        '{"messages": [{"role": "human", "content": "a"}]}',
        "'messages[0].role' must be one of 'system', 'developer', 'user', 'assistant' or 'tool', not 'human'",
    ),
    "no content": ('{"messages": [{"role": "user"}]}', "'messages[0].content' is missing"),
    "content of parts": (
        '{"messages": [{"role": "user", "content": {"type": "text", "text": "a"}}]}',
        "'messages[0].content' must be text or a list of parts, not an object",
    ),
    "empty content": ('{"messages": [{"role": "user", "content": ""}]}', "'messages[0].content' is empty"),
    "unknown key of a message": (
        '{"messages": [{"role": "user", "contents": "a", "content": "b"}]}',
        "unknown key 'contents' in 'messages[0]'; did you mean 'content'?",
    ),
    "two systems": (
        '{"system": "a", "messages": [{"role": "system", "content": "b"}, {"role": "user", "content": "c"}]}',
        "both 'system' and a system message are given; one of them is allowed",
    ),
    "negative max_tokens": ('{"prompt": "a", "max_tokens": -5}', "'max_tokens' must be at least 1, not -5"),
    "large max_tokens": (
        '{"prompt": "a", "max_tokens": 99999999}',
        "'max_tokens' must be at most 10,000,000, not 99999999",
    ),
    "fractional max_tokens": (
        '{"prompt": "a", "max_tokens": 1.5}',
        "'max_tokens' must be a whole number, not the number 1.5",
    ),
    "number as text": (
        '{"prompt": "a", "max_tokens": "5"}',
        "'max_tokens' must be a whole number, not text",
    ),
    "unknown tier": (
        '{"prompt": "a", "tier": "gold"}',
        "'tier' must be one of 'auto', 'economy', 'standard' or 'premium', not 'gold'",
    ),
    "top_p out of range": ('{"prompt": "a", "top_p": 1.5}', "'top_p' must be at most 1, not 1.5"),
    "a seed with a fraction": (
        '{"prompt": "a", "seed": 1.5}',
        "'seed' must be a whole number, not the number 1.5",
    ),
    "temperature out of range": (
        '{"prompt": "a", "temperature": 3}',
        "'temperature' must be at most 2, not 3",
    ),
    "deadline as text": (
        '{"prompt": "a", "deadline": "soon"}',
        "'deadline' must be a duration such as 90s, 30m, 24h, 7d or 1h30m, not 'soon'",
    ),
    "deadline at once": ('{"prompt": "a", "deadline": 0}', "'deadline' must be above 0 and finite, not 0"),
    "priority as truth": (
        '{"prompt": "a", "priority": true}',
        "'priority' must be a whole number, not true or false",
    ),
    "unknown key": ('{"promt": "a"}', "unknown key 'promt'; did you mean 'prompt'?"),
    "unknown key beside a prompt": ('{"prompt": "a", "Max-Tokens": 5}', "did you mean 'max_tokens'?"),
    "unknown key like none": ('{"prompt": "a", "zzz": 5}', "unknown key 'zzz'; known: id, prompt, messages,"),
    "unknown provider": (
        '{"prompt": "a", "providers": ["mistral"]}',
        "'providers': unknown provider 'mistral'; known: anthropic, openai, gemini",
    ),
    "long id": (json.dumps({"prompt": "a", "id": "x" * 201}), "'id' must be at most 200 characters, not 201"),
    "empty id": ('{"prompt": "a", "id": ""}', "'id' must be at least 1 character, not empty"),
    "line end in id": ('{"prompt": "a", "id": "x\\ny"}', "'id' must not contain control characters"),
    "metadata no object": ('{"prompt": "a", "metadata": []}', "'metadata' must be an object, not a list"),
    "no choices": ('{"prompt": "a", "choices": []}', "'choices' must be at least 1 long, not empty"),
    "schema and choices": (
        '{"prompt": "a", "choices": ["b"], "response_schema": {}}',
        "both 'response_schema' and 'choices' are given",
    ),
    "half of a surrogate pair": (
        '{"prompt": "\\ud800"}',
        "contains half of a surrogate pair, which is not valid text",
    ),
    "half a pair in metadata": ('{"prompt": "a", "metadata": {"k": "\\ud800"}}', "half of a surrogate pair"),
}


@pytest.mark.parametrize(("line", "reason"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_bad_line_says_its_number_and_why_and_the_others_are_read(
    settings: Settings, line: str, reason: str
) -> None:
    before, bad, after = read(f'{{"prompt": "a"}}\n{line}\n{{"prompt": "z"}}\n', settings, fmt="jsonl")
    assert isinstance(before, Task) and isinstance(after, Task)
    assert isinstance(bad, BadLine) and bad.line == 2
    assert reason in bad.reason
    assert "\n" not in str(bad) and len(str(bad)) < 300


def test_bytes_that_are_not_utf8_are_a_bad_line(settings: Settings) -> None:
    good, bad = read(b"one\ntw\xff\n", settings)
    assert isinstance(good, Task) and bad == BadLine(2, "not UTF-8 at byte 3; save the file as UTF-8")


def test_a_file_with_nul_bytes_at_its_beginning_is_not_text(settings: Settings) -> None:
    with pytest.raises(InputError, match="line 3: not a text file \\(NUL bytes\\); expected UTF-8"):
        read(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", settings)


def test_a_nul_byte_further_on_is_a_bad_line(settings: Settings) -> None:
    good, bad, other = read(b"x" * 9_000 + b"\na\0b\nHi\n", settings)
    assert isinstance(good, Task) and isinstance(other, Task)
    assert bad == BadLine(2, "not text (NUL bytes)")


def test_utf16_is_reported_by_name(settings: Settings) -> None:
    with pytest.raises(InputError, match="UTF-16; save it as UTF-8"):
        read("hello".encode("utf-16"), settings)


def test_a_json_array_is_reported_by_name(settings: Settings) -> None:
    with pytest.raises(InputError, match="the file is a JSON array"):
        read('[\n{"prompt": "a"}\n]', settings, fmt="jsonl")


def test_a_line_that_is_too_long_is_refused_without_being_kept(settings: Settings) -> None:
    long = b"x" * (MAX_LINE_BYTES + 5)
    bad, good = read(long + b"\nshort\n", settings)
    assert bad == BadLine(1, "longer than 16 MiB")
    assert isinstance(good, Task) and good.line == 2


def test_bom_crlf_and_blank_lines_are_tolerated_and_counted(settings: Settings) -> None:
    tasks = read(b'\xef\xbb\xbf{"prompt": "a"}\r\n\r\n{"prompt": "b"}\r\n', settings)
    assert [(t.line, t.messages[0].content) for t in tasks if isinstance(t, Task)] == [(1, "a"), (3, "b")]


def test_each_line_of_plain_text_is_a_prompt(settings: Settings) -> None:
    tasks = read("What is rust?\n\n  Grüße aus Köln \n", settings)
    assert [t.messages for t in tasks if isinstance(t, Task)] == [
        (Message("user", "What is rust?"),),
        (Message("user", "Grüße aus Köln"),),
    ]


@pytest.mark.parametrize(
    ("name", "content", "prompts"),
    [
        ("t.jsonl", '{"prompt": "a"}', ["a"]),
        ("t.NDJSON", '{"prompt": "a"}', ["a"]),
        ("t.json", '{"prompt": "a"}', ["a"]),
        ("t.txt", '{"prompt": "a"}', ['{"prompt": "a"}']),
        ("t.data", '\n {"prompt": "a"}', ["a"]),
        ("t.data", "a", ["a"]),
        ("t", "", []),
    ],
)
def test_the_suffix_decides_the_format_then_the_first_line(
    settings: Settings, tmp_path: Path, name: str, content: str, prompts: list[str]
) -> None:
    path = tmp_path / name
    path.write_text(content)
    tasks = list(read_tasks(path, TaskContext("b", settings, NOW)))
    assert [t.messages[-1].content for t in tasks if isinstance(t, Task)] == prompts


def test_an_unknown_format_names_the_known_ones(settings: Settings) -> None:
    with pytest.raises(InputError, match="unknown format 'xml'; known: jsonl, text, csv, openai-batch"):
        read("a", settings, fmt="xml")


def test_a_missing_file_is_one_line(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.txt: no such file"):
        list(read_tasks(tmp_path / "absent.txt", TaskContext("b", settings, NOW)))


def ids(items: list[Task | BadLine]) -> list[str]:
    return [item.id for item in items if isinstance(item, Task)]


def test_an_id_of_content_does_not_change_when_lines_are_added_elsewhere(settings: Settings) -> None:
    before = ids(read("one\ntwo\none\n", settings))
    after = ids(read("zero\ntwo\none\nnew\none\n", settings))
    assert len(set(before)) == 3
    assert set(before) < set(after)


def test_an_id_of_content_ignores_spacing_and_the_order_of_keys(settings: Settings) -> None:
    first = ids(read('{"prompt": "a", "max_tokens": 1}', settings))
    second = ids(read('{"max_tokens":1,"prompt":"a"}', settings))
    assert first == second != ids(read('{"prompt": "a", "max_tokens": 2}', settings))


def test_an_id_depends_on_what_is_sent_however_it_is_written(settings: Settings) -> None:
    line = '{"prompt": "a", "stop": "."}'
    same = '{"messages": [{"role": "user", "content": "a"}], "stop": ["."], "priority": 3, "deadline": 9}'
    assert ids(read(line, settings)) == ids(read(same, settings))
    noted = '{"prompt": "a", "stop": ".", "metadata": {"n": 1}, "tier": "auto"}'
    assert ids(read(noted, settings)) == ids(read(line, settings)) != ids(read(line, settings, ids=1))
    assert ids(read(noted, settings, ids=1)) != ids(read(line, settings, ids=1))
    assert ids(read(line, settings, defaults=RowDefaults(choices=("x",)))) == ids(read(line, settings))


def test_an_unknown_task_type_is_kept_with_one_warning(settings: Settings) -> None:
    warnings: list[str] = []
    lines = '{"prompt": "a", "task_type": "reserch"}\n' * 3 + '{"prompt": "b", "task_type": "research"}'
    tasks = read(lines, settings, on_warning=warnings.append)
    assert len(tasks) == 4
    assert warnings == ["unknown task type 'reserch' is served as 'general'; did you mean 'research'?"]


def test_models_of_an_order_that_no_configured_provider_serves_get_one_warning(settings: Settings) -> None:
    warnings: list[str] = []
    row = json.dumps({"prompt": "a", "models": ["gpt-6-luna", "claude-haiku-5-5", "gemini-4-argon"]})
    alone = json.dumps({"prompt": "b", "models": ["gpt-6-luna"]})
    lines = f"{row}\n{row}\n{alone}\n"
    read(lines, settings, configured={"openai"}, on_warning=warnings.append)
    assert warnings == [
        "claude-haiku-5-5, gemini-4-argon will never be called (anthropic: no key in ANTHROPIC_API_KEY; "
        "gemini: no key in GOOGLE_API_KEY or GEMINI_API_KEY)"
    ]


@pytest.mark.parametrize("fmt", ["jsonl", "openai-batch"])
def test_models_of_rows_that_win_over_the_option_are_told_once(settings: Settings, fmt: str) -> None:
    warnings: list[str] = []
    batch_line = {"body": {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "Hi"}]}}
    rows = [
        {"id": str(n), "prompt": "Hi", "models": ["gpt-6-luna"]}
        if fmt == "jsonl"
        else {"custom_id": str(n), **batch_line}
        for n in range(2)
    ]
    lines = "\n".join(json.dumps(row) for row in rows)
    how = RowDefaults(models=("gemini-4-argon",))
    read(lines, settings, fmt, defaults=how, on_warning=warnings.append)
    assert warnings == ["line 1 names its own models, which win over --model"]


def test_a_model_without_a_price_gets_one_warning_with_the_probable_name(
    settings: Settings,
) -> None:
    warnings: list[str] = []
    usual = settings.providers["openai"].models.of("standard")
    names = [usual + "x", usual + "x", usual, "gpt-4", "gemini-nobody-knows"]
    lines = "\n".join(json.dumps({"prompt": f"{n}", "models": name}) for n, name in enumerate(names))
    assert all(isinstance(task, Task) for task in read(lines, settings, on_warning=warnings.append))
    assert [each.partition("; ")[0] for each in warnings] == [
        f"no price for {usual}x",
        "no price for gemini-nobody-knows",
    ]
    assert warnings[0].endswith(f"did you mean {usual!r}?")


def test_a_single_task_needs_no_file(settings: Settings) -> None:
    task = make_task({"prompt": "a"}, TaskContext("queue", settings, NOW, "web"))
    assert (task.batch, task.submitter, task.line) == ("queue", "web", None) and task.id
    with pytest.raises(InputError, match="unknown key"):
        make_task({"promt": "a"}, TaskContext("queue", settings, NOW))


def test_memory_does_not_grow_with_the_text_of_the_lines(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    with path.open("w") as file:
        for number in range(4000):
            file.write(json.dumps({"id": number, "prompt": f"{number} " + "word " * 1000}) + "\n")
    tracemalloc.start()
    count = sum(1 for _ in read_tasks(path, TaskContext("b", settings, NOW)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 4000
    assert peak < 2_000_000 < path.stat().st_size


PINNED = {
    "provider": (
        {"providers": "gemini"},
        "'providers': no configured provider serves this (gemini: no key in GOOGLE_API_KEY or",
    ),
    "two of them": ({"providers": ["gemini", "other"]}, "GEMINI_API_KEY; other: switched off"),
    "model": (
        {"models": "gemini-3.5-flash"},
        "'models': no configured provider serves this (gemini: no key in",
    ),
    "model of another": ({"models": "gpt-4", "providers": ["openai", "gemini"]}, ""),
    "one is enough": ({"providers": ["gemini", "openai"]}, ""),
    "no pin": ({}, ""),
}


@pytest.mark.parametrize(("pin", "expected_reason"), PINNED.values(), ids=PINNED.keys())
def test_a_row_pinned_to_providers_without_a_key_is_a_bad_line(
    settings: Settings, pin: dict[str, Any], expected_reason: str
) -> None:
    other = settings.providers["openai"].model_copy(update={"enabled": False})
    known = settings.model_copy(update={"providers": {**settings.providers, "other": other}})
    how = ReadOptions(configured={"openai"})
    line = io.BytesIO(json.dumps({"prompt": "Hi", **pin}).encode())
    (found,) = read_tasks(line, TaskContext("b", known, NOW), options=how)
    assert expected_reason in (found.reason if isinstance(found, BadLine) else "")
    assert isinstance(found, BadLine) == bool(expected_reason)
