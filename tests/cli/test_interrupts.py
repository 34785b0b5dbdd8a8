"""Ctrl-C at any moment of a start: one line and an exit code, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ORCHESTRATOR, ROOT, child_environment

INTERRUPTER = """
import runpy, signal, sys

class AtImport:
    \"\"\"Interrupts this process at the Nth module that is looked for, counted from the program's own.\"\"\"

    def __init__(self, number, first):
        self.left, self.first, self.counts = number, first, False

    def find_spec(self, name, path=None, target=None):
        self.counts = self.counts or name == self.first
        self.left -= self.counts
        if self.counts and not self.left:
            signal.raise_signal(signal.SIGINT)

number, first, script = int(sys.argv[1]), sys.argv[2], sys.argv[3]
sys.path[0] = script.rpartition("/")[0]
sys.meta_path.insert(0, AtImport(number, first))
sys.argv = sys.argv[3:]
runpy.run_path(script, run_name="__main__")
"""
COMMANDS = {
    "run": ("run", "tasks.jsonl", "-o", "out.jsonl"),
    "plan": ("plan", "tasks.jsonl"),
    "status": ("status",),
    "submit": ("submit", "Why?", "--serve"),
    "server": ("--once",),
}
MOMENTS = [1, 10, 100, 320, 600, 1000]
FEW = [10, 320, 600]  # the commands share most of their imports, which `run` has tried


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is a console event there")
@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_during_an_import_of_a_command_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "tasks.jsonl").write_text('{"prompt": "Why?"}\n')
    codes = []
    for moment in MOMENTS if name == "run" else FEW:
        done = interrupted(tmp_path, moment, "src.cli", ORCHESTRATOR, *COMMANDS[name])
        codes.append(done.returncode)
        if codes[-1] == 0 and name != "server":
            break  # it ended before so many imports
        assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, (
            moment,
            done.stderr,
        )
        assert codes[-1] in ({0, 1, 130} if name == "server" else {1, 130}), (moment, done.stderr)
        may_run = moment > 600  # then its calls finish
        assert codes[-1] == 0 or may_run or done.stderr.splitlines()[-1] == "stopped", (moment, done.stderr)
    assert codes[0] == 130 and len(codes) > 2, codes


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is a console event there")
@pytest.mark.parametrize("moment", MOMENTS[:4])
def test_ctrl_c_during_an_import_of_the_pages_is_no_traceback(tmp_path: Path, moment: int) -> None:
    done = interrupted(tmp_path, moment, "src.pages_server", ROOT / "web_server.py", "--port", "0")
    assert done.returncode in {0, 130}, done.stderr
    assert done.stderr.splitlines() == (["stopped"] if done.returncode else []), done.stderr


def interrupted(
    folder: Path, moment: int, first: str, script: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """A fresh Python, which has imported nothing yet."""
    (folder / "interrupter.py").write_text(INTERRUPTER)
    return subprocess.run(
        [sys.executable, "interrupter.py", str(moment), first, str(script), *arguments],
        cwd=folder,
        env=child_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
