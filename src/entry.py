"""The first step of both programs. Until their `main` handles signals, Ctrl-C ends them with one line.

Only the standard library is imported here: an interrupt during the imports of a program would end in a
traceback from somewhere inside of them, or be swallowed there.
"""

from __future__ import annotations

import gc
import importlib
import os
import signal

from .dependencies import exit_if_not_installed

GARBAGE_THRESHOLD = (
    100_000  # of new objects; with Python's 700 (2,000 from 3.13 on) a third of the start is collections
)
INTERRUPTED = 130  # what a shell reports for a program that SIGINT ended


def orchestrator() -> None:
    """Run the command line."""
    _run("cli.app")


def pages() -> None:
    """Run the web server."""
    _run("pages_server")


def _run(module: str) -> None:
    gc.set_threshold(GARBAGE_THRESHOLD)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as under nohup
        signal.signal(signal.SIGINT, _stop)
    try:
        importlib.import_module(f"{__package__}.{module}").main()
    except ModuleNotFoundError as error:
        exit_if_not_installed(error)
        raise


def _stop(_number: int, _frame: object) -> None:
    os.write(2, b"stopped\n")
    os._exit(INTERRUPTED)
