"""Answers that must match a JSON schema, over HTTP: valid at once, repaired, from elsewhere, or never."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from src.answer_schema import read_answer
from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, read_rows, run_script, write_rows

Json = dict[str, Any]
FAST = {"latency": {"first_token_s": 0.0, "per_token_s": 0.0}}
API_FORMATS = ("anthropic", "openai", "gemini")
RUN = ("run", "tasks.jsonl", "-o", "out.jsonl")

CITY: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMAS: dict[str, Json] = {
    "plain": CITY,
    "bounds": {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 3}, "s": {"type": "string", "maxLength": 5}},
        "required": ["n", "s"],
    },
    "tree": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "below": {"type": "array", "items": {"$ref": "#"}}},
        "required": ["name"],
    },
    "list": {"type": "array", "items": CITY, "minItems": 2},
    "map": {"type": "object", "additionalProperties": {"type": "string"}},
    "union": {
        "type": "object",
        "properties": {"a": {"anyOf": [{"type": "integer"}, CITY]}},
        "required": ["a"],
    },
}


def rows(**changes: Any) -> list[Json]:
    """Each schema at each of the three providers."""
    return [
        {
            "id": f"{name}-{api}",
            "prompt": f"Answer {name}.",
            "response_schema": schema,
            "providers": [api],
        }
        | changes
        for name, schema in SCHEMAS.items()
        for api in API_FORMATS
    ]


def run(
    folder: Path, tasks: list[Json], faults: dict[str, Json] | None = None, *more: str
) -> tuple[Script, dict[str, Json]]:
    """`run` on simulators with these faults by provider: how it ended, and its result rows by id."""
    write_rows(folder / "tasks.jsonl", tasks)
    sim = {"providers": {api: {**FAST, "faults": (faults or {}).get(api, {})} for api in API_FORMATS}}
    (folder / "sim.json").write_text(json.dumps(sim))
    done = run_script(*RUN, "--simulator-config", "sim.json", *more, cwd=folder, timeout_s=180)
    return done, {row["id"]: row for row in read_rows(folder / "out.jsonl")}


def assert_matches(row: Json) -> None:
    schema = SCHEMAS[row["id"].partition("-")[0]]
    assert read_answer(row["output"], schema).text == row["output"], row


def test_every_kind_of_schema_is_answered_by_each_provider_and_bad_ones_are_reported(tmp_path: Path) -> None:
    tasks = [
        *rows(),
        {"id": "bad", "prompt": "Hi", "response_schema": {"type": "strin"}},
        {"id": "away", "prompt": "Hi", "response_schema": {"$ref": "https://example.com/a.json"}},
        {"id": "choice", "prompt": "Which?"},
        {
            "id": "cut",
            "prompt": "Which?",
            "response_schema": CITY,
            "max_tokens": 5,
            "providers": ["anthropic"],
        },
    ]
    done, found = run(tmp_path, tasks, None, "--choices", "red, green")
    assert done.process.returncode == 1
    assert "line 19: 'response_schema' is not a JSON schema: response_schema.type: 'strin'" in done.err
    assert "line 20: 'response_schema' refers to https://example.com/a.json" in done.err
    cut, choice = found.pop("cut"), found.pop("choice")
    assert len(found) == 18
    for row in found.values():
        assert len(row["attempts"]) == 1
        assert row["warnings"] == []
        assert_matches(row)
    assert json.loads(choice["output"]) in ({"choice": "red"}, {"choice": "green"})
    assert [each["error_kind"] for each in cut["attempts"]] == ["Truncated", None], "more room, no repair"
    assert json.loads(cut["output"])


def test_a_wrong_answer_is_repaired_once_then_elsewhere_and_a_code_fence_is_accepted(tmp_path: Path) -> None:
    faults = {
        "anthropic": {"wrong_json_once": 1.0},
        "openai": {"fenced_json": 1.0},
        "gemini": {"wrong_json": 1.0},
    }
    tasks = [row for row in rows() if row["providers"] != ["gemini"]]
    tasks.append({"id": "plain-1", "prompt": "City?", "response_schema": CITY, "task_type": "research"})
    done, found = run(tmp_path, tasks, faults)
    assert done.process.returncode == 0, done.err
    elsewhere = found.pop("plain-1")
    called = [each["provider"] for each in elsewhere["attempts"]]
    assert called[:2] == ["gemini", "gemini"]
    assert called[2] != "gemini"
    assert_matches(elsewhere)
    for row in found.values():
        assert_matches(row)
        if row["provider"] == "openai":
            assert len(row["attempts"]) == 1
            continue
        first, second = row["attempts"]
        assert (first["error_kind"], second["error_kind"]) == ("SchemaMismatch", None)
        assert first["error"].startswith("the answer does not match its schema: $")
        assert first["model"] == second["model"]
        assert second["choice"] == "retry"
        assert second["usage"]["input_tokens"] > first["usage"]["input_tokens"] > 0
        assert row["cost_usd"] == pytest.approx(first["cost_usd"] + second["cost_usd"])


def test_a_schema_that_no_answer_meets_fails_its_tasks_and_counts_against_no_provider(tmp_path: Path) -> None:
    wanted = [{"id": f"w{n}", "prompt": f"City {n}?", "response_schema": CITY} for n in range(12)]
    plain = [{"id": f"p{n}", "prompt": f"Question {n}?"} for n in range(12)]
    done, found = run(tmp_path, [*wanted, *plain], {api: {"wrong_json": 1.0} for api in API_FORMATS})
    assert done.process.returncode == 1
    assert all(found[f"p{n}"]["status"] == "succeeded" for n in range(12))
    for n in range(12):
        row = found[f"w{n}"]
        assert (row["status"], row["output"]) == ("failed", None)
        called = [attempt["provider"] for attempt in row["attempts"]]
        assert called[0] == called[1] != called[2] == called[3]
        assert row["error"].count("SchemaMismatch 200") == 4
    with sqlite3.connect(tmp_path / "state" / "simulated.db") as database:
        opened = database.execute("select count(*) from events where kind like 'breaker%'").fetchone()
    assert opened == (0,)


def test_a_model_without_schema_support_gets_the_schema_as_text_and_its_answer_is_checked(
    tmp_path: Path,
) -> None:
    (tmp_path / "c.toml").write_text(
        '[models."gemini-3"]\nrefuses = ["response_schema"]\n'
        '[models."claude-haiku-5"]\nrefuses = ["temperature", "response_schema"]\n'
        '[models."gpt-6"]\nrefuses = ["temperature", "stop", "response_schema"]\n'
    )
    faults = {api: {"wrong_json_once": 0.5} for api in API_FORMATS}
    done, found = run(tmp_path, rows(tier="economy"), faults, "--config", "c.toml")
    assert done.process.returncode == 0, done.err
    kinds = {attempt["error_kind"] for row in found.values() for attempt in row["attempts"]}
    assert kinds == {None, "SchemaMismatch"}
    for row in found.values():
        assert_matches(row)
        assert row["warnings"] == [
            f"{row['model']} takes no response_schema: it was added to the prompt as text"
        ]


def test_a_repair_is_reserved_like_any_call_and_exceeds_no_budget(tmp_path: Path) -> None:
    schema = {**CITY, "description": "A long description. " * 40}
    tasks = [
        {"id": f"t{n}", "prompt": f"City {n}? " + "More. " * 40, "response_schema": schema, "max_tokens": 100}
        for n in range(80)
    ]
    write_rows(tmp_path / "tasks.jsonl", tasks)
    (tmp_path / "c.toml").write_text("[budgets]\ntotal_usd = 0.02\n")
    sim = {"providers": {"openai": {**FAST, "faults": {"wrong_json_once": 0.7}}}}
    with SimulatorProcess.start(sim) as simulator:
        env = live_environment(simulator.base_urls)
        done = run_script(*RUN, "--config", "c.toml", cwd=tmp_path, env=env, timeout_s=180)
    assert done.process.returncode == 1, done.err
    assert "budget overall in total" in done.err
    with sqlite3.connect(tmp_path / "state" / "live.db") as database:
        query = "select sum(cost_nanos + uncertain_nanos), sum(calls) from usage"
        spent, calls = database.execute(query).fetchone()
    assert 0.01e9 < spent <= 0.02e9
    assert calls > len(read_rows(tmp_path / "out.jsonl")) > 10
