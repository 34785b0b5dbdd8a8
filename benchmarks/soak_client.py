"""Many requests of all three APIs through one gateway, a part of them broken off. Reports what clients saw.

    in   {"port": ..., "count": n, "in_flight": n}
    out  progress N                                lines
         {"answered": n, "broken_off": n, ...}     the last line

The providers echo, so a whole answer is known to the letter. What a client may see:

    answered      the whole text
    broken_off    the client closed the connection first; these ask for the models of ABORTED
    error_event   the API's error event in a stream that had begun
    error         an HTTP error, or a connection that was closed
    not_whole     an answer that looks complete and is not: never
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from .raw_http import Answer, Connection, post
from .work import MODELS, SEED, Json, prompts

ABORTED = {"anthropic": "claude-haiku-5-5", "openai": "gpt-6-luna", "gemini": "gemini-3.5-flash-lite"}
ABORTED_SHARE, RUN_SHARE = 0.1, 0.5
WITHIN_S = 0.15  # a client that leaves does so within this time
MAX_TOKENS = 1024
KINDS = (
    ("chat", "openai"), ("responses", "openai"), ("messages", "anthropic"), ("chat", "anthropic"),
    ("chat", "gemini"), ("messages", "gemini"),
)  # fmt: skip
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
SHOWN = 8  # problems


def body_of(form: str, model: str, text: str, *, stream: bool) -> Json:
    """A request in one of the three APIs."""
    more: Json = {"model": model, "stream": stream}
    if form == "responses":
        return {**more, "input": text, "max_output_tokens": MAX_TOKENS, "store": False}
    limit = "max_tokens" if form == "messages" else "max_completion_tokens"
    return {**more, "messages": [{"role": "user", "content": text}], limit: MAX_TOKENS}


def text_of(form: str, body: Json) -> str:
    """The text of a whole answer."""
    if form == "chat":
        return str(body["choices"][0]["message"]["content"])
    parts = body["content"] if form == "messages" else [p for each in body["output"] for p in each["content"]]
    return "".join(part.get("text", "") for part in parts)


def read_stream(form: str, body: bytes) -> tuple[str, str]:
    """The text of a stream, and how it ended: `end`, `error`, or nothing."""
    text, ended = list[str](), ""
    for event in _events(body):
        if event is None:
            ended = "end"
            continue
        kind = event.get("type", "")
        if event.get("error") or kind in ("error", "response.failed"):
            return "".join(text), "error"
        if form == "chat":
            text += [choice["delta"].get("content") or "" for choice in event["choices"]]
        elif kind == "content_block_delta":
            text.append(event["delta"].get("text", ""))
        elif kind == "response.output_text.delta":
            text.append(event["delta"])
        if kind in ("message_stop", "response.completed"):
            ended = "end"
    return "".join(text), ended


def _events(body: bytes) -> Iterator[Json | None]:
    """The data of server-sent events; None for `[DONE]`."""
    for line in body.split(b"\n"):
        if line.startswith(b"data:"):
            data = line[5:].strip()
            yield None if data == b"[DONE]" else json.loads(data)


class Soak:
    """The requests that are left, and what came of the others."""

    def __init__(self, spec: Json) -> None:
        self._spec, self._dice = spec, random.Random(SEED)
        self._texts = [each.text for each in prompts(1_000, median_chars=300, sigma=0.5)]
        self._started = self._ended = 0
        self.saw: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()

    async def run(self) -> Json:
        await asyncio.gather(*(self._loop() for _ in range(self._spec["in_flight"])))
        return {**self.saw, "problems": self.problems.most_common(SHOWN)}

    async def _loop(self) -> None:
        connection = Connection(self._spec["port"])
        while self._started < self._spec["count"]:
            self._started += 1
            self.saw[await self._one(connection, self._started)] += 1
            self._ended += 1
            if self._ended % max(1, self._spec["count"] // 50) == 0:
                sys.stdout.write(f"progress {self._ended}\n")
                sys.stdout.flush()
        connection.abort()

    async def _one(self, connection: Connection, number: int) -> str:
        form, provider = self._dice.choice(KINDS)
        stream, leaves = self._dice.random() < 0.5, self._dice.random() < ABORTED_SHARE
        model = (ABORTED if leaves else MODELS)[provider]
        text = f"{number}: {self._texts[number % len(self._texts)]}"
        headers = {"anthropic-version": "2023-06-01"} if form == "messages" else {}
        if self._dice.random() < RUN_SHARE:
            headers["x-orchestrator-run-id"] = f"run-{number // 12}"
        request = post(PATHS[form], json.dumps(body_of(form, model, text, stream=stream)).encode(), headers)
        if leaves and await self._leave(connection, request):
            return "broken_off"
        if leaves:
            return "answered_before"
        where = f"{form}, {provider}, {'stream' if stream else 'whole'}"
        try:
            answer = await connection.ask(request)
        except OSError as error:
            self.problems[f"{where}: {error!r}"] += 1
            return "error"
        return self._judge(where, form, stream, text, answer)

    async def _leave(self, connection: Connection, request: bytes) -> bool:
        """Whether the client left before the answer was there."""
        asking = asyncio.create_task(connection.ask(request))
        await asyncio.wait({asking}, timeout=self._dice.random() * WITHIN_S)
        if asking.done():
            return asking.exception() is not None
        connection.abort()
        await asyncio.wait({asking})
        asking.exception()
        return True

    def _judge(self, where: str, form: str, stream: bool, text: str, answer: Answer) -> str:
        if answer.status != 200:
            self.problems[f"{where}: {answer.status} {answer.body[:160].decode(errors='replace')}"] += 1
            return "error"
        if stream:
            got, ended = read_stream(form, answer.body)
        else:
            got, ended = text_of(form, json.loads(answer.body)), "end"
        if ended == "error":
            return "error_event"
        if ended and got == text:
            return "answered"
        self.problems[f"{where}: not whole: {len(got)} of {len(text)} characters, ended {ended!r}"] += 1
        return "not_whole"


async def main() -> None:
    spec: dict[str, Any] = json.loads(sys.stdin.readline())
    sys.stdout.write(json.dumps(await Soak(spec).run()) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
