"""A pool whose calls are made by workers: real ones, over the simulator, on a network that tests break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from src.core.clock import Clock
from src.core.orchestrator import Orchestrator, OrchestratorOptions
from src.core.store import Store
from src.errors import ConfigError
from src.records import Outcome, TaskStatus
from src.settings import Settings
from src.simulator.process import SimulatorProcess
from tests.workers.wires import Network, network_of

from .direct_pool import live_access, request, settings_for
from .pools import BATCH, new_store, tasks

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with new_store(tmp_path) as opened:
        yield opened


@pytest.fixture
def slow() -> Iterator[SimulatorProcess]:
    """Its calls take long enough to be in flight when something happens."""
    row = {"latency": {"first_token_s": 0.3, "per_token_s": 0.0}}
    with SimulatorProcess.start({"providers": dict.fromkeys(("anthropic", "openai", "gemini"), row)}) as made:
        yield made


def with_fall_back(settings: Settings, wanted: bool) -> Settings:
    return settings.model_copy(update={"workers": settings.workers.model_copy(update={"fall_back": wanted})})


class Pool:
    """A leader over a network of workers."""

    def __init__(
        self, store: Store, simulator: SimulatorProcess, network: Network, settings: Settings
    ) -> None:
        self.store, self.simulator, self.network = store, simulator, network
        access = live_access(settings, simulator.base_urls)
        self.pool = Orchestrator(
            settings, access, store, Clock(), OrchestratorOptions(open_fleet=network.open)
        )

    @property
    def calls(self) -> int:
        return sum(int(each["calls"]) for each in self.simulator.stats().values())

    def ended(self) -> dict[TaskStatus, int]:
        found = self.store.reports.task_counts(BATCH)
        return {status: count for status, count in found.items() if count}

    def events(self) -> list[str]:
        return [each.event.message for each in self.store.events.recent(200, kinds=["worker"])]


@asynccontextmanager
async def a_pool(
    store: Store,
    simulator: SimulatorProcess,
    names: str = "w1 w2",
    *,
    loss: float = 0.0,
    fall_back: bool = False,
    stall_timeout_s: float | None = None,
    **pool: float,
) -> AsyncIterator[Pool]:
    settings = with_fall_back(settings_for(**pool), fall_back)
    if stall_timeout_s is not None:
        routing = settings.routing.model_copy(update={"stall_timeout_s": stall_timeout_s})
        settings = settings.model_copy(update={"routing": routing})
    async with network_of(names, settings, live_access(settings, simulator.base_urls), loss) as network:
        yield Pool(store, simulator, network, settings)


def tell(story: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        async with asyncio.timeout(60.0):
            await story()

    asyncio.run(run())


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.02)


def test_workers_make_every_call_of_a_file_once(store: Store, simulator: SimulatorProcess) -> None:
    store.intake.add_tasks(tasks(60), now=NOW)

    async def story() -> None:
        async with a_pool(store, simulator) as here:
            report = await here.pool.run(until_done=True)
            assert report.answered == 60
            assert here.network.given == here.calls == 60
            assert all(wire.given for wire in here.network.wires.values())
            for wire in here.network.wires.values():  # everything was acknowledged
                await until(lambda wire=wire: not wire.worker._held)

    tell(story)
    latencies = [a.latency_s for row in store.result_sync.ended(BATCH) for a in attempts(store, row[0])]
    assert len(latencies) == 60 and max(latencies) < 5.0


def attempts(store: Store, row: int) -> tuple:  # type: ignore[type-arg]
    (stored,) = store.result_sync.results_at([row])
    return stored.result.attempts


def test_a_request_whose_submitter_waits_is_made_by_the_leader(
    store: Store, simulator: SimulatorProcess
) -> None:
    async def story() -> None:
        async with a_pool(store, simulator) as here:
            run = asyncio.create_task(here.pool.run(until_done=False))
            await until(lambda: here.pool.direct.is_open)
            answer = await here.pool.direct.ask(request(1))
            assert answer.completion.text
            assert (here.network.given, here.calls) == (0, 1)
            here.pool.drain()
            await run

    tell(story)


def test_lost_messages_and_replies_cost_no_call(store: Store, simulator: SimulatorProcess) -> None:
    store.intake.add_tasks(tasks(80), now=NOW)

    async def story() -> None:
        async with a_pool(store, simulator, loss=0.15) as here:
            assert (await here.pool.run(until_done=True)).answered == 80
            assert here.calls == 80

    tell(story)


def test_the_calls_of_a_lost_worker_are_placed_anew_and_blame_no_provider(
    store: Store, slow: SimulatorProcess
) -> None:
    store.intake.add_tasks(tasks(120), now=NOW)

    async def story() -> None:
        async with a_pool(store, slow) as here:
            run = asyncio.create_task(here.pool.run(until_done=True))
            wire = here.network.wires["w1"]
            await until(lambda: wire.given > 10)
            held = wire.given
            del here.network.wires["w1"]
            wire.cut()
            assert (await run).answered == 120
            assert 120 <= here.calls <= 120 + held
            assert any("w1 lost" in text for text in here.events())
            snapshot = here.pool.snapshot()
            assert {p.failed for p in snapshot.providers} == {0}
            assert {p.opened_count for p in snapshot.providers} == {0}

    tell(story)
    kinds = {a.error_kind for row, _ in store.result_sync.ended(BATCH) for a in attempts(store, row)}
    assert kinds == {"", "WorkerLost"}


def test_a_worker_that_does_not_answer_makes_no_provider_suspect(
    store: Store, slow: SimulatorProcess
) -> None:
    """The last calls are all at it, so that nothing comes from any provider until it is lost."""
    store.intake.add_tasks(tasks(60), now=NOW)

    async def story() -> None:
        async with a_pool(store, slow, stall_timeout_s=3.0, lease_s=2.0) as here:
            run = asyncio.create_task(here.pool.run(until_done=True))
            wire = here.network.wires["w1"]
            await until(lambda: wire.given > 10)
            wire.running.clear()
            await until(lambda: any("w1 lost" in text for text in here.events()))
            wire.running.set()
            assert (await run).answered == 60

    tell(story)
    ends = {
        (a.outcome, a.error_kind) for row, _ in store.result_sync.ended(BATCH) for a in attempts(store, row)
    }
    assert (Outcome.UNCERTAIN, "WorkerLost") in ends
    assert ends <= {(Outcome.OK, ""), (Outcome.UNCERTAIN, "WorkerLost"), (Outcome.CANCELLED, "")}
    assert not [each.event.message for each in store.events.recent(200) if each.event.provider]


def test_a_worker_that_comes_back_forgets_what_nobody_waits_for(store: Store, slow: SimulatorProcess) -> None:
    store.intake.add_tasks(tasks(60), now=NOW)

    async def story() -> None:
        async with a_pool(store, slow) as here:
            run = asyncio.create_task(here.pool.run(until_done=False))
            wire = here.network.wires["w1"]
            await until(lambda: wire.given > 5)
            del here.network.wires["w1"]
            wire.cut()
            await until(lambda: any("w1 lost" in text for text in here.events()))
            wire.mend()
            here.network.wires["w1"] = wire
            await until(lambda: here.ended() == {TaskStatus.SUCCEEDED: 60})
            await until(lambda: any("w1 attached" in text for text in here.events()))
            await until(lambda: not wire.worker._held)
            store.intake.add_tasks([replace(t, id=f"more-{t.id}") for t in tasks(40)], now=NOW)
            given = wire.given
            await until(lambda: here.ended() == {TaskStatus.SUCCEEDED: 100})
            assert wire.given > given
            here.pool.drain()
            await run

    tell(story)


def test_without_a_worker_tasks_wait_and_go_when_one_comes(store: Store, simulator: SimulatorProcess) -> None:
    store.intake.add_tasks(tasks(10), now=NOW)

    async def story() -> None:
        async with a_pool(store, simulator, "w1") as here:
            wires, here.network.wires = here.network.wires, {}
            run = asyncio.create_task(here.pool.run(until_done=True))
            await until(lambda: any("no worker takes calls" in text for text in here.events()))
            assert here.calls == 0
            here.network.wires = wires
            assert (await run).answered == 10

    tell(story)


def test_the_leader_makes_calls_itself_where_it_may_and_no_worker_is_there(
    store: Store, simulator: SimulatorProcess
) -> None:
    store.intake.add_tasks(tasks(10), now=NOW)

    async def story() -> None:
        async with a_pool(store, simulator, "", fall_back=True) as here:
            here.network.is_down = False
            assert (await here.pool.run(until_done=True)).answered == 10

    tell(story)


def test_a_worker_with_another_key_is_refused_and_no_task_fails(
    store: Store, simulator: SimulatorProcess
) -> None:
    store.intake.add_tasks(tasks(10), now=NOW)
    settings = with_fall_back(settings_for(), False)

    async def story() -> None:
        access = live_access(settings, simulator.base_urls)
        other = {**access, "openai": replace(access["openai"], key=SecretStr("sk-of-somebody-else"))}
        async with (
            network_of("good", settings, access) as network,
            network_of("bad", settings, other) as wrong,
        ):
            network.wires |= wrong.wires
            here = Pool(store, simulator, network, settings)
            assert (await here.pool.run(until_done=True)).answered == 10
            assert wrong.given == 0
            refusal = "worker bad refused: its address or key of openai is another one"
            assert here.events().count(refusal) == 1
            assert not any("sk-" in text for text in here.events())

    tell(story)


def test_after_a_change_of_keys_workers_with_the_old_ones_get_no_further_calls(
    store: Store, slow: SimulatorProcess
) -> None:
    """Their calls in flight finish, and those that have the new keys already take over."""
    store.intake.add_tasks(tasks(60), now=NOW)
    settings = with_fall_back(settings_for(), False)

    async def story() -> None:
        access = live_access(settings, slow.base_urls)
        renewed = {"openai": replace(access["openai"], key=SecretStr("sk-of-the-next-month"))}
        async with (
            network_of("old", settings, access) as network,
            network_of("new", settings, {**access, **renewed}) as early,
        ):
            network.wires |= early.wires
            old, new = network.wires["old"], network.wires["new"]
            here = Pool(store, slow, network, settings)
            run = asyncio.create_task(here.pool.run(until_done=True))
            await until(lambda: old.given > 10)
            assert new.given == 0
            await here.pool.renew_keys(renewed)
            given = old.given
            await until(lambda: new.given > 0)
            assert (await run).answered == 60
            assert here.calls == 60 and old.given <= given + 20  # with those that were chosen before
            text = "worker old gets no further calls: its address or key of openai is another one"
            assert here.events().count(text) == 1

    tell(story)


def test_stopping_at_once_cuts_off_the_calls_on_workers(store: Store, slow: SimulatorProcess) -> None:
    store.intake.add_tasks(tasks(200), now=NOW)

    async def story() -> None:
        async with a_pool(store, slow) as here:
            run = asyncio.create_task(here.pool.run(until_done=True))
            await until(lambda: here.network.given > 20)
            here.pool.stop_now()
            assert (await run).stopped == "stopped"
            for wire in here.network.wires.values():
                await until(lambda wire=wire: wire.worker.in_flight == 0)

    tell(story)


def test_a_cluster_that_cannot_be_joined_ends_the_run_before_any_call(
    store: Store, simulator: SimulatorProcess
) -> None:
    store.intake.add_tasks(tasks(3), now=NOW)
    settings = with_fall_back(settings_for(), True)

    async def refuse() -> Network:
        raise ConfigError("no Ray cluster at 127.0.0.1:1", where="--workers")

    async def story() -> None:
        access = live_access(settings, simulator.base_urls)
        options = OrchestratorOptions(open_fleet=refuse)
        pool = Orchestrator(settings, access, store, Clock(), options)
        with pytest.raises(ConfigError, match="no Ray cluster"):
            await pool.run(until_done=True)

    tell(story)
    assert store.reports.task_counts(BATCH)[TaskStatus.QUEUED] == 3
    assert not store.leadership.leader().alive
    assert sum(int(each["calls"]) for each in simulator.stats().values()) == 0


def test_calls_that_are_placed_together_are_spread_over_all_workers(
    store: Store, slow: SimulatorProcess
) -> None:
    store.intake.add_tasks(tasks(40), now=NOW)

    async def story() -> None:
        async with a_pool(store, slow, "w1 w2 w3 w4") as here:
            assert (await here.pool.run(until_done=True)).answered == 40
            given = sorted(wire.given for wire in here.network.wires.values())
            assert given[-1] - given[0] <= 4

    tell(story)
