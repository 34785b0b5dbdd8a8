"""The pages and the JSON API as a program: `web_server.py`, or `agent-orchestrator-pages` once installed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from .access import AccessPolicy
from .bootstrap import ParentProcess, Setup, StartOptions, build_pages, load, open_store
from .config import chosen_port
from .core.leadership import active_orchestrator
from .core.search_indexer import SearchIndexer
from .errors import OrchestratorError
from .formatting import plural
from .logging_setup import json_line, set_up_logging
from .reloading import Reloader
from .settings import LOG_FORMATS, LogFormat
from .stop_signals import drop_lost_terminals, stop_signals
from .web.listening import listen

PATH = click.Path(path_type=Path)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--host",
    metavar="ADDRESS",
    help="Listen on this address (default: this machine only); any other needs ORCHESTRATOR_TOKEN.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Listen on this port (default: PORT, else 5000 or the next free one); 0 takes any free one.",
)
@click.option(
    "--config",
    type=PATH,
    metavar="FILE",
    help="Read settings from FILE, on top of orchestrator.toml (default: ORCHESTRATOR_CONFIG).",
)
@click.option(
    "--state-dir",
    type=PATH,
    metavar="DIR",
    help="Look for databases in DIR (default: ORCHESTRATOR_STATE_DIR, else state).",
)
@click.option(
    "--simulate/--live",
    default=None,
    help="Show the simulated or the live state (default: live if a key is set).",
)
@click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    help="Format of what is printed; json is one object a line (default: the setting log_format, text).",
)
@click.option("--parent", hidden=True, help="The orchestrator that starts and ends these pages, as JSON.")
def main(
    host: str | None, port: int | None, log_format: LogFormat | None, parent: str | None, **start: Any
) -> None:
    """Serve the pages until Ctrl-C.

    Exit code 2: the configuration is wrong; 3: the database can't be used now.
    """
    for number in stop_signals():
        signal.signal(number, _end)
    if parent is not None:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    options = StartOptions(**start, calls_providers=False, read_env_file=parent is None)
    try:
        setup = load(options, partial(_say, log_format == "json"))
        log_format = log_format or setup.settings.log_format
        if log_format != setup.settings.log_format:
            setup = setup.with_settings(log_format=log_format)
        serve(setup, host, port, None if parent is None else ParentProcess(**json.loads(parent)))
    except OrchestratorError as error:
        if log_format == "json":
            click.echo(json_line(str(error), "error"))
        else:
            click.echo(f"{Path(sys.argv[0]).stem}: {error}", err=True)
        sys.exit(error.exit_code)


def _say(as_json: bool, text: str) -> None:
    click.echo(json_line(text, "info") if as_json else text)


def serve(
    setup: Setup,
    host: str | None,
    port: int | None,
    parent: ParentProcess | None = None,
) -> None:
    """Listen and serve until a stop signal. Raises ConfigError, StoreError."""
    as_json = setup.settings.log_format == "json"
    say = partial(_say, as_json)
    level = "info" if as_json else "warning"
    set_up_logging(level, as_json=as_json, on_stdout=as_json, simulated=setup.simulated)
    server_settings = setup.settings.server
    host = host or server_settings.host
    port = chosen_port(setup.environ) if port is None else port
    access = AccessPolicy.from_environment(host, setup.environ)
    reloader = Reloader()
    with (
        open_store(setup) as store,
        reloader.step(lambda: f"{plural(access.reload(), 'token')} for the pages"),
        reloader.handling(),
    ):
        if parent is None and active_orchestrator(store) is None:
            say(f"no orchestrator is running, so tasks will wait; start one with: {setup.serve_command}")
        app = build_pages(setup, store, access, parent)
        server, url = listen(app, host, port, server_settings.port, say)
        say(f"pages on {url} ({setup.mode} state in {setup.settings.state_dir})")
        with SearchIndexer(store, wanted=setup.settings.pages.search):
            server.run()
        say("pages closed")


def _end_with_parent() -> None:
    """End when the parent process ends, in whatever way: that closes this end of its pipe."""
    while os.read(0, 4096):  # not sys.stdin: its lock would be held while the interpreter shuts down
        pass
    os._exit(0)  # requests only read, or are transactions of the store: nothing is left to finish


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in stop_signals():  # once more: while the interpreter shuts down
        signal.signal(number, lambda *_: os._exit(0))
    drop_lost_terminals()
    raise SystemExit(0)


if __name__ == "__main__":
    main()
