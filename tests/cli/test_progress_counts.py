"""The counts behind the progress display, and text that a terminal shows literally."""

from __future__ import annotations

import pytest
from rich.table import Table

from src.cli.console import rich_console
from src.cli.progress_counts import ProgressCounts
from src.messages import Message
from src.records import Attempt, Outcome, Result, Task, TaskStatus


def test_text_is_printed_literally_in_tables_too(capsys: pytest.CaptureFixture[str]) -> None:
    text = '[models."gpt-99".price] :warning: [/red]'
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    screen = rich_console(stderr=False)
    screen.print(text)
    screen.print(table)
    assert capsys.readouterr().out.count(text) == 4


def result(status: TaskStatus, *, cost_nanos: int | None = 5, provider: str = "openai") -> Result:
    attempt = Attempt(1, provider, "m", "a", Outcome.OK, 0.0, 1.0, "weighted", (), cost_nanos=cost_nanos)
    task = Task("t", "b", (Message("user", "Hi"),))
    return Result(task, status, 1.0, (attempt,), error="" if status is TaskStatus.SUCCEEDED else "a\nreason")


def test_counts_of_answered_and_unanswered_tasks_with_reasons() -> None:
    progress = ProgressCounts({TaskStatus.QUEUED: 3, TaskStatus.SUCCEEDED: 1, TaskStatus.RUNNING: 0}, now=0.0)
    assert (progress.total, progress.done, progress.finished) == (4, 1, False)
    progress.add([result(TaskStatus.SUCCEEDED), result(TaskStatus.FAILED, cost_nanos=None)])
    progress.add([result(TaskStatus.SUCCEEDED, provider="gemini")])
    assert (progress.answered, progress.finished, progress.cost_nanos, progress.unknown_costs) == (
        3,
        True,
        10,
        1,
    )
    assert progress.by_provider == {"openai": 1, "gemini": 1}
    assert progress.reasons == ["t failed: a reason"]


def test_the_rate_is_that_of_the_last_minute() -> None:
    progress = ProgressCounts({TaskStatus.QUEUED: 400}, now=0.0)
    for second in range(1, 101):
        count = 1 if second <= 40 else 2  # twice as fast in the last minute
        progress.add([result(TaskStatus.SUCCEEDED)] * count)
        progress.mark(float(second))
    assert progress.per_minute(100.0) == pytest.approx(120, rel=0.02)
    assert progress.rate("openai") == pytest.approx(2, rel=0.02)
    assert progress.best_rate("openai") == pytest.approx(2, rel=0.02)


def test_the_start_is_no_part_of_the_rate() -> None:
    progress = ProgressCounts({TaskStatus.QUEUED: 400}, now=0.0)
    for second in range(1, 31):
        if second > 20:
            progress.add([result(TaskStatus.SUCCEEDED)])
        progress.mark(float(second))
    assert progress.per_minute(30.0) == pytest.approx(60, rel=0.02)


def test_a_queue_without_an_end_has_no_total() -> None:
    progress = ProgressCounts(None, now=0.0)
    progress.add([result(TaskStatus.SUCCEEDED)])
    assert (progress.total, progress.finished) == (None, False)
