"""Learned limits and estimates of a provider outlast a restart; those of a simulator do not."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from src.config import ProviderAccess, simulated_access
from src.core.learned_state import LearnedStateRepository
from src.core.store import Store
from src.core.store_thread import StoreThread
from src.records import LimitReport, Usage
from src.routing.balancer import ProviderLoadBalancer
from src.routing.limits.concurrency import INITIAL
from src.routing.limits.group import Need

from ..routing.build import NAMES, START, make_balancer, make_settings

SETTINGS = make_settings()


def access(*, simulated: bool) -> dict[str, ProviderAccess]:
    urls = dict.fromkeys(NAMES, "http://127.0.0.1:9")
    found = simulated_access(SETTINGS, urls)
    return {name: replace(each, simulated=simulated) for name, each in found.items()}


def taught() -> ProviderLoadBalancer:
    """A balancer that has learned openai's limit and the length of its answers."""
    balancer = make_balancer(SETTINGS)
    provider = balancer.by_name["openai"]
    group = provider.model("gpt-x", SETTINGS, START).group
    held = group.reserve(Need(10, 10, 10), START)
    group.learn([LimitReport("requests", 600, 500, 60.0)], held, START + 1)
    for _ in range(40):
        provider.estimators.observe("general", 400, 1, Usage(208, 0, 0, 77))
    provider.concurrency.limit = 40
    return balancer


@pytest.mark.parametrize("simulated", [False, True])
async def test_limits_and_estimates_are_there_after_a_restart(tmp_path: Path, simulated: bool) -> None:
    store, thread = Store.open(tmp_path / "state.db", simulated=simulated), StoreThread()
    await LearnedStateRepository(taught(), access(simulated=simulated), store, thread).save(START + 2)
    fresh = make_balancer(SETTINGS, proven=False)
    await LearnedStateRepository(fresh, access(simulated=simulated), store, thread).restore()
    provider = fresh.by_name["openai"]
    group = provider.model("gpt-x", SETTINGS, START + 60).group
    estimator = provider.estimators.of("general")
    known = {name: bucket.limit for name, bucket in group.buckets.items()}, estimator.output_tokens(1_000)
    assert known == (({}, 1_000) if simulated else ({"requests": 600}, 77))
    assert estimator.tokens_per_char == pytest.approx(0.25 if simulated else 0.5, abs=0.01)
    assert provider.concurrency.limit == (INITIAL if simulated else 40)
    thread.close()
    store.close()


async def test_a_token_in_an_address_is_not_stored_and_separates_accounts(tmp_path: Path) -> None:
    store, thread = Store.open(tmp_path / "state.db", simulated=False), StoreThread()

    def with_token(token: str) -> dict[str, ProviderAccess]:
        url = f"http://{token}@127.0.0.1:9/v1?key={token}"
        return {name: replace(each, base_url=url) for name, each in access(simulated=False).items()}

    await LearnedStateRepository(taught(), with_token("geheim"), store, thread).save(START + 2)
    found = []
    for token in ("geheim", "another"):
        fresh = make_balancer(SETTINGS)
        await LearnedStateRepository(fresh, with_token(token), store, thread).restore()
        group = fresh.by_name["openai"].model("gpt-x", SETTINGS, START + 60).group
        found.append({name: bucket.limit for name, bucket in group.buckets.items()})
    thread.close()
    store.close()
    assert found == [{"requests": 600}, {}]
    with closing(sqlite3.connect(tmp_path / "state.db")) as database:
        rows = database.execute("SELECT base_url FROM learned").fetchall()
    assert rows == [("http://127.0.0.1:9/v1",)]
