"""Simulator, orchestrator and pages as processes, as a user runs them."""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.simulator.process import SimulatorProcess
from tests.helpers import ROOT, Script, live_environment

NAMES = ("anthropic", "openai", "gemini")
LIMITS = "\n".join(f"[providers.{name}.limits]\nrequests_per_minute = 30000" for name in NAMES)
CONFIG = f"[breaker]\nrecovery_timeout_s = 60.0\nhealth_interval_s = 60.0\n{LIMITS}\n"
QUICK = {"latency": {"first_token_s": 0.01, "per_token_s": 0.0}, "output_tokens": {"mean": 30.0}}


@dataclass(frozen=True)
class JsonClient:
    """A client of the API at `url`."""

    url: str

    def call(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(self.url + path, headers={"Content-Type": "application/json"})  # noqa: S310
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=60) as response:  # noqa: S310
            return json.load(response)

    def until_noticed(self) -> None:
        """Wait until the orchestrator has read the settings again, which it does once a second."""
        called_at = self.call("/api/providers/status")["now"]
        while (self.call("/api/providers/status")["at"] or 0.0) < called_at + 1.1:
            time.sleep(0.05)  # leaves the CPU to what is waited for


@dataclass(frozen=True)
class Stack(JsonClient):
    """Simulator, orchestrator and pages, each in a process of its own."""

    simulator: SimulatorProcess

    def answer(self, count: int, batch: str) -> Counter[str]:
        """Submit untyped tasks and wait for all. Returns the number of answers by provider."""
        rows = [{"prompt": f"Question {i} of {batch}"} for i in range(count)]
        done = self.call("/api/tasks", {"tasks": rows, "batch": batch, "wait_s": 60})
        assert {task["status"] for task in done["tasks"]} == {"succeeded"}
        served = self.call(f"/api/tasks?batch={batch}&limit=500")["tasks"]
        return Counter(task["provider"] for task in served)


@contextmanager
def running_stack(folder: Path) -> Iterator[Stack]:
    (folder / "own.toml").write_text(CONFIG, encoding="utf-8")
    with SimulatorProcess.start({"providers": dict.fromkeys(NAMES, QUICK)}) as simulator:
        environ = live_environment(simulator.base_urls) | {"ORCHESTRATOR_CONFIG": "own.toml"}
        with (
            Script("--quiet", cwd=folder, env=environ) as orchestrator,
            Script("--port", "0", cwd=folder, env=environ, script=ROOT / "web_server.py") as pages,
        ):
            pages.wait_for("pages on ")
            found = re.search(r"pages on (http://\S+)", pages.out)
            assert found
            orchestrator.wait_for("live:")
            yield Stack(found[1], simulator)
