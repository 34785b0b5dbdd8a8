"""The guard that keeps database files to SQLite, and the rule it holds."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from . import database_guard
from .helpers import ROOT, child_environment

DIRECT_USES = {
    "open": "open(path).close()",
    "open bytes": "open(os.fsencode(path), 'rb').close()",
    "os.open": "os.close(os.open(path, os.O_RDWR | os.O_CREAT))",
    "read_bytes": "pathlib.Path(path).read_bytes()",
    "copy": "shutil.copy(path, 'copy')",
    "its index": "open(path + '-shm', 'rb').close()",
    "remove": "os.remove(path)",
    "rename": "os.rename(path, 'elsewhere')",
}
SAFE_USES = {
    "stat": "os.stat(path)",
    "chmod": "os.chmod(path, 0o600)",
    "access": "os.access(path, os.R_OK)",
    "rename a copy": "sqlite3.connect('c.partial').close(); os.rename('c.partial', 'c')",
    "SQLite": "sqlite3.connect(path).close()",
    "make it": "os.close(os.open('live.db', os.O_WRONLY | os.O_CREAT | os.O_EXCL))",
}
# One store a process, passed on to whatever needs it: the functions that a command begins with.
OPEN = {"open_store", "Store.open", "session"}
OPENERS = {
    "src.cli.purge.purge",
    "src.cli.suggest_weights.suggest_weights",
    "src.cli.suggest_weights.undo_weights",
    "src.library.engine.open",
    "src.cli.check._database",
    "src.cli.plan.plan",
    "src.cli.status._read",
    "src.cli.submit.submit",
    "src.cli.run.run",
    "src.cli.serve.serve",
    "src.cli.batches.batches",
    "src.cli.batches.cancel_batch",
    "src.pages_server.serve",
}


@pytest.mark.parametrize("use", DIRECT_USES.values(), ids=DIRECT_USES.keys())
def test_a_child_process_cannot_use_a_database_file_directly(use: str, tmp_path: Path) -> None:
    child = in_a_child(use, tmp_path)
    assert child.returncode == 1 and "only SQLite opens a database file" in child.stderr
    assert "own.db" in (tmp_path / "report").read_text(encoding="utf-8")


@pytest.mark.parametrize("use", SAFE_USES.values(), ids=SAFE_USES.keys())
def test_what_opens_no_descriptor_of_a_database_is_allowed(use: str, tmp_path: Path) -> None:
    child = in_a_child(use, tmp_path)
    assert child.returncode == 0, child.stderr
    assert not (tmp_path / "report").exists()


def in_a_child(use: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`path` is a database that the child is connected to."""
    code = (
        "import os, pathlib, shutil, sqlite3; path = 'own.db'; connection = sqlite3.connect(path); "
        f"connection.execute('CREATE TABLE t (x)'); {use}"
    )
    environ = child_environment({database_guard.REPORT: str(folder / "report")})
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)


def test_a_store_is_opened_where_a_command_begins_and_passed_on() -> None:
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef) and function.name not in ("open_store", "session"):
                called = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
                if not OPEN.isdisjoint(called):
                    found.add(f"{module}.{function.name}")
    assert found == OPENERS
