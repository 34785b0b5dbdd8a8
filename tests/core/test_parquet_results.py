"""Results as Parquet: rows are appended to a table beside it, which a finished run turns into the file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from src.core.intake import OwnColumns
from src.core.results import ResultsFile, TableColumns, form_of, pack, rows_path, unpack
from src.errors import InputError, StoreError
from src.simulator.process import SimulatorProcess
from tests.helpers import ROOT, live_environment, run_script

from .test_results import result

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

OWN = OwnColumns(("text", "id"), {"id": "id"})


def write_rows(output: Path, count: int = 2_000) -> bytes:
    """The table of a results file with all columns. Returns its bytes."""
    rows = rows_path(str(output))
    form = form_of(str(rows), columns=TableColumns(OWN, ("mood",), all=True))
    with ResultsFile(rows, simulated=True, form=form) as file:
        file.append(result(f"t{n}", output=f'one\r\n"{n}"' if n % 2 else None) for n in range(count))
    return rows.read_bytes()


def test_a_table_and_its_parquet_file_hold_the_same(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    before = write_rows(output, 6_000)  # more than a group of rows
    pack(str(output), OWN)
    assert [each.name for each in tmp_path.iterdir()] == ["out.parquet"]
    table = pq.read_table(output)
    assert output.stat().st_mode & 0o777 == 0o600 and table.num_rows == 6_000
    types = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    assert list(types)[:4] == ["text", "id", "output", "output.mood"]
    assert (types["cost_usd"], types["attempts"], types["simulated"], types["output"]) == (
        "double", "int64", "bool", "string",
    )  # fmt: skip
    first, second = table.slice(0, 2).to_pylist()
    assert (first["output"], second["output"]) == (None, 'one\r\n"1"')
    assert (second["cost_usd"], second["line"], second["truncated"]) == (0.0015, 3, False)
    unpack(str(output), OWN)
    assert rows_path(str(output)).read_bytes() == before
    assert output.exists(), "the file is there until another one replaces it"


def test_an_existing_table_is_newer_than_the_parquet_file(tmp_path: Path) -> None:
    output = tmp_path / "out.parquet"
    write_rows(output, 1)
    pack(str(output), OWN)
    newer = write_rows(output, 2)
    unpack(str(output), OWN)
    assert rows_path(str(output)).read_bytes() == newer


@pytest.mark.parametrize("content", ["other", "broken"])
def test_a_file_of_something_else_is_left_as_it_is(tmp_path: Path, content: str) -> None:
    output = tmp_path / "out.parquet"
    if content == "other":
        pq.write_table(pa.table({"id": [1], "output": ["mine"]}), output)
    else:
        output.write_bytes(b"PAR1")
    before = output.read_bytes()
    with pytest.raises(InputError):
        unpack(str(output), OWN)
    assert output.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ["out.parquet"]


CHILD = """
import resource, signal, sys
import tests.core.test_parquet_results as test
output, action = sys.argv[1:]
test.pa, test.pq  # imported before the limit
signal.signal(signal.SIGXFSZ, getattr(signal, action))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
test.pack(output, test.OWN)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes")
@pytest.mark.parametrize("action", ["SIG_DFL", "SIG_IGN"], ids=["killed", "disk full"])
def test_a_file_that_cannot_be_written_to_its_end_leaves_table_and_old_file(
    tmp_path: Path, action: str
) -> None:
    output = tmp_path / "out.parquet"
    write_rows(output, 1)
    pack(str(output), OWN)
    old, rows = output.read_bytes(), write_rows(output)
    command = [sys.executable, "-B", "-c", CHILD, str(output), action]
    child = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (child.returncode < 0) == (action == "SIG_DFL"), child.stderr
    if action == "SIG_IGN":
        assert StoreError.__name__ in child.stderr and "cannot be written" in child.stderr
    assert output.read_bytes() == old and rows_path(str(output)).read_bytes() == rows
    pack(str(output), OWN)
    assert pq.read_table(output).num_rows == 2_000 and len([*tmp_path.iterdir()]) == 1


def test_a_run_resumes_a_parquet_file_and_repeats_no_call(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    env = live_environment(simulator.base_urls, only=["openai"])
    names = [f"s{n}" for n in range(8)]
    pq.write_table(pa.table({"sku": names, "stars": [*range(8)]}), tmp_path / "t.parquet")
    run = (
        "run",
        "t.parquet",
        "--prompt",
        "Good? {stars}",
        "--id-column",
        "sku",
        "-o",
        "out.parquet",
        "--yes",
    )
    first = run_script(*run, "--limit", "5", cwd=tmp_path, env=env)
    assert first.process.returncode == 0 and "results: out.parquet\n" in first.out, first.err
    assert pq.read_table(tmp_path / "out.parquet")["sku"].to_pylist() == names[:5]
    second = run_script(*run, cwd=tmp_path, env=env)
    assert second.process.returncode == 0 and "5 of 8 tasks already done; 3 left" in second.err
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.schema.names == ["sku", "stars", "output", "status", "model", "cost_usd", "error"]
    assert table["sku"].to_pylist() == names and table["status"].to_pylist() == ["succeeded"] * 8
    assert simulator.stats()["openai"]["calls"] == 8
    assert not (tmp_path / "out.parquet.rows.csv").exists()
    simulated = run_script(*run, "--simulate", cwd=tmp_path)
    assert simulated.process.returncode == 2 and "holds answers of real providers" in simulated.err
