"""Attacks the pages' server in three ways at once, until the end of its input.

    in   {"port": ..., "token": ...}    one line
    out  {"half_open": n, "uploads": n, "refused": n, "bombs": n, "accepted": n}

HALF_OPEN connections that never end their headers, and come back when they are cut off; UPLOADS files of
500 MB without a token, each again a second after it was refused; BOMBS schemas that grow tenfold with every
level, with a token, every BOMBS_EVERY_S.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections import Counter

HALF_OPEN, UPLOADS, BOMBS = 200, 50, 100
BOMBS_EVERY_S = 10.0
UPLOAD_BYTES = 500_000_000
PIECE = b"x" * 65_536
LEVELS = 12


def main() -> None:
    spec = json.loads(sys.stdin.readline())
    over, counts = threading.Event(), Counter[str]()
    works = [(_half_open, HALF_OPEN), (_upload, UPLOADS), (_bomb, BOMBS)]
    threads = [
        threading.Thread(target=work, args=(spec["port"], spec["token"], over, counts), daemon=True)
        for work, number in works
        for _ in range(number)
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    over.set()
    sys.stdout.write(json.dumps(dict(counts)) + "\n")


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=30)


def _half_open(port: int, _: str, over: threading.Event, counts: Counter[str]) -> None:
    while not over.is_set():
        try:
            with _connect(port) as connection:
                counts["half_open"] += 1
                connection.sendall(b"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
                connection.recv(1)
        except OSError:
            pass  # cut off
        over.wait(0.5)


def _upload(port: int, _: str, over: threading.Event, counts: Counter[str]) -> None:
    head = (
        f"POST /uploads HTTP/1.1\r\nHost: localhost\r\nContent-Length: {UPLOAD_BYTES}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    while not over.is_set():
        counts["uploads"] += 1
        try:
            with _connect(port) as connection:
                connection.sendall(head.encode())
                for _piece in range(UPLOAD_BYTES // len(PIECE)):
                    connection.sendall(PIECE)
        except OSError:
            counts["refused"] += 1
        over.wait(1.0)


def _bomb(port: int, token: str, over: threading.Event, counts: Counter[str]) -> None:
    definitions = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 10} for n in range(LEVELS)}
    schema = {"$ref": "#/$defs/d0", "$defs": {**definitions, f"d{LEVELS}": {"type": "object"}}}
    while not over.is_set():
        counts["bombs"] += 1
        one = {**schema, "title": str(counts["bombs"])}  # what was refused before is refused from memory
        body = json.dumps({"prompt": "Why?", "response_schema": one}).encode()
        head = (
            f"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            "Connection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            with _connect(port) as connection:
                connection.sendall(head.encode() + body)
                counts["accepted"] += connection.recv(64).startswith(b"HTTP/1.1 202")
        except OSError:
            pass
        over.wait(BOMBS_EVERY_S)


if __name__ == "__main__":
    main()
