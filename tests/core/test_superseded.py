"""A takeover while a canary is in flight: it is not booked, and the run ends in good order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from src.config import ProviderAccess, load_settings
from src.core.clock import Clock
from src.core.leadership import Leadership
from src.core.orchestrator import Orchestrator
from src.core.store import Store
from src.records import Message, Task

BATCH = "file"


class TakenOver:
    """Answers every task with a 500. The first canary meets a takeover before it is answered."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.canaries = 0

    async def answer(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = json.loads(await request.text())
        if "bad" in body["messages"][-1]["content"]:
            return web.json_response({"error": {"message": "boom", "type": "server_error"}}, status=500)
        self.canaries += 1
        other = Leadership(self._store, 10.0)
        other.store.take_lead(other.me)
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hel"}, "finish_reason": "length"}
        usage = {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"]}
        return web.json_response({**answer, "choices": [choice], "usage": usage})

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})


async def test_a_canary_whose_orchestrator_was_taken_over_is_not_booked(tmp_path: Path) -> None:
    given, clock = load_settings(environ={}), Clock()
    quick = {"consecutive_failures": 1, "recovery_timeout_s": 0.02, "recovery_timeout_max_s": 0.1}
    pool = {"backoff_base_s": 0.01, "backoff_max_s": 0.05, "attempts": 40, "max_calls": 60}
    settings = given.model_copy(
        update={
            "breaker": given.breaker.model_copy(update=quick),
            "pool": given.pool.model_copy(update=pool),
        }
    )
    with Store.open(tmp_path / "state.db", simulated=False) as store:
        store.create_batch(BATCH, now=clock.now())
        rows = [Task(f"r{n}", BATCH, (Message("user", f"bad {n}"),), max_tokens=20) for n in range(3)]
        store.add_tasks(rows, now=clock.now())
        server = TakenOver(store)
        app = web.Application()
        app.router.add_get("/v1/models", server.models)
        app.router.add_post("/v1/chat/completions", server.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        row = settings.providers["openai"]
        access = {"openai": ProviderAccess("openai", row, url, SecretStr("sk-test-0123456789"), "a test")}
        try:
            report = await Orchestrator(settings, access, store, clock, batch=BATCH).run(until_done=True)
        finally:
            await runner.cleanup()
        assert server.canaries == 1
        assert report.stopped == "superseded"
        booked = {row.key[0] for row in store.usage(0.0, 1e11, ["task_type"])}
        assert "canary" not in booked
