"""A user on the pages, with a real orchestrator and the simulator as three providers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from .browser import chromium
from .filled import SCRIPT
from .stack import NAMES, Stack

pytestmark = pytest.mark.browser


@pytest.fixture
def page(stack: Stack) -> Iterator[Any]:
    with chromium() as browser:
        opened = browser.new_page()
        opened.set_default_timeout(60_000)
        yield opened


def test_a_user_sees_an_outage_moves_the_weights_and_reads_an_answer(stack: Stack, page: Any) -> None:
    first = stack.answer(30, "first")
    assert set(first) == set(NAMES)

    page.goto(f"{stack.url}/provider-status")
    for name in NAMES:
        page.locator(f"#{name} .pill", has_text="Healthy").wait_for()
    page.get_by_text("running", exact=True).wait_for()

    stack.simulator.patch("openai", {"faults": {"outage": 1.0}})
    without = stack.answer(30, "without-openai")
    assert set(without) == {"anthropic", "gemini"}
    page.locator("#openai .pill", has_text="Circuit open").wait_for()  # the page has turned by itself
    assert "0.0 %" in page.locator("#openai .share").inner_text()

    stack.simulator.patch("openai", {"faults": {}})
    page.locator("#openai").get_by_role("button", name="Close the breaker").click()
    page.locator("#openai .pill", has_text=re.compile("Healthy|Degraded")).wait_for()

    page.get_by_role("link", name="Rebalance").click()
    page.get_by_role("slider", name="gemini").fill("80")
    page.locator("#shares tr[data-provider=gemini]", has_text=re.compile(r"(7|8|9)\d\.\d %")).wait_for()
    page.get_by_role("button", name="Apply").click()
    page.get_by_text("The new weights are set.").wait_for()
    page.goto(f"{stack.url}/provider-status")
    page.locator("#gemini .share", has_text=re.compile(r"(7|8|9)\d\.\d %")).wait_for()
    stack.until_noticed()
    # In turns that a provider carries at once: beyond that, tasks go where there is room.
    after = sum((stack.answer(8, f"after-{turn}") for turn in range(6)), Counter[str]())
    assert after["gemini"] >= 33

    for name in NAMES:
        stack.simulator.patch(name, {"echo": True})
    page.get_by_role("link", name="New").click()
    page.locator("[name=prompt]").fill(f"Repeat: {SCRIPT}")
    page.get_by_role("button", name="Submit").click()
    page.locator("#output", has_text=SCRIPT).wait_for()
    assert "taken over" not in page.title()
    page.get_by_text("Why ").first.wait_for()
