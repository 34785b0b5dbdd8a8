"""A server on loopback that answers with the very bytes that a test wants, well-formed or not."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

Json = dict[str, Any]
Writer = asyncio.StreamWriter
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


def answer_of(api: str, text: str = "Elbe.", **usage: Any) -> Json:
    """A small good answer of that API format; `usage` replaces its counts."""
    if api == "anthropic":
        counts = {"input_tokens": 12, "output_tokens": 3, **usage}
        content = [{"type": "text", "text": text}]
        return {"id": "msg_1", "model": "m", "content": content, "stop_reason": "end_turn", "usage": counts}
    if api == "openai":
        counts = {"prompt_tokens": 12, "completion_tokens": 3, **usage}
        choice = {"index": 0, "message": {"content": text}, "finish_reason": "stop"}
        return {"id": "chat_1", "model": "m", "choices": [choice], "usage": counts}
    counts = {"promptTokenCount": 12, "candidatesTokenCount": 3, "totalTokenCount": 15, **usage}
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}
    return {"candidates": [candidate], "usageMetadata": counts, "modelVersion": "m"}


def body_of(api: str, text: str = "Elbe.", **usage: Any) -> bytes:
    return json.dumps(answer_of(api, text, **usage)).encode()


def response(body: bytes, status: int = 200, *headers: str) -> bytes:
    """A whole answer with `Content-Length`."""
    lines = [
        f"HTTP/1.1 {status} X",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Raw:
    """`answer` is called for each request with the writer and the request's body."""

    def __init__(self) -> None:
        self.answer: Callable[[Writer, bytes], Awaitable[None]] = self.says(response(b"{}"))
        self.requests: list[bytes] = []
        self.connections = 0
        self.gone = asyncio.Event()  # set when a connection has ended
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[Writer] = set()
        self._serving: set[asyncio.Task[Any]] = set()

    def says(self, content: bytes, *, close: bool = False) -> Callable[[Writer, bytes], Awaitable[None]]:
        async def answer(writer: Writer, _: bytes) -> None:
            writer.write(content)
            if close:
                writer.close()

        return answer

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def url(self, api: str) -> str:
        return f"{self.origin}/v1" if api == "openai" else self.origin

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """No new connections, and an end to those there are."""
        if self._server is not None:
            self._server.close()
        for writer in tuple(self._writers):
            writer.close()
        await asyncio.gather(*tuple(self._serving), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: Writer) -> None:
        self.connections += 1
        self._writers.add(writer)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length else b""
                self.requests.append(head + body)
                await self.answer(writer, body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._writers.discard(writer)
            self._serving.discard(task)
            self.gone.set()


@contextlib.asynccontextmanager
async def raw_server() -> AsyncIterator[Raw]:
    server = Raw()
    await server.start()
    yield server
    await server.stop()
