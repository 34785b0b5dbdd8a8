"""A person at the pages, the real orchestrator beside them, and the simulator as three providers."""

from __future__ import annotations

import json
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import ROOT, Script, live_environment

from .browser import chromium
from .filled import SCRIPT

pytestmark = pytest.mark.browser
NAMES = ("anthropic", "openai", "gemini")
TOLD = "\n".join(f"[providers.{name}.limits]\nrequests_per_minute = 30000" for name in NAMES)
CONFIG = f"[breaker]\nrecovery_timeout_s = 60.0\nhealth_interval_s = 60.0\n{TOLD}\n"
QUICK = {"latency": {"first_token_s": 0.01, "per_token_s": 0.0}, "output_tokens": {"mean": 30.0}}


@dataclass(frozen=True)
class House:
    """Simulator, orchestrator and pages, each a process of its own."""

    simulator: SimulatorProcess
    url: str

    def ask(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(self.url + path, headers={"Content-Type": "application/json"})  # noqa: S310
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=60) as response:  # noqa: S310
            return json.load(response)

    def until_noticed(self) -> None:
        """Until the orchestrator has looked at the settings since now: it does once a second."""
        asked_at = self.ask("/api/providers/status")["now"]
        while (self.ask("/api/providers/status")["at"] or 0.0) < asked_at + 1.1:
            pass

    def answer(self, count: int, batch: str) -> Counter[str]:
        """Hand in untyped tasks, wait for all, and tell who served how many."""
        rows = [{"prompt": f"Question {i} of {batch}"} for i in range(count)]
        done = self.ask("/api/tasks", {"tasks": rows, "batch": batch, "wait_s": 60})
        assert {task["status"] for task in done["tasks"]} == {"succeeded"}
        served = self.ask(f"/api/tasks?batch={batch}&limit=500")["tasks"]
        return Counter(task["provider"] for task in served)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    (tmp_path / "own.toml").write_text(CONFIG, encoding="utf-8")
    with SimulatorProcess.start({"providers": dict.fromkeys(NAMES, QUICK)}) as simulator:
        environ = live_environment(simulator.base_urls) | {"ORCHESTRATOR_CONFIG": "own.toml"}
        with (
            Script("--quiet", cwd=tmp_path, env=environ) as orchestrator,
            Script("--port", "0", cwd=tmp_path, env=environ, script=ROOT / "web_server.py") as pages,
        ):
            pages.wait_for("pages on ")
            found = re.search(r"pages on (http://\S+)", pages.out)
            assert found
            orchestrator.wait_for("live:")
            yield House(simulator, found[1])


@pytest.fixture
def page(house: House) -> Iterator[Any]:
    with chromium() as browser:
        opened = browser.new_page()
        opened.set_default_timeout(20_000)
        yield opened


def test_a_person_watches_an_outage_moves_the_weights_and_reads_an_answer(house: House, page: Any) -> None:
    first = house.answer(30, "first")
    assert set(first) == set(NAMES)

    page.goto(f"{house.url}/provider-status")
    for name in NAMES:
        page.locator(f"#{name} .pill", has_text="Healthy").wait_for()
    page.get_by_text("running", exact=True).wait_for()

    house.simulator.patch("openai", {"faults": {"outage": 1.0}})
    without = house.answer(30, "without-openai")
    assert set(without) == {"anthropic", "gemini"}
    page.locator("#openai .pill", has_text="Breaker open").wait_for()  # the page has turned by itself
    assert "0.0 %" in page.locator("#openai .share").inner_text()

    house.simulator.patch("openai", {"faults": {}})
    page.locator("#openai").get_by_role("button", name="Close the breaker").click()
    page.locator("#openai .pill", has_text=re.compile("Healthy|Degraded")).wait_for()

    page.get_by_role("link", name="Rebalance").click()
    page.get_by_role("slider", name="gemini").fill("80")
    page.locator("#shares tr[data-provider=gemini]", has_text=re.compile(r"(7|8|9)\d\.\d %")).wait_for()
    page.get_by_role("button", name="Apply").click()
    page.get_by_text("The new weights are set.").wait_for()
    page.goto(f"{house.url}/provider-status")
    page.locator("#gemini .share", has_text=re.compile(r"(7|8|9)\d\.\d %")).wait_for()
    house.until_noticed()
    after = house.answer(50, "after")
    assert after["gemini"] >= 35

    for name in NAMES:
        house.simulator.patch(name, {"echo": True})
    page.get_by_role("link", name="Dashboard").click()
    page.get_by_label("Prompt").fill(f"Repeat: {SCRIPT}")
    page.get_by_role("button", name="Hand in").click()
    page.locator("#output", has_text=SCRIPT).wait_for()
    assert "taken over" not in page.title()
    page.get_by_text("Why ").first.wait_for()
