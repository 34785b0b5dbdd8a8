"""The orchestrator over scripted providers in virtual time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from src.core.budget_keeper import spent_on
from src.core.orchestrator import Orchestrator, RunReport
from src.core.store import DEFERS, NewBatch, PlannedRow, Registrant, Store
from src.errors import (
    ContentRefused,
    InvalidResponse,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    ServerError,
    TimedOut,
    Unreachable,
)
from src.records import CompletionRequest, Result, Task, TaskStatus
from src.routing.canaries import PROMPT as CANARY_PROMPT
from src.routing.cost.budgets import BudgetRule

from .pools import BATCH, adapters_for, new_store, pool_over, settings_with, tasks
from .virtual_time import START, Answer, VirtualLoop, answered, run_virtually

FINAL = {
    TaskStatus.SUCCEEDED,
    TaskStatus.FAILED,
    TaskStatus.REFUSED,
    TaskStatus.EXPIRED,
    TaskStatus.CANCELLED,
}
HOUR_S = 3600.0


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with new_store(tmp_path) as opened:
        yield opened


def status_of(store: Store) -> Counter[TaskStatus]:
    return Counter({status: number for status, number in store.reports.task_counts().items() if number})


def every_call(
    latency_s: float, answer: Callable[[], Answer] = answered
) -> Callable[..., tuple[float, Answer]]:
    return lambda request: (latency_s, answer())


# ------------------------------------------------------------------ examples


def test_every_task_is_answered_once_and_stored_before_it_is_reported(store: Store) -> None:
    store.intake.add_tasks(tasks(20), now=START)
    settings = settings_with()
    adapters = adapters_for(settings, every_call(0.5))
    reported: list[str] = []

    def on_result(results: Any) -> None:
        for result in results:
            detail = store.tasks.find(BATCH, result.task.id)
            assert detail is not None and detail.result.status is TaskStatus.SUCCEEDED
            reported.append(result.task.id)

    report = run_virtually(
        lambda loop: pool_over(store, loop, settings, adapters, on_result).run(until_done=True)
    )
    assert report == RunReport({TaskStatus.SUCCEEDED: 20})
    assert sorted(reported) == [task.id for task in tasks(20)]
    assert sorted(prompt for a in adapters.values() for prompt in a.delivered) == sorted(reported)
    assert all(adapter.closed == 1 for adapter in adapters.values())


def test_a_provider_that_fails_loses_no_task_to_the_others(store: Store) -> None:
    store.intake.add_tasks(tasks(30), now=START)
    settings = settings_with()
    scripts = dict.fromkeys(settings.providers, every_call(0.5))
    scripts["openai"] = every_call(0.1, lambda: ServerError("boom", provider="openai", status=500))
    adapters = adapters_for(settings, scripts)
    report = run_virtually(lambda loop: pool_over(store, loop, settings, adapters).run(until_done=True))
    assert report.counts == {TaskStatus.SUCCEEDED: 30}
    assert adapters["openai"].requests and not adapters["openai"].delivered


def test_draining_lets_calls_end_starts_none_and_gives_the_rest_back(store: Store) -> None:
    store.intake.add_tasks(tasks(300), now=START)
    settings = settings_with(shutdown_grace_s=30.0)
    adapters = adapters_for(settings, every_call(10.0))

    async def drain_after_a_second(loop: VirtualLoop) -> tuple[RunReport, int, float]:
        pool = pool_over(store, loop, settings, adapters)
        running = asyncio.create_task(pool.run(until_done=True))
        await asyncio.sleep(1.0)
        in_flight = pool.in_flight
        pool.drain()
        return await running, in_flight, loop.elapsed_s

    report, in_flight, elapsed_s = run_virtually(drain_after_a_second)
    assert report.stopped == "drained" and report.answered == in_flight > 0
    assert status_of(store) == {TaskStatus.SUCCEEDED: in_flight, TaskStatus.QUEUED: 300 - in_flight}
    assert 10.0 <= elapsed_s < 15.0, "no longer than the calls"


def test_draining_waits_no_longer_than_the_grace_period_and_books_cut_calls_as_uncertain(
    store: Store,
) -> None:
    store.intake.add_tasks(tasks(10), now=START)
    settings = settings_with(shutdown_grace_s=5.0)
    adapters = adapters_for(settings, every_call(100.0))

    async def drain_after_a_second(loop: VirtualLoop) -> tuple[RunReport, float]:
        pool = pool_over(store, loop, settings, adapters)
        running = asyncio.create_task(pool.run(until_done=True))
        await asyncio.sleep(1.0)
        pool.drain()
        return await running, loop.elapsed_s

    report, elapsed_s = run_virtually(drain_after_a_second)
    assert report.answered == 0 and 6.0 <= elapsed_s < 8.0
    assert status_of(store) == {TaskStatus.QUEUED: 10}
    calls = store.reports.summary().calls
    assert calls.uncertain == calls.calls > 0 and calls.uncertain_nanos > 0


def test_a_run_that_serves_takes_a_task_that_is_submitted_later(store: Store) -> None:
    settings = settings_with()
    adapters = adapters_for(settings, every_call(0.5))

    async def submit_after_an_hour(loop: VirtualLoop) -> RunReport:
        pool = pool_over(store, loop, settings, adapters)
        running = asyncio.create_task(pool.run(until_done=False))
        await asyncio.sleep(60.0)
        store.intake.add_tasks(tasks(1), now=START + loop.elapsed_s)
        await asyncio.sleep(5.0)
        pool.drain()
        return await running

    assert run_virtually(submit_after_an_hour).answered == 1


def test_no_more_calls_are_in_flight_than_the_agents_have_slots(store: Store) -> None:
    store.intake.add_tasks(tasks(400), now=START)
    settings = settings_with()
    adapters = adapters_for(settings, every_call(5.0))
    run_virtually(lambda loop: pool_over(store, loop, settings, adapters).run(until_done=True))
    slots = sum(agent.calls_in_flight for agent in settings.agents)
    assert 0.8 * slots < adapters["openai"].traffic.most <= slots


def test_a_command_is_carried_out_within_seconds_and_answered(store: Store) -> None:
    store.intake.add_tasks(tasks(40, providers=("gemini",)), now=START)
    settings = settings_with()
    adapters = adapters_for(settings, every_call(1.0))
    store.controls.put_setting("paused", ["gemini"], who="a test", now=START)

    async def cancel_and_resume(loop: VirtualLoop) -> tuple[RunReport, int]:
        pool = pool_over(store, loop, settings, adapters)
        running = asyncio.create_task(pool.run(until_done=True))
        await asyncio.sleep(3.0)
        assert not adapters["gemini"].requests, "paused"
        cancel = store.controls.add_command(
            "cancel", {"batch": BATCH, "ids": ["t001", "t002"]}, who="", now=START + 3
        )
        await asyncio.sleep(3.0)
        store.controls.put_setting("paused", [], who="a test", now=START + 6)
        return await running, cancel

    report, cancel = run_virtually(cancel_and_resume)
    assert report.counts == {TaskStatus.SUCCEEDED: 38, TaskStatus.CANCELLED: 2}
    command = store.controls.command(cancel)
    assert command is not None and command.outcome == "2 cancelled"


# ------------------------------------------------------------------ whatever happens

ANSWERS: dict[str, Callable[[], Answer]] = {
    "answered": answered,
    "server error": lambda: ServerError("boom", status=500),
    "overloaded": lambda: Overloaded("busy", status=529),
    "rate limited": lambda: RateLimited("slow down", status=429, retry_after_s=2.0),
    "quota spent": lambda: QuotaExhausted("quota", status=429, retry_after_s=30.0),
    "timed out": lambda: TimedOut("no answer"),
    "unreachable": lambda: Unreachable("no connection", sent=False),
    "empty": lambda: InvalidResponse("no text", status=200),
    "refused": lambda: ContentRefused("not this", status=200),
    "internal error": lambda: ValueError("a mistake in this program"),
}
calls = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 1.0, 7.0, 200.0]), st.sampled_from(sorted(ANSWERS))), max_size=40
)
moments = st.floats(0.0, 30.0, allow_nan=False)
interruptions = st.lists(st.tuples(moments, st.sampled_from(["drain", "stop"])), max_size=2)
commands = st.lists(
    st.tuples(
        moments,
        st.sampled_from(["cancel", "pause", "unpause", "reset", "resume"]),
        st.sampled_from(["anthropic", "openai", "gemini"]),
    ),
    max_size=4,
)


class Story:
    """Runs one after the other over one store, each interrupted but the last, with commands meanwhile."""

    def __init__(self, store: Store, script: list[tuple[float, str]], count: int) -> None:
        self.store, self._script, self.count = store, iter(script), count
        self.settings = settings_with(shutdown_grace_s=3.0, backoff_base_s=0.1, backoff_max_s=1.0)
        self.adapters = adapters_for(self.settings, self._answer)
        self.reported: list[tuple[str, TaskStatus]] = []
        self.pools: list[Orchestrator] = []
        store.intake.add_tasks(tasks(count), now=START)

    def _answer(self, request: CompletionRequest) -> tuple[float, Answer]:
        latency_s, kind = next(self._script, (0.5, "answered"))
        return latency_s, ANSWERS[kind]()

    def note(self, results: Sequence[Result]) -> None:
        self.reported += [(result.task.id, result.status) for result in results]

    async def play(self, loop: VirtualLoop) -> None:
        interruptions, commands = self.interruptions, self.commands
        for after_s, how in interruptions:
            await self.one_run(loop, after_s, how, commands)
            commands = []
        self.store.controls.put_setting("paused", [], who="a test", now=START + loop.elapsed_s)
        report = await self.one_run(loop, None, "", commands if not interruptions else [])
        assert report.stopped == ""

    interruptions: list[tuple[float, str]]
    commands: list[tuple[float, str, str]]

    async def one_run(
        self, loop: VirtualLoop, after_s: float | None, how: str, commands: list[tuple[float, str, str]]
    ) -> RunReport:
        pool = pool_over(self.store, loop, self.settings, self.adapters, self.note)
        self.pools.append(pool)
        running = asyncio.create_task(pool.run(until_done=True))
        jobs = [asyncio.create_task(self.command(loop, *command)) for command in commands]
        if after_s is not None:
            await asyncio.sleep(after_s)
            (pool.drain if how == "drain" else pool.stop_now)()
        report = await running
        await asyncio.gather(*jobs)
        return report

    async def command(self, loop: VirtualLoop, at_s: float, what: str, provider: str) -> None:
        await asyncio.sleep(at_s)
        now = START + loop.elapsed_s
        if what in ("pause", "unpause"):
            self.store.controls.put_setting("paused", [provider] if what == "pause" else [], who="", now=now)
        elif what == "cancel":
            self.store.controls.add_command(
                "cancel", {"batch": BATCH, "ids": ["t000", "t001"]}, who="", now=now
            )
        else:
            self.store.controls.add_command(what, {"provider": provider}, who="", now=now)


@settings(
    deadline=None, max_examples=20, phases=[Phase.explicit, Phase.reuse, Phase.generate]
)  # shrinking takes minutes
@given(count=st.integers(1, 12), script=calls, interruptions=interruptions, commands=commands)
def test_every_task_ends_once_and_reserved_money_is_settled_whatever_calls_stops_and_commands_do(
    count: int,
    script: list[tuple[float, str]],
    interruptions: list[tuple[float, str]],
    commands: list[tuple[float, str, str]],
) -> None:
    with TemporaryDirectory() as folder, new_store(Path(folder)) as store:
        story = Story(store, script, count)
        story.interruptions, story.commands = interruptions, commands
        run_virtually(story.play)
        ended = dict(story.reported)
        assert sorted(task_id for task_id, _ in story.reported) == sorted(t.id for t in tasks(count)), (
            "once each"
        )
        assert set(ended.values()) <= FINAL
        assert ended == store.tasks.statuses(BATCH, list(ended))
        prompts = [prompt for a in story.adapters.values() for prompt in a.delivered]
        delivered = Counter(prompt for prompt in prompts if prompt != CANARY_PROMPT[0].content)
        answered = [task_id for task_id, status in ended.items() if status is TaskStatus.SUCCEEDED]
        assert delivered == Counter(answered), "an answer that was delivered is kept, and not asked for again"
        requested = sum(len(adapter.requests) for adapter in story.adapters.values())
        sums = store.reports.summary().calls
        assert sums.calls <= requested, "no attempt without a request"
        for pool in story.pools:
            assert (pool.balancer.in_flight, pool.reserved_nanos) == (0, 0)
            budgets = pool.balancer.registry.budgets
            assert budgets is not None
            (gauge,) = budgets.snapshot(START)
            assert gauge.reserved_nanos == 0
        stored = spent_on(store, BudgetRule("all", "", "day", 0), None)
        assert (gauge.spent_nanos, gauge.uncertain_nanos) == stored, "the books and the budget agree"
        registration = store.orchestrators.register(Registrant("the next", 1, "", "live"), now=START + 1e6)
        assert (registration.uncertain_nanos, registration.recovered) == (0, 0), "nothing is left to book"


def test_a_run_is_not_over_while_tasks_are_deferred_or_at_a_provider(store: Store) -> None:
    settings = settings_with()
    adapters = adapters_for(settings, every_call(1.0))

    async def run(loop: VirtualLoop) -> tuple[bool, bool, RunReport]:
        now = loop.clock().now()
        store.intake.create_batch(BATCH, now=now, options={DEFERS: 86_400.0})
        store.intake.add_tasks([*tasks(3), *deferred_tasks(now)], now=now)
        (group,) = store.deferrals.groups()
        rows = [PlannedRow(task, 0, 50, "economy") for task in store.deferrals.oldest(group.id, 1)]
        batch = store.provider_batches.intend(NewBatch("openai", "gpt-x", "marker01"), rows, now)
        assert batch is not None
        running = asyncio.create_task(pool_over(store, loop, settings, adapters).run(until_done=True))
        await asyncio.sleep(3)
        waited_for_both = not running.done()
        store.deferrals.go_live(group.id, 5, now)
        await asyncio.sleep(3)
        waited_for_the_batch = not running.done()
        store.batch_results.failed(batch.id, "rejected", now=now)
        return waited_for_both, waited_for_the_batch, await running

    waited_for_both, waited_for_the_batch, report = run_virtually(run)
    assert waited_for_both and waited_for_the_batch
    assert report.answered == 5


def deferred_tasks(now: float) -> list[Task]:
    return [replace(task, id=f"due {task.id}") for task in tasks(2, deadline_at=now + 86_400)]
