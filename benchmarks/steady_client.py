"""Requests one address at a steady rate over open connections, with as little work as Python allows.

    in   {"host": ..., "port": ..., "path": ..., "per_second": 200}    one line; the end of input ends it
    out  {"sent": n, "errors": n, "latencies_ms": [...], "cpu_s": s}

A latency counts from the moment at which the request was due, so that a server that stalls gets no
fewer of them. `cpu_s` is this process's own.
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

    def send(self, request: bytes, due_at: float) -> None:
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


class _Load:
    """Requests that are due every 1 / `per_second` seconds until `ended`, and what came of them."""

    def __init__(self, request: bytes, per_second: float, ended: threading.Event) -> None:
        self._request, self._per_second, self._ended = request, per_second, ended
        self._start, self._give_up_at = time.monotonic(), math.inf
        self.latencies_ms: list[float] = []
        self.errors = self.sent = 0

    def is_over(self) -> bool:
        """No more requests are due, and each is answered or given up."""
        if not self._ended.is_set():
            return False
        self._give_up_at = min(self._give_up_at, time.monotonic() + LONGEST_S)
        return len(self.latencies_ms) >= self.sent or time.monotonic() >= self._give_up_at

    def send(self, free: deque[Connection]) -> float:
        """Send what is due, as far as connections are free; seconds until there may be more to do."""
        while free and not self._ended.is_set():
            due_at = self._start + self.sent / self._per_second
            if (wait_s := due_at - time.monotonic()) > 0.0:
                return wait_s
            free.popleft().send(self._request, due_at)
            self.sent += 1
        return LOOK_S

    def receive(self, connection: Connection) -> bool:
        """Read what came; whether the connection is free again."""
        if (found := connection.answer()) is None:
            return False
        self.latencies_ms.append(found[0] * 1e3)
        self.errors += not found[1]
        return True


def send_steadily(host: str, port: int, path: str, per_second: float, ended: threading.Event) -> Json:
    """Request one path until `ended`; the report of this module."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode()
    selector = selectors.DefaultSelector()
    free = deque(Connection(host, port) for _ in range(CONNECTIONS))
    for connection in free:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    load, cpu_before = _Load(request, per_second, ended), time.process_time()
    while not load.is_over():
        for key, _ in selector.select(load.send(free)):
            if load.receive(key.data):
                free.append(key.data)
    return {
        "sent": load.sent,
        "errors": load.errors + load.sent - len(load.latencies_ms),
        "latencies_ms": load.latencies_ms,
        "cpu_s": time.process_time() - cpu_before,
    }


def main() -> None:
    spec, ended = json.loads(sys.stdin.readline()), threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    json.dump(send_steadily(**spec, ended=ended), sys.stdout)


if __name__ == "__main__":
    main()
