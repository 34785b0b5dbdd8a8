"""Result rows and the file they are appended to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from src.core.results import ResultsFile, encode_row, result_row
from src.errors import InputError, StoreError
from src.messages import Message
from src.records import Attempt, Candidate, FinishReason, Origin, Outcome, Result, Task, TaskStatus, Usage

REASONS = (Candidate("openai", "gpt-6-luna", 0.123456789), Candidate("gemini", "", 0.0, "paused"))


def attempt(number: int, **changes: Any) -> Attempt:
    values: dict[str, Any] = {
        "number": number,
        "provider": "openai",
        "model": "gpt-6-luna",
        "agent": "gpt-engineer",
        "outcome": Outcome.OK,
        "started_at": 100.0 + number,
        "latency_s": 0.5,
        "choice": "weighted",
        "reasons": REASONS,
        "usage": Usage(input_tokens=10, output_tokens=5, reasoning_tokens=2),
        "cost_nanos": 1_500_000,
    }
    return Attempt(**{**values, **changes})


def result(task_id: str = "t1", **changes: Any) -> Result:
    task = Task(task_id, "b", (Message("user", "Hi"),), metadata={"k": 1}, line=3)
    values: dict[str, Any] = {
        "task": task,
        "status": TaskStatus.SUCCEEDED,
        "finished_at": 103.0,
        "attempts": (attempt(1),),
        "output": "Hello",
        "finish_reason": FinishReason.STOP,
        "tier": "standard",
    }
    return Result(**{**values, **changes})


def test_a_row_has_the_documented_fields_in_their_order() -> None:
    row = result_row(result(), simulated=True)
    assert list(row) == [
        "id", "line", "status", "output", "finish_reason", "truncated", "error", "warnings", "provider",
        "model", "agent", "task_type", "tier", "usage", "cost_usd", "latency_s", "attempts", "simulated",
        "metadata",
    ]  # fmt: skip
    assert row["usage"] == {
        "input_tokens": 10,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 5,
        "reasoning_tokens": 2,
    }
    assert (row["id"], row["line"], row["status"], row["simulated"]) == ("t1", 3, "succeeded", True)
    assert (row["cost_usd"], row["latency_s"], row["metadata"]) == (0.0015, 0.5, {"k": 1})


def test_each_attempt_says_where_it_went_and_why() -> None:
    failed = attempt(1, outcome=Outcome.UNCERTAIN, error_kind="TimedOut", error="no answer", usage=Usage())
    row = result_row(result(attempts=(failed, attempt(2, provider="gemini"))), simulated=False)
    first, second = row["attempts"]
    assert (first["outcome"], first["error_kind"], second["provider"]) == ("uncertain", "TimedOut", "gemini")
    assert first["reasons"] == [
        {"provider": "openai", "model": "gpt-6-luna", "score": 0.123457, "why": None},
        {"provider": "gemini", "model": "", "score": 0.0, "why": "paused"},
    ]
    assert row["provider"] == "gemini" and row["cost_usd"] == 0.003
    assert row["latency_s"] == 1.5, "from the first call to the end of the last"


def test_an_unknown_price_is_null_and_never_zero() -> None:
    row = result_row(result(attempts=(attempt(1), attempt(2, cost_nanos=None))), simulated=False)
    assert row["cost_usd"] is None


def test_a_task_that_was_never_called_has_no_provider_and_no_latency() -> None:
    row = result_row(result(status=TaskStatus.EXPIRED, attempts=(), output=None), simulated=False)
    assert (row["provider"], row["latency_s"], row["cost_usd"]) == (None, None, 0.0)


@pytest.mark.parametrize("text", ["a\nb", "a\u2028b", "a\u2029b", "a\x85b", "\x00", "Grüße 🌍"])
def test_a_row_is_one_line_for_every_reader_and_keeps_its_text(text: str) -> None:
    line = encode_row(result_row(result(output=text), simulated=True))
    assert len(line.decode().splitlines()) == 1 and line.endswith(b"\n")
    assert json.loads(line)["output"] == text


def lines(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_rows_are_appended_and_found_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.jsonl"
    with ResultsFile(path, simulated=True) as file:
        file.append([result("a"), result("b")])
    with ResultsFile(path, simulated=True, fsync=True) as file:
        assert list(file.ids()) == ["a", "b"]
        file.append([result("c")])
        assert file.written == 1
    assert lines(path) == ["a", "b", "c"]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("keep", [1, 4, 30, -2], ids=["a byte", "part of the key", "a part", "all but a bit"])
def test_an_incomplete_last_line_is_cut(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "out.jsonl"
    row = encode_row(result_row(result("b"), simulated=True))
    path.write_bytes(encode_row(result_row(result("a"), simulated=True)) + row[:keep])
    with ResultsFile(path, simulated=True) as file:
        assert list(file.ids()) == ["a"]
        file.append([result("b")])
    assert lines(path) == ["a", "b"]


def test_an_incomplete_first_line_leaves_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(b'{"id": "a')
    with ResultsFile(path, simulated=True) as file:
        assert list(file.ids()) == []
    assert path.read_bytes() == b""


def test_a_whole_row_whose_line_feed_is_missing_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(encode_row(result_row(result("a"), simulated=True)).rstrip(b"\n"))
    with ResultsFile(path, simulated=True) as file:
        file.append([result("b")])
    assert lines(path) == ["a", "b"]


def test_a_long_last_line_is_found_from_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    big = encode_row(result_row(result("big", output="x" * 300_000), simulated=True))
    path.write_bytes(encode_row(result_row(result("a"), simulated=True)) + big[:-10])
    with ResultsFile(path, simulated=True) as file:
        assert list(file.ids()) == ["a"]


def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes, without a last line feed")
    with pytest.raises(InputError, match="does not hold results; choose another output"):
        ResultsFile(path, simulated=True)
    assert path.read_text() == "my notes, without a last line feed"


def test_a_file_that_another_run_writes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path, simulated=True), pytest.raises(InputError, match="another run is writing to it"):
        ResultsFile(path, simulated=True)
    ResultsFile(path, simulated=True).close()


def test_rows_are_removed_and_the_others_stay_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    (tmp_path / ".out.jsonl.new").write_text("what a crash has left behind, longer than a row " * 100)
    with ResultsFile(path, simulated=True) as file:
        file.append([result("a", output="x" * 100_000), result("b"), result("c")])
        before = path.read_bytes().splitlines(keepends=True)
        assert file.drop(["b", "unknown"]) == 1
        assert path.read_bytes() == before[0] + before[2]
        file.append([result("b")])
        with pytest.raises(InputError, match="another run is writing to it"):
            ResultsFile(path, simulated=True)
    assert lines(path) == ["a", "c", "b"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["out.jsonl"]


def test_removing_no_row_leaves_the_file_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path, simulated=True) as file:
        file.append([result("a")])
        before = path.stat().st_ino
        assert file.drop(["b"]) == file.drop([]) == 0
        file.append([result("b")])
    assert path.stat().st_ino == before and lines(path) == ["a", "b"]


def test_many_rows_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with ResultsFile(path, simulated=True) as file:
        file.append([result(f"t{n}") for n in range(1_200)])
        assert file.drop({f"t{n}" for n in range(0, 1_200, 3)}) == 400
    assert lines(path) == [f"t{n}" for n in range(1_200) if n % 3]


def test_a_row_names_the_task_whose_answer_it_has(tmp_path: Path) -> None:
    origin = Origin("first", "gemini", "gem-x", "gemini-researcher")
    row = result_row(result(attempts=(), origin=origin), simulated=False)
    assert (row["deduplicated_from"], row["provider"], row["model"]) == ("first", "gemini", "gem-x")
    assert (row["cost_usd"], row["attempts"], row["usage"]["input_tokens"]) == (0.0, [], 0)


def test_a_path_that_cannot_be_written_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        ResultsFile(tmp_path / "file" / "out.jsonl", simulated=True)


def test_a_full_disk_is_reported_and_leaves_no_incomplete_row(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "out.jsonl"
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ResultsFile(path, simulated=True) as file:
        file.append([result("a")])
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 20, old[1]))
        try:
            with pytest.raises(
                StoreError, match=r"cannot be written \(File too large\); the answers are stored"
            ):
                file.append([result("b")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        file.append([result("b")])
    assert lines(path) == ["a", "b"]


def test_standard_output_takes_rows_and_stays_open(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with ResultsFile("-", simulated=True) as file:
        file.append([result("a")])
        assert list(file.ids()) == []
    print("still open", flush=True)  # noqa: T201 - the point of the test
    out = capfdbinary.readouterr().out.splitlines()
    assert json.loads(out[0])["id"] == "a" and out[1] == b"still open"
