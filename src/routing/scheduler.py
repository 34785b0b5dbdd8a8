"""The waiting tasks, and the choice of the next one.

    offer(task, now)      a task arrives
    withdraw(key)         a waiting task is cancelled
    dispatch(now)         -> placements to carry out, tasks that ended without one, when to call it again
    settle(...)           a call has ended: the task is done, or waits again with what it has learned

Order. Tasks that may go to the same places wait in one class, ordered by priority, fair share and age. Of all
classes the one with the first head goes next (`queues.py`, `fair_share.py`). A head that can't be placed
parks its class, and those that would get the same answer, until a known moment or until one of the named
providers settles a call.

Head-of-line hold. The oldest task that waits for tokens of a rate-limit group holds the group until they are
there; a younger one goes elsewhere or waits. So small tasks never starve a large one.

Direct tasks. Their submitter waits for the answer, so a spent budget ends them, and they are in no queue of
the store: what is said here of claimed tasks leaves them out.

Memory is bounded by the tasks that have not ended. Heaps are swept when most of their entries are dead.

A task that can't be served in time, or at all, ends here before it costs anything.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ProviderError, RateLimited
from ..records import (
    FLEX,
    Attempt,
    Completion,
    Declined,
    FinishReason,
    Outcome,
    Placement,
    Result,
    Task,
    TaskStatus,
    Usage,
    WaitingFor,
    WaitReason,
)
from ..refusal_text import candidate_text
from ..settings import TIERS, Settings
from .allocation.planner import AllocationPlanner
from .balancer import ProviderLoadBalancer
from .candidates import SOON_S, PlacementResult, WaitCondition
from .cost.budgets import BudgetRefusal
from .deadlines import Deadlines
from .fair_share import FairShare
from .limits.group import RateLimitGroup
from .outcomes import CallEnd, costs_attempt, outcome_of
from .queue_groups import PendingTask, QueueClass
from .queues import Queues
from .refusals import NEVER
from .retry_policy import Failure, RetryPolicy, as_asked_next, describe
from .retry_state import RetryState
from .routes import Route, class_key

TaskKey = tuple[str, str]  # batch, id
PROBES_DRAWN = 4  # tasks that are tried as a probe: the first may not fit
PASSED_AFTER_429 = 4  # tasks that go before one that drew a 429; to the power of its 429s in all
PREFIX_CLASSES = 64  # classes at most for tasks that differ only in their long prefix


class Dispatched(NamedTuple):
    """The decisions of one `dispatch`.

    `next_wake` is UTC epoch seconds; None: nothing changes before a call settles or a task arrives.
    """

    placements: list[Placement]
    ended: list[Result]
    next_wake: float | None


class Settled(NamedTuple):
    """The record of an attempt, and the result of its task if that has ended."""

    attempt: Attempt
    result: Result | None


class Scheduler:
    """Owns every task that was offered and has not ended. All times are UTC epoch seconds."""

    def __init__(self, balancer: ProviderLoadBalancer, settings: Settings) -> None:
        self.balancer = balancer
        self._settings = settings
        self._retry_policy = RetryPolicy(settings)
        self._entries: dict[TaskKey, PendingTask] = {}
        self._queues = Queues(balancer.route, settings.routing.preferred_wait_s, balancer.providers)
        self._in_flight: dict[int, PendingTask] = {}
        self._deadlines = Deadlines()
        self._placed: list[Placement] = []  # not returned by `dispatch` yet
        self._ended: list[Result] = []
        self._sequence = itertools.count()
        self._shares = FairShare()
        self._direct = self._direct_waiting = 0
        self._claimed_bytes = 0  # of claimed tasks that wait
        self._least_s = 0.0  # a call takes at least so long
        self._planner = AllocationPlanner(balancer.registry)
        self._routes_version = balancer.registry.routes_version
        self._offline_since = balancer.offline_since
        self.behind = 0  # queued tasks that are not offered yet

    @property
    def settings(self) -> Settings:
        """The settings it was made with."""
        return self._settings

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waiting(self) -> int:
        """How many tasks wait, without a call in flight."""
        return self._queues.waiting

    @property
    def claimed(self) -> int:
        """How many claimed tasks have not ended."""
        return len(self._entries) - self._direct

    @property
    def claimed_waiting(self) -> int:
        """How many claimed tasks wait: those of the prefetch window."""
        return self._queues.waiting - self._direct_waiting

    @property
    def claimed_waiting_bytes(self) -> int:
        """How much memory their contents take, about."""
        return self._claimed_bytes

    # ------------------------------------------------------------------ in and out

    def offer(
        self, task: Task, now: float, attempts: Sequence[Attempt] = (),
        *, direct: bool = False, is_turn: bool = False,
    ) -> None:  # fmt: skip
        """Take a task in. `attempts`: those before a restart, which keep counting.

        `direct`: its submitter waits for the answer. `is_turn`: its batch is a run of which it is the next
        turn. Raises ValueError for a task that was offered before and has not ended.
        """
        self._enqueue(self._enter(task, now, attempts, direct=direct, is_turn=is_turn), now)

    def adopt(self, placed: Placement, now: float, attempts: Sequence[Attempt] = ()) -> Placement | None:
        """Take in a claimed task whose call, which an earlier leader has `placed`, is still in flight.

        Returns the placement under which it is settled. None where the call's provider or model is not
        configured any more: then the task waits, and the call is lost. `attempts` as for `offer`.
        """
        task = placed.task
        entry = self._enter(task, now, attempts, direct=False, is_turn=False)
        adopted = self.balancer.adopt(placed, entry.retry, now)
        if adopted is None:
            self._enqueue(entry, now)
            return None
        self._in_flight[adopted.permit] = entry
        entry.warnings = adopted.warnings
        self._shares.placed(entry.retry.order[1])
        return adopted

    def _enter(
        self, task: Task, now: float, attempts: Sequence[Attempt], *, direct: bool, is_turn: bool
    ) -> PendingTask:
        """The entry of a task that is neither waiting nor in flight yet."""
        key = (task.batch, task.id)
        if key in self._entries:
            raise ValueError(f"task {task.id!r} of {task.batch!r} was offered before")
        place = self._shares.enter(task, now, is_turn=is_turn)
        order = (-task.priority, place.tag, next(self._sequence))
        retry = RetryState(offered_at=now, order=order, attempt=len(attempts) + 1, prefer=place.prefer)
        self._retry_policy.recall(retry, attempts, self.balancer.by_name)
        retry.prefixes = self.balancer.registry.prompt_cache.offered(task)
        like = self._class_key(task, retry, direct=direct)
        entry = self._entries[key] = PendingTask(task, task, retry, like, place, direct, list(attempts))
        self._direct += direct
        return entry

    def _class_key(self, task: Task, retry: RetryState, *, direct: bool) -> tuple[object, ...]:
        """Tasks with the same key wait in one class."""
        budgets = self.balancer.registry.budgets
        like = (*class_key(task, self._settings), task.deadline_at is not None, direct, retry.prefer)
        if retry.prefixes:  # a task that waits for its prefix to be cached must not hold up the others
            like = (*like, int(retry.prefixes[-1].key[:4], 16) % PREFIX_CLASSES)
        if budgets is not None and budgets.has_own(task.batch, task.submitter):
            like = (*like, task.batch, task.submitter)  # nor must one whose budget is spent
        return like

    def withdraw(self, batch: str, task_id: str) -> Task | None:
        """Take a waiting task out; None where it is unknown or its call is in flight."""
        entry = self._entries.get((batch, task_id))
        if entry is None or entry.queue is None:
            return None
        self._dequeue(entry)
        self._forget(entry, None)
        if entry.retry.prefixes:  # a prefix that it shared with one other is not shared any more
            self.wake_all()
        return entry.task

    def end_waiting(
        self, batch: str, task_id: str, status: TaskStatus, error: str, now: float
    ) -> Result | None:
        """End a waiting task with this status; None where it is unknown or its call is in flight."""
        entry = self._entries.get((batch, task_id))
        if entry is None or self.withdraw(batch, task_id) is None:
            return None
        return _result_of(entry, status, error, now)

    def direct_ids(self, batch: str) -> list[str]:
        """The ids of the direct tasks of a batch that wait."""
        return [
            e.task.id
            for e in self._entries.values()
            if e.direct and e.queue is not None and e.task.batch == batch
        ]

    def waiting_tasks(self) -> list[Task]:
        """Every claimed task that waits, in no order."""
        return [e.task for e in self._entries.values() if e.queue is not None and not e.direct]

    def knows(self, batch: str, task_id: str) -> bool:
        """Whether the task was offered and has not ended."""
        return (batch, task_id) in self._entries

    def lowest_priority(self) -> int:
        """The lowest priority of a claimed task that waits; 0 where none does."""
        return min((task.priority for task in self.waiting_tasks()), default=0)

    def owners(self) -> set[tuple[str, str]]:
        """(batch, submitter) of every claimed task that has not ended."""
        return {(e.task.batch, e.task.submitter) for e in self._entries.values() if not e.direct}

    def keys(self) -> set[TaskKey]:
        """(batch, id) of every task that was offered and has not ended."""
        return set(self._entries)

    def wake_all(self) -> None:
        """Something changed for all tasks: weights, a pause, the network."""
        self._queues.wake_all()

    # ------------------------------------------------------------------ the decision

    def dispatch(self, now: float) -> Dispatched:
        """Place everything that can go now."""
        balancer, queues = self.balancer, self._queues
        self._note_changes(now)
        ended = self._ended
        self._expire(now)
        if self._planner.advise(queues, queues.waiting, self.behind, now):
            queues.wake_all()
        placements = self._placed  # kept if an error ends this method: they hold permits
        self._send_probes(placements, now)
        while balancer.registry.free_slots > 0 and queues.waiting:
            best = queues.next_class(now)
            entry = best.head() if best is not None else None
            if best is None or entry is None:
                break
            placement, blocked = self._try(entry, best, now)
            if placement is not None:
                placements.append(placement)
                if blocked is not None:
                    queues.park_alike(best, blocked, now)
            elif blocked is not None and not _is_hopeless(entry, blocked, now):
                self._park(best, entry, blocked, now)
            else:
                ended.append(self._give_up(entry, blocked, now))
        self._placed, self._ended = [], []
        return Dispatched(placements, ended, self._next_wake(now))

    def _note_changes(self, now: float) -> None:
        """Reroute the queues where models came or went, and wake those that the change concerns."""
        registry = self.balancer.registry
        if registry.routes_version != self._routes_version:
            self._routes_version = registry.routes_version
            self._queues.reroute(now)
        if registry.network.offline_since != self._offline_since:
            self._offline_since = registry.network.offline_since
            self._queues.wake_all()
        if registry.opened:
            self._queues.wake_for(registry.opened)
            registry.opened = 0

    def _send_probes(self, placements: list[Placement], now: float) -> None:
        """A probe is drawn from the tasks that have not failed: the oldest may be what opened the breaker.

        Each provider that may get one gets one.
        """
        for provider in self.balancer.awaiting_probe(now):
            for _ in range(PROBES_DRAWN if self.balancer.registry.free_slots > 0 else 0):
                entry = self._queues.draw(provider, self.balancer.dice)
                if entry is None or entry.queue is None:
                    break
                placement = self.balancer.try_probe(
                    entry.asked, entry.queue.route, entry.retry, provider, now
                )
                if placement is not None:
                    self._leaves(entry, placement)
                    placements.append(placement)
                    break

    def _leaves(self, entry: PendingTask, placement: Placement) -> None:
        """The task was placed."""
        self._dequeue(entry)
        self._in_flight[placement.permit] = entry
        entry.warnings = placement.warnings
        if not entry.retry.draws_429:  # else its place was moved back
            self._shares.placed(entry.retry.order[1])

    def _try(self, entry: PendingTask, best: QueueClass, now: float) -> PlacementResult:
        had = self._drop_hold(entry)
        tried = self.balancer.try_place(entry.asked, best.route, entry.retry, now, best.advice)
        if tried.placement is None and tried.blocked is not None and tried.blocked.over_budget is not None:
            tried = self._try_cheaper(entry, best.route, tried.blocked, now)
        placement, blocked = tried
        keeps = blocked.head_of_line if blocked is not None else None
        if had is not None and (keeps is None or had is not keeps[0].model.group):
            self._queues.wake_held_back()
        if placement is not None:
            self._leaves(entry, placement)
        return tried

    def _try_cheaper(
        self, entry: PendingTask, route: Route, blocked: WaitCondition, now: float
    ) -> PlacementResult:
        """Only a budget keeps the task: a cheaper tier may serve one that names none, else it is parked."""
        if entry.task.tier == "auto" and not entry.task.models:
            for tier in reversed(TIERS[: TIERS.index(route.tier)]):
                cheaper = self.balancer.route(entry.task, now, tier)
                placement, _ = self.balancer.try_place(entry.asked, cheaper, entry.retry, now)
                if placement is not None:
                    return PlacementResult(placement, None)
        if blocked.over_budget is not None and not entry.direct:
            self.balancer.registry.events.tasks_wait_for_budget(blocked.over_budget, now)
        return PlacementResult(None, blocked)

    @staticmethod
    def _drop_hold(entry: PendingTask) -> RateLimitGroup | None:
        """End the task's head-of-line hold: its next evaluation begins another one if it needs one."""
        group, entry.holds = entry.holds, None
        if group is None or group.head_of_line is None or group.head_of_line[0] != entry.retry.order:
            return None
        group.head_of_line = None
        return group

    def _park(self, best: QueueClass, entry: PendingTask, blocked: WaitCondition, now: float) -> None:
        self._queues.park(best, blocked, now)
        if blocked.head_of_line is not None:
            group = blocked.head_of_line[0].model.group
            mine = (entry.retry.order, blocked.head_of_line[1])
            if group.head_of_line is None or now >= group.head_of_line[1] or mine < group.head_of_line:
                group.head_of_line, entry.holds = mine, group

    def _next_wake(self, now: float) -> float | None:
        # Without a free slot time changes nothing: the settled call that frees one does.
        wake = self._queues.next_at(now) if self.balancer.registry.free_slots > 0 else NEVER
        wake = min(wake, self._deadlines.next_at() - self._least_s)
        return wake if wake < NEVER else None

    def abandon(self, task: Task, now: float, error: str, placement: Placement | None = None) -> Result:
        """End a task that an internal error has left in an unknown state, as failed.

        Where `placement` is given its call is booked as uncertain.
        """
        key = (task.batch, task.id)
        entry = self._entries.get(key)
        attempts = tuple(entry.attempts) if entry is not None else ()
        if placement is not None:
            self._in_flight.pop(placement.permit, None)
            if placement.permit in self.balancer.registry.permits:
                self.balancer.settle(placement.permit, CallEnd(Outcome.UNCERTAIN), now)
            if not any(a.number == placement.attempt for a in attempts):
                attempts = (*attempts, _uncertain(placement, now))
        if entry is not None and entry.queue is not None:
            self._dequeue(entry)
        if entry is not None:
            self._forget(entry, now)
        return Result(task, TaskStatus.FAILED, now, attempts, error=error, tier=task.tier)

    # ------------------------------------------------------------------ ends without a call

    def _expire(self, now: float) -> None:
        if not self._deadlines:
            self._least_s = 0.0
            return
        self._least_s = self._least_latency_s()
        for entry in self._deadlines.take_due(now, self._least_s):
            self._dequeue(entry)
            is_early = now < (entry.task.deadline_at or now)
            text = "the deadline can't be met any more" if is_early else "the deadline has passed"
            self._ended.append(self._end(entry, TaskStatus.EXPIRED, text, now))

    def _least_latency_s(self) -> float:
        """Half the best median latency: a call takes at least so long, in seconds."""
        medians = [q[0] for p in self.balancer.providers if (q := p.history.quantiles())]
        return 0.5 * min(medians) if medians else 0.0

    def _give_up(self, entry: PendingTask, blocked: WaitCondition | None, now: float) -> Result:
        self._dequeue(entry)
        reasons = blocked.reasons if blocked is not None else ()
        why = "; ".join(f"{c.provider}: {candidate_text(c)}" for c in reasons if c.kind)
        before = "; ".join(describe(a) for a in entry.attempts if a.error_kind)
        text = f"no provider can serve it ({why or 'none is configured'})"
        status = TaskStatus.REFUSED if entry.retry.refused else TaskStatus.FAILED
        result = self._end(entry, status, f"{before}; then {text}" if before else text, now)
        spent = blocked.over_budget if blocked is not None else None
        result.declined = Declined(reasons, str(spent.rule), spent.until) if spent else Declined(reasons)
        return result

    def _end(self, entry: PendingTask, status: TaskStatus, error: str, now: float) -> Result:
        self._forget(entry, now)
        return _result_of(entry, status, error, now)

    # ------------------------------------------------------------------ after a call

    def end_with_call(self, permit: int) -> None:
        """The task of a call in flight ends with it: part of the answer was delivered, or nobody waits."""
        self._in_flight[permit].is_last_call = True

    def settle(
        self,
        placement: Placement,
        now: float,
        *,
        completion: Completion | None = None,
        error: ProviderError | None = None,
        started_at: float | None = None,
        sent: bool = True,
    ) -> Settled:
        """A call has ended with a completion, with an error, or was cancelled (neither).

        `started_at`: when it was sent, else when it was placed. `sent` False: it provably never was.
        """
        entry = self._in_flight.pop(placement.permit, None)
        started_at = placement.at if started_at is None else started_at
        outcome = outcome_of(completion, error) if sent else Outcome.CANCELLED
        usage = completion.usage if completion is not None else (error.usage if error is not None else None)
        limits = completion.limits if completion is not None else (error.limits if error is not None else ())
        factor = self._price_factor(placement, completion)
        end = CallEnd(outcome, now - started_at, usage, error, limits, factor)
        cost = self.balancer.settle(placement.permit, end, now)
        attempt = Attempt(
            placement.attempt, placement.provider, placement.model, placement.agent, outcome, started_at,
            now - started_at, placement.choice, placement.reasons, placement.forced,
            error.kind if error else "", error.message if error else "", error.status if error else None,
            usage or Usage(), cost, placement.max_tokens, *self._saved(placement, usage, factor),
        )  # fmt: skip
        self._queues.wake_for(self.balancer.registry.by_name[placement.provider].bit)
        if entry is None:
            return Settled(attempt, None)
        entry.attempts.append(attempt)
        return Settled(attempt, self._after(entry, placement, completion, error, now))

    def _price_factor(self, placement: Placement, completion: Completion | None) -> float:
        """That of the service tier that has served the call, or without an answer of the one asked for."""
        said = placement.service_tier if completion is None else completion.service_tier
        if said != FLEX:
            return 1.0
        return self.balancer.settings.lookup_model(placement.model).flex or 1.0

    def _saved(self, placement: Placement, usage: Usage | None, factor: float) -> tuple[int, int]:
        """What a prompt cache and a lower price have saved on the cost of a call."""
        if usage is None or (factor == 1.0 and not (usage.cache_read_tokens or usage.cache_write_tokens)):
            return 0, 0
        price = self.balancer.registry.prices.price(placement.provider, placement.model, placement.at)
        return (0, 0) if price is None else price.charge(usage, factor)[1:]

    def _after(
        self, entry: PendingTask, placement: Placement, completion: Completion | None,
        error: ProviderError | None, now: float,
    ) -> Result | None:  # fmt: skip
        if completion is not None:
            return self._succeed(entry, placement, completion, now)
        if error is None and entry.is_last_call:
            return self._end(entry, TaskStatus.CANCELLED, "cancelled during its call", now)
        provider = self.balancer.registry.by_name[placement.provider]
        retry = entry.retry
        retry.agent = placement.agent
        if error is not None:
            retry.is_standard = retry.is_standard or bool(placement.service_tier)
            costed = sum(
                costs_attempt(a, entry.retry.offered_at, self.balancer.registry) for a in entry.attempts
            )
            failure = Failure(error, provider, entry.attempts, costed, entry.is_last_call)
            verdict = self._retry_policy.decide(failure, retry, now)
            if verdict is not None:
                return self._end(entry, verdict[0], verdict[1], now)
            entry.asked = as_asked_next(entry.task, retry)
            if isinstance(error, RateLimited) and not retry.is_limited_alone:
                self._let_others_pass(retry)
        else:
            retry.attempt = len(entry.attempts) + 1
        if entry.task.deadline_at is not None and now >= entry.task.deadline_at:
            return self._end(entry, TaskStatus.EXPIRED, "the deadline has passed", now)
        self._enqueue(entry, now)
        return None

    def _let_others_pass(self, retry: RetryState) -> None:
        """The task drew a 429 and may be its cause: others of its priority go first."""
        priority, tag, number = retry.order
        passed = PASSED_AFTER_429 ** min(retry.draws_429, 8)
        retry.order = (priority, max(tag, self._shares.virtual_time + passed), number)

    def _succeed(
        self, entry: PendingTask, placement: Placement, completion: Completion, now: float
    ) -> Result:
        self._shares.served(entry.place, self.balancer.by_name[placement.provider].index)
        self._forget(entry, now)
        return Result(
            entry.task,
            TaskStatus.SUCCEEDED,
            now,
            tuple(entry.attempts),
            output=completion.text,
            parts=completion.parts,
            finish_reason=str(completion.finish_reason),
            truncated=completion.finish_reason is FinishReason.LENGTH,
            warnings=(*placement.warnings, *completion.warnings),
            tier=placement.tier,
            baseline_nanos=self.balancer.registry.prices.baseline_nanos(completion.usage, now),
        )

    # ------------------------------------------------------------------ queues

    def _enqueue(self, entry: PendingTask, now: float) -> None:
        self._queues.push(entry, now)
        self._deadlines.push(entry)
        self._count_waiting(entry, 1)

    def _count_waiting(self, entry: PendingTask, by: int) -> None:
        if entry.direct:
            self._direct_waiting += by
        else:
            self._claimed_bytes += by * entry.task.content_bytes

    def _dequeue(self, entry: PendingTask) -> None:
        if entry.queue is not None:
            self._count_waiting(entry, -1)
        self._queues.take(entry)
        self._deadlines.remove(entry)
        if self._drop_hold(entry) is not None:
            self._queues.wake_held_back()

    def _forget(self, entry: PendingTask, now: float | None) -> None:
        """The task has ended; `now` None: it was withdrawn."""
        task = entry.task
        self.balancer.registry.prompt_cache.left(entry.retry.prefixes)
        if self._entries.pop((task.batch, task.id), None) is None:
            return
        self._direct -= entry.direct
        self._shares.leave(entry.place, now)

    # ------------------------------------------------------------------ for pages

    def waiting_for(self, limit: int = 6) -> tuple[WaitingFor, ...]:
        """What the waiting tasks wait for, the most common first."""
        return self._queues.waiting_for(limit)

    def binding_reason(self) -> WaitReason | None:
        """What the oldest waiting task waits for; None: for a free agent slot."""
        return self._queues.binding_reason()

    def spent_budget(self) -> BudgetRefusal | None:
        """The budget without a reset that blocks every waiting task; None while any may continue."""
        return self._queues.spent_budget()

    @property
    def kept_count(self) -> int:
        """How many waiting tasks a budget of their own batch or submitter keeps."""
        return self._queues.kept_count()

    def kept_by_own_budget(self) -> list[tuple[BudgetRefusal, list[Task]]]:
        """The waiting tasks that nothing but a budget of their own batch or submitter keeps."""
        return self._queues.kept_by_own_budget()

    def oldest_waiting_at(self) -> float | None:
        """When the oldest waiting task was offered; None where none waits."""
        return self._queues.oldest_waiting_at()


def _result_of(entry: PendingTask, status: TaskStatus, error: str, now: float) -> Result:
    return Result(
        entry.task, status, now, tuple(entry.attempts), error=error, warnings=entry.warnings,
        tier=entry.task.tier,
    )  # fmt: skip


def _is_hopeless(entry: PendingTask, blocked: WaitCondition, now: float) -> bool:
    """Whether no provider will ever serve it. One that was refused waits for no long outage of another.

    A direct task waits for no budget.
    """
    if entry.direct and blocked.over_budget is not None:
        return True
    if blocked.until == NEVER or not entry.retry.refused or blocked.free or blocked.report is None:
        return blocked.until == NEVER
    return not blocked.report.expected_before(now + SOON_S)


def _uncertain(placement: Placement, now: float) -> Attempt:
    return Attempt(
        placement.attempt, placement.provider, placement.model, placement.agent, Outcome.UNCERTAIN,
        placement.at, now - placement.at, placement.choice, placement.reasons, placement.forced,
        "InternalError", cost_nanos=placement.reserved_nanos, max_tokens=placement.max_tokens,
    )  # fmt: skip
