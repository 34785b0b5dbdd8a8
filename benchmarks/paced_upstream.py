"""OpenAI's chat completions from a server that costs little and answers exactly when its caller wants.

    python -m benchmarks.paced_upstream       # prints its port, serves until the end of its input

Somewhere in the prompt stands how: `@wait=250` answers after 250 ms; `@pace=50x200`, for a stream, sends 200
chunks, 50 in a second. Each chunk of text is the moment at which it was sent, as `[12.345678]` in seconds of
the monotonic clock, which all processes of a machine share. So whoever asks knows what the way cost.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import PIPE, Popen

from .child import ROOT, environment
from .work import MODELS, Json

MODEL = MODELS["openai"]
STAMP = re.compile(rb"\[(\d+\.\d{6})\]")
_WAIT = re.compile(rb"@wait=(\d+)")
_PACE = re.compile(rb"@pace=(\d+)x(\d+)")
_USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
_BLANK = b"\r\n\r\n"


def _whole() -> bytes:
    message = {"role": "assistant", "content": "An answer.", "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    return _json({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": MODEL,
                  "choices": [choice], "usage": _USAGE})  # fmt: skip


def _models() -> bytes:
    names = ("gpt-6-luna", MODEL, "gpt-6.1-sol")
    rows = [{"id": name, "object": "model", "created": 1, "owned_by": "openai"} for name in names]
    return _json({"object": "list", "data": rows})


def _json(body: Json) -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


def _event(choices: list[Json], **more: Json) -> bytes:
    body = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL,
            "choices": choices, **more}  # fmt: skip
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _delta(delta: Json, finish: str | None = None) -> bytes:
    return _event([{"index": 0, "delta": delta, "finish_reason": finish}])


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_ANSWER, _LIST = _whole(), _models()
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_FIRST = _chunk(_delta({"role": "assistant", "content": ""}))
_BEFORE, _AFTER = _delta({"content": "MARK"}).split(b"MARK")
_LAST = _chunk(_delta({}, "stop") + _event([], usage=_USAGE) + b"data: [DONE]\n\n") + b"0\r\n\r\n"


class _Served(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._read = b""
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._read += data
        head, blank, body = self._read.partition(_BLANK)
        if not blank:
            return
        length = re.search(rb"content-length: *(\d+)", head.lower())
        if len(body) < (int(length[1]) if length else 0):
            return
        self._read = b""
        if head.startswith(b"GET"):
            self._write(_LIST)
        elif (pace := _PACE.search(body)) and re.search(rb'"stream": ?true', body):
            self._write(_STREAM_HEAD + _FIRST)
            step_s = 1 / int(pace[1])
            self._send(self._loop.time() + step_s, step_s, int(pace[2]))
        else:
            wait = _WAIT.search(body)
            self._timer = self._loop.call_later(int(wait[1]) / 1e3 if wait else 0.0, self._write, _ANSWER)

    def _send(self, due_s: float, step_s: float, left: int) -> None:
        if not left:
            self._write(_LAST)
            return
        self._timer = self._loop.call_at(due_s, self._send_now, due_s, step_s, left)

    def _send_now(self, due_s: float, step_s: float, left: int) -> None:
        self._write(_chunk(b"%b[%.6f]%b" % (_BEFORE, time.monotonic(), _AFTER)))
        self._send(due_s + step_s, step_s, left - 1)

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Served, "127.0.0.1", 0, backlog=512)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await asyncio.to_thread(sys.stdin.read)


@dataclass(frozen=True, slots=True)
class PacedUpstream:
    """A server that runs."""

    port: int

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes."""
        return f"http://127.0.0.1:{self.port}/v1"


@contextmanager
def paced_upstream() -> Iterator[PacedUpstream]:
    """The server as a process of its own."""
    command = [sys.executable, "-m", "benchmarks.paced_upstream"]
    with Popen(command, cwd=ROOT, stdin=PIPE, stdout=PIPE, text=True, env=environment()) as child:
        assert child.stdout is not None and child.stdin is not None
        try:
            yield PacedUpstream(int(child.stdout.readline()))
        finally:
            child.stdin.close()


if __name__ == "__main__":
    asyncio.run(_serve())
