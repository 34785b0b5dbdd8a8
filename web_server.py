"""The pages and the JSON API: http://localhost:5000. Shows the state that the orchestrator would use."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

from src.cli.packages import refuse_where_not_installed

try:
    import click
    from flask import Flask

    from src.cli.exits import exit_code
    from src.cli.logs import set_up_logging
    from src.cli.setup import Options, Setup, open_store, prepare
    from src.cli.stopping import drop_lost_terminals, stop_signals
    from src.cli.watch_server import active_orchestrator
    from src.config import chosen_port, identity
    from src.core.store import Store
    from src.errors import ConfigError, OrchestratorError
    from src.web import create_app
    from src.web.access import AccessPolicy, is_loopback
    from src.web.context import AppContext
except ModuleNotFoundError as missing:
    if __name__ == "__main__":
        refuse_where_not_installed(missing)
    raise

Identities = dict[str, tuple[str, str]]
AIRPLAY_PORTS = (5000, 7000)
PORTS_TRIED = 20


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--host",
    metavar="ADDRESS",
    help="Where to listen (default: this machine alone); beyond it only with ORCHESTRATOR_TOKEN set.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help="Which port (default: PORT, else 5000 or the next that is free); 0 is any free one.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Settings over those of orchestrator.toml (default: ORCHESTRATOR_CONFIG).",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the databases are (default: ORCHESTRATOR_STATE_DIR, else state).",
)
@click.option(
    "--simulate/--live",
    default=None,
    help="Which state to show (default: live where a key is set, else simulated).",
)
@click.option("--beside", hidden=True, help="The orchestrator that started these pages, and ends them.")
@click.option("--calling", hidden=True, help="The providers that it can call, as JSON.")
def main(
    host: str | None,
    port: int | None,
    config: Path | None,
    state_dir: Path | None,
    simulate: bool | None,
    beside: str | None,
    calling: str | None,
) -> None:
    """Serve the pages until Ctrl-C.

    Exit code 2: the configuration is wrong; 3: the database can't be used now.
    """
    if beside is not None:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        options = Options(config=config, state_dir=state_dir, simulate=bool(simulate), sends_keys=False)
        options.env_file = calling is None
        setup = prepare(options)
        if simulate is False:
            setup = replace(setup, simulated=False)
        place = (host or setup.settings.server.host, chosen_port(setup.environ) if port is None else port)
        known = None if calling is None else {name: tuple(who) for name, who in json.loads(calling).items()}
        serve(setup, *place, beside=beside or "", calling=known)
    except OrchestratorError as error:
        click.echo(f"web_server: {error}", err=True)
        sys.exit(exit_code(error))


def serve(
    setup: Setup, host: str, port: int | None, *, beside: str = "", calling: Identities | None = None
) -> None:
    """Listen and answer until told to end. Raises ConfigError where that can't begin.

    `beside`: the incarnation of the orchestrator that has started these pages. Without one it may be that
    nobody answers. `calling`: what it says of the providers that it can call, where only it has their keys.
    Where nobody chose a port, a taken one is told, and the next free one serves.
    """
    set_up_logging("warning")
    access = AccessPolicy.from_environment(host, setup.environ)
    usual = setup.settings.server.port
    places = free_places(host, port) if port is not None else next_places(host, usual)
    with open_store(setup) as store:
        if not beside and active_orchestrator(store) is None:
            click.echo(f"no orchestrator is running, so tasks will wait; start one with: {setup.serving}")
        app, what = (
            build(setup, store, access, beside, calling),
            f"{setup.mode} state in {setup.settings.state_dir}",
        )
        while True:
            try:
                return run(app, places, what)
            except ConfigError as taken:  # since it was found free
                if port is not None or not _is_taken(taken):
                    raise
                places = next_places(host, usual, places[0][1] + 1)


def build(
    setup: Setup, store: Store, access: AccessPolicy, beside: str = "", calling: Identities | None = None
) -> Flask:
    if calling is None:
        calling = {each.name: identity(each) for each in setup.configured}
    context = AppContext(
        setup.settings,
        store,
        setup.simulated,
        access=access,
        providers=setup.called if setup.simulated else calling.keys(),
        identities={} if setup.simulated else calling,  # a simulator starts anew each time
        start_command=setup.serving,
        orchestrator=beside,
    )
    return create_app(context)


def run(app: Flask, places: list[tuple[str, int]], what: str) -> None:
    from src.web.serving import joined, make_server

    host, port = places[0]
    try:
        server = make_server(app, places)
    except OSError as error:  # somebody was faster
        raise ConfigError(_why_not(host, port, error)) from error
    for number in stop_signals():
        signal.signal(number, _end)
    click.echo(f"pages on http://{joined(_shown(places), port)} ({what})")
    server.run()
    click.echo("pages closed")


def _end_with_stdin() -> None:
    """A child must not outlive its parent, however that ends: its pipe closes with it."""
    while os.read(0, 4096):  # not through sys.stdin, whose lock would be held while the interpreter ends
        pass
    os._exit(0)  # requests only read, or are transactions of the store: there is nothing to finish


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    drop_lost_terminals()
    raise SystemExit(0)


# ------------------------------------------------------------------ where to listen


def free_places(host: str, port: int) -> list[tuple[str, int]]:
    """Where to listen, found free; for this machine also on IPv6, where some browsers look first."""
    found = [(host, _try(host, port))]
    if host in ("127.0.0.1", "localhost"):
        with suppress(ConfigError):  # no IPv6 here, or somebody else has it: the first one is enough
            found = [("127.0.0.1", found[0][1]), ("::1", _try("::1", found[0][1]))]
    return found


def next_places(host: str, port: int, first: int | None = None) -> list[tuple[str, int]]:
    """As `free_places`, at the first free port from this one on; `first` leaves out those before it."""
    for each in range(port if first is None else first, min(port + PORTS_TRIED, 65536)):
        try:
            places = free_places(host, each)
        except ConfigError as taken:
            if not _is_taken(taken):
                raise
            continue
        if each != port:
            click.echo(f"port {port} is taken{_airplay(port)}; the pages are on {each}")
        return places
    return free_places(host, port)  # raises, and says what to do


def _shown(places: list[tuple[str, int]]) -> str:
    """The host of the address that works. `localhost` may be IPv6, where somebody else may listen."""
    host = places[0][0]
    if host in ("127.0.0.1", "localhost"):
        return "localhost" if len(places) > 1 else "127.0.0.1"
    return "localhost" if is_loopback(host) else host


def _try(host: str, port: int) -> int:
    """Bind and let go: the port that is free. Raises ConfigError with what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
            probe.listen()
            return int(probe.getsockname()[1])
        except OSError as error:
            raise ConfigError(_why_not(host, port, error)) from error


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        free = port + 1
        another = f"--port {free} or PORT={free}, then http://localhost:{free}"
        return f"port {port} is taken{_airplay(port)}; take another one: {another}"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this program has; take one above 1023: --port 5000"
    return f"can't listen on {host}:{port} ({error.strerror or error})"


def _is_taken(error: ConfigError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE


def _airplay(port: int) -> str:
    """Who that is on a Mac."""
    return (
        " (on a Mac that is AirPlay: System Settings, AirDrop & Handoff, AirPlay Receiver)"
        if sys.platform == "darwin" and port in AIRPLAY_PORTS
        else ""
    )


if __name__ == "__main__":
    main()
