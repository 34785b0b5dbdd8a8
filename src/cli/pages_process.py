"""The pages beside a serving orchestrator: a child process that ends with this one.

If they fail, for example because the port is taken, one line says so and the queue is served all the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from ..bootstrap import Setup
from ..package import module_command
from .session import Options

END_WITHIN_S = 3.0


@contextmanager
def pages_process(options: Options, setup: Setup, incarnation: str) -> Iterator[None]:
    """Serve the pages while the block runs. `incarnation`: that of the orchestrator that starts them."""
    parent = {"orchestrator": incarnation, "identities": setup.identities}
    command = [*module_command("pages_server"), "--parent", json.dumps(parent)]
    command += ["--simulate" if setup.simulated else "--live", "--state-dir", str(setup.settings.state_dir)]
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
    arguments = (child.stdout, options.console.note)
    threading.Thread(target=_pass_on, args=arguments, daemon=True).start()
    try:
        yield
    finally:
        child.stdin.close()
        try:
            child.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def pages_environment(setup: Setup) -> dict[str, str]:
    """The environment and `.env` without the providers' keys: pages call no provider."""
    keys = {name for config in setup.settings.providers.values() for name in config.api_key_env}
    return {name: value for name, value in setup.environ.items() if name not in keys}


def _own_process_group() -> dict[str, Any]:
    """Keep Ctrl-C for the orchestrator; when it ends, the pages' standard input closes."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _pass_on(lines: IO[str], notify: Callable[[str], None]) -> None:
    """Print what the pages print: their address, or why they don't run."""
    for line in lines:
        if line.strip() and not line.startswith("pages closed"):
            notify(line.rstrip())
