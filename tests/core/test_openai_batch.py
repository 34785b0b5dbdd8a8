"""Lines of OpenAI's Batch API as input and as results."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from src.config import load_settings
from src.core.intake import BadLine, ReadOptions, TaskContext, read_tasks
from src.core.results import ResultsFile, encode_row, form_of, result_row
from src.errors import InputError
from src.messages import Message, Text, Tool
from src.records import FinishReason, Task, TaskStatus
from src.settings import Settings

from .test_results import attempt, result

NOW = 1_800_000_000.0
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(environ={})


def line(body: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """A line as OpenAI's documentation has it."""
    given = {"custom_id": "r-1", "method": "POST", "url": "/v1/chat/completions"}
    return {**given, "body": {"model": "gpt-4o-mini", "messages": MESSAGES, **body}, **rest}


def read(row: Any, settings: Settings, fmt: str | None = None) -> Task | BadLine:
    stream = io.BytesIO(json.dumps(row).encode() + b"\n")
    options = ReadOptions(fmt)
    (only,) = read_tasks(stream, TaskContext("b", settings, NOW), options=options)
    return only


def test_a_line_becomes_a_task_that_is_pinned_to_its_model(settings: Settings) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]},
        {"role": "assistant", "content": "Three"},
        {"role": "user", "content": "Four"},
    ]
    form = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": schema}}
    task = read(
        line(
            {
                "messages": turns,
                "max_completion_tokens": 50,
                "temperature": 0.5,
                "top_p": 0.9,
                "seed": 7,
                "stop": "END",
                "response_format": form,
                "metadata": {"k": "v"},
            }
        ),
        settings,
    )
    assert task == Task(
        id="r-1",
        batch="b",
        messages=(
            Message("system", "Be brief."),
            Message("user", (Text("One"), Text("Two"))),
            Message("assistant", "Three"),
            Message("user", "Four"),
        ),
        max_tokens=50,
        temperature=0.5,
        top_p=0.9,
        seed=7,
        stop=("END",),
        tier="standard",
        models=("gpt-4o-mini",),
        metadata={"k": "v"},
        response_schema=schema,
        line=1,
        created_at=NOW,
    )


def test_a_line_may_have_tools(settings: Settings) -> None:
    function = {"name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": True}
    body = {
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "reasoning_effort": "low",
    }
    task = read(line(body), settings)
    assert isinstance(task, Task)
    assert task.tools == (Tool("weather", "", function["parameters"], True),)
    assert (task.tool_choice, task.parallel_tool_calls, task.reasoning_effort) == ("weather", False, "low")


def test_parameters_without_effect_are_accepted(settings: Settings) -> None:
    without_options = {
        "n": 1,
        "stream": False,
        "top_p": 1.0,
        "presence_penalty": 0,
        "tools": None,
        "user": "u-7",
        "store": True,
        "response_format": {"type": "text"},
        "max_tokens": None,
    }
    task = read(line(without_options), settings)
    assert isinstance(task, Task) and task.parameters == ()


def test_the_json_object_format_allows_any_object(settings: Settings) -> None:
    task = read(line({"response_format": {"type": "json_object"}}), settings)
    assert isinstance(task, Task) and task.response_schema == {"type": "object"}


BAD_LINES: dict[str, tuple[Any, str]] = {
    "unknown model": (line({"model": "mistral-9"}), "'models': no provider serves 'mistral-9'"),
    "no model": (line({"model": None}), "'body.model' must be text, not null"),
    "slip in the body": (
        line({"temprature": 1}),
        "unknown key 'temprature' in 'body'; did you mean 'temperature'?",
    ),
    "slip in the line": (line({}, methd="POST"), "unknown key 'methd'; did you mean 'method'?"),
    "slip for what is needed": (
        {"custom_id": "r-1", "body": {"model": "gpt-4", "mesages": MESSAGES}},
        "unknown key 'mesages' in 'body'; did you mean 'messages'?",
    ),
    "no messages": ({"custom_id": "r-1", "body": {"model": "gpt-4"}}, "'body.messages' is missing"),
    "nothing asked": (line({"messages": []}), "'body.messages' needs at least one message with role 'user'"),
    "other endpoint": (
        line({}, url="/v1/embeddings"),
        "'url' must be '/v1/chat/completions', not '/v1/embeddings'",
    ),
    "other method": (line({}, method="GET"), "'method' must be 'POST', not 'GET'"),
    "number as id": (line({}, custom_id=7), "'custom_id' must be text, not the number 7"),
    "several answers": (line({"n": 2}), "'body.n' is not supported; remove it"),
    "a stream": (line({"stream": True}), "'body.stream' is not supported"),
    "a seed that is no number": (line({"seed": "7"}), "'body.seed' must be a whole number, not text"),
    "half a tool": (line({"tools": [{"type": "function"}]}), "'body.tools[0].function' is missing"),
    "a choice without tools": (
        line({"tool_choice": "auto"}),
        "'body.tool_choice' needs 'tools'",
    ),
    "an effort": (
        line({"reasoning_effort": "xhigh"}),
        "'reasoning_effort' must be one of 'none', 'minimal', 'low', 'medium' or 'high', not 'xhigh'",
    ),
    "two limits": (
        line({"max_tokens": 5, "max_completion_tokens": 6}),
        "'body.max_tokens' and 'body.max_completion_tokens' are both given",
    ),
    "limit as text": (line({"max_tokens": "5"}), "'body.max_tokens' must be a whole number, not text"),
    "no limit": (line({"max_tokens": 0}), "'max_tokens' must be at least 1, not 0"),
    "an image": (
        line({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}),
        "'body.messages[0].content[0].image_url.url' is missing",
    ),
    "a name": (
        line({"messages": [{"role": "user", "content": "Hi", "name": "Ann"}]}),
        "unknown key 'name' in 'body.messages[0]'; known: role, content, tool_calls, tool_call_id, is_error",
    ),
    "a tool's answer": (
        line({"messages": [{"role": "tool", "content": "5"}]}),
        "'body.messages[0].tool_call_id' is missing",
    ),
    "odd form": (line({"response_format": {"type": "xml"}}), "'body.response_format' must be {"),
    "a row of ours": ({"id": "r-1", "prompt": "Hi"}, "unknown key 'id'"),
    "body of another kind": ({"custom_id": "r-1", "body": "Hi"}, "'body' must be an object, not text"),
}


@pytest.mark.parametrize(("row", "reason"), BAD_LINES.values(), ids=BAD_LINES.keys())
def test_an_unsupported_parameter_is_refused_by_name(settings: Settings, row: Any, reason: str) -> None:
    bad = read(row, settings, "openai-batch")
    assert isinstance(bad, BadLine) and reason in bad.reason
    assert json.loads(bad.text) == row


def test_batch_lines_are_recognized_by_the_first_line(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    path.write_text("\n" + json.dumps(line({})) + "\n" + json.dumps({"id": "x", "prompt": "Hi"}) + "\n")
    first, second = read_tasks(path, TaskContext("b", settings, NOW))
    assert isinstance(first, Task) and first.id == "r-1"
    assert isinstance(second, BadLine) and "unknown key 'id'" in second.reason
    found = read(line({}), settings, "jsonl")
    assert isinstance(found, BadLine) and "unknown key 'custom_id'" in found.reason


# ------------------------------------------------------------------ rows


def rows_of(*results: Any) -> list[dict[str, Any]]:
    form = form_of("out.jsonl", "openai-batch")
    return [json.loads(form.encode(each, simulated=True)) for each in results]


def test_an_answer_is_a_response_as_openai_writes_it() -> None:
    (row,) = rows_of(result("r-1", finish_reason=FinishReason.LENGTH, warnings=("cut",)))
    assert list(row)[:4] == ["id", "custom_id", "response", "error"]
    assert row["custom_id"] == "r-1" and row["error"] is None
    response = row["response"]
    assert (response["status_code"], response["body"]["object"]) == (200, "chat.completion")
    assert response["body"]["model"] == "gpt-6-luna"
    (choice,) = response["body"]["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello", "refusal": None}
    assert choice["finish_reason"] == "length"
    assert response["body"]["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    assert (row["status"], row["provider"], row["cost_usd"]) == ("succeeded", "openai", 0.0015)
    assert (row["warnings"], row["simulated"]) == (["cut"], True)


def test_openais_package_reads_an_answer() -> None:
    from openai.types.chat import ChatCompletion

    (row,) = rows_of(result("r-1"))
    read_back = ChatCompletion.model_validate(row["response"]["body"], strict=True)
    assert read_back.choices[0].message.content == "Hello"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (TaskStatus.FAILED, "task_failed"),
        (TaskStatus.REFUSED, "content_refused"),
        (TaskStatus.EXPIRED, "batch_expired"),
        (TaskStatus.CANCELLED, "batch_cancelled"),
    ],
)
def test_an_unanswered_task_has_an_error_and_no_response(status: TaskStatus, code: str) -> None:
    (row,) = rows_of(result("r-1", status=status, output=None, error="no luck", attempts=()))
    assert row["response"] is None and row["error"] == {"code": code, "message": "no luck"}
    assert (row["status"], row["provider"]) == (str(status), None)


def test_the_same_result_has_the_same_ids_again() -> None:
    again, other = rows_of(result("r-1"), result("r-2"))
    assert rows_of(result("r-1"))[0]["id"] == again["id"] != other["id"]


def test_rows_are_found_by_their_task_ids_and_an_incomplete_one_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    form = form_of("out.jsonl", "openai-batch")
    whole = form.encode(result("a"), simulated=True)
    torn = form.encode(result("b", attempts=(attempt(1),)), simulated=True)
    for keep in (0, 1, 20, len(torn) - 2):
        path.write_bytes(whole + torn[:keep])
        with ResultsFile(path, simulated=True, form=form) as file:
            assert list(file.ids()) == ["a"]
            file.append([result("b")])
            assert list(file.ids()) == ["a", "b"]


def test_rows_of_two_formats_are_never_mixed(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    form = form_of("out.jsonl", "openai-batch")
    for content, wrong in [
        (form.encode(result("a"), simulated=True), None),
        (encode_row(result_row(result("a"), simulated=True)), form),
    ]:
        path.write_bytes(content)
        with pytest.raises(InputError, match="holds rows of another format; choose another output"):
            ResultsFile(path, simulated=True, form=wrong)
        assert path.read_bytes() == content


def test_batch_rows_are_json_lines() -> None:
    with pytest.raises(InputError, match=r"out\.csv: openai-batch rows are JSON Lines"):
        form_of("out.csv", "openai-batch")
