"""The pages beside a serving orchestrator: a process of their own, which ends with this one.

Their trouble is never the orchestrator's: a busy port is one line, and the queue is served all the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from ..bootstrap import Setup
from ..config import PROJECT_ROOT
from .progress import say
from .setup import Options

END_S = 3.0


@contextmanager
def pages_beside(options: Options, setup: Setup, incarnation: str) -> Iterator[None]:
    """Serve the pages while the block runs; say where, or why not. `incarnation`: the orchestrator's own."""
    command = [sys.executable, str(PROJECT_ROOT / "web_server.py"), "--beside", incarnation]
    command += ["--simulate" if setup.simulated else "--live", "--state-dir", str(setup.settings.state_dir)]
    if options.config is not None:
        command += ["--config", str(options.config)]
    command += ["--calling", json.dumps(setup.identities)]
    child = subprocess.Popen(  # noqa: S603  our own script with our own arguments
        command,
        env=environment_of_pages(setup),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        **_group_of_its_own(),
    )
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("a process with pipes has them")
    threading.Thread(target=_tell, args=(child.stdout,), daemon=True).start()
    try:
        yield
    finally:
        child.stdin.close()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def environment_of_pages(setup: Setup) -> dict[str, str]:
    """Ours, with what `.env` brings, without the keys of providers: pages call none."""
    keys = {name for row in setup.settings.providers.values() for name in row.api_key_env}
    return {name: value for name, value in setup.environ.items() if name not in keys}


def _group_of_its_own() -> dict[str, Any]:
    """Ctrl-C is for the orchestrator, whose end closes the pages' standard input."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _tell(lines: IO[str]) -> None:
    """Pass on what the pages have to say: their address, or why there are none."""
    for line in lines:
        if line.strip() and not line.startswith("pages closed"):
            say(line.rstrip())
