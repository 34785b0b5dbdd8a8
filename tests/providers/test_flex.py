"""Service tier flex through the openai SDK, to the simulator and to a server that says what a test wants."""

from __future__ import annotations

from typing import Any

import pytest

from src.errors import FlexUnavailable, QuotaExhausted, RateLimited
from src.records import FLEX
from src.simulator.process import SimulatorProcess
from src.stream_events import Finished

from .conftest import Builder, Canned, access_to, ask


async def test_flex_is_asked_for_and_named_in_the_answer(
    faulty: SimulatorProcess, adapter_for: Builder
) -> None:
    adapter = adapter_for(access_to("openai", faulty.base_urls["openai"]))
    usual = await adapter.complete(ask("openai"))
    flex = await adapter.complete(ask("openai", "Name three lakes.", service_tier=FLEX))
    assert (usual.service_tier, flex.service_tier) == ("", FLEX)
    stats = faulty.stats()["openai"]
    assert [counts["answers"] for counts in stats["flex"].values()] == [1]
    assert [counts["answers"] for counts in stats["answered"].values()] == [2]


async def test_a_stream_names_it_too(faulty: SimulatorProcess, adapter_for: Builder) -> None:
    adapter = adapter_for(access_to("openai", faulty.base_urls["openai"]))
    events = [event async for event in adapter.stream(ask("openai", service_tier=FLEX))]
    assert isinstance(events[-1], Finished) and events[-1].completion.service_tier == FLEX


async def test_no_room_for_flex_is_no_rate_limit(faulty: SimulatorProcess, adapter_for: Builder) -> None:
    faulty.patch("openai", {"flex_unavailable": 1.0})
    adapter = adapter_for(access_to("openai", faulty.base_urls["openai"]))
    with pytest.raises(FlexUnavailable, match="no capacity") as caught:
        await adapter.complete(ask("openai", service_tier=FLEX))
    assert (caught.value.status, caught.value.limits, caught.value.usage) == (429, (), None)
    assert (await adapter.complete(ask("openai"))).text, "others are answered"


async def test_a_model_that_does_not_take_it_is_told_from_a_wrong_request(
    faulty: SimulatorProcess, adapter_for: Builder
) -> None:
    adapter = adapter_for(access_to("openai", faulty.base_urls["openai"]))
    with pytest.raises(FlexUnavailable):
        await adapter.complete(ask("openai", model="gpt-4.1", service_tier=FLEX))


@pytest.mark.parametrize(
    ("code", "service_tier", "kind"),
    [
        ("resource_unavailable", FLEX, FlexUnavailable),
        (None, FLEX, FlexUnavailable),
        ("rate_limit_exceeded", FLEX, RateLimited),
        ("insufficient_quota", FLEX, QuotaExhausted),
        (None, "", RateLimited),
    ],
)
async def test_a_429_to_flex_is_about_flex_unless_its_code_says_more(
    canned: Canned, adapter_for: Builder, code: str | None, service_tier: str, kind: type[Exception]
) -> None:
    error: dict[str, Any] = {"message": "Resource unavailable", "type": "error", "param": None, "code": code}
    canned.status, canned.body = 429, {"error": error}
    with pytest.raises(kind) as caught:
        await adapter_for(access_to("openai", canned.url("openai"))).complete(
            ask("openai", service_tier=service_tier)
        )
    assert type(caught.value) is kind
    assert canned.seen[-1]["body"].get("service_tier", "") == service_tier
