"""Agents that ask an endpoint turn by turn, each turn with the whole conversation before it. See child.py.

    in   {"port": ..., "headers": {...}, "agents": n, "turns": n, "max_tokens": n, "run_ids": bool,
          "again": bool}
    out  {"first_call_at": s, "last_answer_at": s, "finished_s": [...], "turns_lost": n, "seen_429": n,
          "charges": [[1, tokens], ...], "problems": [...]}

An agent repeats a failed turn as the openai SDK does: twice, after the time that the answer asks for, else
after half a second and longer. With `again` it never gives up. An agent whose turn is lost has failed.
`charges`: of each turn that was answered, in requests and tokens as OpenAI counts them.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time
from typing import Any

from src.simulator.openai_format import OpenAIFormat

from .load import CHAT
from .raw_http import Answer, Connection, post
from .work import MODELS, SEED, Json, prompts

MODEL = MODELS["openai"]
RETRIES, FIRST_WAIT_S, LONGEST_WAIT_S, LONGEST_ASKED_S = 2, 0.5, 8.0, 60.0  # as in openai 3
STATUSES = {408, 409, 429}  # and those from 500 on
_api = OpenAIFormat()


class Agents:
    """All agents of one run, and what came of them."""

    def __init__(self, spec: Json) -> None:
        self._spec, self._dice = spec, random.Random(SEED)
        self._texts = [each.text for each in prompts(spec["agents"] * spec["turns"], median_chars=600)]
        self.finished_s: list[float] = []
        self.charges: list[tuple[float, float]] = []
        self.problems: list[str] = []
        self.seen_429 = self.turns_lost = 0
        self.last_answer_at = math.nan

    async def run(self) -> Json:
        start = time.time()
        await asyncio.gather(*(self._agent(number, start) for number in range(self._spec["agents"])))
        names = ("finished_s", "charges", "problems", "seen_429", "turns_lost", "last_answer_at")
        return {"first_call_at": start, **{name: getattr(self, name) for name in names}}

    async def _agent(self, number: int, start: float) -> None:
        connection, said = Connection(self._spec["port"]), list[Json]()
        headers = dict(self._spec["headers"])
        if self._spec["run_ids"]:
            headers["x-orchestrator-run-id"] = f"agent-{number}"
        turns = self._spec["turns"]
        for turn in range(turns):
            said.append({"role": "user", "content": self._texts[number * turns + turn]})
            body = {"model": MODEL, "messages": said, "max_completion_tokens": self._spec["max_tokens"]}
            answer = await self._turn(connection, post(CHAT, json.dumps(body).encode(), headers))
            if answer is None:
                self.turns_lost += turns - turn
                return
            self._charge(body)
            said.append(json.loads(answer.body)["choices"][0]["message"])
        self.finished_s.append(time.time() - start)
        connection.abort()

    async def _turn(self, connection: Connection, request: bytes) -> Answer | None:
        """The answer; None where it is lost."""
        for tried in range(sys.maxsize):
            answer: Answer | None = None
            try:
                answer = await connection.ask(request)
                status, problem = answer.status, answer.body[:200].decode(errors="replace")
            except OSError as error:
                status, problem = 599, repr(error)
            if answer is not None and status == 200:
                self.last_answer_at = time.time()
                return answer
            self.seen_429 += status == 429
            self.problems = [*self.problems, f"{status} {problem}"][:3]
            may = status in STATUSES or status >= 500
            if answer is not None and (told := answer.header("x-should-retry")):
                may = told == "true"
            if not may or (tried >= RETRIES and not self._spec["again"]):
                return None
            await asyncio.sleep(self._wait_s(answer, tried))
        return None

    def _wait_s(self, answer: Answer | None, tried: int) -> float:
        if answer is not None:
            asked_s = _number(answer.header("retry-after-ms")) / 1e3 or _number(answer.header("retry-after"))
            if 0 < asked_s <= LONGEST_ASKED_S:
                return asked_s
        longest_s = min(FIRST_WAIT_S * 2.0 ** min(tried, 10), LONGEST_WAIT_S)
        return longest_s * (1 - 0.25 * self._dice.random())

    def _charge(self, body: Json) -> None:
        chars = _api.parse(body, "any", {}).chars
        self.charges.append((1.0, float(max(self._spec["max_tokens"], math.ceil(chars / 4)))))


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


async def main() -> None:
    spec: dict[str, Any] = json.loads(sys.stdin.read())
    sys.stdout.write("\n" + json.dumps(await Agents(spec).run()) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
