"""The guard that keeps tests on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from . import no_network
from .helpers import child_environment, clean_environment

REACHING_OUT = {
    "connect": "socket.create_connection(('192.0.2.1', 80), timeout=1)",
    "look a name up": "socket.getaddrinfo('example.invalid', 443)",
    "send a datagram": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
}


@pytest.mark.parametrize("code", REACHING_OUT.values(), ids=REACHING_OUT.keys())
def test_a_child_process_is_refused_too(code: str, tmp_path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", f"import socket; {code}"],
        env=child_environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert child.returncode == 1 and "tests stay on this machine" in child.stderr


def test_leaving_the_machine_is_refused_here_and_loopback_is_not() -> None:
    with pytest.raises(no_network.NetworkRefused):
        socket.getaddrinfo("example.invalid", 80)
    no_network.refused.clear()
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_keys_and_proxies_of_the_machine_are_gone() -> None:
    environ = {
        "OPENAI_API_KEY": "x",
        "GEMINI_BASE_URL": "x",
        "https_proxy": "x",
        "ORCHESTRATOR_CONFIG": "x",
        "DATABASE_URL": "x",
        "HOME": "/home/a",
    }
    clean_environment(environ)
    assert environ == {"HOME": "/home/a"}
    assert not any(name.upper().endswith("_API_KEY") for name in os.environ)
