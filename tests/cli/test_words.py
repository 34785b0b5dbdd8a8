"""Numbers as people read them, and the counts that the progress display is made of."""

from __future__ import annotations

import pytest
from rich.table import Table

from src.cli.progress import console
from src.cli.tally import Tally
from src.cli.words import duration, money, percent, tasks
from src.records import Attempt, Message, Outcome, Result, Task, TaskStatus
from src.web import words as words_of_pages


def test_what_is_printed_is_text_and_no_markup_in_tables_too(capsys: pytest.CaptureFixture[str]) -> None:
    text = '[models."gpt-99".price] :warning: [/red]'
    table = Table(title=text)
    table.add_column(text)
    table.add_row(text)
    screen = console(stderr=False)
    screen.print(text)
    screen.print(table)
    assert capsys.readouterr().out.count(text) == 4


@pytest.mark.parametrize(
    ("nanos", "text"),
    [
        (None, "unknown"),
        (0, "$0"),
        (1_000, "$0.000001"),
        (78_000, "$0.000078"),
        (123_456, "$0.00012"),
        (100_000, "$0.0001"),
        (511_300_000, "$0.5113"),
        (-2_000_000, "-$0.0020"),
        (12_345_678, "$0.0123"),
        (1_234_567_890_123, "$1,234.57"),
    ],
)
def test_r3_10_money_shows_the_places_that_say_something(nanos: int | None, text: str) -> None:
    assert money(nanos) == text


def test_r3_10_pages_and_terminal_share_one_formatter() -> None:
    assert words_of_pages.money is money


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (12.4, "12 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
        (180_000, "2 d 2 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_share_of_nothing_is_a_dash_and_one_task_is_singular() -> None:
    assert (percent(1, 3), percent(0, 0), tasks(1), tasks(1200)) == ("33 %", "-", "1 task", "1,200 tasks")


def result(status: TaskStatus, *, cost_nanos: int | None = 5, provider: str = "openai") -> Result:
    attempt = Attempt(1, provider, "m", "a", Outcome.OK, 0.0, 1.0, "weighted", (), cost_nanos=cost_nanos)
    task = Task("t", "b", (Message("user", "Hi"),))
    return Result(task, status, 1.0, (attempt,), error="" if status is TaskStatus.SUCCEEDED else "a\nreason")


def test_a_tally_counts_what_was_answered_what_was_not_and_why() -> None:
    tally = Tally({TaskStatus.QUEUED: 3, TaskStatus.SUCCEEDED: 1, TaskStatus.RUNNING: 0}, now=0.0)
    assert (tally.total, tally.done, tally.finished) == (4, 1, False)
    tally.add([result(TaskStatus.SUCCEEDED), result(TaskStatus.FAILED, cost_nanos=None)])
    tally.add([result(TaskStatus.SUCCEEDED, provider="gemini")])
    assert (tally.answered, tally.finished, tally.cost_nanos, tally.unknown_costs) == (3, True, 10, 1)
    assert tally.by_provider == {"openai": 1, "gemini": 1}
    assert tally.reasons == ["t failed: a reason"]


def test_the_rate_is_that_of_the_last_minute() -> None:
    tally = Tally({TaskStatus.QUEUED: 400}, now=0.0)
    for second in range(1, 101):
        count = 1 if second <= 40 else 2  # twice as fast in the last minute
        tally.add([result(TaskStatus.SUCCEEDED)] * count)
        tally.mark(float(second))
    assert tally.per_minute(100.0) == pytest.approx(120, rel=0.02)
    assert tally.rate("openai") == pytest.approx(2, rel=0.02)
    assert tally.best_rate("openai") == pytest.approx(2, rel=0.02)


def test_the_start_is_no_part_of_the_pace() -> None:
    tally = Tally({TaskStatus.QUEUED: 400}, now=0.0)
    for second in range(1, 31):
        if second > 20:
            tally.add([result(TaskStatus.SUCCEEDED)])
        tally.mark(float(second))
    assert tally.per_minute(30.0) == pytest.approx(60, rel=0.02)


def test_with_an_open_end_there_is_no_time_left_to_tell() -> None:
    tally = Tally(None, now=0.0)
    tally.add([result(TaskStatus.SUCCEEDED)])
    assert (tally.total, tally.finished) == (None, False)
