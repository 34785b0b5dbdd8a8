"""The orchestrator: one pool of providers over one store.

    store --claim--> scheduler --placements--> calls --outcome--> settle --result--> result writer
                        ^                                           |
                        +--------------- not over yet --------------+

Decisions are made in `routing/`, synchronously, at every event: a claim, a settlement, a command, a wake-up.
Only this folder awaits, sleeps and looks at the clock. What is in memory can be lost at any moment: claims of
a killed orchestrator return to the queue, and an answer is stored before it is reported. While the store is
unavailable its calls are retried (`StoreThread.insist`), and calls in flight go on.

    claims, prefetch        tasks from the store into the scheduler, and back
    placing                 starts what the scheduler places
    calls                   a call from placement to settlement
    result_writer           results, attempts and events to the disk
    housekeeping            what happens each second
    completion, run_end     when and why a run ends

Ending. `drain` stops claiming and placing, gives waiting tasks back and lets calls in flight end for
`shutdown_grace_s`; `stop_now` cancels them, and books what may have been billed as uncertain. Either way
every answer that has come in is stored before `run` returns.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..agents.agent_factory import create_balanced_agent_pool
from ..config import ProviderAccess, identity
from ..errors import ConfigError, LeadershipLost, StoreError
from ..providers.base import ProviderAdapter
from ..providers.factory import build_adapter, build_batch_api
from ..records import Event, PoolSnapshot, Result, TaskStatus
from ..routing.balancer import ProviderLoadBalancer
from ..routing.scheduler import Scheduler
from ..settings import Settings
from ..workers.identity import describe
from ..workers.local import LocalWorker
from .alerts import Alerter
from .batching.keeper import BatchKeeper
from .batching.life import BatchLife
from .batching.means import Means
from .batching.offers import Offers
from .batching.rows import BatchRowReader
from .budget_keeper import BudgetKeeper, budgets_from
from .calls import Call, CallGate, CallRunner
from .canary_calls import CanaryCalls
from .claims import BlockedOwners, TaskClaims
from .clock import Clock
from .command_handler import CommandHandler
from .completion import CompletionCheck
from .direct import DirectRequests
from .event_reporter import EventReporter
from .health import HealthMonitor
from .housekeeping import Housekeeper, StoreSync
from .idempotency import IdempotencyKeys
from .key_renewal import KeyRenewal
from .leadership import Leadership
from .learned_state import LearnedStateRepository
from .open_requests import OpenRequests
from .placing import PlacementGuard, Placer
from .prefetch import PrefetchWindow
from .result_writer import ResultWriter
from .retention import Retention
from .run_caps import RunCaps
from .run_end import RunEnd, RunReport
from .store import Store
from .store.rows import Registration
from .store_session import StoreSession
from .task_ends import TaskEnds, contents_kept
from .worker_session import OpenFleet, WorkerSession

__all__ = ["Orchestrator", "OrchestratorOptions", "ProviderLoadBalancer", "RunReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorOptions:
    """What a run may set beside the settings.

    `batch`: serve this batch alone. `on_result` gets results after they have been stored.
    `batch_caps_usd`: what each batch may cost in all; `gateway_daily_usd`: what the gateway's requests may
    cost a day together. `open_fleet`: joins the cluster whose workers make the calls of tasks; None: they are
    made here. `leadership`: one that leads already. `adapters`: by provider, in place of the SDKs' own.
    """

    batch: str | None = None
    on_result: Callable[[Sequence[Result]], None] | None = None
    batch_caps_usd: Mapping[str, float] | None = None
    gateway_daily_usd: float | None = None
    alert_url: str | None = None
    open_fleet: OpenFleet | None = None
    leadership: Leadership | None = None
    adapters: Mapping[str, ProviderAdapter] | None = None


class Orchestrator:
    """Serves the tasks of a store with the configured providers; `run` may be called once.

    It has more attributes than other classes because it is where all parts of a run are put together.
    """

    def __init__(
        self,
        settings: Settings,
        access: Mapping[str, ProviderAccess],
        store: Store,
        clock: Clock,
        options: OrchestratorOptions | None = None,
    ) -> None:
        """Raises ConfigError where no provider is configured."""
        options = options or OrchestratorOptions()
        access = {name: a for name, a in access.items() if a.configured}
        if not access:
            raise ConfigError("no provider is configured", allowed="set a key, or use --simulate")
        simulated = any(a.simulated for a in access.values())
        self._settings, self._on_result = settings, options.on_result
        self._counts: Counter[TaskStatus] = Counter()
        self._session = session = StoreSession(
            options.leadership or Leadership(store, settings.pool.lease_s),
            clock,
            mode="simulated" if simulated else "live",
            batch=options.batch,
        )
        now = clock.now
        self._end = end = RunEnd(settings.pool.shutdown_grace_s)
        self._reporter = reporter = EventReporter(now, () if options.batch is None else ("budget_spent",))
        supervisor = reporter.supervisor
        self._alerter = Alerter(options.alert_url, keep=supervisor.keep)
        self._result_writer = ResultWriter(
            session.store, session.thread, session.incarnation, self._count, supervisor
        )
        reporter.subscribe(self._result_writer.add_events)
        reporter.subscribe(self._alerter.send_alerts)
        budgets = (
            None
            if simulated
            else budgets_from(settings.budgets, options.batch_caps_usd, options.gateway_daily_usd)
        )
        self._budget_keeper = BudgetKeeper(
            session.store, session.thread, session.incarnation, budgets, reserves=not simulated
        )
        self.balancer = ProviderLoadBalancer(
            settings,
            now=now(),
            configured=access.keys(),
            jitter=random.Random(),
            budgets=budgets,
            canaries=True,
        )
        self.scheduler = scheduler = Scheduler(self.balancer, settings)
        build = partial(build_adapter, slots=self.balancer.slots, max_answer_mb=settings.pool.max_answer_mb)
        self._adapters = dict(options.adapters or {name: build(a) for name, a in access.items()})
        self._keys = KeyRenewal(self.balancer, self._adapters, access, build)
        agents = create_balanced_agent_pool(settings, self._adapters)
        self._local = LocalWorker(agents)
        self._learned_state = LearnedStateRepository(self.balancer, access, session.store, session.thread)
        gate = CallGate(scheduler, self._budget_keeper, session.leadership, now)
        kept = contents_kept(settings.gateway)
        ends = TaskEnds(self._result_writer, OpenRequests(), kept)
        self._calls = CallRunner(gate, self._local, ends, end, supervisor, self._after_call)
        guard = PlacementGuard(end, session.leadership, self._result_writer, reporter, now)
        self._placer = Placer(scheduler, guard, self._calls, ends, reporter, now)
        self._workers = WorkerSession(
            options.open_fleet,
            session,
            partial(describe, "leader", settings, access),
            reporter,
            falls_back=settings.workers.fall_back,
        )
        guard.can_make_calls = lambda: self._workers.can_make_calls
        self._placer.workers = self._workers.snapshots
        caps = RunCaps(self.balancer.registry, self._budget_keeper, self._result_writer, session)
        keys = IdempotencyKeys(session, self._result_writer, available=kept == "all")
        self.direct = DirectRequests(scheduler, self._placer, ends, end, caps, keys)
        blocked = BlockedOwners(scheduler, settings.pool.prefetch_limit, now)
        self._claims = TaskClaims(session, scheduler, self._result_writer, supervisor, blocked)
        self._completion = CompletionCheck(self._claims, self._calls, self._result_writer, end)
        self._prefetch = PrefetchWindow(
            self._claims, self._completion, self._placer, end, settings.pool.prefetch_limit
        )
        canaries = CanaryCalls(settings, self.balancer, self._adapters, gate, session, guard)
        self._health = HealthMonitor(self.balancer, self._adapters, now, self._placer.place_anew, canaries)
        self._housekeeper = Housekeeper(session, self.balancer, self._calls, self._placer, end, reporter)
        means = Means(
            access.keys(),
            partial(_why_not_configured, settings),
            lambda name: " ".join(identity(access[name])),
            lambda name: build_batch_api(access[name], self._adapters[name]),
            Offers(self.balancer),
            BatchRowReader(self.balancer, next(iter(agents.values()))),
            self._budget_keeper.batches,
        )
        life = BatchLife(session, means, reporter, self._count, self._placer.tasks_wanted.set)
        self._batches = BatchKeeper(session, life)
        self._completion.watch_batches(self._batches.may_end, lambda: life.is_collecting)
        self._retention = Retention(session, reporter, settings.store.retention_days)
        self._commands = CommandHandler(self.balancer, scheduler, ends.ended)
        self._store_sync = StoreSync(
            session, self._commands, self._budget_keeper, self._learned_state, self._placer, reporter
        )

    # ------------------------------------------------------------------ run

    async def run(self, until_done: bool) -> RunReport:
        """Serve until drained, or with `until_done` until no task (of the batch) is open.

        Raises StoreError when another orchestrator leads.
        """
        now = self._session.clock.now
        began_at = now()
        try:
            registration = await self._sign_on()
            await asyncio.gather(*(adapter.warm_up() for adapter in self._adapters.values()))
            await self._learned_state.restore()
            await self._budget_keeper.load(now())
            await self._workers.adopt(registration.adopted, self.scheduler, self._calls, self._result_writer)
            await self._store_sync.apply_settings_and_commands()
            self._report_start(now() - began_at)
            await self._work(until_done)
            self._housekeeper.check_store_file()
        finally:
            await self._close()
        return RunReport(
            self._counts, self._end.stopped, self._end.why, registration.recovered, self._end.spent
        )

    async def _sign_on(self) -> Registration:
        """Take the lead, and over from killed orchestrators."""
        session = self._session
        await session.take_lead()
        found = await self._workers.open(self._local, self._placer)
        headroom = await self._budget_keeper.headroom(session.clock.now())
        registration = await session.register(self._settings.pool.max_claims, headroom, found)
        if registration.recovered or registration.poisoned:
            tasks = "1 task" if registration.recovered == 1 else f"{registration.recovered:,} tasks"
            text = f"requeued {tasks} from a run that was killed"
            if registration.poisoned:
                text += f", {registration.poisoned} failed as poison"
            self._reporter.report([Event(session.clock.now(), "recovered", text, level="warning")])
        return registration

    def _report_start(self, start_s: float) -> None:
        """The next plan takes `start_s` for the time until the pool is ready."""
        text = f"ready after {start_s:.1f} s: {', '.join(self._adapters)}"
        event = Event(self._session.clock.now(), "started", text, fields={"start_s": round(start_s, 2)})
        self._reporter.report([event])

    async def _work(self, until_done: bool) -> None:
        """Run the background jobs beside the calls until the run ends, then wind up in order."""
        keep = self._reporter.supervisor.keep
        writing = asyncio.create_task(self._result_writer.keep_running())
        jobs = [
            asyncio.create_task(job)
            for job in (
                keep("claiming", partial(self._prefetch.run, until_done)),
                keep("housekeeping", self._housekeeper.run),
                keep("synchronization with the store", self._store_sync.run),
                keep("batches at providers", self._batches.run),
                self._health.run(self._reporter.supervisor),
                *([keep("retention", self._retention.run)] if self._retention.is_wanted else ()),
                *([keep("workers", self._workers.run)] if self._workers.is_wanted else ()),
            )
        ]
        over: asyncio.Task[Any] = asyncio.create_task(self._end.wait())
        self.direct.open()
        try:
            await asyncio.wait([over, writing, *jobs], return_when=asyncio.FIRST_COMPLETED)
            for job in (writing, *jobs):
                if job.done():
                    job.result()  # none of them returns by itself: this raises what ended it
        except LeadershipLost as lost:
            self._end.supersede(lost)
        finally:
            self._end.wind_up()
            for each in (over, *jobs):
                each.cancel()
            await asyncio.gather(over, *jobs, return_exceptions=True)
            await self._calls.cancel_all()
            self.direct.close()
            if self._end.can_store:
                await self._claims.release_all()
                await self._result_writer.flush()
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            if self._end.stopped == "store_lost":  # the results file still takes them
                self._count(self._result_writer.take_unwritten())

    async def _close(self) -> None:
        now = self._session.clock.now
        with self._reporter.supervisor.guarding("leaving the workers"):
            await self._workers.close()
        with self._reporter.supervisor.guarding("closing connections"):  # the other steps are still due
            for adapter in self._adapters.values():
                await adapter.close()
            await self._keys.close()
            await self._alerter.close()
        with suppress(StoreError):  # it never signed on, or the store is gone: nothing to sign off from
            await self._learned_state.save(now())
            await self._session.sign_off(self.snapshot())
        await self._session.close()

    def _after_call(self, call: Call) -> None:
        """A settled call may change everything that was decided before."""
        if call.error is not None:
            self._health.look()
        self._reporter.report(self.balancer.take_events())
        self._reporter.report(self._budget_keeper.take_events(self._session.clock.now()))
        if self._end.draining:
            self.direct.fail_waiting()
        else:
            self._placer.place_soon()

    def _count(self, results: Sequence[Result]) -> None:
        """Results that were stored."""
        self._counts.update(result.status for result in results)
        if self._on_result is not None:
            with self._reporter.supervisor.guarding("delivering results"):
                self._on_result(results)
        self._placer.tasks_wanted.set()

    # ------------------------------------------------------------------ state and ending

    def snapshot(self) -> PoolSnapshot:
        """The pool right now: what `status` and the pages show."""
        return self._placer.snapshot()

    @property
    def incarnation(self) -> str:
        """Its name as an orchestrator."""
        return self._session.incarnation

    @property
    def is_ending(self) -> bool:
        """Whether no new calls are started any more."""
        return self._end.draining

    @property
    def is_serving(self) -> bool:
        """Whether it leads and places tasks now."""
        return self.direct.is_open and self._session.leadership.leads

    @property
    def in_flight(self) -> int:
        """Calls that may have reached a provider; those whose cost is being reserved have not."""
        return self._calls.sent

    @property
    def reserved_nanos(self) -> int:
        """What calls that are not stored yet may cost at most: nano-dollars."""
        return self._budget_keeper.reserved_nanos

    @property
    def unstored_answers(self) -> int:
        """Answers that are not on the disk yet: usually for some milliseconds, or while the store is down."""
        return self._result_writer.unstored

    @property
    def unstored_text(self) -> str:
        """`3 answers are not stored yet (why)` while the store takes no results; else empty."""
        return self._result_writer.unstored_text

    def drain(self) -> None:
        """Let calls in flight end, start no new ones. For the event loop's thread."""
        self._end.drain(len(self._calls))

    async def end_if_stuck(self) -> None:
        """End a run that serves on if no task may go on: all keys are refused, or a budget is spent."""
        await self._completion.is_stuck()

    def cancel(self, batch: str, ids: Iterable[str]) -> None:
        """Cancel claimed tasks unless their call is in flight. For the event loop's thread."""
        self._commands.cancel(batch, ids, self._session.clock.now())

    async def renew_keys(self, keys: Mapping[str, ProviderAccess]) -> None:
        """Use these keys for new calls, and try refused ones again. For the event loop's thread."""
        with self._reporter.supervisor.guarding("renewing keys"):
            self._reporter.report(await self._keys.renew(keys, self._session.clock.now))
            self._workers.keys_changed()
            self._placer.place_anew()

    def stop_now(self) -> None:
        """Cancel calls in flight. Answers that have come in are stored, however long that takes."""
        self._end.stop()


def _why_not_configured(settings: Settings, provider: str) -> str:
    found = settings.providers.get(provider)
    return "it is not in the configuration" if found is None else found.why_not_configured
