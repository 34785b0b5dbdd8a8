"""Direct requests: placed by the same scheduler, answered before they are stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from src.core.direct import Run
from src.core.store import Store
from src.errors import (
    BadRequest,
    BudgetSpent,
    Expired,
    KeyReused,
    LeadershipLost,
    NoRoute,
    NotServing,
    WaitingLimit,
    Withdrawn,
)
from src.messages import Message
from src.records import Task, TaskStatus
from src.simulator.process import SimulatorProcess

from .direct_pool import request, serving, settings_for
from .pools import new_store

QUICK = {"first_token_s": 0.02, "per_token_s": 0.0}
SLOW = {"first_token_s": 0.6, "per_token_s": 0.0}


@pytest.fixture(scope="module")
def quick() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start({"providers": {"openai": {"latency": QUICK}}}) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def slow() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start({"providers": {"openai": {"latency": SLOW}}}) as simulator:
        yield simulator


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as opened:
        yield opened


async def test_an_answer_comes_with_where_it_was_made_and_is_stored_like_every_tasks(
    store: Store, quick: SimulatorProcess
) -> None:
    async with serving(store, quick.base_urls, settings_for(gateway={"store_content": "all"})) as served:
        answer = await served.direct.ask(request(1))
        assert answer.completion.text and answer.placement.provider == "openai"
        assert answer.attempts == 1 and answer.cost_nanos and answer.waited_s < 20.0
        await served.drain()
    detail = store.tasks.find("gateway", answer.task_id)
    assert detail is not None and detail.result.status is TaskStatus.SUCCEEDED
    assert detail.result.output == answer.completion.text
    assert detail.result.task.messages == (Message("user", "Question 1?"),)
    assert detail.result.cost_nanos == answer.cost_nanos
    assert store.reports.summary("gateway").calls.cost_nanos == answer.cost_nanos
    assert store.reports.task_counts()[TaskStatus.SUCCEEDED] == 1


@pytest.mark.parametrize(("kept", "failed_too"), [("none", False), ("errors", True)])
async def test_contents_are_stored_as_the_settings_say(
    store: Store, quick: SimulatorProcess, kept: str, failed_too: bool
) -> None:
    async with serving(store, quick.base_urls, settings_for(gateway={"store_content": kept})) as served:
        answer = await served.direct.ask(request(1))
        quick.patch("openai", {"faults": {"bad_request": 1.0}})
        try:
            with pytest.raises(BadRequest):
                await served.direct.ask(request(2, batch="failing", id="f"))
        finally:
            quick.patch("openai", {"faults": {"bad_request": 0.0}})
        await served.drain()
    good = store.tasks.find("gateway", answer.task_id)
    assert good is not None and good.result.output is None and not good.result.task.messages
    failed = store.tasks.find("failing", "f")
    assert failed is not None and failed.result.status is TaskStatus.FAILED
    assert bool(failed.result.task.messages) is failed_too


async def test_a_request_that_nobody_can_serve_is_told_at_once_why(
    store: Store, quick: SimulatorProcess
) -> None:
    async with serving(store, quick.base_urls, settings_for()) as served:
        with pytest.raises(NoRoute) as caught:
            await served.direct.ask(request(1, models=("gpt-unknown",), providers=()))
        assert {reason.provider for reason in caught.value.reasons} >= {"openai"}
        assert not len(served.direct)


async def test_as_many_wait_as_may_and_the_next_is_told_when_to_come_again(
    store: Store, quick: SimulatorProcess
) -> None:
    limits = {"requests_per_minute": 6.0, "burst_s": 10.0}
    gateway = {"max_waiting": 3, "max_waiting_per_submitter": 2}
    async with serving(store, quick.base_urls, settings_for(gateway=gateway, limits=limits)) as served:
        ask = served.direct.ask
        began = time.monotonic()
        await ask(request(1, submitter="a"))
        asked = [asyncio.create_task(ask(request(n, submitter="a"))) for n in range(2)]
        while served.direct.waiting < 2:
            await asyncio.sleep(0.01)
        with pytest.raises(WaitingLimit, match="per_submitter") as caught:
            await ask(request(9, submitter="a"))
        gone_s = time.monotonic() - began  # in which one has gone, and two wait
        assert 2 <= caught.value.retry_after_s <= 2 * (gone_s + 2)
        asked.append(asyncio.create_task(ask(request(3, submitter="b"))))
        while served.direct.waiting < 3:
            await asyncio.sleep(0.01)
        with pytest.raises(WaitingLimit, match="max_waiting"):
            await ask(request(9, submitter="c"))
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        assert not len(served.direct) and served.direct.waiting == 0


async def test_one_that_is_cancelled_while_it_waits_leaves_nothing(
    store: Store, quick: SimulatorProcess
) -> None:
    limits = {"requests_per_minute": 1.0, "burst_s": 1.0}
    async with serving(store, quick.base_urls, settings_for(limits=limits)) as served:
        await served.direct.ask(request(1))
        calls = quick.stats()["openai"]["calls"]
        asked = asyncio.create_task(served.direct.ask(request(2)))
        await asyncio.sleep(0.1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        assert not len(served.direct) and not len(served.pool.scheduler)
        await served.drain()
    assert quick.stats()["openai"]["calls"] == calls
    assert sum(store.reports.task_counts().values()) == 1


async def test_one_that_is_cancelled_in_flight_is_booked_as_uncertain_and_no_failure(
    store: Store, slow: SimulatorProcess
) -> None:
    async with serving(store, slow.base_urls, settings_for()) as served:
        asked = asyncio.create_task(served.direct.ask(request(1)))
        while not served.pool.in_flight:
            await asyncio.sleep(0.01)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await asyncio.sleep(0.05)
        assert served.pool.balancer.by_name["openai"].breaker.consecutive == 0
        await served.drain()
        assert not served.pool.reserved_nanos
    calls = store.reports.summary("gateway").calls
    assert calls.uncertain_nanos > 0 and calls.cost_nanos == 0
    assert store.reports.task_counts()[TaskStatus.CANCELLED] == 1


async def test_a_deadline_ends_the_wait(store: Store, quick: SimulatorProcess) -> None:
    limits = {"requests_per_minute": 1.0, "burst_s": 1.0}
    async with serving(store, quick.base_urls, settings_for(limits=limits)) as served:
        await served.direct.ask(request(1))
        with pytest.raises(Expired):
            await served.direct.ask(request(2, deadline_at=time.time() + 0.3))
        await served.drain()
    assert store.reports.task_counts()[TaskStatus.EXPIRED] == 1


async def test_a_drain_lets_calls_in_flight_end_and_fails_those_that_wait(
    store: Store, slow: SimulatorProcess
) -> None:
    limits = {"requests_per_minute": 1.0, "burst_s": 1.0}
    async with serving(store, slow.base_urls, settings_for(limits=limits)) as served:
        first = asyncio.create_task(served.direct.ask(request(1)))
        while not served.pool.in_flight:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(served.direct.ask(request(2)))
        await asyncio.sleep(0.02)
        ended = asyncio.create_task(served.drain())
        with pytest.raises(NotServing):
            await second
        assert (await first).completion.text
        await ended
        with pytest.raises(NotServing):
            await served.direct.ask(request(3))
    assert store.reports.task_counts()[TaskStatus.SUCCEEDED] == 1


async def test_a_lost_lead_fails_every_request(store: Store, slow: SimulatorProcess) -> None:
    async with serving(store, slow.base_urls, settings_for()) as served:
        asked = asyncio.create_task(served.direct.ask(request(1)))
        while not served.pool.in_flight:
            await asyncio.sleep(0.01)
        served.pool._end.supersede(LeadershipLost())
        with pytest.raises(NotServing, match="another orchestrator"):
            await asked
        assert (await served.run).stopped == "superseded"


async def test_the_queue_is_not_the_requests(store: Store, quick: SimulatorProcess) -> None:
    """Neither the window, nor what goes back to the queue, nor the end of a run counts them."""
    limits = {"requests_per_minute": 1.0, "burst_s": 1.0}
    async with serving(store, quick.base_urls, settings_for(limits=limits)) as served:
        scheduler = served.pool.scheduler
        await served.direct.ask(request(1))
        asked = [asyncio.create_task(served.direct.ask(request(n))) for n in range(5)]
        await asyncio.sleep(0.05)
        assert scheduler.waiting == 5 and scheduler.claimed_waiting == scheduler.claimed == 0
        assert scheduler.waiting_tasks() == [] and scheduler.owners() == set()
        await asyncio.wait_for(served.pool._result_writer.flush(), 10)
        assert served.pool._completion.is_idle
        store.intake.add_tasks([Task("t", "file", (Message("user", "x"),), providers=("gemini",))], now=1.0)
        await asyncio.gather(served.drain(), *asked, return_exceptions=True)
    found = store.tasks.find("file", "t")
    assert found is not None


async def test_a_cancelled_run_loses_its_waiting_requests(store: Store, quick: SimulatorProcess) -> None:
    limits = {"requests_per_minute": 1.0, "burst_s": 1.0}
    async with serving(store, quick.base_urls, settings_for(limits=limits)) as served:
        await served.direct.ask(request(1))
        asked = [
            asyncio.create_task(served.direct.ask(request(1), run=Run(each))) for each in ("r", "r", "other")
        ]
        await asyncio.sleep(0.05)
        args = {"batch": "runs/local/r", "ids": [], "direct": True}
        store.controls.add_command("cancel", args, who="a test", now=time.time())
        for each in asked[:2]:
            with pytest.raises(Withdrawn):
                await each
        assert served.direct.waiting == 1
        asked[2].cancel()


async def test_no_route_is_told_although_every_slot_is_taken(store: Store, slow: SimulatorProcess) -> None:
    settings = settings_for()
    agents = tuple(each.model_copy(update={"calls_in_flight": 1}) for each in settings.agents[:1])
    settings = settings.model_copy(update={"agents": agents})
    async with serving(store, slow.base_urls, settings) as served:
        slots = [
            asyncio.create_task(served.direct.ask(request(n))) for n in range(served.pool.balancer.slots)
        ]
        while served.pool.balancer.registry.free_slots:
            await asyncio.sleep(0.01)
        with pytest.raises(NoRoute):
            await served.direct.ask(request(1, models=("no-model",), providers=()))
        assert not slots[0].done()
        await asyncio.gather(*slots)


# ------------------------------------------------------------------ idempotency keys


async def test_a_key_stands_for_one_answer(store: Store, slow: SimulatorProcess) -> None:
    before = slow.stats()["openai"]["calls"]
    async with serving(store, slow.base_urls, settings_for(gateway={"store_content": "all"})) as served:
        ask = served.direct.ask
        first, joined = await asyncio.gather(*(ask(request(1), idempotency_key="k") for _ in range(2)))
        assert joined.completion is first.completion and joined.cost_nanos == 0
        with pytest.raises(KeyReused, match="other content"):
            await ask(request(2), idempotency_key="k")
        await served.pool._result_writer.flush()
        stored = await ask(request(1), idempotency_key="k")
        assert stored.completion.text == first.completion.text and stored.task_id == first.task_id
        assert stored.completion.usage == first.completion.usage
        with pytest.raises(KeyReused, match="other content"):
            await ask(request(2), idempotency_key="k")
        assert (await ask(request(1, submitter="b"), idempotency_key="k")).task_id != first.task_id
        await served.pool._result_writer.flush()
    assert slow.stats()["openai"]["calls"] == before + 2


async def test_a_key_is_free_again_where_its_request_failed_or_its_submitter_left(
    store: Store, slow: SimulatorProcess
) -> None:
    async with serving(store, slow.base_urls, settings_for(gateway={"store_content": "all"})) as served:
        ask = served.direct.ask
        slow.patch("openai", {"faults": {"bad_request": 1.0}})
        with pytest.raises(BadRequest):
            await ask(request(1), idempotency_key="k")
        slow.patch("openai", {"faults": {"bad_request": 0.0}})
        await served.pool._result_writer.flush()
        leaves = asyncio.create_task(ask(request(1), idempotency_key="k"))
        while not served.pool.in_flight:
            await asyncio.sleep(0.01)
        joins = asyncio.create_task(ask(request(1), idempotency_key="k"))
        await asyncio.sleep(0.05)
        leaves.cancel()
        assert (await joins).completion.text
        assert leaves.cancelled()


async def test_a_key_needs_contents_to_be_stored(store: Store, quick: SimulatorProcess) -> None:
    async with serving(store, quick.base_urls, settings_for()) as served:
        with pytest.raises(KeyReused, match="store_content"):
            await served.direct.ask(request(1), idempotency_key="k")


# ------------------------------------------------------------------ runs and their caps


async def test_a_run_is_a_batch_with_a_cap_that_ends_its_requests_at_once(
    store: Store, quick: SimulatorProcess
) -> None:
    async with serving(store, quick.base_urls, settings_for()) as served:
        ask, run = served.direct.ask, Run("r1", 0.0005)
        answers = 0
        with pytest.raises(BudgetSpent, match="cap of run local/r1"):
            while True:
                await ask(request(answers), run=run)
                answers += 1
                assert answers < 100
        assert answers >= 1
        assert (await ask(request(1))).completion.text, "the others go on"
        await served.drain()
    calls = store.reports.summary("runs/local/r1").calls
    assert 0 < calls.cost_nanos <= 500_000
    assert store.reports.task_counts("runs/local/r1")[TaskStatus.SUCCEEDED] == answers
    async with serving(store, quick.base_urls, settings_for()) as served:
        with pytest.raises(BudgetSpent):  # what it has cost outlasts the process
            while True:
                await served.direct.ask(request(answers), run=run)


async def test_the_cap_of_a_run_outlasts_the_process_and_holds_for_requests_that_name_none(
    store: Store, quick: SimulatorProcess
) -> None:
    unnamed = Run("r1")
    async with serving(store, quick.base_urls, settings_for()) as served:
        await served.direct.ask(request(0), run=Run("r1", 0.0005))
    async with serving(store, quick.base_urls, settings_for()) as served:
        answers = 1
        with pytest.raises(BudgetSpent, match="cap of run local/r1"):
            while True:
                await served.direct.ask(request(answers), run=unnamed)
                answers += 1
                assert answers < 100
        await served.direct.ask(request(answers), run=Run("r1", 1.0))
        await served.direct.ask(request(answers + 1), run=unnamed)
        await served.direct.ask(request(1), run=Run("r2"))
        await served.direct.ask(request(2), run=Run("r2"))
        with pytest.raises(BudgetSpent):
            await served.direct.ask(request(3), run=Run("r2", 1e-7))
        with pytest.raises(BudgetSpent):
            await served.direct.ask(request(4), run=Run("r2"))
    assert store.batches.cap("runs/local/r1") == 1_000_000_000
    assert store.batches.cap("runs/local/r2") == 100
    assert store.batches.caps() == {}, "what a server loads at its start does not grow with the runs"


async def test_a_spent_budget_is_told_at_once(store: Store, quick: SimulatorProcess) -> None:
    settings = settings_for()
    budgets = settings.budgets.model_copy(update={"daily_usd": 1e-7})
    settings = settings.model_copy(update={"budgets": budgets})
    async with serving(store, quick.base_urls, settings) as served:
        with pytest.raises(BudgetSpent) as caught:
            await served.direct.ask(request(1))
        assert caught.value.resets_at is not None and caught.value.resets_at > time.time()
        assert not len(served.direct)
