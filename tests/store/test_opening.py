"""Open a database: files and permissions, migrations, and databases that are rejected."""

from __future__ import annotations

import os
import socket
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from src.core.leadership import Leadership
from src.core.store import Registration, Store, schema
from src.core.store.database import Database
from src.core.store.engine import prepare_place, shown
from src.core.store.migrate import MIGRATIONS
from src.core.store.schema import REVISION, metadata
from src.errors import ConfigError, StoreError
from src.records import TaskStatus

from .makers import NOW, a_result, a_task, assert_sums_are_true, register, results_of, rows_of

ROOT = Path(__file__).resolve().parents[2]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX")
def test_files_are_0600_and_new_folders_0700(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / "live.db"
    with Store.open(path, simulated=False) as store:
        store.intake.add_tasks([a_task()], now=NOW)
        files = sorted(path.parent.iterdir())
        assert [p.name for p in files] == ["live.db", "live.db-shm", "live.db-wal"]
        assert {mode(p) for p in files} == {0o600}
    assert mode(tmp_path / "new") == mode(path.parent) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX")
def test_a_database_that_others_can_read_is_closed_to_them(path: Path) -> None:
    Store.open(path, simulated=True).close()
    path.chmod(0o644)
    Store.open(path, simulated=True).close()
    assert mode(path) == 0o600


def test_stored_tasks_are_there_after_opening_again(place: Any) -> None:
    with Store.open(place, simulated=True) as store:
        store.intake.add_tasks([a_task()], now=NOW)
    with Store.open(place, simulated=True) as store:
        assert store.reports.task_counts()[TaskStatus.QUEUED] == 1


def test_the_revision_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_migrations_make_what_the_schema_says(path: Path, tmp_path: Path) -> None:
    Store.open(path, simulated=True).close()
    other = tmp_path / "made.db"
    engine = sa.create_engine(f"sqlite:///{other}")
    metadata.create_all(engine)
    engine.dispose()
    assert definitions(path) == definitions(other)


def test_the_contents_of_the_first_schema_are_kept(place: Any) -> None:
    make_first_schema(place)
    with Store.open(place, simulated=True) as store:
        register(store)
        (task,) = store.queue.claim("me", 9, now=NOW)
        assert (task.id, task.messages[0].content) == ("old", "Hi")
        store.queue.finish("me", [a_result(task)])
        assert store.orchestrators.newest()[0].finished == 1
        assert results_of(store)[0].result.origin is None


def test_claims_of_an_orchestrator_under_an_earlier_schema_are_taken_over_at_once(
    place: Any,
) -> None:
    """It knew of no leadership, and its process number and host may be ours."""
    make_first_schema(place)
    here = f"{os.getpid()}, '{socket.gethostname()}'"
    database = Database(place)
    with database.writing() as connection:
        for statement in (
            f"INSERT INTO orchestrators VALUES (99, 'before', {here}, 'simulated', '', 0, {NOW}, NULL)",  # noqa: S608 - ours
            "UPDATE tasks SET status = 'running', claimed_by = 99, claims = 1",
            "UPDATE counts SET status = 'running'",
            "INSERT INTO covers VALUES (99, 'openai', 'b', 'local', 77)",
        ):
            connection.exec_driver_sql(statement)
    database.dispose()
    with Store.open(place, simulated=True) as store, Leadership(store, 600.0) as leadership:
        leadership.acquire()
        found = register(leadership.store, leadership.incarnation, now=NOW + 1)
        assert found == Registration(recovered=1, uncertain_nanos=77)
        (again,) = leadership.store.queue.claim(leadership.incarnation, 9, now=NOW + 1)
        assert (again.id, again.claims) == ("old", 2)
        assert_sums_are_true(store)


def make_first_schema(place: Any) -> None:
    """A database as the first version left it, with a task that waits."""
    database = Database(place)
    prepare_place(database.url)
    with database.writing() as connection:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in (
            "INSERT INTO meta VALUES ('simulated', 1)",
            "INSERT INTO batches VALUES (1, 'b', '', '', '{}', 'local', 0)",
            "INSERT INTO lanes VALUES (1, 1, 'local', 'general')",
            "INSERT INTO tasks (task_row, batch_id, id, lane_id, status, priority, created_at, since, "
            "content_hash, claims, attempts, cost_nanos, unknown_cost_calls, provider, model, agent, tier, "
            "finish_reason, truncated, error, warnings) VALUES "
            "(1, 1, 'old', 1, 'queued', 0, 0, 0, 'x', 0, 0, 0, 0, '', '', '', '', '', 0, '', '')",
            """INSERT INTO prompts VALUES (1, 'Hi', '{"messages":[["user","Hi"]],"task_type":"general"}')""",
            "INSERT INTO counts VALUES (1, 'queued', 1)",
            "INSERT INTO counts VALUES (0, 'queued', 1)",
        ):
            connection.execute(sa.text(statement.replace(":", r"\:")))
    database.dispose()


def definitions(path: Path) -> dict[str, Any]:
    """Tables by their columns and keys, since a column that was added later stands elsewhere in the text."""
    connection = sqlite3.connect(path)
    found: dict[str, Any] = {}
    for kind, name, sql in connection.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE 'alembic%' AND sql IS NOT NULL"
    ).fetchall():
        found[name] = sql
        if kind == "table":
            columns = connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
            keys = connection.execute(f"PRAGMA index_list({name})").fetchall()
            unique = {tuple(connection.execute(f"PRAGMA index_info({key[1]})")) for key in keys if key[2]}
            found[name] = (columns, unique, "WITHOUT ROWID" in sql)
    connection.close()
    return found


def test_sqlite_keeps_acknowledged_writes_and_readers_do_not_wait(path: Path) -> None:
    with Store.open(path, simulated=True) as store, store.database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_alembic_is_not_imported_for_a_database_that_is_current(path: Path) -> None:
    Store.open(path, simulated=True).close()
    script = (
        "import sys; from src.core.store import Store;"
        f"Store.open({str(path)!r}, simulated=True).close();"
        "sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_a_database_of_a_newer_version_is_rejected_in_one_line(path: Path) -> None:
    Store.open(path, simulated=True).close()
    execute(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match=r"newer version \(schema 9999, this one knows \d+\)$"):
        Store.open(path, simulated=True)


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        pytest.param(
            "CREATE TABLE tasks (x)", "has tables of another program", id="its tables have our names"
        ),
        pytest.param("CREATE TABLE alembic_version (version_num)", "", id="no revision: is migrated"),
        pytest.param(
            "CREATE TABLE alembic_version AS SELECT 'ae1027a6acf' AS version_num",
            "another program",
            id="another program's migrations",
        ),
    ],
)
def test_a_database_of_another_program(path: Path, statement: str, complaint: str) -> None:
    path.parent.mkdir()
    execute(path, statement)
    if complaint:
        with pytest.raises(StoreError, match=complaint):
            Store.open(path, simulated=True)
    else:
        Store.open(path, simulated=True).close()


def execute(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize("simulated", [True, False], ids=["simulated", "live"])
def test_simulated_and_live_state_never_mix(place: Any, simulated: bool) -> None:
    Store.open(place, simulated=simulated).close()
    with pytest.raises(StoreError, match=r"holds (simulated|live) results and was opened for"):
        Store.open(place, simulated=not simulated)
    Store.open(place, simulated=simulated).close()


def test_a_file_that_is_not_a_database_is_rejected(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("not a database, but long enough to be looked at as one " * 20)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(path, simulated=True)


def test_a_folder_in_place_of_the_file_is_reported(path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(path, simulated=True)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("mysql://localhost/x", "only sqlite and postgresql"),
        ("sqlite://", "needs a file"),
        ("://", "not a database URL"),
        ("postgresql://me:geheim@host:abc/db", r"postgresql://\.\.\. is not a database URL"),
        ("postgresql://me:geheim/db", "not a database URL"),
        ("sqlite:///file.db?timeout=geheim", "not a database URL"),
    ],
)
def test_invalid_urls_are_reported_without_a_possible_password(url: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        Store.open(url, simulated=True)
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_password_in_the_query_of_a_url_is_not_shown() -> None:
    url = sa.make_url("postgresql://me:geheim@host/db?password=geheim&sslpassword=geheim")
    assert shown(url) == "postgresql://me:***@host/db"


def test_a_file_can_be_given_as_a_url(path: Path) -> None:
    Store.open(f"sqlite:///{path}", simulated=True).close()
    assert path.exists()


def test_an_error_of_the_database_names_neither_prompt_nor_parameters(path: Path) -> None:
    with Store.open(path, simulated=True) as store:
        execute(path, "DROP TABLE prompts")
        with pytest.raises(StoreError) as caught:
            store.intake.add_tasks([a_task(prompt="a secret")], now=NOW)
        assert str(caught.value) == f"{path}: no such table: prompts"
        assert "a secret" not in str(caught.value.__cause__)
        assert rows_of(store, schema.tasks) == []


def test_a_number_too_large_for_the_database_is_a_store_error(path: Path) -> None:
    with Store.open(path, simulated=True) as store, pytest.raises(StoreError, match="too large"):
        store.tasks.page(before=2**80)


def test_postgresql_is_opened_by_its_usual_url(postgresql_url: str) -> None:
    with Store.open(postgresql_url.replace("postgresql://", "postgres://"), simulated=True) as store:
        assert "postgres" in repr(store)


def test_a_missing_driver_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as Python marks what can't be imported
    with pytest.raises(ConfigError, match=r"pip install .*-r requirements/postgresql\.lock.* POSTGRESQL=1"):
        Store.open("postgresql://localhost/x", simulated=True)
