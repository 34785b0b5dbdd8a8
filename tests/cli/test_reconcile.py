"""A results file is brought in line with the store, wherever the last process was killed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.cli.batch import Batch
from src.cli.reconcile import answer_duplicates, drop_stale_rows, reconcile
from src.cli.rerun import parse_statuses
from src.core.results import ResultsFile
from src.core.store import Store
from src.errors import InputError
from src.records import Task
from tests.helpers import read_rows
from tests.store.makers import NOW, a_result, a_task, an_attempt, register, results_of, tasks


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "live.db", simulated=False) as opened:
        register(opened)
        yield opened


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    output = str(tmp_path / "out.jsonl")
    return Batch("b", "tasks.jsonl", output)


@pytest.fixture
def results(batch: Batch) -> Iterator[ResultsFile]:
    with ResultsFile(batch.output, simulated=False) as opened:
        yield opened


def outputs(results: ResultsFile) -> dict[str, str]:
    assert results.path is not None
    rows = read_rows(results.path)
    assert len({row["id"] for row in rows}) == len(rows), "each id once"
    return {row["id"]: row["output"] for row in rows}


def answer(store: Store, text: str, *submitted: Task, at: float = NOW) -> None:
    store.intake.create_batch("b", now=NOW, output_path="out.jsonl")
    store.intake.add_tasks(submitted, now=NOW)
    claimed = store.queue.claim("me", 2000, now=NOW)
    store.queue.finish("me", [a_result(task, an_attempt(started_at=at), output=text) for task in claimed])


def test_stored_results_that_the_file_lacks_are_written(
    store: Store, batch: Batch, results: ResultsFile
) -> None:
    answer(store, "one", *tasks(1_100))
    reconcile(store, batch, results, print)
    reconcile(store, batch, results, print)
    assert set(outputs(results)) == {task.id for task in tasks(1_100)}


@pytest.mark.parametrize("killed", ["before the file was touched", "before that was noted", "after it"])
def test_a_retried_task_is_in_the_file_once_with_its_new_answer(
    store: Store, batch: Batch, results: ResultsFile, killed: str
) -> None:
    answer(store, "old", *tasks(3))
    reconcile(store, batch, results, print)
    store.admin.retry("b", ["t0001"], now=NOW)
    if killed == "before that was noted":
        results.drop(["t0001"])
    if killed == "after it":
        drop_stale_rows(store, batch, results)
        assert "t0001" not in outputs(results)
    answer(store, "new", at=NOW + 50)
    reconcile(store, batch, results, print)
    assert outputs(results) == {"t0000": "old", "t0001": "new", "t0002": "old"}
    assert store.result_sync.stale("b") == {}


def test_a_task_retried_while_a_run_writes_is_in_the_file_once(
    store: Store, batch: Batch, results: ResultsFile
) -> None:
    """From the pages: the run writes its second answer behind its first."""
    answer(store, "old", a_task("a"))
    reconcile(store, batch, results, print)
    store.admin.retry("b", ["a"], now=NOW)
    answer(store, "new", at=NOW + 50)
    results.append(stored.result for stored in results_of(store))
    reconcile(store, batch, results, print)
    assert outputs(results) == {"a": "new"}


def test_answers_unknown_to_this_state_are_neither_lost_nor_repeated(
    store: Store, batch: Batch, results: ResultsFile
) -> None:
    answer(store, "known", a_task("known"))
    results.append([a_result(a_task("paid-1")), a_result(a_task("paid-2"))])
    before = outputs(results)
    with pytest.raises(InputError, match=r"holds 2 results that this state does not know \(paid-1, paid-2\)"):
        reconcile(store, batch, results, print)
    assert outputs(results) == before


def test_an_unfinished_task_with_an_answer_in_the_file_is_not_run_again(
    store: Store, batch: Batch, results: ResultsFile
) -> None:
    """The state is an older copy."""
    store.intake.add_tasks([a_task("a")], now=NOW)
    results.append([a_result(a_task("a"))])
    with pytest.raises(InputError, match="holds 1 result that this state does not know"):
        reconcile(store, batch, results, print)


def test_simulated_answers_of_another_state_are_set_aside(tmp_path: Path, batch: Batch) -> None:
    with (
        Store.open(tmp_path / "simulated.db", simulated=True) as store,
        ResultsFile(batch.output, simulated=True) as results,
    ):
        results.append([a_result(a_task("a"))])
        reconcile(store, batch, results, print)
        results.append([a_result(a_task("b"))])
        assert list(outputs(results)) == ["b"]
        assert [row["id"] for row in read_rows(tmp_path / "out.earlier.jsonl")] == ["a"]


def test_a_late_duplicate_is_written_without_a_call(store: Store, batch: Batch, results: ResultsFile) -> None:
    first, late = (dataclasses.replace(a_task(name), messages=a_task("x").messages) for name in "ab")
    store.intake.create_batch("b", now=NOW, output_path="out.jsonl")
    store.intake.add_tasks([first], now=NOW, once=True)
    answer(store, "both")
    reconcile(store, batch, results, print)
    store.intake.add_tasks([first, late], now=NOW, once=True)
    answer_duplicates(store, "b", results)
    assert outputs(results) == {"a": "both", "b": "both"}
    assert read_rows(Path(batch.output))[1]["deduplicated_from"] == "a"


@pytest.mark.parametrize(
    ("text", "ends"),
    [("failed", {"failed"}), (" failed, truncated,", {"failed", "truncated"}), ("expired", {"expired"})],
)
def test_statuses_to_retry_are_parsed(text: str, ends: set[str]) -> None:
    assert parse_statuses(text) == ends


@pytest.mark.parametrize(
    ("text", "message"),
    [("fialed", "--retry: unknown status 'fialed' .choose from failed"), (",", "names no status")],
)
def test_an_unknown_status_to_retry_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_statuses(text)
