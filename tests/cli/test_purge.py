"""`purge`, and what a run does after it: nothing is asked again, and no row of a results file is lost."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from src.core.store import Store
from src.messages import Message
from src.records import Event, Task
from tests.helpers import read_rows, run_script, write_rows
from tests.web.filled import served

NAMES = "anthropic", "openai", "gemini"
WORDS = "north", "south", "east", "west"


def run(folder: Path, *arguments: str) -> Any:
    return run_script(*arguments, cwd=folder, timeout_s=120)


def purged(folder: Path, *arguments: str) -> dict[str, Any]:
    done = run(folder, "purge", *arguments, "--json")
    assert done.process.returncode == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def calls(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "state" / "simulated.db")) as database:
        return int(database.execute("SELECT count(*) FROM attempts").fetchone()[0])


def contents(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "state" / "simulated.db")) as database:
        both = "SELECT (SELECT count(*) FROM prompts) + (SELECT count(*) FROM answers)"
        return int(database.execute(both).fetchone()[0])


def test_a_purge_needs_to_know_what_and_a_yes(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with Store.open(tmp_path / "state" / "simulated.db", simulated=True) as store:
        store.intake.add_tasks([Task(word, "mine", (Message("user", word),)) for word in WORDS], now=1.0)
        store.admin.cancel("mine", list(WORDS[:3]), now=2.0)
    refusals = {
        (): "needs --older-than AGE",
        ("--older-than", "soon"): "--older-than must be a duration such as",
        ("--older-than", "9" * 400 + "d"): "--older-than must be a duration such as",
        ("--batch", "other"): "no batch 'other' (the newest: mine)",
        ("--batch", "mine"): "prompts and answers of 3 tasks (mine) will be deleted, which can't be undone",
    }
    for arguments, message in refusals.items():
        refused = run(tmp_path, "purge", *arguments)
        assert (refused.process.returncode, message in refused.err) == (2, True), refused.err
    assert purged(tmp_path, "--older-than", "1d", "--dry-run")["purgeable"] == 3
    assert contents(tmp_path) == 4
    done = purged(tmp_path, "--older-than", "1d", "--yes")
    assert (done["purged"], done["batches"], done["simulated"]) == (3, {"mine": 3}, True)
    assert contents(tmp_path) == 1, "the open task keeps its prompt"
    assert "nothing to purge" in run(tmp_path, "purge", "--older-than", "1d").err
    with Store.open(tmp_path / "state" / "simulated.db", simulated=True) as store:
        (event,) = store.events.recent()
        assert event.event.message == "local purged prompts and answers of 3 tasks"
        store.events.add([Event(1.0, "old", "older than a day")])
    assert "nothing to purge" in run(tmp_path, "purge", "--older-than", "1d", "--dry-run").err
    assert run(tmp_path, "purge", "--older-than", "1d").process.returncode == 0
    with Store.open(tmp_path / "state" / "simulated.db", simulated=True) as store:
        assert store.events.recent() == [event], "old events go, where no task is left to purge too"


def test_a_run_after_a_purge_asks_nothing_again_and_keeps_the_rows(tmp_path: Path) -> None:
    table = tmp_path / "tasks.csv"
    command = ("run", "tasks.csv", "--prompt", "Where is {word}?", "-o", "out.csv", "--quiet", "--yes")
    table.write_text("word\n" + "\n".join(WORDS[1:]) + "\n")
    assert run(tmp_path, *command).process.returncode == 0
    written, asked = (tmp_path / "out.csv").read_text().splitlines(), calls(tmp_path)
    assert purged(tmp_path, "--batch", "out.csv", "--yes")["purged"] == 3
    assert contents(tmp_path) == 0

    again = run(tmp_path, *command)
    assert "all 3 tasks are already done" in again.err
    assert (calls(tmp_path), (tmp_path / "out.csv").read_text().splitlines()) == (asked, written)

    table.write_text("word\n" + "\n".join(WORDS) + "\n")  # a new row comes first
    assert run(tmp_path, *command).process.returncode == 0
    now = (tmp_path / "out.csv").read_text().splitlines()
    assert calls(tmp_path) == asked + 1
    assert (now[0], now[2:]) == (written[0], written[1:]), "in the order of the input, with their answers"
    assert ",north," in now[1]

    (tmp_path / "out.csv").unlink()  # then an answer that was purged is gone for good
    lost = run(tmp_path, *command)
    assert "3 rows without an answer: purged from the database" in lost.err
    assert calls(tmp_path) == asked + 1
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 5


def test_a_purged_task_can_be_retried_from_its_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"id": word, "prompt": f"Where is {word}?"} for word in WORDS])
    broken = {name: {"faults": {"bad_request": 1.0}} for name in NAMES}
    (tmp_path / "broken.json").write_text(json.dumps({"providers": broken}))
    command = ("run", "tasks.jsonl", "-o", "out.jsonl", "--quiet", "--yes")
    failed = run(tmp_path, *command, "--simulator-config", "broken.json")
    assert failed.process.returncode == 1
    purged(tmp_path, "--batch", "out.jsonl", "--yes")
    retried = run(tmp_path, *command, "--retry", "failed")
    assert "--retry: 4 failed tasks queued again" in retried.err
    assert retried.process.returncode == 0, retried.err
    rows = read_rows(tmp_path / "out.jsonl")
    assert {row["id"]: row["status"] for row in rows} == dict.fromkeys(WORDS, "succeeded")
    assert all(row["output"] for row in rows)


def test_beside_an_orchestrator_contents_go_and_the_file_keeps_its_size(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    with Store.open(state / "simulated.db", simulated=True) as store:
        store.intake.add_tasks([Task("t", "mine", (Message("user", "?" * 900_000),))], now=1.0)
        store.admin.cancel("mine", now=2.0)
    with served(state / "simulated.db"):
        done = run(tmp_path, "purge", "--batch", "mine", "--yes")
    assert done.process.returncode == 0, done.err
    assert "purged 1 task" in done.err and "keeps its size while an orchestrator runs" in done.err
    size = (state / "simulated.db").stat().st_size
    assert size > 900_000
    with Store.open(state / "simulated.db", simulated=True) as store:
        store.intake.add_tasks([Task("u", "mine", (Message("user", "short"),))], now=1.0)
        store.admin.cancel("mine", now=2.0)
    alone = run(tmp_path, "purge", "--batch", "mine", "--yes")
    assert "MB smaller" in alone.err
    assert (state / "simulated.db").stat().st_size < size / 2
