"""The same command resumes: in a moved folder, with a longer table, on the state of an older version.

`half_finished` is what an earlier version left after `run tasks.csv --prompt-file prompt.txt -o
results/out.csv --limit 3`, and after the same with lines.jsonl, in a folder that is gone.
"""

from __future__ import annotations

import csv
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from src.cli.batch_names import relative_name
from src.cli.session import Options, prepare
from src.simulator.process import SimulatorProcess
from tests.helpers import live_environment, run_script

EARLIER = Path(__file__).with_name("half_finished")


@pytest.fixture
def older(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "state").mkdir(parents=True)
    (folder / "results").mkdir()
    for name in ("tasks.csv", "prompt.txt", "lines.jsonl"):
        shutil.copy(EARLIER / name, folder / name)
    for name in ("out.csv", "out.jsonl"):
        shutil.copy(EARLIER / name, folder / "results" / name)
    with closing(sqlite3.connect(folder / "state" / "simulated.db")) as database:
        database.executescript((EARLIER / "state.sql").read_text())
    return folder


def attempts(folder: Path) -> Counter[tuple[str, str]]:
    """How often each task was called."""
    with closing(sqlite3.connect(folder / "state" / "simulated.db")) as database:
        rows = database.execute(
            "SELECT batches.name, tasks.id FROM attempts JOIN tasks USING (task_row) JOIN batches "
            "ON batches.id = tasks.batch_id"
        )
        return Counter((Path(batch).name, task) for batch, task in rows)


@pytest.mark.parametrize(
    ("command", "output"),
    [(["tasks.csv", "--prompt-file", "prompt.txt"], "out.csv"), (["lines.jsonl"], "out.jsonl")],
    ids=["csv", "jsonl"],
)
def test_a_half_finished_file_of_an_older_version_repeats_no_call(
    older: Path, command: list[str], output: str
) -> None:
    results = older / "results" / output
    before, calls = results.read_bytes(), attempts(older)
    done = run_script("run", *command, "-o", f"results/{output}", "--quiet", cwd=older, timeout_s=120)
    assert done.process.returncode == 0, done.err
    assert "6 of 6 tasks answered" in done.out
    lines, now = before.splitlines(), results.read_bytes().splitlines()
    assert now[0] == lines[0] or output == "out.jsonl", "a table keeps its header"
    assert {*lines} < {*now} and len(now) == len(lines) + 3, "its rows are as they were"
    after = attempts(older)
    assert {key: after[key] for key in calls} == calls and len(after) == len(calls) + 3


def test_a_moved_folder_and_a_longer_table_resume(tmp_path: Path, simulator: SimulatorProcess) -> None:
    env = live_environment(simulator.base_urls, only=["openai"])
    folder, moved = tmp_path / "project", tmp_path / "renamed"
    folder.mkdir()
    (folder / "prompt.txt").write_text("Is it good? {review}")
    reviews = [[f"It is {n} of 5."] for n in range(3)]
    command = ["run", "tasks.csv", "--prompt-file", "prompt.txt", "-o", "results/out.csv", "--quiet", "--yes"]
    write_table(folder / "tasks.csv", [["review"], *reviews])
    first = run_script(*command, "--limit", "2", cwd=folder, env=env, timeout_s=120)
    assert first.process.returncode == 0, first.err
    assert simulator.stats()["openai"]["calls"] == 2
    folder.rename(moved)
    write_table(moved / "tasks.csv", [["shop", "review"], *(["here", *row] for row in reviews)])
    second = run_script(*command, cwd=moved, env=env, timeout_s=120)
    assert second.process.returncode == 0, second.err
    assert "results/out.csv: 2 of 3 tasks already done; 1 left" in second.err
    assert simulator.stats()["openai"]["calls"] == 3
    with (moved / "results" / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == len(rows) == 3


NAMES = {
    "project/out.csv": "./out.csv",
    "project/results/out.csv": "./results/out.csv",
    "project/state/out.csv": "<state>/out.csv",
    "elsewhere/out.csv": None,
}


@pytest.mark.parametrize(("output", "name"), NAMES.items())
def test_a_batch_is_named_by_its_path_relative_to_the_state(
    tmp_path: Path, output: str, name: str | None
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "state").symlink_to(tmp_path / "disk")  # a state folder elsewhere
    path = str((tmp_path / output).resolve())
    setup = prepare(Options(simulate=True, state_dir=tmp_path / "project" / "state"))
    assert relative_name(setup, path) == (name or path)
    assert relative_name(setup, "stdout-1-2") == "stdout-1-2"
    shared = setup.settings.model_copy(update={"database_url": "postgresql://127.0.0.1/test"})
    assert relative_name(replace(setup, settings=shared, simulated=False), path) == path


def write_table(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_columns_that_are_metadata_now_are_named(older: Path) -> None:
    """The half-finished file had `stars`; here it is called `tier`, which was a key until now."""
    with (older / "tasks.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    write_table(older / "tasks.csv", [[*head[:2], "tier"], *([*row[:2], "economy"] for row in rows)])
    done = run_script(
        "run", "tasks.csv", "--prompt-file", "prompt.txt", "-o", "out.csv", cwd=older, timeout_s=120
    )
    assert (
        "tasks.csv: column 'tier': data for the template; to set a field of the tasks, rename it" in done.err
    )
