"""The pages beside a serving orchestrator: a child process that ends with this one.

If they fail, for example because the port is taken, one line says so and the queue is served all the same.
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
from ..config import OF_FILE
from ..package import module_command
from ..stop_signals import HANGUP
from .console import Console
from .session import Options

END_WITHIN_S = 3.0
PAGES_ON, PAGES_CLOSED = "pages on ", "pages closed"  # what they print as the first and the last


class PagesProcess:
    """The pages while they run."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child
        self._serve = False  # until then the signal would end them, and their tokens are new anyway

    def reload(self) -> str:
        """Pass SIGHUP on; they say themselves what they did."""
        if HANGUP is not None and self._serve:
            self._child.send_signal(HANGUP)
        return ""

    def pass_on(self, lines: IO[str], console: Console) -> None:
        """Print what the pages print: their address, or why they don't run."""
        for line in lines:
            self._serve |= PAGES_ON in line
            if line.strip() and PAGES_CLOSED not in line:
                console.pass_on(line.rstrip())


@contextmanager
def pages_process(options: Options, setup: Setup, incarnation: str) -> Iterator[PagesProcess]:
    """Serve the pages while the block runs. `incarnation`: that of the orchestrator that starts them."""
    parent = {"orchestrator": incarnation, "identities": setup.identities}
    command = [*module_command("pages_server"), "--parent", json.dumps(parent)]
    command += ["--simulate" if setup.simulated else "--live", "--state-dir", str(setup.settings.state_dir)]
    if options.console.as_log:
        command += ["--log-format", "json"]
    if options.config is not None:
        command += ["--config", str(options.config)]
    child = subprocess.Popen(  # noqa: S603  our own module with our own arguments
        command,
        env=pages_environment(setup),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        **_own_process_group(),
    )
    if child.stdin is None or child.stdout is None:
        raise RuntimeError("a process with pipes has them")
    pages = PagesProcess(child)
    arguments = (child.stdout, options.console)
    threading.Thread(target=pages.pass_on, args=arguments, daemon=True).start()
    try:
        yield pages
    finally:
        child.stdin.close()
        try:
            child.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def pages_environment(setup: Setup) -> dict[str, str]:
    """The environment and `.env` without the providers' keys: pages call no provider."""
    variables = {name for config in setup.settings.providers.values() for name in config.api_key_env}
    keys = variables | {name + OF_FILE for name in variables}
    return {name: value for name, value in setup.environ.items() if name not in keys}


def _own_process_group() -> dict[str, Any]:
    """Keep Ctrl-C for the orchestrator; when it ends, the pages' standard input closes."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
