"""Loads of several kinds at once from one process, see `raw_http.py`; it ends with its input.

    in   {"seconds": s | null, "warm_s": s, "lanes": [{"name": ..., "port": ..., "kind": ..., ...}]}
    out  {"cpu_s": s, "lanes": {name: {"count": n, "chunks": n, "failed": n, "problems": [...],
          "began_at": [...], "added_ms": [...], "waited_ms": [...], "gap_ms": [...]}}}

    closed    `in_flight` requests at any time, each for an answer after about `latency_s` (lognormal)
    streams   `in_flight` streams at any time, of `chunks` chunks, `per_second` in a second
    steady    a request every 1 / `per_second` seconds, to a provider whose latency is always `latency_s`

`added_ms`: beyond the provider's latency, of a stream for each chunk. `gap_ms`: how much longer the time
between two chunks was than when they were sent. `waited_ms`: how long the gateway held a request back, by its
own account (`x-orchestrator-waited-ms`). All without the first `warm_s`, in which connections are
opened; the counts are of all.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from contextlib import suppress
from typing import Any

from .paced_upstream import STAMP
from .raw_http import Answer, Connection, post
from .work import SEED, prompts

JITTER = 0.3
GRACE_S = 30.0  # for requests that are in flight at the end
STEADY_MAX_TOKENS = 256
_PROMPTS = [each.text for each in prompts(500, median_chars=400)]


def steady_text(number: int) -> str:
    """The prompt of a lane's request, from 1; other kinds have a directive before it."""
    return f"{number}: {_PROMPTS[number % len(_PROMPTS)]}"


class Lane:
    """One kind of load, and what came of it."""

    def __init__(self, spec: dict[str, Any], warm_s: float, ended: asyncio.Event) -> None:
        self._spec, self._ended = spec, ended
        self._warm_at = time.monotonic() + warm_s
        self._dice = random.Random(f"{SEED}:{spec['name']}")
        self._number = 0
        self.count = self.chunks = self.failed = 0
        self.problems: list[str] = []
        self.began_at: list[float] = []
        self.added_ms: list[float] = []
        self.waited_ms: list[float] = []
        self.gap_ms: list[float] = []

    async def run(self) -> None:
        kind = self._spec["kind"]
        if kind == "steady":
            await self._steady()
            return
        once = self._once if kind == "closed" else self._stream
        await asyncio.gather(*(self._loop(once) for _ in range(self._spec["in_flight"])))

    def found(self) -> dict[str, Any]:
        names = ("count", "chunks", "failed", "problems", "began_at", "added_ms", "waited_ms", "gap_ms")
        return {name: getattr(self, name) for name in names}

    async def _loop(self, once: Any) -> None:
        connection = Connection(self._spec["port"])
        await asyncio.sleep(self._dice.random() * self._spec.get("latency_s", 1.0))  # not all at once
        while not self._ended.is_set():
            await once(connection)
        connection.abort()

    def _request(self, directive: str, *, stream: bool = False) -> bytes:
        self._number += 1
        text = steady_text(self._number)
        body = {
            "model": self._spec["model"],
            "messages": [{"role": "user", "content": f"{directive} {text}".strip()}],
            "max_completion_tokens": STEADY_MAX_TOKENS,
        }
        if stream:
            body["stream"] = True
        return post(self._spec["path"], json.dumps(body).encode(), self._spec.get("headers"))

    async def _once(self, connection: Connection) -> None:
        drawn_s = self._spec["latency_s"] * self._dice.lognormvariate(-(JITTER**2) / 2, JITTER)
        wait_ms = max(1, round(drawn_s * 1e3))
        await self._ask(connection, self._request(f"@wait={wait_ms}"), wait_ms)

    async def _ask(self, connection: Connection, request: bytes, wait_ms: float) -> None:
        began = time.monotonic()
        try:
            answer = await connection.ask(request)
        except OSError as error:
            self._note(began, repr(error))
            return
        took_ms = (time.monotonic() - began) * 1e3
        if self._note(began, _problem(answer)) and began >= self._warm_at:
            self.added_ms.append(took_ms - wait_ms)
            self.waited_ms.append(float(answer.header("x-orchestrator-waited-ms") or 0.0))

    async def _steady(self) -> None:
        start, free, tasks = time.monotonic(), list[Connection](), set[asyncio.Task[None]]()
        step_s, wait_ms = 1 / self._spec["per_second"], self._spec["latency_s"] * 1e3
        for number in range(sys.maxsize):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), start + number * step_s - time.monotonic())
            if self._ended.is_set():
                break
            connection = free.pop() if free else Connection(self._spec["port"])
            task = asyncio.create_task(self._borrow(connection, free, wait_ms))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)

    async def _borrow(self, connection: Connection, free: list[Connection], wait_ms: float) -> None:
        await self._ask(connection, self._request(""), wait_ms)
        free.append(connection)

    async def _stream(self, connection: Connection) -> None:
        began, last = time.monotonic(), (0.0, 0.0)
        seen, body = 0, bytearray()

        def take(piece: bytes) -> None:
            nonlocal last, seen
            now = time.monotonic()
            body[:] = body[-200:] + piece
            for stamp in STAMP.findall(piece):
                sent, warm = float(stamp), now >= self._warm_at
                if warm:
                    self.added_ms.append((now - sent) * 1e3)
                if warm and seen:
                    self.gap_ms.append((now - last[0] - (sent - last[1])) * 1e3)
                last, seen = (now, sent), seen + 1

        chunks = self._spec["chunks"]
        request = self._request(f"@pace={self._spec['per_second']}x{chunks}", stream=True)
        try:
            answer = await connection.ask(request, take)
        except OSError as error:
            self._note(began, repr(error))
            return
        self.chunks += seen
        problem = _problem(answer)
        if not problem and (seen != chunks or b"data: [DONE]" not in body):
            problem = f"{seen} of {chunks} chunks, the end: {bytes(body[-200:])!r}"
        self._note(began, problem)

    def _note(self, began: float, problem: str) -> bool:
        self.began_at.append(began)
        self.count += 1
        if problem:
            self.failed += 1
            self.problems = [*self.problems, problem][:5]
        return not problem


def _problem(answer: Answer) -> str:
    if answer.status == 200:
        return ""
    return f"{answer.status} {re.sub(rb'[^ -~]', b'?', answer.body[:300]).decode()}"


async def main() -> None:
    spec = json.loads(sys.stdin.readline())
    ended = asyncio.Event()
    lanes = {row["name"]: Lane(row, spec["warm_s"], ended) for row in spec["lanes"]}
    running = [asyncio.create_task(lane.run()) for lane in lanes.values()]
    before_s = time.process_time()
    if spec.get("seconds") is not None:
        await asyncio.sleep(spec["seconds"])
    else:
        await asyncio.to_thread(sys.stdin.read)
    ended.set()
    _, late = await asyncio.wait(running, timeout=GRACE_S)
    cpu_s = time.process_time() - before_s
    for task in late:
        task.cancel()
    found = {name: lane.found() for name, lane in lanes.items()}
    for task in (each for each in running if each.done() and not each.cancelled()):
        task.result()  # raises what broke a lane
    counts = {name: (lane.count, lane.problems) for name, lane in lanes.items()}
    assert not late, f"requests are not answered {GRACE_S:.0f} s after the end; answered: {counts}"
    json.dump({"cpu_s": cpu_s, "lanes": found}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
