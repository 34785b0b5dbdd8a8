"""A script that is started as a fork is what a fresh Python would be."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .fork_server import AVAILABLE
from .helpers import ROOT, Script, child_environment, fork_server_address, run_script

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="scripts are started afresh here")

SHOW = """
import json, os, random, signal, sys, threading, time, warnings
numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
print(json.dumps({
    "name": __name__, "file": __file__, "argv": sys.argv, "path": sys.path, "flags": str(sys.flags),
    "cwd": os.getcwd(), "environ": dict(os.environ), "stdin": sys.stdin.read(), "zone": time.tzname,
    "handlers": [str(signal.getsignal(number)) for number in numbers], "wakeup": signal.set_wakeup_fd(-1),
    "filters": str(warnings.filters), "descriptors": len(os.listdir("/proc/self/fd")),
    "threads": threading.active_count(),
    "encoding": [sys.stdin.encoding, sys.stdout.encoding, sys.stderr.errors],
    "buffered": [sys.stdout.line_buffering, sys.stdout.write_through], "tty": sys.stdout.isatty(),
}))
print(random.random(), file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("stdin", [None, "ä\nb"])
@pytest.mark.parametrize("env", [{}, {"TZ": "Asia/Tokyo", "MINE": "ü"}, {"PYTHONPATH": str(ROOT)}])
def test_a_fork_looks_like_a_fresh_python(tmp_path: Path, env: dict[str, str], stdin: str | None) -> None:
    program = tmp_path / "show.py"
    program.write_text(SHOW, encoding="utf-8")
    arguments = ("3", "wörd", "")
    fork = run_script(*arguments, cwd=tmp_path, script=program, env=env, stdin=stdin)
    fresh = subprocess.run(
        [sys.executable, program, *arguments],
        cwd=tmp_path,
        env=child_environment(env),
        input=stdin or "",
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert json.loads(fork.out) == json.loads(fresh.stdout)
    assert fork.process.returncode == fresh.returncode == 3


def test_forks_draw_different_random_numbers(tmp_path: Path) -> None:
    (tmp_path / "draw.py").write_text("import random; print(random.random())", encoding="utf-8")
    drawn = {run_script(cwd=tmp_path, script=tmp_path / "draw.py").out for _ in range(3)}
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ("code", "ended"), [("raise ValueError('odd')", 1), ("", 0), ("raise SystemExit('no')", 1)]
)
def test_the_end_of_a_fork_is_its_exit_code_and_its_last_words(tmp_path: Path, code: str, ended: int) -> None:
    (tmp_path / "end.py").write_text(code, encoding="utf-8")
    done = run_script(cwd=tmp_path, script=tmp_path / "end.py")
    assert done.process.returncode == ended
    assert ("ValueError: odd" in done.err) is ("ValueError" in code)


@pytest.mark.parametrize("send", [Script.terminate, Script.kill, Script.hang_up])
def test_a_signal_ends_a_fork(tmp_path: Path, send: Callable[[Script], None]) -> None:
    (tmp_path / "wait.py").write_text(
        "import time; print('on', flush=True); time.sleep(60)", encoding="utf-8"
    )
    with Script(cwd=tmp_path, script=tmp_path / "wait.py") as script:
        script.wait_for("on")
        with pytest.raises(subprocess.TimeoutExpired):
            script.wait(0.01)
        assert script.process.poll() is None
        send(script)
        assert script.wait() in {-signal.SIGTERM, -signal.SIGKILL, -signal.SIGHUP}
    script.kill()  # no process has this id any more, or another has: nothing is sent


def test_ctrl_c_is_a_keyboard_interrupt_in_a_fork(tmp_path: Path) -> None:
    lines = (
        "import time",
        "try: print('on', flush=True); time.sleep(60)",
        "except KeyboardInterrupt: print('interrupted')",
    )
    (tmp_path / "wait.py").write_text("\n".join(lines), encoding="utf-8")
    with Script(cwd=tmp_path, script=tmp_path / "wait.py") as script:
        script.wait_for("on")
        script.interrupt()
        assert script.wait() == 0
    assert "interrupted" in script.out


def test_a_program_elsewhere_does_not_find_the_project(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text("import src", encoding="utf-8")
    assert "No module named 'src'" in run_script(cwd=tmp_path, script=tmp_path / "use.py").err


def test_a_client_that_goes_away_ends_no_server(tmp_path: Path) -> None:
    (tmp_path / "end.py").write_text("print('still here')", encoding="utf-8")
    address = fork_server_address()
    for message in (b"", b'{"arguments": ['):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)
            client.sendall(message)
    assert run_script(cwd=tmp_path, script=tmp_path / "end.py").out == "still here\n"


def test_a_variable_of_the_interpreter_means_a_fresh_one(tmp_path: Path) -> None:
    (tmp_path / "show.py").write_text("import sys; print(sys.flags.dev_mode)", encoding="utf-8")
    done = run_script(cwd=tmp_path, script=tmp_path / "show.py", env={"PYTHONDEVMODE": "1"})
    assert done.out == "True\n"
