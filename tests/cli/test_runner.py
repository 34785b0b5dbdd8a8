"""Finished tasks and a results file that can't be written."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.cli.console import Console
from src.cli.progress_counts import ProgressCounts
from src.cli.result_sink import ResultSink
from src.core.results import ResultsFile
from src.messages import Message
from src.records import Result, Task, TaskStatus


def result(task_id: str, batch: str = "mine") -> Result:
    return Result(Task(task_id, batch, (Message("user", "Hi"),)), TaskStatus.SUCCEEDED, 1.0, output="Hello")


def test_only_the_tasks_of_its_batch_are_counted_and_written(tmp_path: Path) -> None:
    progress = ProgressCounts({TaskStatus.QUEUED: 1}, now=0.0)
    with ResultsFile(tmp_path / "out.jsonl", simulated=False) as results:
        ResultSink(progress, Console().note, "mine", results)([result("a"), result("b", batch="another")])
        assert list(results.ids()) == ["a"]
    assert progress.done == 1


def test_rows_wait_while_the_disk_is_full_and_none_is_missing_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr("src.cli.result_sink.CHECK_EVERY_S", 0.0)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ResultsFile(tmp_path / "out.jsonl", simulated=False) as results:
        sink = ResultSink(ProgressCounts({TaskStatus.QUEUED: 3}, now=0.0), Console().note, "mine", results)
        sink([result("a")])
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "out.jsonl").stat().st_size + 10, old[1]))
        try:
            sink([result("b")])
            sink([result("c")])
            sink.check()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert list(results.ids()) == ["a"] and "out.jsonl cannot be written" in sink.error
        sink.check()
        assert list(results.ids()) == ["a", "b", "c"] and not sink.error
    said = capsys.readouterr().err
    assert said.count("; retrying") == 1 and said.count("can be written again") == 1
    assert sink.progress.done == 3, "all of them are stored, and so they count"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_results_file_that_is_deleted_or_replaced_is_written_again_completely(
    replaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("src.cli.result_sink.CHECK_EVERY_S", 0.0)
    path, stored = tmp_path / "out.jsonl", [result("a"), result("b"), result("c")]
    with ResultsFile(path, simulated=False) as results:

        def complete() -> None:
            there = set(results.ids())
            results.append([each for each in stored if each.task.id not in there])

        sink = ResultSink(
            ProgressCounts({TaskStatus.QUEUED: 3}, now=0.0), Console().note, "mine", results, complete
        )
        sink(stored[:2])
        path.unlink()
        if replaced:
            path.touch()
        sink(stored[2:])
        assert sorted(results.ids()) == ["a", "b", "c"] and not sink.error
    assert "was deleted or replaced while in use; writing it again" in capsys.readouterr().err
