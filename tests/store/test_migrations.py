"""A database of an earlier schema is migrated: its tasks, its sums, and a run that was killed.

`schema_0003` holds what the last version with schema 0003 left of `run tasks.jsonl -o out.jsonl --dedupe
--max-cost 2` when it was killed with seven tasks claimed, on SQLite (iterdump) and on PostgreSQL (pg_dump
--inserts). An earlier run had ended, the breaker had opened and closed, and after the kill a task was run
again, a question was submitted, and weights and a command were set.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from src.core.budget_keeper import kept_caps
from src.core.store import Store, schema
from src.core.store.lock import HostLock
from src.errors import StoreError
from src.records import TaskStatus
from src.simulator.process import SimulatorProcess
from tests.databases import DATABASES
from tests.helpers import live_environment, read_rows, run_script

from .makers import assert_sums_are_true, results_of, rows_of

EARLIER = Path(__file__).with_name("schema_0003")
SETTINGS = """
[pool]
lease_s = 2.0
[providers.openai.limits]
requests_per_minute = 60000
[budgets]
daily_usd = 5.0
[[agents]]
name = "only"
home = "openai"
calls_in_flight = 2
"""
RUN = ("run", "tasks.jsonl", "-o", "out.jsonl", "--config", "settings.toml", "--dedupe", "--max-cost", "2")
ANSWERED = {"sqlite": "t3", "postgresql": "t4"}  # beside t0 and t9 and their duplicates, before the kill
RESERVED_NANOS = 66_750


class Killed:
    """The folder of a run that was killed, and the database that it left."""

    def __init__(self, folder: Path, url: str | None, openai_url: str) -> None:
        self.folder = folder
        kind = "postgresql" if url else "sqlite"
        dump = (EARLIER / f"{kind}.sql").read_text()
        dump = dump.replace("/FOLDER", str(folder)).replace("http://OPENAI/v1", openai_url)
        if url:
            import psycopg

            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(dump.encode())
        else:
            (folder / "state").mkdir()
            with closing(sqlite3.connect(folder / "state" / "live.db")) as database:
                database.executescript(dump)
        shutil.copy(EARLIER / f"out.{kind}.jsonl", folder / "out.jsonl")
        shutil.copy(EARLIER / "tasks.jsonl", folder / "tasks.jsonl")
        (folder / "settings.toml").write_text(SETTINGS)
        self.env = {"DATABASE_URL": url} if url else {}
        self.place: str | Path = url or folder / "state" / "live.db"
        self.batch = f"{folder}/out.jsonl" if url else "./out.jsonl"
        self.claimed = {f"t{n}" for n in range(1, 9)} - {ANSWERED[kind]}


@pytest.fixture(params=DATABASES)
def killed(request: pytest.FixtureRequest, tmp_path: Path, simulator: SimulatorProcess) -> Killed:
    is_sqlite = request.param == "sqlite"
    url = None if is_sqlite else request.getfixturevalue("own_postgresql_url")
    return Killed(tmp_path, url, simulator.base_urls["openai"])


def test_the_migrated_tables_are_what_the_schema_says(
    killed: Killed, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    with Store.open(killed.place, simulated=False) as store:
        migrated = tables_of(store.database._engine)
    new = f"sqlite:///{tmp_path}/new.db"
    if killed.env:
        new = request.getfixturevalue("postgresql_url").replace("postgresql:", "postgresql+psycopg:")
    engine = sa.create_engine(new)
    schema.metadata.create_all(engine)
    assert migrated == tables_of(engine)
    engine.dispose()


def tables_of(engine: sa.Engine) -> dict[str, Any]:
    """Columns, keys, constraints and indexes by table, as SQLAlchemy reads them from the database."""
    inspector = sa.inspect(engine)
    found: dict[str, Any] = {}
    for name in set(inspector.get_table_names()) - {"alembic_version"}:
        columns = {
            each["name"]: (str(each["type"]), each["nullable"], unqualified(each["default"]))
            for each in inspector.get_columns(name)
        }
        indexes = sorted(
            (str(each["name"]), each["column_names"], sorted(map(str, each["dialect_options"].values())))
            for each in inspector.get_indexes(name)
        )
        unique = sorted(each["column_names"] for each in inspector.get_unique_constraints(name))
        found[name] = (columns, inspector.get_pk_constraint(name), indexes, unique)
    return found


def unqualified(default: str | None) -> str | None:
    """A column's default without the name of a schema."""
    return default and re.sub(r"'\w+\.", "'", default)


def attempts_by_task(store: Store) -> Counter[tuple[int, str]]:
    names = {row.task_row: (row.batch_id, row.id) for row in rows_of(store, schema.tasks)}
    return Counter(names[row.task_row] for row in rows_of(store, schema.attempts))


def test_the_contents_of_the_earlier_schema_stay_readable(killed: Killed) -> None:
    with Store.open(killed.place, simulated=False) as store:
        assert_sums_are_true(store)
        counts = store.reports.task_counts(killed.batch)
        assert (counts[TaskStatus.RUNNING], counts[TaskStatus.SUCCEEDED], sum(counts.values())) == (7, 4, 13)
        kinds = [row.event.kind for row in store.events.recent()]
        assert kinds[:4] == ["provider_degraded", "canary", "provider_half_open", "provider_open"]
        assert store.events.recent(kinds=["provider_open"])[0].event.fields["until"] > 0
        settings = store.controls.current_settings()
        assert settings == {"weights": {"openai": 0.5, "anthropic": 0.3, "gemini": 0.2}}
        assert [change.who for change in store.controls.settings_history()] == ["admin"]
        assert kept_caps(store) == {killed.batch: 2.0}
        assert store.reports.batch(killed.batch).options == {"ids": 2}  # type: ignore[union-attr]
        (primary, duplicate) = (store.tasks.find(killed.batch, name) for name in ("t0", "t10"))
        assert primary is not None and duplicate is not None
        assert primary.attempts[0].reasons[0].provider == "openai"
        assert duplicate.result is not None and duplicate.result.origin is not None
        assert duplicate.result.origin.task_id == "t0" and duplicate.attempts == ()
        assert store.orchestrators.latest_snapshot()[1] is not None, "the snapshot may be of no use"
        assert list(store.result_sync.stale(killed.batch).values()) == ["t12"]
        assert {
            task.id for task in store.queue.claimed(store.orchestrators.newest()[0].incarnation)
        } == killed.claimed
        assert len(store.reports.usage(0.0, 1e11)) == 1
        reserved = rows_of(store, schema.cost_reservations)
        assert [tuple(row)[2:] for row in reserved] == [(killed.batch, "local", "", RESERVED_NANOS)]


def test_a_database_that_an_earlier_version_serves_is_not_migrated(killed: Killed) -> None:
    if isinstance(killed.place, Path):
        lock = HostLock(killed.place.with_name("live.db.lock"))
        assert lock.acquire()
    else:
        serve_from_now(killed.place, lease_s=600.0)
    with pytest.raises(StoreError, match=r"an earlier version serves it \(process \d+") as refused:
        Store.open(killed.place, simulated=False)
    assert ("if it was killed, try again in 600 s" in str(refused.value)) == isinstance(killed.place, str)
    if isinstance(killed.place, Path):
        lock.release()
    else:
        serve_from_now(killed.place, lease_s=0.0)
    with Store.open(killed.place, simulated=False) as store:
        assert store.reports.task_counts()[TaskStatus.SUCCEEDED] > 0


def serve_from_now(url: str, lease_s: float) -> None:
    """Renew the lease as a leader of the earlier version does."""
    import psycopg

    renew = (
        "UPDATE leadership SET holder = 'h', lease_s = %s, renewed_at = extract(epoch FROM clock_timestamp())"
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(renew, (lease_s,))


def test_a_run_that_the_earlier_version_left_resumes_and_repeats_no_call(
    killed: Killed, simulator: SimulatorProcess
) -> None:
    with Store.open(killed.place, simulated=False) as store:
        before = attempts_by_task(store)
        answered = {each.result.task.id: each.result.output for each in results_of(store, killed.batch)}
    env = {**live_environment(simulator.base_urls, only=["openai"]), **killed.env}
    done = run_script(*RUN, "--yes", cwd=killed.folder, env=env)
    assert done.process.returncode == 0, done.err
    assert "requeued 7 tasks from a run that was killed" in done.err
    rows = {row["id"]: row for row in read_rows(killed.folder / "out.jsonl")}
    assert len(rows) == len(read_rows(killed.folder / "out.jsonl")) == 13
    assert {row["status"] for row in rows.values()} == {"succeeded"}
    assert {name: rows[name]["output"] for name in answered} == answered, "kept as they were"
    with Store.open(killed.place, simulated=False) as store:
        after = attempts_by_task(store)
        assert_sums_are_true(store)
        calls = Counter({key: after[key] - before[key] for key in after if after[key] > before[key]})
        assert {name for _, name in calls} == killed.claimed, "t11 and t12 get the answers to t1 and t9"
        assert set(calls.values()) == {1}
        assert store.reports.task_counts("questions")[TaskStatus.QUEUED] == 1, "it is another batch's"
        assert store.result_sync.stale(killed.batch) == {}
        assert store.reports.summary(killed.batch).calls.uncertain_nanos == RESERVED_NANOS, (
            "for calls that were killed"
        )
    assert simulator.stats()["openai"]["calls"] == sum(calls.values())
