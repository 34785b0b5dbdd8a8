"""The loop: claims tasks, asks dispatch, lets agents call, settles, and gives results to the writer.

    store --claim--> dispatch --placements--> agents --outcome--> dispatch.settle --result--> result writer
                        ^                                              |
                        +---------------- not over yet ----------------+

Decisions are made in `routing/`, synchronously, at every event: a claim, a settle, a command, a wake-up.
Only this folder awaits, sleeps and looks at the clock. What it holds in memory can be lost at any moment:
claims of a dead orchestrator return to the queue, and what was paid for is stored before it is told.
A store that refuses for a while is waited for (`StoreThread.insist`); calls that are out go on meanwhile.

Ending. `drain` stops claiming and placing, gives waiting tasks back and lets running calls finish for
`shutdown_grace_s`; `stop_now` cancels them, and books what may have been billed as uncertain. Either way
every answer that has come in is stored before `run` returns.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from ..agents.agent_factory import create_balanced_agent_pool
from ..config import ProviderAccess
from ..errors import ConfigError, InternalError, LeadershipLost, ProviderError, StoreError, TimedOut
from ..providers.base import ProviderAdapter
from ..providers.factory import build_adapter
from ..records import (
    Attempt,
    Completion,
    CompletionRequest,
    Event,
    Placement,
    PoolSnapshot,
    Result,
    Task,
    TaskStatus,
    Usage,
)
from ..routing.balancer import ProviderLoadBalancer
from ..routing.budgets import BudgetRule, Refusal
from ..routing.dispatch import Dispatch
from ..routing.pricing import catalogue_of
from ..settings import Settings
from .alerts import Alerter
from .budget_keeper import BudgetKeeper
from .canary_calls import CanaryCalls
from .clock import Clock
from .command_handler import CommandHandler
from .event_text import event_text
from .health import HealthWatch
from .leadership import Leadership
from .learned_state import LearnedStateRepository
from .result_writer import ResultWriter
from .store import News, Store
from .store_thread import StoreThread
from .supervisor import Supervisor

__all__ = ["Orchestrator", "ProviderLoadBalancer", "RunReport"]

log = logging.getLogger(__name__)
IDLE_POLL_S = 0.05  # how often a pool that runs until it is done looks for more, when nothing waits
BUSY_POLL_S = 0.25
HOUSEKEEPING_S = 1.0
LEARNED_EVERY_S = 10.0
OVER_AT_MOST = 100  # tasks beyond a full window that go before those in it
CLAIM_AT_MOST = 500  # per transaction: a claim must not hold up results
COMMITTER_RESTARTS = 4
KEPT_SHARE = 4  # tasks that their own budget keeps may take so large a part of the window: a quarter
GIVEN_UP = "given up: nothing came back any more"


Stopped = Literal["", "drained", "stopped", "budget", "misconfigured", "superseded", "store_lost"]


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended: tasks by final status, and how it stopped early (empty: it did not)."""

    counts: Mapping[TaskStatus, int]
    stopped: Stopped = ""
    why: str = ""  # in words, for a stop that nobody asked for
    recovered: int = 0
    spent: BudgetRule | None = None  # the budget that has stopped it

    @property
    def answered(self) -> int:
        return self.counts.get(TaskStatus.SUCCEEDED, 0)


class Orchestrator:
    """One pool over one store. See the top of the file; `run` may be called once."""

    def __init__(
        self,
        settings: Settings,
        access: Mapping[str, ProviderAccess],
        store: Store,
        clock: Clock,
        *,
        batch: str | None = None,
        agent_prompts: bool | None = None,
        on_result: Callable[[Sequence[Result]], None] | None = None,
        batch_caps_usd: Mapping[str, float] | None = None,
        alert_url: str | None = None,
        leadership: Leadership | None = None,
    ) -> None:
        if agent_prompts is not None:  # budgets reserve for what agents add
            settings = settings.model_copy(update={"agent_prompts": agent_prompts})
        self._leadership = leadership or Leadership(store, settings.pool.lease_s)
        self._settings, self._store, self._clock = settings, self._leadership.store, clock
        self._access = {name: a for name, a in access.items() if a.configured}
        if not self._access:
            raise ConfigError("no provider is configured", allowed="set a key, or use --simulate")
        self.mode = "simulated" if any(a.simulated for a in self._access.values()) else "live"
        self.incarnation = self._leadership.incarnation
        self._batch = batch
        self._on_result = on_result
        self._counts: dict[TaskStatus, int] = {}
        self._thread = StoreThread()
        self._supervisor = Supervisor(self._tell, clock.now)
        self._watch = store.watch()
        self._budget_keeper = BudgetKeeper(
            settings, self._store, self._thread, self.incarnation,
            simulated=self.mode == "simulated", batch_caps_usd=batch_caps_usd,
        )  # fmt: skip
        self._alerter = Alerter(alert_url, keep=self._supervisor.keep)
        self.balancer = ProviderLoadBalancer(
            settings,
            now=clock.now(),
            configured=self._access.keys(),
            jitter=random.Random(),
            catalogues={
                name: catalogue_of(name, a.config.api_format, a.config.base_url, keyless=a.config.keyless)
                for name, a in self._access.items()
            },
            budgets=self._budget_keeper.budgets,
            canaries=True,
        )
        self.dispatch = Dispatch(self.balancer, settings)
        slots = self.balancer.slots
        self._adapters: dict[str, ProviderAdapter] = {
            name: build_adapter(a, slots, self._answered_late, max_answer_mb=settings.pool.max_answer_mb)
            for name, a in self._access.items()
        }
        self._agents = create_balanced_agent_pool(settings, self._adapters)
        self._learned = LearnedStateRepository(self.balancer, self._access, self._store, self._thread)
        self._result_writer = ResultWriter(
            self._store, self._thread, self.incarnation, self._written, self._supervisor
        )
        canaries = CanaryCalls(
            settings, self.balancer, self._adapters, self._budget_keeper,
            self._leadership, self._thread, self._may_place, clock.now,
        )  # fmt: skip
        self._health = HealthWatch(self.balancer, self._adapters, clock.now, self._changed, canaries)
        self._command_handler = CommandHandler(self.balancer, self.dispatch, self._result_writer.add_result)
        self._calls: dict[int, asyncio.Task[None]] = {}  # by permit
        self._passed_over: dict[tuple[str, str], Refusal] = {}  # (batch, submitter) whose own budget is spent
        self._held = False  # whether placing has stopped because answers cannot be stored
        self._claim_in_doubt = False  # a claim was made, and what came of it may not be known here
        self._sent: set[int] = set()  # permits of calls that have left
        self._given_up: set[int] = set()  # permits of calls that are cancelled because they are lost
        self._wake_handle: asyncio.TimerHandle | None = None
        self._feed_now = asyncio.Event()
        self._written_since, self._claims_over_from = True, 0.0
        self._done = asyncio.Event()
        self._draining = False
        self._stopped: Stopped = ""
        self._why = ""
        self._spent: BudgetRule | None = None
        self._settings_version = -1
        self._loop: asyncio.AbstractEventLoop | None = None
        self._committing: asyncio.Task[None] | None = None

    # ------------------------------------------------------------------ run

    async def run(self, until_done: bool) -> RunReport:
        """Serve until drained, or with `until_done` until no task (of `batch`) is open.

        Raises StoreError when another orchestrator serves this state.
        """
        self._loop = asyncio.get_running_loop()
        began_at = self._clock.now()
        try:
            recovered = await self._sign_on()
            await asyncio.gather(*(a.warm_up() for a in self._adapters.values()))
            await self._learned.restore()
            await self._budget_keeper.load(self._clock.now())
            await self._notice()
            self._tell([self._started(self._clock.now() - began_at)])
            await self._work(until_done)
            self._look_for_store()
        finally:
            await self._close()
        return RunReport(self._counts, self._stopped, self._why, recovered, self._spent)

    async def _sign_on(self) -> int:
        await asyncio.to_thread(self._leadership.acquire)
        registration = await self._thread.insist(
            self._store.register,
            self.incarnation,
            pid=self._leadership.me.pid,
            host=self._leadership.me.host,
            mode=self.mode,
            batch=self._batch or "",
            now=self._clock.now(),
            max_claims=self._settings.pool.max_claims,
            uncertain_at_most=await self._budget_keeper.room(self._clock.now()),
        )
        if registration.recovered or registration.poisoned:
            tasks = "1 task" if registration.recovered == 1 else f"{registration.recovered:,} tasks"
            text = f"requeued {tasks} from an orchestrator that died"
            if registration.poisoned:
                text += f", {registration.poisoned} failed for good"
            self._tell([Event(self._clock.now(), "recovered", text, level="warning")])
        return registration.recovered

    def _started(self, start_s: float) -> Event:
        """How long it took to be ready is what the next plan goes by."""
        text = f"ready after {start_s:.1f} s: {', '.join(self._access)}"
        return Event(self._clock.now(), "started", text, fields={"start_s": round(start_s, 2)})

    async def _work(self, until_done: bool) -> None:
        """Everything that goes on beside the calls, until done."""
        keep = self._supervisor.keep
        jobs: list[Coroutine[Any, Any, None]] = [
            keep("claiming", partial(self._feed, until_done)),
            keep("housekeeping", self._housekeeping),
            keep("correspondence with the store", self._correspond),
            self._health.run(self._supervisor),
        ]
        # Without it nothing is ever stored: it is started again a few times, then the run ends.
        storing = keep("storing results", self._result_writer.run, restarts=COMMITTER_RESTARTS)
        self._committing = committing = asyncio.create_task(storing)
        watching = [asyncio.create_task(job) for job in jobs]
        waiting: asyncio.Task[Any] = asyncio.create_task(self._done.wait())
        try:
            everything: list[asyncio.Task[Any]] = [waiting, committing, *watching]
            await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
            for job in (committing, *watching):
                if job.done():
                    job.result()  # none of them ends by itself: this raises what ended it
        except LeadershipLost as lost:
            self._superseded(lost)
        finally:
            self._draining = True
            for job in (waiting, *watching):
                job.cancel()
            await asyncio.gather(waiting, *watching, return_exceptions=True)
            await self._cancel_calls()
            await self._give_back()
            if self._stopped not in ("superseded", "store_lost"):
                await self._flush()
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)
            if self._stopped == "store_lost":
                self._export()

    async def _close(self) -> None:
        with self._supervisor.guarding("closing connections"):  # what follows has to be done all the same
            for adapter in self._adapters.values():
                await adapter.close()
            await self._alerter.close()
        with suppress(StoreError):  # it never signed on, or the store is gone: nothing to sign off from
            await self._learned.save(self._clock.now())
            await self._thread(self._heartbeat, self.snapshot())
            await self._thread(self._store.retire, self.incarnation, now=self._clock.now())
        await asyncio.to_thread(self._leadership.release)
        self._thread.close()
        self._watch.close()

    # ------------------------------------------------------------------ ending

    @property
    def is_ending(self) -> bool:
        return self._draining

    @property
    def in_flight(self) -> int:
        """Calls that may have reached a provider; those that wait for their money to be noted have not."""
        return len(self._sent)

    @property
    def unstored_answers(self) -> int:
        """Answers that have come in and are not on the disk yet: in another second, or not for now."""
        return self._result_writer.unstored

    @property
    def unstored(self) -> str:
        """`3 answers are not stored yet (why)` while the store refuses; else empty."""
        if not self._result_writer.stalled:
            return ""
        number = self._result_writer.unstored
        answers = "1 answer is" if number == 1 else f"{number:,} answers are" if number else "attempts are"
        return f"{answers} not stored yet ({self._thread.refusal or 'the database does not answer'})"

    def drain(self) -> None:
        """Let running calls finish, start no new ones. From a signal handler on the loop."""
        if self._draining:
            return
        self._draining = True
        self._stopped = "drained"
        if not self._calls or self._loop is None:
            self._done.set()
        else:
            self._loop.call_later(self._settings.pool.shutdown_grace_s, self._done.set)

    def stop_now(self) -> None:
        """Cancel running calls; what has come in is stored all the same, however long the store refuses."""
        self._draining = True
        self._stopped = "stopped"
        self._done.set()

    def _superseded(self, lost: LeadershipLost) -> None:
        """Another one leads, and has booked what is in flight or not stored yet: stop, and store nothing."""
        if not self._is_superseded:
            self.stop_now()
            self._stopped, self._why = "superseded", f"{lost}: this one ends, and stores nothing more"

    @property
    def _is_superseded(self) -> bool:
        return self._stopped == "superseded"

    async def _cancel_calls(self) -> None:
        calls = list(self._calls.values())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _give_back(self) -> None:
        waiting = [] if self._stopped in ("superseded", "store_lost") else self.dispatch.waiting_tasks()
        for task in waiting:
            self.dispatch.withdraw(task.batch, task.id)
        if waiting:
            await self._flush()  # attempts are booked while the claim is still mine
            with suppress(StoreError):
                await self._thread(self._store.release, self.incarnation, waiting, now=self._clock.now())

    def _look_for_store(self) -> None:
        """A database file that was deleted or replaced: nothing more is bought, for it could not be kept."""
        if self._stopped == "store_lost" or not (how := self._store.file_lost()):
            return
        self.drain()
        self._stopped = "store_lost"
        self._why = f"{self._store.place} {how} while it was in use: what was stored since then is lost"
        self._tell([Event(self._clock.now(), "store_lost", self._why, level="alert")])

    def _export(self) -> None:
        """What no store takes any more goes to the results file, where there is one."""
        self._written(self._result_writer.take_unwritten())

    async def _flush(self) -> None:
        """Until everything is on the disk, or the result writer has ended."""
        flushing = asyncio.create_task(self._result_writer.flush())
        await asyncio.wait({flushing, *filter(None, [self._committing])}, return_when=asyncio.FIRST_COMPLETED)
        flushing.cancel()

    # ------------------------------------------------------------------ in

    async def _feed(self, until_done: bool) -> None:
        """Keep dispatch's window filled; with `until_done` notice the end."""
        window = self._settings.pool.prefetch_limit
        while not self._draining:
            await self._give_back_kept()
            room = window - self.dispatch.waiting
            wanted = min(room, CLAIM_AT_MOST) if room > window // 2 else 0
            got = await self._claim(wanted) if wanted else 0
            if until_done and not wanted and self._may_claim_over():
                await self._claim_over()
            if got == CLAIM_AT_MOST:
                continue
            if not got and self._is_idle and (await self._news()).queued:
                await self._result_writer.settle_followers()
            if until_done and not got and await self._is_done():
                self._done.set()
                break
            if until_done or self.dispatch.waiting:
                await self._pause(BUSY_POLL_S if self.dispatch.waiting or self._passed_over else IDLE_POLL_S)
            if not until_done:
                await self._until_news(more=got == wanted)
        await asyncio.Event().wait()  # until `_work` cancels: a job that ends by itself would end the run

    def _may_claim_over(self) -> bool:
        """Whether something was written since the window was last looked past, and that is a while ago."""
        self._written_since = self._watch.changed() or self._written_since
        now = self._clock.now()
        if not self._written_since or now < self._claims_over_from:
            return False
        self._written_since, self._claims_over_from = False, now + BUSY_POLL_S
        return True

    async def _claim_over(self) -> None:
        """Claim tasks that go before those in a full window, a few at a time.

        These have a higher priority, or the lowest one there and an owner (batch, submitter) without a task
        in it.
        """
        lowest = self.dispatch.lowest_priority()
        for above, excluded in ((lowest, frozenset[tuple[str, str]]()), (lowest - 1, self.dispatch.owners())):
            over = max(0, self.dispatch.waiting - self._settings.pool.prefetch_limit)
            if over < OVER_AT_MOST:
                await self._claim(OVER_AT_MOST - over, above, excluded)

    async def _claim(
        self, limit: int, above: int | None = None, excluded: AbstractSet[tuple[str, str]] = frozenset()
    ) -> int:
        """Claim and take in up to `limit` tasks; how many there were. The others: see `Store.claim`."""
        claiming, self._claim_in_doubt = self._claiming(limit, above, excluded), True
        tasks = await self._thread.insist(claiming)
        more = len(tasks) == limit
        if above is None:
            self.dispatch.behind = (await self._news()).queued if more else 0
        attempts = await self._earlier_attempts(tasks)
        now = self._clock.now()
        for task in tasks:
            if not self.dispatch.knows(task.batch, task.id):
                self._offer(task, now, attempts.get(task.row, ()))
        self._claim_in_doubt = False
        if tasks:
            self._pump()
        return len(tasks)

    async def _give_back_kept(self) -> None:
        """Keep tasks that are blocked by a budget of their own from filling the window.

        Some may stay, since the budget may still allow a smaller task behind them. Beyond that they go back
        into the queue, and claims skip their batch and submitter until that budget resets.
        """
        if not self._keeps_too_many:
            return
        kept = self.dispatch.kept_by_own_budget()
        going = []
        for refusal, tasks in kept:
            for task in tasks:
                self._passed_over[task.batch, task.submitter] = refusal
                going.append(task)
                self.dispatch.withdraw(task.batch, task.id)
        self._claim_in_doubt = True
        await self._flush()  # attempts are booked while the claim is still mine
        await self._thread.insist(self._store.release, self.incarnation, going, now=self._clock.now())
        self._claim_in_doubt = False

    @property
    def _keeps_too_many(self) -> bool:
        most = self._settings.pool.prefetch_limit // KEPT_SHARE
        return self._budget_keeper.budgets is not None and self.dispatch.kept_count > most

    def _owners_passed_over(self) -> frozenset[tuple[str, str]]:
        """(batch, submitter) whose own budget is spent and has not reset yet."""
        now = self._clock.now()
        over = {o: r for o, r in self._passed_over.items() if r.until is None or now < r.until}
        self._passed_over = over
        return frozenset(over)

    def _spent_budget(self) -> Refusal | None:
        """The budget without a reset that blocks every task that is left; None while any task may go on."""
        if self.dispatch.waiting:
            return self.dispatch.spent_budget()
        return next((r for r in self._passed_over.values() if r.until is None), None)

    def _offer(self, task: Task, now: float, attempts: Sequence[Attempt]) -> None:
        with self._supervisor.guarding("taking a task in") as guarded:
            self.dispatch.offer(task, now, attempts)
        if guarded.error is not None:
            self._result_writer.add_result(self.dispatch.abandon(task, now, _ours(guarded.error)))

    def _claiming(
        self, limit: int, above: int | None, excluded: AbstractSet[tuple[str, str]]
    ) -> Callable[[], list[Task]]:
        """A claim that can be repeated. One that was refused may have been committed anyway: tasks that are
        claimed in the store and unknown here are taken up before more are claimed.

        Known are the tasks that were here before the first try: only this orchestrator claims under its name.
        """
        known = self.dispatch.keys() | self._result_writer.unwritten()
        refused, left = self._claim_in_doubt, self._owners_passed_over() | excluded

        def claim() -> list[Task]:
            nonlocal refused
            mine = self._store.claimed(self.incarnation) if refused else []
            refused = True
            return [task for task in mine if (task.batch, task.id) not in known] or self._store.claim(
                self.incarnation, limit, now=self._clock.now(), batch=self._batch, excluded=left, above=above
            )

        return claim

    async def _earlier_attempts(self, tasks: Sequence[Task]) -> Mapping[int, Sequence[Attempt]]:
        """What tasks that were begun before a restart have had, by row: it keeps counting."""
        begun = [task.row for task in tasks if task.attempts]
        return await self._thread.insist(self._store.attempts_that_count, begun) if begun else {}

    async def _news(self) -> News:
        return await self._thread.insist(self._store.news, self._batch)

    async def _until_news(self, more: bool) -> None:
        """Until there is something to claim and room for it. `more`: the last claim may have left some."""
        while not self._draining:
            if self._keeps_too_many:
                break
            has_room = self.dispatch.waiting <= self._settings.pool.prefetch_limit // 2
            if not has_room and self._may_claim_over():
                await self._claim_over()
                more = True  # what was written was looked for above the window only
            if has_room and (more or self._watch.changed()):
                if (await self._news()).queued:
                    break
                more = False
            await self._pause(self._watch.look_every_s)

    async def _pause(self, seconds: float) -> None:
        self._feed_now.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._feed_now.wait()

    @property
    def _is_idle(self) -> bool:
        """Whether nothing of what was claimed is left to do."""
        return not (len(self.dispatch) or self._calls) and self._result_writer.idle

    async def _is_done(self) -> bool:
        if self.balancer.pool.all_misconfigured:
            self._stopped = "misconfigured"
            self._why = "; ".join(p.misconfigured for p in self.balancer.providers)
            return True
        budget = self._spent_budget() if not self._calls and self._result_writer.idle else None
        if budget is not None and (self.dispatch.waiting or (await self._news()).queued):
            self._stopped, self._why, self._spent = "budget", str(budget), budget.rule
            return True
        if not self._is_idle:
            return False
        open_tasks = await self._thread.insist(self._store.pending, self._batch)
        return not (open_tasks.get(TaskStatus.QUEUED, 0) + open_tasks.get(TaskStatus.RUNNING, 0))

    # ------------------------------------------------------------------ the decision, and its calls

    def _changed(self) -> None:
        self._give_up_lost()
        self._tell(self.balancer.take_events())
        self.dispatch.wake_all()
        self._pump()

    def _give_up_lost(self) -> None:
        """Calls that a silence or a cut of the network has swallowed: their tasks go elsewhere."""
        for permit in self.balancer.take_lost(self._clock.now()):
            if permit not in self._calls:  # a canary, which has a time limit of its own
                continue
            self._given_up.add(permit)
            if self._loop is not None:  # not at once: what was placed just now must have begun, to be settled
                self._loop.call_soon(self._give_up, permit)

    def _give_up(self, permit: int) -> None:
        if (call := self._calls.get(permit)) is not None:
            call.cancel()

    def _pump(self) -> None:
        """Ask dispatch, start what it placed, and set the alarm for when to ask again."""
        with self._supervisor.guarding("placing tasks"):
            if self._loop is not None and self._may_place():
                self._place(self._loop)

    def _may_place(self) -> bool:
        """Whether calls may be made now: of tasks, and canaries."""
        return not self._draining and self._leadership.may_place and not self._hold_back()

    def _hold_back(self) -> bool:
        """Whether answers cannot be stored now: then no call is made until they can."""
        stalled = self._result_writer.stalled
        if self._held != stalled and (self._held or self._result_writer.stall_is_news):
            self._held = stalled
            text = "placing goes on: the database takes answers again"
            if stalled:
                text = f"placing stops: {self.unstored or 'answers cannot be stored'}; trying again"
            self._tell([Event(self._clock.now(), "store", text, level="alert" if stalled else "info")])
        return stalled

    def _place(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._clock.now()
        placements, ended, next_wake = self.dispatch.dispatch(now)
        for result in ended:
            self._result_writer.add_result(result)
        for placement in placements:  # before anything that may fail: each holds a permit
            self._calls[placement.permit] = loop.create_task(self._carry_out(placement))
        self._tell(self.balancer.take_events())  # what no call will bring up: a budget, an unknown price
        if self._wake_handle is not None:
            self._wake_handle.cancel()
            self._wake_handle = None
        if next_wake is not None:
            self._wake_handle = loop.call_later(max(0.0, next_wake - now), self._pump)
        if self.dispatch.waiting < self.balancer.slots:
            self._feed_now.set()

    async def _carry_out(self, placement: Placement) -> None:
        """One attempt from start to settle. Never raises: this is the worker loop."""
        agent = self._agents[placement.agent]
        started_at = self._clock.now()
        completion: Completion | None = None
        error: ProviderError | None = None
        sent = False
        try:
            await self._budget_keeper.cover(placement)
            await self._leadership.permission()
            sent = True
            self._sent.add(placement.permit)
            started_at = self._clock.now()
            completion = await agent.attempt(placement)
        except ProviderError as failed:
            error = failed
        except asyncio.CancelledError:
            # Settled below as uncertain if it was sent, since it may have been billed.
            if sent and placement.permit in self._given_up:
                error = TimedOut(GIVEN_UP, provider=placement.provider, model=placement.model)
        except LeadershipLost as lost:
            self._superseded(lost)
        except Exception as unexpected:
            log.exception("unexpected internal error during a call", extra=_fields(placement))
            error = InternalError(
                _ours(unexpected), provider=placement.provider, model=placement.model, sent=sent
            )
        self._calls.pop(placement.permit, None)
        self._sent.discard(placement.permit)
        self._given_up.discard(placement.permit)
        with self._supervisor.guarding("settling a call") as guarded:
            self._settle(placement, completion, error, started_at, sent)
        if guarded.error is not None:
            self._abandon(placement, guarded.error)
        self._result_writer.once_stored(partial(self._budget_keeper.release, placement))
        with self._supervisor.guarding("what follows a call"):
            self._after_call(placement, error)
        if self._draining and not self._calls:
            self._done.set()

    def _settle(
        self,
        placement: Placement,
        completion: Completion | None,
        error: ProviderError | None,
        started_at: float,
        sent: bool,
    ) -> None:
        """Book the attempt, and the task's end if it is one."""
        settled = self.dispatch.settle(
            placement,
            self._clock.now(),
            completion=completion,
            error=error,
            started_at=started_at,
            sent=sent,
        )
        if settled.result is not None:
            self._result_writer.add_result(settled.result)
        else:
            self._result_writer.add_attempt(placement.task, settled.attempt)

    def _abandon(self, placement: Placement, error: Exception) -> None:
        """A call that could not be settled: its task ends, or it would stay in flight for ever."""
        with self._supervisor.guarding("ending a task"):
            result = self.dispatch.abandon(placement.task, self._clock.now(), _ours(error), placement)
            self._result_writer.add_result(result)

    def _after_call(self, placement: Placement, error: ProviderError | None) -> None:
        """Everything else that an attempt's end brings about."""
        if error is not None:
            fields = {**_fields(placement), "error": error.kind, "status": error.status}
            log.info("attempt failed", extra=fields)
            self._health.look()
        self._tell(self.balancer.take_events())
        self._tell(self._budget_keeper.take_events(self._clock.now()))
        if self._draining:
            return
        self._pump()

    def _answered_late(self, request: CompletionRequest, usage: Usage) -> None:
        """A call whose task had moved on was answered after all: it is booked already, as uncertain."""
        text = f"{request.model} answered a call that was given up: {usage.total_tokens:,} tokens were billed"
        self._tell([Event(self._clock.now(), "late_answer", text)])

    def _written(self, results: Sequence[Result]) -> None:
        for result in results:
            self._counts[result.status] = self._counts.get(result.status, 0) + 1
        if self._on_result is not None:
            with self._supervisor.guarding("passing results on"):  # they are stored by now
                self._on_result(results)
        self._feed_now.set()

    # ------------------------------------------------------------------ housekeeping

    async def _housekeeping(self) -> None:
        """Each second what time alone brings about. It needs no store, and goes on where that refuses."""
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            self._look_for_store()
            if jump_s := self._clock.take_jump():
                self.balancer.jumped(jump_s, self._clock.now())
                text = f"the clock leapt {jump_s:.0f} s: calls that were out are not held against anybody"
                self._tell([Event(self._clock.now(), "clock_jump", text, level="warning")])
                self._changed()
            if self._leadership.lost:
                raise LeadershipLost
            self._give_up_lost()
            self.balancer.note_states(self._clock.now())
            self._tell(self.balancer.take_events())
            self._pump()

    async def _correspond(self) -> None:
        """Each second with the store: settings, commands, heartbeat; now and then what was learned."""
        learned_at = self._clock.now()
        while True:
            await asyncio.sleep(HOUSEKEEPING_S)
            with self._supervisor.guarding("settings and commands"):
                await self._notice()
            self._pump()
            with self._supervisor.guarding("trimming reserved money"):
                await self._budget_keeper.trim()
            await self._thread.insist(self._heartbeat, self.snapshot())
            if self._clock.now() - learned_at >= LEARNED_EVERY_S:
                learned_at = self._clock.now()
                with suppress(StoreError):  # there is more to learn until the next time
                    await self._learned.save(learned_at)

    def _heartbeat(self, snapshot: PoolSnapshot) -> None:
        """On the store's thread, so it is given values: the loop changes everything else meanwhile."""
        self._store.heartbeat(self.incarnation, now=self._clock.now(), snapshot=snapshot)

    async def _notice(self) -> None:
        """Take over settings and carry out commands that came since last time."""
        insist, store = self._thread.insist, self._store
        news = await self._news()
        if news.settings_version != self._settings_version:
            settings = await insist(store.current_settings)
            self._settings_version = news.settings_version
            self._command_handler.apply(settings, self._clock.now())
        if news.commands:
            for command in await insist(store.take_commands, self.incarnation, self._clock.now()):
                outcome = "failed: internal error (the log of the orchestrator has the traceback)"
                with self._supervisor.guarding("a command"):
                    outcome = self._command_handler.carry_out(command, self._clock.now())
                await insist(store.finish_command, command.id, outcome, self._clock.now())

    def _tell(self, events: Sequence[Event]) -> None:
        """One row, one line in the log, and for an alert one webhook each."""
        self._result_writer.add_events(events)
        for event in events:
            with self._supervisor.guarding("reporting an event"):
                level = logging.INFO if event.level == "info" else logging.WARNING
                log.log(level, event_text(event), extra={"action": event.kind, "provider": event.provider})
                if event.level == "alert":
                    self._alerter.send(event)

    def snapshot(self) -> PoolSnapshot:
        """The pool right now: what `status` and the pages show."""
        return replace(
            self.balancer.snapshot(self._clock.now()),
            waiting=self.dispatch.waiting,
            waiting_for=self.dispatch.waiting_for(),
            oldest_waiting_at=self.dispatch.oldest_waiting_at(),
        )


def _ours(error: Exception) -> str:
    """An error of our own code, for the task's row: its class alone, since its message may quote keys."""
    return f"internal error of the orchestrator: {type(error).__name__} (its log has the traceback)"


def _fields(placement: Placement) -> dict[str, Any]:
    return {
        "action": "attempt",
        "task_id": placement.task.id,
        "provider": placement.provider,
        "model": placement.model,
        "agent": placement.agent,
    }
