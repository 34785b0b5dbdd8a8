"""Parquet files of tasks are read as tables; what is broken is refused with a reason."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from src.config import load_settings
from src.core.intake import BadLine, ReadOptions, TaskContext, Template, columns_of, read_tasks
from src.errors import InputError
from src.records import Task
from src.settings import Settings
from tests.helpers import ROOT, run_script

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(environ={})


def write(path: Path, columns: dict[str, Any], **how: Any) -> Path:
    pq.write_table(pa.table(columns), path, **how)
    return path


def read(path: Path, settings: Settings, template: str | None = None) -> list[Task | BadLine]:
    how = ReadOptions(template=None if template is None else Template.of(template))
    return list(read_tasks(path, TaskContext("b", settings, 1_800_000_000.0), how))


VALUES = {
    "text": ("a\nb", "a\nb"),
    "empty": ("", ""),
    "whole": (7, "7"),
    "large": (2**63 - 1, "9223372036854775807"),
    "number": (0.1, "0.1"),
    "none": (float("nan"), ""),
    "truth": (True, "true"),
    "list": ([1, None, "x"][:1], "[1]"),
    "object": ({"k": "ä"}, '{"k": "ä"}'),
    "decimal": (decimal.Decimal("1.50"), "1.50"),
    "day": (dt.date(2026, 1, 31), "2026-01-31"),
}


def test_each_type_becomes_the_text_of_a_table(tmp_path: Path, settings: Settings) -> None:
    columns = {name: [value, None] for name, (value, _) in VALUES.items()}
    nanoseconds = pa.array([1_700_000_000_000_000_001, None], pa.timestamp("ns"))
    path = write(tmp_path / "t.parquet", columns | {"time": nanoseconds, "id": [1, 2]})
    first, second = read(path, settings, "Say {id}")
    assert isinstance(first, Task) and isinstance(second, Task)
    assert {name: first.metadata[name] for name in VALUES} == {
        name: text for name, (_, text) in VALUES.items()
    }
    assert first.metadata["time"] == "2023-11-14 22:13:20.000000001"
    assert set(second.metadata.values()) == {""} and (first.id, first.line, second.line) == ("1", 1, 2)
    own = columns_of(path, ReadOptions(template=Template.of("Say {id}")))
    assert own.names == (*VALUES, "time", "id") and own.ids == "id"


def test_columns_that_are_named_like_a_field_set_it(tmp_path: Path, settings: Settings) -> None:
    columns = {"prompt": ["Hi", ""], "max_tokens": [50, 60], "stop": [["."], None], "city": ["Rome", "Oslo"]}
    task, bad = read(write(tmp_path / "t.parquet", columns), settings)
    assert isinstance(task, Task) and (task.max_tokens, task.stop) == (50, (".",))
    assert task.metadata == {"city": "Rome"}
    assert isinstance(bad, BadLine) and str(bad).startswith("line 2: 'prompt' is empty")
    assert '"city": "Oslo"' in bad.text


def test_rows_stream_over_row_groups(tmp_path: Path, settings: Settings) -> None:
    columns = {"id": range(2_345), "prompt": ["Hi"] * 2_345}
    path = write(tmp_path / "T.PARQUET", {key: list(v) for key, v in columns.items()}, row_group_size=700)
    tasks = read(path, settings)
    assert [task.id for task in tasks if isinstance(task, Task)] == [str(n) for n in range(2_345)]


def test_binary_cells_are_bad_rows(tmp_path: Path, settings: Settings) -> None:
    (bad,) = read(write(tmp_path / "t.parquet", {"prompt": ["Hi"], "picture": [b"\x89PNG"]}), settings)
    assert isinstance(bad, BadLine) and bad.reason == "column 'picture' holds bytes, not text or numbers"


def test_broken_files_are_refused_in_one_line(tmp_path: Path, settings: Settings) -> None:
    whole = write(tmp_path / "t.parquet", {"prompt": ["Hi"] * 5_000, "n": list(range(5_000))}).read_bytes()
    cases = {
        "cut": whole[:-10],
        "text": b'{"prompt": "Hi"}',
        "empty": b"",
        "middle": b"PAR1" + bytes(400) + whole[404:],
    }
    for name, content in cases.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as Parquet: ") as raised:
            read(path, settings)
        assert "\n" not in str(raised.value), name
    with pytest.raises(InputError, match="no column 'prompt' among 'text'"):
        read(write(tmp_path / "other.parquet", {"text": ["Hi"]}), settings)


def test_without_pyarrow_the_message_says_what_to_install(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", {"prompt": ["Hi"]})
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from pathlib import Path\n"
        "from src.core.intake import columns_of\n"
        f"columns_of(Path({str(tmp_path / 't.parquet')!r}))"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Parquet files need pyarrow: pip install pyarrow" in child.stderr


def test_a_run_answers_a_parquet_file(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", {"sku": ["x", "y"], "stars": [1, 5], "text": ["bad", None]})
    run = ("run", "t.parquet", "--prompt", "Good? {text} {stars}", "--id-column", "sku", "-o", "out.csv")
    done = run_script(*run, cwd=tmp_path)
    assert done.process.returncode == 0, done.err
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["sku"], row["stars"], row["text"]) for row in rows] == [("x", "1", "bad"), ("y", "5", "")]
