"""The address of the pages: finds a free port, or reports why there is none."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from flask import Flask

from ..access import is_loopback
from ..errors import ConfigError
from .serving import Server, joined, make_server

AIRPLAY_PORTS = (5000, 7000)
PORTS_SKIPPED, PORTS_TRIED = 10, 20  # the gateway has the port next to the pages, which clients rely on
Address = tuple[str, int]


def listen(
    app: Flask, host: str, port: int | None, default_port: int, notify: Callable[[str], None]
) -> tuple[Server, str]:
    """A server for `app`, and its URL. Raises ConfigError if the port can't be used.

    Without a `port`, take `default_port` or the next free one; `notify` gets a line about that.
    """
    first = default_port
    while True:
        if port is not None:
            addresses = free_addresses(host, port)
        else:
            addresses = next_free_addresses(host, default_port, first, notify)
        try:
            server = make_server(app, addresses)
        except OSError as error:  # another process has taken the port since
            if port is not None or error.errno != errno.EADDRINUSE:
                raise ConfigError(listen_error(*addresses[0], error)) from error
            first = addresses[0][1] + 1
        else:
            return server, f"http://{joined(_shown_host(addresses), addresses[0][1])}"


def free_addresses(host: str, port: int) -> list[Address]:
    """The addresses to listen on; for this machine IPv6 too, which some browsers try first."""
    found = [(host, _probe(host, port))]
    if host in ("127.0.0.1", "localhost"):
        with suppress(ConfigError):  # no IPv6, or the port is taken there: IPv4 is enough
            found = [("127.0.0.1", found[0][1]), ("::1", _probe("::1", found[0][1]))]
    return found


def next_free_addresses(host: str, port: int, first: int, notify: Callable[[str], None]) -> list[Address]:
    """As `free_addresses`, at `port`, which is expected, or the first free one from ten further on.

    None below `first` is tried.
    """
    others = range(port + PORTS_SKIPPED, port + PORTS_SKIPPED + PORTS_TRIED)
    for candidate in (port, *others):
        if not first <= candidate <= 65535:
            continue
        try:
            addresses = free_addresses(host, candidate)
        except ConfigError as taken:
            if not _is_taken(taken):
                raise
            continue
        if candidate != port:
            notify(f"port {port} is taken{_airplay(port)}; the pages are on {candidate}")
        return addresses
    return free_addresses(host, port)  # raises, with what to do


def listen_error(host: str, port: int, error: OSError) -> str:
    """Why this process can't listen there, and what to do."""
    if error.errno == errno.EADDRINUSE:
        free = port + PORTS_SKIPPED if port + PORTS_SKIPPED <= 65535 else port - 1
        another = f"--port {free} or PORT={free}, then http://localhost:{free}"
        return f"port {port} is taken{_airplay(port)}; use another one: {another}"
    if error.errno == errno.EACCES:
        return f"no permission for port {port}; use one above 1023: --port 5000"
    return f"can't listen on {host}:{port} ({error.strerror or error})"


def _probe(host: str, port: int) -> int:
    """Bind and release; the port, which is a free one for 0. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host.strip("[]"), port))
            probe.listen()
            return int(probe.getsockname()[1])
        except OSError as error:
            raise ConfigError(listen_error(host, port, error)) from error


def _shown_host(addresses: Sequence[Address]) -> str:
    """The host for the URL. `localhost` may resolve to IPv6, where another process may listen."""
    host = addresses[0][0]
    if host in ("127.0.0.1", "localhost"):
        return "localhost" if len(addresses) > 1 else "127.0.0.1"
    return "localhost" if is_loopback(host) else host


def _is_taken(error: ConfigError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EADDRINUSE


def _airplay(port: int) -> str:
    """macOS listens on port 5000 itself."""
    return (
        " (on a Mac by AirPlay: System Settings, AirDrop & Handoff, AirPlay Receiver)"
        if sys.platform == "darwin" and port in AIRPLAY_PORTS
        else ""
    )
