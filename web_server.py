"""The pages and the JSON API: http://localhost:5000. Shows the state that the orchestrator would use."""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
from flask import Flask

from src.cli.setup import Options, Setup, open_store, prepare
from src.core.store import Store
from src.errors import ConfigError, OrchestratorError
from src.web import create_app
from src.web.access import Door, is_loopback
from src.web.uploads import MOST_BYTES

THREADS = 16
AIRPLAY_PORTS = (5000, 7000)


@click.command()
@click.option("--host", metavar="ADDRESS", help="Where to listen; beyond this machine only with a token.")
@click.option("--port", type=click.IntRange(0, 65535), help="Default: PORT, else 5000. 0 takes a free one.")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings over orchestrator.toml."
)
@click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="FOLDER", help="Where the databases are."
)
@click.option(
    "--simulate/--live",
    default=None,
    help="Which state to show. Default: live where a key is set, else simulated.",
)
def main(
    host: str | None, port: int | None, config: Path | None, state_dir: Path | None, simulate: bool | None
) -> None:
    """Serve the pages until Ctrl-C."""
    try:
        setup = prepare(Options(config=config, state_dir=state_dir, simulate=bool(simulate)))
        if simulate is False:
            setup = replace(setup, simulated=False)
        serve(setup, host or setup.settings.server.host, _port(setup, port))
    except OrchestratorError as error:
        click.echo(f"web_server: {error}", err=True)
        sys.exit(2)


def serve(setup: Setup, host: str, port: int) -> None:
    """Listen and answer until told to end. Raises ConfigError where that can't begin."""
    door = Door.of(host, setup.environ)
    sockets = listen(host, port)
    try:
        with open_store(setup) as store:
            run(build(setup, store, door), sockets, f"{setup.mode} state in {setup.settings.state_dir}")
    finally:
        for each in sockets:
            each.close()


def build(setup: Setup, store: Store, door: Door) -> Flask:
    enabled = {name for name, row in setup.settings.providers.items() if row.enabled}
    configured = enabled if setup.simulated else {each.name for each in setup.configured}
    return create_app(setup.settings, store, simulated=setup.simulated, configured=configured, door=door)


def run(app: Flask, sockets: list[socket.socket], what: str) -> None:
    from waitress import create_server  # type: ignore[import-untyped]

    server = create_server(
        app,
        sockets=sockets,
        threads=THREADS,
        ident=None,
        max_request_body_size=MOST_BYTES + (1 << 20),
        channel_timeout=120,
        clear_untrusted_proxy_headers=True,
    )
    signal.signal(signal.SIGTERM, _end)
    click.echo(f"pages on {address(sockets)} ({what})")
    server.run()
    click.echo("pages closed")


def _end(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(0)


# ------------------------------------------------------------------ where to listen


def listen(host: str, port: int) -> list[socket.socket]:
    """Bound sockets; for localhost also on the other loopback, where browsers look first on some systems."""
    first = _bind(host, port)
    sockets = [first]
    other = {"127.0.0.1": "::1", "localhost": "::1"}.get(host)
    if other:
        with suppress(ConfigError):  # no IPv6 here, or somebody else has it: the first one is enough
            sockets.append(_bind(other, first.getsockname()[1]))
    return sockets


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((host.strip("[]"), port))
        bound.listen(128)
    except OSError as error:
        bound.close()
        raise ConfigError(_why_not(host, port, error)) from error
    return bound


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        free = port + 1
        airplay = (
            " (on a Mac that is AirPlay: System Settings, AirDrop & Handoff, AirPlay Receiver)"
            if sys.platform == "darwin" and port in AIRPLAY_PORTS
            else ""
        )
        return f"port {port} is taken{airplay}; take another one: --port {free}, then http://localhost:{free}"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this program has; take one above 1023: --port 5000"
    return f"can't listen on {host}:{port} ({error.strerror or error})"


def address(sockets: list[socket.socket]) -> str:
    host, port = sockets[0].getsockname()[:2]
    shown = "localhost" if is_loopback(host) else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}"


def _port(setup: Setup, given: int | None) -> int:
    """The option, the environment, the settings, in this order."""
    if given is not None:
        return given
    wanted = setup.environ.get("PORT", "").strip()
    if not wanted:
        return setup.settings.server.port
    if not wanted.isdigit() or int(wanted) > 65535:
        raise ConfigError(f"{wanted!r} is no port", where="PORT", allowed="0 to 65535")
    return int(wanted)


if __name__ == "__main__":
    main()
