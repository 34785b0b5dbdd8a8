"""`run` leaves a finished table in the order of its input; JSON Lines only with `--order input`."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.helpers import read_rows, run_script

COUNT = 40


def write_input(path: Path, ids: list[str]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "prompt"], *([each, f"Question {each}?"] for each in ids)])


def ids(path: Path) -> list[str]:
    if path.suffix == ".jsonl":
        return [row["id"] for row in read_rows(path)]
    with path.open(newline="") as file:
        return [row["id"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("output", ["out.csv", "out.jsonl"])
def test_a_finished_file_gets_the_order_of_the_input_as_it_is_now(tmp_path: Path, output: str) -> None:
    names = [f"t{n}" for n in range(COUNT)]
    write_input(tmp_path / "t.csv", names)
    run = ("run", "t.csv", "-o", output, "--order", "input")
    first = run_script(*run, "--limit", "15", cwd=tmp_path)
    assert first.process.returncode == 0 and ids(tmp_path / output) == names[:15], first.err
    write_input(tmp_path / "t.csv", names[::-1])
    second = run_script(*run, cwd=tmp_path)
    assert second.process.returncode == 0 and ids(tmp_path / output) == names[::-1], second.err
    few = run_script(*run, "--sample", "3", cwd=tmp_path)
    assert few.process.returncode == 0 and ids(tmp_path / output) == names[::-1], few.err
    write_input(tmp_path / "t.csv", names[1:])
    shorter = run_script(*run, cwd=tmp_path)
    assert shorter.process.returncode == 0 and ids(tmp_path / output) == [*names[1:], "t0"], shorter.err


@pytest.mark.parametrize("output", ["out.csv", "out.jsonl", "out.parquet"])
def test_a_link_to_the_results_stays_a_link_and_the_run_resumes(tmp_path: Path, output: str) -> None:
    names = [f"t{n}" for n in range(COUNT)]
    write_input(tmp_path / "t.csv", names)
    (tmp_path / "disk").mkdir()
    (tmp_path / output).symlink_to(Path("disk") / output)
    run = ("run", "t.csv", "-o", output, "--order", "input")
    first = run_script(*run, cwd=tmp_path)
    assert first.process.returncode == 0 and (tmp_path / output).is_symlink(), first.err
    assert [file.name for file in (tmp_path / "disk").iterdir()] == [output]
    again = run_script(*run, cwd=tmp_path)
    assert again.process.returncode == 0 and "nothing to do" in again.err, again.err


def test_a_table_is_put_in_order_by_default_and_a_failure_to_do_so_loses_nothing(tmp_path: Path) -> None:
    names = [f"t{n}" for n in range(COUNT)]
    write_input(tmp_path / "t.csv", names)
    done = run_script("run", "t.csv", "-o", "out.csv", "--order", "completion", cwd=tmp_path)
    assert done.process.returncode == 0 and {*ids(tmp_path / "out.csv")} == {*names}, done.err
    write_input(tmp_path / "t.csv", names[::-1])
    before = (tmp_path / "out.csv").read_bytes()
    (tmp_path / ".out.csv.new").mkdir()
    failed = run_script("run", "t.csv", "-o", "out.csv", cwd=tmp_path)
    assert failed.process.returncode == 0 and (tmp_path / "out.csv").read_bytes() == before
    assert "is a folder" in failed.err and "no result is missing, but their order" in failed.err
    (tmp_path / ".out.csv.new").rmdir()
    rerun = run_script("run", "t.csv", "-o", "out.csv", cwd=tmp_path)
    assert "nothing to do" in rerun.err and ids(tmp_path / "out.csv") == names[::-1]


def test_standard_output_waits_for_the_end_to_have_the_order_of_the_input(tmp_path: Path) -> None:
    names = [f"t{n}" for n in range(COUNT)]
    write_input(tmp_path / "t.csv", names)
    done = run_script("run", "t.csv", "-o", "-", "--order", "input", cwd=tmp_path)
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == names, done.err
