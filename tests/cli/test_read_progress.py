"""Progress of reading a file, shown only if that takes long."""

from __future__ import annotations

import sys

import pytest

from src.cli import read_progress
from src.cli.console import Console
from src.cli.read_progress import CHECK_EVERY, ReadProgress


def test_reading_a_long_file_prints_lines_without_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(read_progress, "LINE_EVERY_S", 0.0)
    with ReadProgress("tasks.csv", Console()) as read:
        assert len(list(read.counted(range(2 * CHECK_EVERY)))) == 2 * CHECK_EVERY
    printed = capsys.readouterr().err.splitlines()
    assert printed == [f"tasks.csv: {n * CHECK_EVERY:,} lines read" for n in (1, 2)]


def test_a_terminal_gets_one_line_that_is_erased_afterwards(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(read_progress, "REDRAW_EVERY_S", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with ReadProgress("tasks.csv", Console()) as read:
        list(read.counted(range(2 * CHECK_EVERY)))
    printed = capsys.readouterr().err
    assert "\n" not in printed and printed.count("\r") == 4
    assert printed.rsplit("\r", 2)[1].strip() == ""


@pytest.mark.parametrize(("lines", "quiet"), [(10, False), (2 * CHECK_EVERY, True), (2 * CHECK_EVERY, False)])
def test_a_short_file_and_a_quiet_run_print_nothing(
    lines: int, quiet: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with ReadProgress("tasks.csv", Console(), quiet=quiet) as read:
        list(read.counted(range(lines)))
    assert capsys.readouterr().err == ""
