"""Refuses every socket that leaves the machine, for a whole process and for good.

An audit hook sees each connect, datagram and name lookup made in Python, libraries included; it can't be
removed or patched over. Used by the test session itself and, through `child_site`, by every Python that a
test starts.
"""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

refused: list[str] = []  # what was tried in this process; a test that leaves something here fails


class NetworkRefused(AssertionError):
    """A test tried to leave the machine. Not an `OSError`, so that no code takes it for an outage."""


def install() -> None:
    """From now on only loopback can be reached."""
    sys.addaudithook(_hook)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        host = args[1][0] if isinstance(args[1], tuple) else None  # else: a Unix socket, or none given
    elif event in {"socket.getaddrinfo", "socket.gethostbyname"}:
        host = args[0]
    else:
        return
    if not is_loopback(host):
        refused.append(f"{event} {host}")
        raise NetworkRefused(f"tests stay on this machine: {event} to {host!r}")


def is_loopback(host: Any) -> bool:
    """Also true of no host at all, which is how sockets are bound and Unix sockets reached."""
    text = host.decode() if isinstance(host, bytes) else host
    if text in {None, "", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False
