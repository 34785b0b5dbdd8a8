"""Where finished tasks go, when the place can't take them any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.cli.runner import Sink
from src.cli.tally import Tally
from src.core.results import ResultsFile
from src.records import Message, Result, Task, TaskStatus


def result(task_id: str, batch: str = "mine") -> Result:
    return Result(Task(task_id, batch, (Message("user", "Hi"),)), TaskStatus.SUCCEEDED, 1.0, output="Hello")


def test_only_the_tasks_of_its_batch_are_counted_and_written(tmp_path: Path) -> None:
    tally = Tally({TaskStatus.QUEUED: 1}, now=0.0)
    with ResultsFile(tmp_path / "out.jsonl", simulated=False) as results:
        Sink(tally, "mine", results)([result("a"), result("b", batch="another")])
        assert list(results.ids()) == ["a"]
    assert tally.done == 1


def test_a_full_disk_ends_the_run_once_and_the_file_stays_whole(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    calls: list[str] = []
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    with ResultsFile(tmp_path / "out.jsonl", simulated=False) as results:
        sink = Sink(Tally({TaskStatus.QUEUED: 3}, now=0.0), "mine", results)
        sink.on_error = lambda: calls.append("drain")
        sink([result("a")])
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "out.jsonl").stat().st_size + 10, old[1]))
        try:
            sink([result("b")])
            sink([result("c")])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
        assert list(results.ids()) == ["a"]
    assert calls == ["drain"] and sink.error is not None and "cannot be written" in str(sink.error)
    assert sink.tally.done == 3, "all of them are stored, and so they count"
