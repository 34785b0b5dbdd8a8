"""Asks one address at a steady rate over connections that stay open, with as little work as Python allows.

    in   {"host": ..., "port": ..., "path": ..., "per_second": 200}    one line; the end of input ends it
    out  {"asked": n, "errors": n, "latencies_ms": [...], "cpu_s": s}

A latency counts from the moment at which the request was due, so that a server that stalls is not asked
less while it does. `cpu_s` is this process's own.
"""

from __future__ import annotations

import json
import math
import selectors
import socket
import sys
import threading
import time
from collections import deque

from .work import Json

CONNECTIONS = 8
LONGEST_S = 10.0  # after the last request was sent
LOOK_S = 0.1
_LENGTH = b"content-length: "


class Connection:
    """One socket with at most one request on its way."""

    def __init__(self, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port), timeout=LONGEST_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._due_at = 0.0
        self._read = b""

    def ask(self, request: bytes, due_at: float) -> None:
        self._due_at, self._read = due_at, b""
        self.socket.sendall(request)

    def answer(self) -> tuple[float, bool] | None:
        """(latency in seconds, whether it was a 200 with all its bytes), or None while bytes are missing."""
        got = self.socket.recv(1 << 18)
        self._read += got
        head, blank, body = self._read.partition(b"\r\n\r\n")
        if got and (not blank or len(body) < _length(head)):
            return None
        ok = head.startswith(b"HTTP/1.1 200 ") and len(body) == _length(head)
        return time.monotonic() - self._due_at, ok


def _length(head: bytes) -> int:
    _, _, rest = head.lower().partition(_LENGTH)
    return int(rest.split(b"\r\n", 1)[0] or 0)


def ask_steadily(host: str, port: int, path: str, per_second: float, ended: threading.Event) -> Json:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    selector = selectors.DefaultSelector()
    free = deque(Connection(host, port) for _ in range(CONNECTIONS))
    for connection in free:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    latencies_ms: list[float] = []
    errors = asked = 0
    start, cpu_before, give_up_at = time.monotonic(), time.process_time(), math.inf
    while not ended.is_set() or (len(latencies_ms) < asked and time.monotonic() < give_up_at):
        due_at = start + asked / per_second
        if ended.is_set():
            give_up_at = min(give_up_at, time.monotonic() + LONGEST_S)
        elif free and due_at <= time.monotonic():
            free.popleft().ask(request, due_at)
            asked += 1
            continue
        wait_s = due_at - time.monotonic() if free and not ended.is_set() else LOOK_S
        for key, _ in selector.select(max(0.0, wait_s)):
            if (found := key.data.answer()) is not None:
                latencies_ms.append(found[0] * 1e3)
                errors += not found[1]
                free.append(key.data)
    cpu_s = time.process_time() - cpu_before
    lost = asked - len(latencies_ms)
    return {"asked": asked, "errors": errors + lost, "latencies_ms": latencies_ms, "cpu_s": cpu_s}


def main() -> None:
    spec, ended = json.loads(sys.stdin.readline()), threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    json.dump(ask_steadily(**spec, ended=ended), sys.stdout)


if __name__ == "__main__":
    main()
