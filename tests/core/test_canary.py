"""Canary calls over HTTP: how they are made, paid for and booked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from src.config import ProviderAccess, load_settings
from src.core.clock import Clock
from src.core.leadership import Leadership
from src.core.orchestrator import Orchestrator, OrchestratorOptions, RunReport
from src.core.store import Store
from src.messages import Message
from src.records import Task, TaskStatus
from src.settings import Settings

BATCH = "file"
ROWS = 4  # one opens the breaker, three are its probes: more would wait for the next minute
ATTEMPTS = 2


class Server:
    """Rows that say `bad` get a 500, all else is answered."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.report: RunReport | None = None  # of the run that asked

    async def answer(self, request: web.Request) -> web.Response:
        body = json.loads(await request.text())
        self.bodies.append(body)
        if "bad" in body["messages"][-1]["content"]:
            error = {"message": "boom", "type": "server_error", "code": None, "param": None}
            return web.json_response({"error": error}, status=500)
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hel"}, "finish_reason": "length"}
        usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
        return web.json_response({**answer, "choices": [choice], "usage": usage})

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})

    @property
    def canaries(self) -> list[dict[str, Any]]:
        return [body for body in self.bodies if "bad" not in body["messages"][-1]["content"]]


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/v1/models", server.models)
    app.router.add_post("/v1/chat/completions", server.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


def settings_with(attempts: int = ATTEMPTS, **breaker: Any) -> Settings:
    """One failure opens the breaker, for a few hundredths of a second; and a budget."""
    given = load_settings(environ={})
    quick = {"consecutive_failures": 1, "recovery_timeout_s": 0.02, "recovery_timeout_max_s": 0.1, **breaker}
    return given.model_copy(
        update={
            "breaker": given.breaker.model_copy(update=quick),
            "pool": given.pool.model_copy(
                update={"max_attempts": attempts, "backoff_base_s": 0.01, "backoff_max_s": 0.05}
            ),
            "budgets": given.budgets.model_copy(update={"daily_usd": 5.0}),
        }
    )


async def run_bad_rows(path: Path, server: Server, settings: Settings) -> Store:
    store = Store.open(path / "state.db", simulated=False)
    clock = Clock()
    store.intake.create_batch(BATCH, now=clock.now())
    tasks = [
        Task(f"r{n}", BATCH, (Message("user", f"bad {n}"),), max_tokens=20, tier="economy")
        for n in range(ROWS)
    ]
    store.intake.add_tasks(tasks, now=clock.now())
    async with serving(server) as url:
        row = settings.providers["openai"]
        access = {"openai": ProviderAccess("openai", row, url, SecretStr("sk-test-0123456789"), "a test")}
        pool = Orchestrator(settings, access, store, clock, OrchestratorOptions(batch=BATCH))
        server.report = await pool.run(until_done=True)
    return store


async def test_rows_that_always_fail_cost_one_canary_call_which_is_booked_apart(tmp_path: Path) -> None:
    server, settings = Server(), settings_with()
    with await run_bad_rows(tmp_path, server, settings) as store:
        (canary,) = server.canaries
        assert canary["max_completion_tokens"] == 1
        assert canary["model"] == settings.providers["openai"].models.economy
        usage = {row.key[0]: row.sums for row in store.reports.usage(0.0, 1e11, ["task_type"])}
        assert (usage["canary"].calls, usage["canary"].ok) == (1, 1)
        assert 0 < usage["canary"].cost_nanos < 1_000_000
        assert [
            row.key for row in store.reports.usage(0.0, 1e11, ["task_type", "submitter"]) if row.key[1] == ""
        ] == [("canary", "")]
        summary = store.reports.summary(BATCH)
        assert summary.counts[TaskStatus.FAILED] == ROWS
        assert (
            summary.calls.calls == len(server.bodies) - 1 == ATTEMPTS * ROWS
        )  # the canary call is no attempt
        assert store.events.recent(50, kinds=["canary"])


async def test_without_probe_spend_no_canary_call_is_made_and_the_rows_still_end(tmp_path: Path) -> None:
    server = Server()
    with await run_bad_rows(tmp_path, server, settings_with(attempts=1, probe_spend=False)) as store:
        assert server.canaries == []
        assert store.reports.summary(BATCH).counts[TaskStatus.FAILED] == ROWS


class TakenOver(Server):
    """Another orchestrator takes over before the first canary is answered."""

    def __init__(self, database: Path) -> None:
        super().__init__()
        self._database = database

    async def answer(self, request: web.Request) -> web.Response:
        answer = await super().answer(request)
        if self.canaries:
            with Store.open(self._database, simulated=False) as store:
                other = Leadership(store, 10.0)
                other.store.leadership.take(other.me)
        return answer


async def test_a_canary_call_is_not_booked_after_a_takeover_and_the_run_ends_in_order(tmp_path: Path) -> None:
    server = TakenOver(tmp_path / "state.db")
    with await run_bad_rows(tmp_path, server, settings_with()) as store:
        assert len(server.canaries) == 1
        assert server.report is not None and server.report.stopped == "superseded"
        assert "canary" not in {row.key[0] for row in store.reports.usage(0.0, 1e11, ["task_type"])}
