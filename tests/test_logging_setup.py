"""What is logged, to the terminal and to the file."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.errors import ConfigError
from src.logging_setup import set_up_logging

log = logging.getLogger("src.tests")


@pytest.fixture(autouse=True)
def _own_handlers() -> Iterator[None]:
    """Leave the loggers as they were found."""
    loggers = [logging.getLogger(), logging.getLogger("src")]
    before = [(each, list(each.handlers), each.level, each.propagate) for each in loggers]
    for each in loggers:
        each.handlers.clear()
    yield
    for each, handlers, level, propagate in before:
        for handler in each.handlers:
            handler.close()
        each.handlers[:], each.propagate = handlers, propagate
        each.setLevel(level)


def test_an_event_is_a_message_and_its_fields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("warning", tmp_path / "state" / "logs")
    log.warning("openai is open", extra={"action": "provider_open", "provider": "openai", "failures": 3})
    log.info("attempt failed", extra={"status": 503})
    printed = capsys.readouterr().err
    assert printed.endswith("warning: openai is open failures=3\n") and printed.count("\n") == 1
    path = tmp_path / "state" / "logs" / "orchestrator.log"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["message"] for row in rows] == ["openai is open", "attempt failed"]
    assert (rows[0]["provider"], rows[1]["status"], rows[1]["level"]) == ("openai", 503, "info")
    assert path.stat().st_mode & 0o777 == 0o600


def test_each_json_line_of_a_simulated_run_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("warning", tmp_path / "logs", as_json=True, simulated=True)
    log.warning("openai is open")
    logging.getLogger("another.library").warning("careful")
    rows = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    rows.append(json.loads((tmp_path / "logs" / "orchestrator.log").read_text()))
    assert [row["simulated"] for row in rows] == [True, True, True]


def test_details_of_other_libraries_are_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("debug")
    logging.getLogger("openai").debug("Request options: the prompt")
    logging.getLogger("openai").warning("careful")
    printed = capsys.readouterr().err
    assert "the prompt" not in printed and "careful" in printed


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(ConfigError, match="logs: cannot be written"):
        set_up_logging("warning", tmp_path / "state" / "logs")


def test_a_json_log_is_one_object_a_line_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    set_up_logging("info", as_json=True, on_stdout=True)
    log.info(
        "two\nlines\u2028and \x9b a bell",
        extra={"provider": "openai", "level": "mine", "until": float("inf")},
    )
    try:
        raise ValueError("no\nmore")
    except ValueError:
        log.exception("failed")
    logging.getLogger("another.library").warning("careful")
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert printed.err == "" and len(lines) == printed.out.count("\n") == 3
    assert rows[0]["message"] == "two\nlines\u2028and \x9b a bell"
    assert (rows[0]["level"], rows[0]["provider"], rows[0]["until"]) == ("info", "openai", "inf")
    assert "ValueError: no\nmore" in rows[1]["exception"] and rows[1]["level"] == "error"
    assert rows[2]["logger"] == "another.library"
    for row in rows:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", row["time"]), "RFC 3339"
        assert list(row)[:4] == ["time", "level", "logger", "message"]


KEY = "sk-ant-api03-abcdefghijklmnop"


@pytest.mark.parametrize("as_json", [True, False])
def test_what_looks_like_a_key_is_masked(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    set_up_logging("info", as_json=as_json)
    log.warning("refused: %s", KEY, extra={"sent": f"Bearer {KEY}"})
    try:
        raise ValueError(f"header {KEY}")
    except ValueError:
        log.exception("failed")
    logging.getLogger("a.library").warning("connecting with %s", KEY)
    printed = capsys.readouterr().err
    assert printed.count("failed") == 1 and "abcdefghijklmnop" not in printed and "***" in printed
