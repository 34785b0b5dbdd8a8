"""Compressed task files: unpacked while they are read, and refused with a reason where they are broken."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pytest

from src.config import load_settings
from src.core.intake import BadLine, ReadOptions, TaskContext, Template, columns_of, read_tasks
from src.errors import InputError
from src.records import Task
from src.settings import Settings
from tests.helpers import read_rows, run_script

NOW = 1_800_000_000.0
LINES = b"".join(b'{"id": %d, "prompt": "Hi"}\n' % n for n in range(5_000))


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(environ={})


def read(path: Path, settings: Settings, how: ReadOptions | None = None) -> list[Task | BadLine]:
    return list(read_tasks(path, TaskContext("b", settings, NOW), how or ReadOptions()))


def test_the_ending_before_gz_decides_the_format(tmp_path: Path, settings: Settings) -> None:
    table = tmp_path / "t.CSV.GZ"
    table.write_bytes(gzip.compress(b"id,name\n1,Ann\n") + gzip.compress(b"2,Bo\n"))  # two members
    how = ReadOptions(template=Template.of("Hi {name}"))
    assert [task.id for task in read(table, settings, how) if isinstance(task, Task)] == ["1", "2"]
    assert columns_of(table, how).names == ("id", "name")
    for name in ("t.jsonl.gz", "t.gz"):
        (tmp_path / name).write_bytes(gzip.compress(LINES))
        assert len(read(tmp_path / name, settings)) == 5_000


BROKEN = {
    "cut off": (gzip.compress(LINES)[:-40], "the gzip file is incomplete; copy or pack it again"),
    "no end": (gzip.compress(LINES)[:-8], "line 5001: the gzip file is incomplete"),
    "wrong sum": (gzip.compress(LINES)[:-8] + bytes(8), "the gzip file is damaged (CRC check failed"),
    "changed": (gzip.compress(LINES)[:20] + b"\xff" * 9_000, "the gzip file is damaged (Error -3 while"),
    "plain text": (LINES, "line 1: not a gzip file, though its name ends in .gz (Not a gzipped file"),
    "waste": (gzip.compress(LINES) + b"waste", "line 5001: the gzip file is damaged (Not a gzipped file"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_with_the_line_and_the_reason(
    tmp_path: Path, settings: Settings, content: bytes, reason: str
) -> None:
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        read(path, settings)
    assert reason in str(raised.value)


def test_a_file_that_unpacks_to_a_gigantic_line_needs_little_memory(
    tmp_path: Path, settings: Settings
) -> None:
    path = tmp_path / "t.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(200):
            file.write(b"x" * 2**20)
        file.write(b'\n{"id": 1, "prompt": "Hi"}\n')
    tracemalloc.start()
    bad, task = read(path, settings)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(bad, BadLine) and "longer than 16 MiB" in bad.reason
    assert isinstance(task, Task) and peak < 100_000_000, f"{peak:,} bytes for a line of 200 MiB"


def test_a_run_reads_a_packed_file(tmp_path: Path) -> None:
    (tmp_path / "tasks.jsonl.gz").write_bytes(gzip.compress(LINES[: LINES.index(b'{"id": 3,')]))
    done = run_script("run", "tasks.jsonl.gz", cwd=tmp_path)
    assert done.process.returncode == 0 and "results: tasks.results.jsonl" in done.out, done.err
    assert {row["id"] for row in read_rows(tmp_path / "tasks.results.jsonl")} == {"0", "1", "2"}
    (tmp_path / "tasks.jsonl.gz").write_bytes(gzip.compress(LINES)[:-9])
    broken = run_script("run", "tasks.jsonl.gz", "-o", "other.jsonl", cwd=tmp_path)
    assert broken.process.returncode == 2 and "tasks.jsonl.gz, line" in broken.err
    assert "the gzip file is incomplete" in broken.err
