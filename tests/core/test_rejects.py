"""The file of rejected lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from src.core.intake import BadLine
from src.core.rejects import RejectsFile
from src.errors import InputError


def test_each_rejected_line_is_kept_unchanged_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "new" / "out.rejects.jsonl"
    with RejectsFile(path) as rejects:
        assert not path.exists(), "made with the first line"
        rejects.add(BadLine(3, "no prompt", '{"promt": "ü"}'))
        rejects.add(BadLine(9, "quoting", 'a,"b\nc"d'))
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"line": 3, "reason": "no prompt", "text": '{"promt": "ü"}'},
        {"line": 9, "reason": "quoting", "text": 'a,"b\nc"d'},
    ]
    assert path.stat().st_mode & 0o777 == 0o600


def test_the_file_is_that_of_the_last_run_and_is_removed_without_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.rejects.jsonl"
    for lines in ([1, 2], [2]):
        with RejectsFile(path) as rejects:
            for line in lines:
                rejects.add(BadLine(line, "why", "text"))
        assert [json.loads(line)["line"] for line in path.read_text().splitlines()] == lines
    with RejectsFile(path):
        pass
    assert not path.exists()


def test_an_interrupted_run_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.rejects.jsonl"
    with RejectsFile(path) as rejects:
        rejects.add(BadLine(1, "why", "text"))
    with pytest.raises(InputError), RejectsFile(path):
        raise InputError("the header")
    assert path.exists()


def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text("mine")
    with RejectsFile(path):
        pass
    with pytest.raises(InputError, match="does not hold rejected lines; choose another --rejects file"):
        RejectsFile(path).add(BadLine(1, "why", "text"))
    assert path.read_text() == "mine"


def test_a_path_that_cannot_be_written_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        RejectsFile(tmp_path / "file" / "out.jsonl").add(BadLine(1, "why", "text"))


def test_without_a_path_nothing_is_written() -> None:
    with RejectsFile(None) as rejects:
        rejects.add(BadLine(1, "why", "text"))
