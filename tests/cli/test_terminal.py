"""Text of models and providers is escaped on a terminal and unchanged in files and pipes."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from src.cli.console import Console, rich_console
from src.cli.submit import print_result
from src.control_characters import terminal_safe
from src.core.results import ResultsFile, encode_row
from src.logging_setup import set_up_logging
from src.messages import Message
from src.records import Result, Task, TaskStatus

EVIL: dict[str, tuple[str, str]] = {
    "a colour": ("\x1b[31mred", r"\u001b[31mred"),
    "the screen": ("\x1b[2J\x1b[H", r"\u001b[2J\u001b[H"),
    "a window's title": ("\x1b]0;title\x07", r"\u001b]0;title\u0007"),
    "the clipboard": ("\x1b]52;c;cm0=\x1b\\", r"\u001b]52;c;cm0=\u001b" + "\\"),
    "C1": ("\x9b31m\x9d0;t\x9c\x85", r"\u009b31m\u009d0;t\u009c\u0085"),
    "a carriage return": ("yes\rno", r"yes\u000dno"),
    "backspaces": ("a\b\x7f", r"a\u0008\u007f"),
    "directions": ("\u202egpj.exe\u2066\u200f", r"\u202egpj.exe\u2066\u200f"),
    "hidden letters": ("a\U000e0041", r"a\udb40\udc41"),
    "a half": ("\ud83d", r"\ud83d"),
    "NUL": ("a\0b", r"a\u0000b"),
    "line ends": ("a\r\nb\n\tc", "a\nb\n\tc"),
    "words": ("Grüße, שלום 👩\u200d💻 \\u001b", "Grüße, שלום 👩\u200d💻 \\u001b"),
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("text", "shown"), EVIL.values(), ids=EVIL)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert terminal_safe(text) == shown
    row = encode_row({"id": "a", "output": text}).decode()
    assert json.loads(terminal_safe(row)) == json.loads(row), "a row of JSON stays one"


def result(output: str, error: str = "") -> Result:
    status = TaskStatus.FAILED if error else TaskStatus.SUCCEEDED
    return Result(Task("a", "queue", (Message("user", "Hi"),)), status, 0.0, output=output, error=error)


@pytest.mark.parametrize("as_json", [False, True])
def test_an_answer_is_escaped_on_a_terminal_and_unchanged_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, as_json: bool
) -> None:
    evil = "\x1b]0;owned\x07\x9b2J\u202eab"
    for stream in (Terminal(), io.StringIO()):
        errors = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", errors)
        print_result(result(evil, error=f"openai: {evil}"), Console(), as_json=as_json)
        written = stream.getvalue()
        if stream.isatty():
            assert terminal_safe(written) == written and "owned" in written
        elif not as_json:
            assert written == evil + "\n"
        if as_json:
            assert json.loads(written)["output"] == evil
        assert errors.getvalue() == f"failed: openai: {terminal_safe(evil)}\n"


def test_notes_tables_and_logs_are_escaped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table

    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    evil = "\x1b]0;owned\x07"
    Console().note(evil)
    table = Table("state")
    table.add_row(evil)
    screen = rich_console(stderr=True)
    screen.print(evil, table)
    set_up_logging("info")
    import logging

    logging.getLogger("src.test").warning("said %s", evil, extra={"why": evil})
    assert stream.getvalue().count(r"\u001b]0;owned\u0007") == 4
    assert "\x07" not in stream.getvalue() and "\x1b]" not in stream.getvalue()


def test_results_are_escaped_on_a_terminal_and_unchanged_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    evil = "\x9b2J\u202eab"
    main, side = os.openpty()
    with os.fdopen(side, "wb", buffering=0) as terminal:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal))
        with ResultsFile("-", simulated=True) as out:
            out.append([result(evil)])
        shown = os.read(main, 65536).decode()
    os.close(main)
    assert r"\u009b2J\u202eab" in shown and "\x9b" not in shown
    with ResultsFile(tmp_path / "out.jsonl", simulated=True) as out:
        out.append([result(evil)])
    assert json.loads((tmp_path / "out.jsonl").read_bytes())["output"] == evil
