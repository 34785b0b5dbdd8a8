"""`run` and `plan` with every file format, as processes against the simulator."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import ORCHESTRATOR, child_environment, live_environment, read_rows, run_script, write_rows


@pytest.fixture
def live(simulator: SimulatorProcess) -> dict[str, str]:
    return live_environment(simulator.base_urls, only=["openai"])


def write_csv(path: Path, rows: list[list[Any]], delimiter: str = ",") -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)


def records(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def test_a_csv_file_and_a_template_come_back_as_csv_and_a_torn_file_is_completed(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    (tmp_path / "prompt.txt").write_text("Is this good?\n\n{review}\n")
    reviews = [["id", "product", "review"], *([f"r{n}", f"Lamp; {n}", f"Say\n{n}"] for n in range(6))]
    write_csv(tmp_path / "reviews.csv", reviews, ";")
    command = ("run", "reviews.csv", "--prompt-file", "prompt.txt", "-o", "out.csv")
    done = run_script(*command, cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    rows = {row["id"]: row for row in records(tmp_path / "out.csv")}
    assert set(rows) == {f"r{n}" for n in range(6)}
    assert rows["r3"]["product"] == "Lamp; 3" and rows["r3"]["review"] == "Say\n3"
    assert "Is this good? Say 3" in rows["r3"]["output"], "the simulator repeats what it was asked"
    whole = (tmp_path / "out.csv").read_bytes()
    (tmp_path / "out.csv").write_bytes(whole[: whole.rindex(b'"Say')])
    calls = simulator.stats()["openai"]["calls"]
    rerun = run_script(*command, cwd=tmp_path, env=live)
    assert rerun.process.returncode == 0, rerun.err
    assert "all 6 tasks are already done; nothing to do" in rerun.err
    assert "6 of 6 tasks answered" in rerun.out and "median" not in rerun.out, "no tables of calls"
    assert {row["id"]: row for row in records(tmp_path / "out.csv")} == rows
    assert simulator.stats()["openai"]["calls"] == calls
    (tmp_path / "out.csv").unlink()
    run_script(*command, cwd=tmp_path, env=live)
    assert {row["id"]: row for row in records(tmp_path / "out.csv")} == rows, "its columns are there again"
    assert simulator.stats()["openai"]["calls"] == calls
    (tmp_path / "prompt.txt").write_text("Is this bad?\n\n{review}\n")
    changed = run_script(*command, cwd=tmp_path, env=live)
    assert changed.process.returncode == 2 and "6 ids have new content" in changed.err


def test_labels_and_fields_of_a_schema_are_columns_beside_ones_own(
    tmp_path: Path, live: dict[str, str]
) -> None:
    write_csv(
        tmp_path / "t.csv", [["review", "sku", "status"], *([f"Lamp {n}", f"s{n}", "new"] for n in range(3))]
    )
    (tmp_path / "schema.json").write_text(
        '{"type": "object", "properties": {"mood": {"enum": ["good"]}}, "required": ["mood"]}'
    )
    run = ("run", "t.csv", "--prompt", "Good? {review}", "--id-column", "sku")
    choices = ("--choices", "yes,no", "-o", "labels.csv")
    assert run_script(*run, *choices, "--limit", "2", cwd=tmp_path, env=live).process.returncode == 0
    done = run_script(*run, *choices, "--columns", "all", cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    labels = records(tmp_path / "labels.csv")
    own = ["review", "sku", "status"]
    assert list(labels[0]) == [*own, "output", "llm_status", "model", "cost_usd", "error"], "as it was begun"
    assert sorted(row["sku"] for row in labels) == ["s0", "s1", "s2"]
    assert {row["output"] for row in labels} <= {"yes", "no"} and {row["status"] for row in labels} == {"new"}
    fields = ("--response-schema", "schema.json", "-o", "fields.csv")
    done = run_script(*run, *fields, cwd=tmp_path, env=live)
    assert done.process.returncode == 0, done.err
    assert [row["output.mood"] for row in records(tmp_path / "fields.csv")] == ["good"] * 3


def test_openai_batch_lines_come_back_as_batch_rows_once_each(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    lines = [
        {
            "custom_id": f"request-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"Question {n}"}]},
        }
        for n in range(4)
    ]
    lines[2]["body"] = {**lines[2]["body"], "model": "mistral-9"}  # type: ignore[dict-item]
    write_rows(tmp_path / "batch.jsonl", lines)
    command = ("run", "batch.jsonl", "--format", "openai-batch", "-o", "out.jsonl")
    done = run_script(*command, cwd=tmp_path, env=live)
    assert done.process.returncode == 1
    assert "batch.jsonl, line 3: 'models': no provider serves 'mistral-9'; skipped" in done.err
    rows = {row["custom_id"]: row for row in read_rows(tmp_path / "out.jsonl")}
    assert set(rows) == {"request-0", "request-1", "request-3"}
    body = rows["request-1"]["response"]["body"]
    assert body["model"] == "gpt-6-luna" and "Question 1" in body["choices"][0]["message"]["content"]
    assert rows["request-1"]["error"] is None and rows["request-1"]["simulated"] is False
    text = (tmp_path / "out.jsonl").read_text()
    (tmp_path / "out.jsonl").write_text(text[:-9])
    calls = simulator.stats()["openai"]["calls"]
    run_script(*command, cwd=tmp_path, env=live)
    assert {row["custom_id"]: row for row in read_rows(tmp_path / "out.jsonl")} == rows
    assert simulator.stats()["openai"]["calls"] == calls
    other = run_script("run", "batch.jsonl", "-o", "out.jsonl", cwd=tmp_path, env=live)
    assert other.process.returncode == 2 and "holds rows of another format" in other.err


def test_bad_lines_are_saved_with_their_reasons_until_they_are_fixed(
    tmp_path: Path, live: dict[str, str]
) -> None:
    rejects = tmp_path / "tasks.rejects.jsonl"
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text('{"id": "a", "prompt": "Hi"}\n{"id": "b", "promt": "Ho"}\n')
    first = run_script("run", "tasks.jsonl", cwd=tmp_path, env=live)
    assert first.process.returncode == 1
    assert "rejected lines with their reasons: tasks.rejects.jsonl" in first.err
    assert "1 answered, 1 rejected; this run took" in first.out
    again = run_script("run", "tasks.jsonl", "--json", cwd=tmp_path, env=live)
    assert again.process.returncode == 1 and json.loads(again.out)["summary"]["rejected"] == 1
    (kept,) = read_rows(rejects)
    assert kept == {
        "line": 2,
        "reason": "unknown key 'promt'; did you mean 'prompt'?",
        "text": '{"id": "b", "promt": "Ho"}',
    }
    assert rejects.stat().st_mode & 0o777 == 0o600
    tasks.write_text(tasks.read_text().replace("promt", "prompt"))
    second = run_script("run", "tasks.jsonl", cwd=tmp_path, env=live)
    assert second.process.returncode == 0, second.err
    assert "2 of 2 tasks answered; this run took" in second.out
    assert not rejects.exists()
    assert {row["id"] for row in read_rows(tmp_path / "tasks.results.jsonl")} == {"a", "b"}


def test_a_limit_takes_the_first_tasks_and_the_same_command_without_it_the_rest(
    tmp_path: Path, live: dict[str, str], simulator: SimulatorProcess
) -> None:
    (tmp_path / "tasks.txt").write_text("".join(f"Question {n}?\n" for n in range(5)))
    command = ("run", "tasks.txt", "-o", "out.jsonl", "--model", "gpt-4o-mini", "--only", "openai")
    first = run_script(*command, "--limit", "2", cwd=tmp_path, env=live)
    assert first.process.returncode == 0 and "2 of 2 tasks answered" in first.out
    assert {row["model"] for row in read_rows(tmp_path / "out.jsonl")} == {"gpt-6-luna"}
    rest = run_script(*command, cwd=tmp_path, env=live)
    assert rest.process.returncode == 0 and "5 of 5 tasks answered" in rest.out
    assert simulator.stats()["openai"]["calls"] == 5


def test_standard_output_holds_rows_only_in_every_format(tmp_path: Path, live: dict[str, str]) -> None:
    table = "prompt,city\nWhat?,Rome\nbad,row,here\n"
    done = run_script("run", "-", "-o", "-", "--format", "csv", cwd=tmp_path, env=live, stdin=table)
    (row,) = (json.loads(line) for line in done.out.splitlines())
    assert row["metadata"] == {"city": "Rome"}
    assert "3 cells for 2 columns" in done.err
    line = {"custom_id": "x", "body": {"model": "gpt-4", "messages": [{"role": "user", "content": "Hi"}]}}
    batch = ("run", "-", "-o", "-", "--format", "openai-batch")
    done = run_script(*batch, cwd=tmp_path, env=live, stdin=json.dumps(line))
    (row,) = (json.loads(text) for text in done.out.splitlines())
    assert row["custom_id"] == "x" and row["response"]["status_code"] == 200
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"], "no rejects beside standard output"


@pytest.mark.parametrize(
    ("pin", "reason"),
    [
        (("--only", "gemini"), "--only: there is no key for gemini (GOOGLE_API_KEY or GEMINI_API_KEY)"),
        (("--model", "claude-haiku-5-5"), "--model: there is no key for anthropic (ANTHROPIC_API_KEY)"),
    ],
    ids=["only", "model"],
)
def test_a_pin_to_a_provider_without_a_key_is_refused_before_anything_runs(
    tmp_path: Path, live: dict[str, str], pin: tuple[str, str], reason: str
) -> None:
    (tmp_path / "t.txt").write_text("Hi\n")
    done = run_script("run", "t.txt", *pin, cwd=tmp_path, env=live)
    assert done.process.returncode == 2 and f"error: {reason}" in done.err
    assert not (tmp_path / "t.results.jsonl").exists()


def test_a_row_pinned_to_a_provider_without_a_key_is_skipped(tmp_path: Path, live: dict[str, str]) -> None:
    rows = [{"id": "g", "prompt": "Hi", "providers": ["gemini"]}, {"id": "o", "prompt": "Hi"}]
    write_rows(tmp_path / "t.jsonl", rows)
    reason = (
        "line 1: 'providers': no configured provider serves this "
        "(gemini: no key in GOOGLE_API_KEY or GEMINI_API_KEY)"
    )
    planned = run_script("plan", "t.jsonl", cwd=tmp_path, env=live)
    assert reason in planned.err and "1 task (1 bad line skipped)" in planned.out
    done = run_script("run", "t.jsonl", cwd=tmp_path, env=live)
    assert done.process.returncode == 1 and reason in done.err
    assert [row["id"] for row in read_rows(tmp_path / "t.results.jsonl")] == ["o"]
    queued = run_script("submit", "Hi", "--only", "gemini", "--id", "mine", cwd=tmp_path, env=live)
    assert queued.out == "mine\n" and "gemini: no key" in queued.err
    served = run_script("--once", "--yes", cwd=tmp_path, env=live)
    assert served.process.returncode == 0, served.err


WRONG = {
    "template without its column": (
        ["run", "t.csv", "--prompt-file", "wrong.txt"],
        "wrong.txt, line 1: no column 'revew'; did you mean 'review'?",
    ),
    "template of a plan": (["plan", "t.csv", "--prompt-file", "wrong.txt"], "no column 'revew'"),
    "no template file": (["run", "t.csv", "--prompt-file", "absent.txt"], "absent.txt: no such file"),
    "template for text": (["run", "t.txt", "--prompt-file", "good.txt"], "but this is text"),
    "no schema file": (["run", "t.txt", "--response-schema", "absent.json"], "absent.json: no such file"),
    "no file to plan": (["plan", "absent.txt"], "absent.txt: no such file"),
    "no prompt of a plan": (["plan", "t.csv"], "error: t.csv, line 1: no column"),
    "no prompt": (["run", "t.csv"], "error: t.csv, line 1: no column 'prompt' among 'id', 'review'"),
    "unknown provider": (["run", "t.txt", "--only", "opnai"], "--only: unknown provider 'opnai'; did you"),
    "model elsewhere": (
        ["plan", "t.txt", "--only", "openai", "--model", "claude-haiku-5-5"],
        "--model: openai does not serve 'claude-haiku-5-5'",
    ),
    "no limit": (["run", "t.txt", "--limit", "0"], "'--limit': 0 is not in the range"),
    "batch rows as CSV": (
        ["run", "t.txt", "--format", "openai-batch", "-o", "out.csv"],
        "out.csv: openai-batch rows are JSON Lines",
    ),
    "a workbook": (
        ["run", "t.txt", "-o", "x.xlsx"],
        "x.xlsx: .xlsx files are not supported; end the name in",
    ),
    "compressed": (["run", "t.txt", "-o", "x.jsonl.gz"], "x.jsonl.gz: .gz files are not supported"),
    "a device": (
        ["run", "t.txt", "-o", "/dev/full"],
        "/dev/full: is a device or a pipe; results need a regular file",
    ),
    "standard output by its path": (["run", "t.txt", "-o", "/dev/stdout"], "or - for standard output"),
    "a folder": (["run", "t.txt", "-o", "."], "is a folder; results need a regular file"),
    "no name": (["run", "t.txt", "-o", ""], "the path of the results is empty"),
    "rejects to a device": (
        ["run", "t.txt", "--rejects", "/dev/full"],
        "/dev/full: is a device or a pipe; results need",
    ),
    "rejects over the tasks": (
        ["run", "t.txt", "--rejects", "t.txt"],
        "holds the tasks or the results",
    ),
    "submit to nobody": (
        ["submit", "Hi", "--only", "opnai"],
        "did you mean 'openai'",
    ),
    "submit to no model": (["submit", "Hi", "--model", "zzz"], "--model: unknown model 'zzz'"),
}


@pytest.mark.parametrize(("arguments", "line"), WRONG.values(), ids=WRONG.keys())
def test_wrong_options_are_refused_before_anything_runs(
    tmp_path: Path, arguments: list[str], line: str
) -> None:
    (tmp_path / "t.csv").write_text("id,review\n1,good\n")
    (tmp_path / "t.txt").write_text("Hi\n")
    (tmp_path / "wrong.txt").write_text("Is {revew} good?")
    (tmp_path / "good.txt").write_text("Is {review} good?")
    done = run_script(*arguments, cwd=tmp_path)
    assert done.process.returncode == 2, done.err
    assert line in done.err and "Traceback" not in done.err
    assert (tmp_path / "t.txt").read_text() == "Hi\n"
    if arguments[0] == "run":
        assert not list((tmp_path / "state").glob("*.db"))


def test_a_run_ends_when_the_reader_of_its_standard_output_is_gone(
    tmp_path: Path, live: dict[str, str]
) -> None:
    (tmp_path / "t.txt").write_text("".join(f"Question {n}?\n" for n in range(60)))
    command = [sys.executable, str(ORCHESTRATOR), "run", "t.txt", "-o", "-", "--quiet"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=child_environment(live), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        err = process.stderr.read().decode()
        assert process.wait(60) == 3, err
    assert "standard output cannot be written (Broken pipe); the answers are stored; ending" in err
    assert "Traceback" not in err and "Exception ignored" not in err
