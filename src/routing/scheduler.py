"""The waiting tasks, and who goes next.

    offer(task, now)      a task arrives
    withdraw(key)         it is cancelled
    dispatch(now)         -> placements to carry out, tasks that ended without one, when to ask again
    settle(...)           an attempt ended: the task is done, or waits again with what it has learned

Rules. Tasks that may go to the same places wait in one class, in the order (priority, fair share, age).
Of all classes the one with the first head goes next (`queues.py`). A head that does not fit parks its class,
and those that would be told the same, until the moment it will, or until a provider it waits for settles a
call; so nobody is woken in vain and not all wake at once.

First claim: the oldest task that waits for room in a model group's tokens holds that group until its
moment; a younger one goes elsewhere or waits, so that small tasks never starve a large one.

Fair share: each flow (batch, submitter) numbers its tasks from the number of the last task placed
(start-time fair queueing), so a file of 200,000 rows and a single question take turns.

Memory is bounded by the tasks that are not over. A flow is forgotten with its last task, and heaps whose dead
entries could stay behind a live one for long are swept.

Tasks that can't be served in time or at all end here, before they cost anything.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import PROVIDER_ERRORS, ProviderError, RateLimited
from ..records import (
    Attempt,
    Completion,
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
from . import retry_policy
from .allocation.planner import AllocationPlanner
from .balancer import ProviderLoadBalancer
from .candidates import SOON_S, PlacementResult, WaitCondition
from .cost.budgets import BudgetRefusal
from .limits.group import RateLimitGroup
from .queue_groups import SLACK, Flow, PendingTask, QueueClass
from .queues import Queues
from .refusals import NEVER
from .retry_state import RetryState
from .routes import Route, class_key

TaskKey = tuple[str, str]  # batch, id
PROBES_DRAWN = 4  # so many tasks are asked to be a probe: one may not fit
PASSED_AFTER_429 = 4  # tasks that go before one that has drawn a 429, x as many for each further one
PREFIX_CLASSES = 64  # tasks with as many different long beginnings stand in so many classes at most


class Dispatched(NamedTuple):
    """What `dispatch` decided. `next_wake` None: nothing will change before something settles or arrives."""

    placements: list[Placement]
    ended: list[Result]
    next_wake: float | None


class Settled(NamedTuple):
    """What became of an attempt: its record, and the task's result if it is over."""

    attempt: Attempt
    result: Result | None


class Dispatch:
    """Owns every task that was offered and is not over."""

    def __init__(self, balancer: ProviderLoadBalancer, settings: Settings) -> None:
        self.balancer = balancer
        self._settings = settings
        self._entries: dict[TaskKey, PendingTask] = {}
        self._queues = Queues(balancer.route, settings.routing.preferred_wait_s, balancer.providers)
        self._in_flight: dict[int, PendingTask] = {}
        self._deadlines: list[tuple[float, int, PendingTask]] = []
        self._placed: list[Placement] = []  # decided, and not returned by `dispatch` yet
        self._ended: list[Result] = []
        self._sequence = itertools.count()
        self._with_deadline = 0  # waiting tasks that have one
        self._flows: dict[tuple[str, str], Flow] = {}
        self._virtual_time = 0.0
        self._least_s = 0.0  # what even a lucky call takes
        self._planner = AllocationPlanner(balancer.registry)
        self._routes_version = balancer.registry.routes_version
        self._offline_since = balancer.offline_since
        self.behind = 0  # tasks that will be offered when there is room for them

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waiting(self) -> int:
        """Tasks without a call out."""
        return self._queues.waiting

    # ------------------------------------------------------------------ in and out

    def offer(self, task: Task, now: float, attempts: Sequence[Attempt] = ()) -> None:
        """Take a task in. `attempts` it had before a restart keep counting, and what they showed is known."""
        key = (task.batch, task.id)
        if key in self._entries:
            raise ValueError(f"task {task.id!r} of {task.batch!r} was offered before")
        flow = (task.batch, task.submitter)
        tag = self._tag(flow)
        number = next(self._sequence)
        retry = RetryState(offered_at=now, order=(-task.priority, tag, number), attempt=len(attempts) + 1)
        retry_policy.recall(retry, attempts, self.balancer.by_name, self._settings.pool)
        retry.prefixes = self.balancer.registry.prompt_cache.offered(task)
        like = (*class_key(task, self._settings), task.deadline_at is not None)
        if retry.prefixes:  # one that waits for its beginning to be cached must not hold up the others
            like = (*like, int(retry.prefixes[-1].key[:4], 16) % PREFIX_CLASSES)
        if (
            self.balancer.registry.budgets is not None
        ):  # one whose budget is spent must not hold up the others
            like = (*like, *flow)
        entry = PendingTask(task, task, retry, like, list(attempts))
        self._entries[key] = entry
        self._enqueue(entry, now)

    def _tag(self, flow: tuple[str, str]) -> float:
        """The place of the flow's next task among those of all flows."""
        found = self._flows.get(flow)
        if found is None:
            found = self._flows[flow] = Flow()
        found.open += 1
        found.tag = max(self._virtual_time, found.tag + 1.0)
        return found.tag

    def withdraw(self, batch: str, task_id: str) -> Task | None:
        """Take a waiting task out again; None when it is unknown or its call is out already."""
        entry = self._entries.get((batch, task_id))
        if entry is None or entry.queue is None:
            return None
        self._dequeue(entry)
        self._forget(entry)
        if entry.retry.prefixes:  # what it shared with one other is not shared any more
            self.wake_all()
        return entry.task

    def waiting_tasks(self) -> list[Task]:
        """Every task without a call out, in no order."""
        return [e.task for e in self._entries.values() if e.queue is not None]

    def knows(self, batch: str, task_id: str) -> bool:
        return (batch, task_id) in self._entries

    def lowest_priority(self) -> int:
        """Of the tasks without a call out; 0 where there is none."""
        return min((task.priority for task in self.waiting_tasks()), default=0)

    def owners(self) -> set[tuple[str, str]]:
        """(batch, submitter) of every task that was offered and is not over."""
        return set(self._flows)

    def keys(self) -> set[TaskKey]:
        """(batch, id) of every task that was offered and is not over."""
        return set(self._entries)

    def wake_all(self) -> None:
        """Something changed for everybody: weights, a pause, the network."""
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
        placements = self._placed  # kept where an error ends this half-way: they hold permits
        self._send_probes(placements, now)
        while balancer.registry.free_slots and queues.waiting:
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
        """Reroute or wake the queues where models came or went, or the network did."""
        registry = self.balancer.registry
        if registry.routes_version != self._routes_version:
            self._routes_version = registry.routes_version
            self._queues.reroute(now)
        if registry.network.offline_since != self._offline_since:
            self._offline_since = registry.network.offline_since
            self._queues.wake_all()

    def _send_probes(self, placements: list[Placement], now: float) -> None:
        """A probe is drawn from the tasks that have not failed: the oldest may be what opened the breaker."""
        for provider in self.balancer.awaiting_probe(now):
            for _ in range(PROBES_DRAWN if self.balancer.registry.free_slots else 0):
                entry = self._queues.draw(provider, self.balancer.registry.dice)
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
        """The task's call is on its way."""
        self._dequeue(entry)
        self._in_flight[placement.permit] = entry
        entry.warnings = placement.warnings
        if not entry.retry.draws_429:  # its place is not the one that it came with
            self._virtual_time = max(self._virtual_time, entry.retry.order[1])

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
        """Only money keeps the task: a cheaper tier may serve one that wished for none, else it is parked."""
        if entry.task.tier == "auto" and not entry.task.models:
            for tier in reversed(TIERS[: TIERS.index(route.tier)]):
                cheaper = self.balancer.route(entry.task, now, tier)
                placement, _ = self.balancer.try_place(entry.asked, cheaper, entry.retry, now)
                if placement is not None:
                    return PlacementResult(placement, None)
        if blocked.over_budget is not None:
            self.balancer.registry.events.tasks_wait_for_budget(blocked.over_budget, now)
        return PlacementResult(None, blocked)

    @staticmethod
    def _drop_hold(entry: PendingTask) -> RateLimitGroup | None:
        """It asks again or has gone: what it had claimed is claimed anew, or no longer needed."""
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
        # Without a free slot time changes nothing: the settle that brings one does.
        wake = self._queues.next_at(now) if self.balancer.registry.free_slots else NEVER
        while self._deadlines and self._deadlines[0][2].queue is None:
            heapq.heappop(self._deadlines)  # over, or in flight: back in the heap when it waits again
        if self._deadlines:
            wake = min(wake, self._deadlines[0][0] - self._least_s)
        return wake if wake < NEVER else None

    def abandon(self, task: Task, now: float, error: str, placement: Placement | None = None) -> Result:
        """Take out a task that an internal error has left half-way; what its call may cost is uncertain."""
        key = (task.batch, task.id)
        entry = self._entries.get(key)
        attempts = tuple(entry.attempts) if entry is not None else ()
        if placement is not None:
            self._in_flight.pop(placement.permit, None)
            if placement.permit in self.balancer.registry.permits:
                self.balancer.settle(placement.permit, Outcome.UNCERTAIN, now)
            if not any(a.number == placement.attempt for a in attempts):
                attempts = (*attempts, _uncertain(placement, now))
        if entry is not None and entry.queue is not None:
            self._dequeue(entry)
        if entry is not None:
            self._forget(entry)
        return Result(task, TaskStatus.FAILED, now, attempts, error=error, tier=task.tier)

    # ------------------------------------------------------------------ ends without a call

    def _expire(self, now: float) -> None:
        self._least_s = self._least_latency_s() if self._deadlines else 0.0
        while self._deadlines and self._deadlines[0][0] - self._least_s <= now:
            _, _, entry = heapq.heappop(self._deadlines)
            if entry.queue is not None:
                self._dequeue(entry)
                text = (
                    "the deadline can't be met any more"
                    if now < (entry.task.deadline_at or now)
                    else ("the deadline has passed")
                )
                self._ended.append(self._end(entry, TaskStatus.EXPIRED, text, now))

    def _least_latency_s(self) -> float:
        """Half the best median: what even a lucky call takes."""
        medians = [q[0] for p in self.balancer.providers if (q := p.history.quantiles())]
        return 0.5 * min(medians) if medians else 0.0

    def _give_up(self, entry: PendingTask, blocked: WaitCondition | None, now: float) -> Result:
        self._dequeue(entry)
        reasons = blocked.reasons if blocked is not None else ()
        why = "; ".join(f"{c.provider}: {candidate_text(c)}" for c in reasons if c.kind)
        told = "; ".join(retry_policy.describe(a) for a in entry.attempts if a.error_kind)
        text = f"no provider can serve it ({why or 'none is configured'})"
        status = TaskStatus.REFUSED if entry.retry.refused else TaskStatus.FAILED
        return self._end(entry, status, f"{told}; then {text}" if told else text, now)

    def _end(self, entry: PendingTask, status: TaskStatus, error: str, now: float) -> Result:
        self._forget(entry)
        return Result(
            entry.task, status, now, tuple(entry.attempts), error=error, warnings=entry.warnings,
            tier=entry.task.tier,
        )  # fmt: skip

    # ------------------------------------------------------------------ after a call

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
        """An attempt ended with a completion, an error, or neither (cancelled; `sent`: while it was out)."""
        entry = self._in_flight.pop(placement.permit, None)
        started_at = placement.at if started_at is None else started_at
        outcome = outcome_of(completion, error) if sent else Outcome.CANCELLED
        usage = completion.usage if completion is not None else (error.usage if error is not None else None)
        limits = completion.limits if completion is not None else (error.limits if error is not None else ())
        cost = self.balancer.settle(
            placement.permit, outcome, now,
            latency_s=now - started_at, usage=usage, error=error, limits=limits,
        )  # fmt: skip
        attempt = Attempt(
            placement.attempt, placement.provider, placement.model, placement.agent, outcome, started_at,
            now - started_at, placement.choice, placement.reasons, placement.forced,
            error.kind if error else "", error.message if error else "", error.status if error else None,
            usage or Usage(), cost, placement.max_tokens,
        )  # fmt: skip
        self._queues.wake_for(self.balancer.by_name[placement.provider].bit)
        if entry is None:
            return Settled(attempt, None)
        entry.attempts.append(attempt)
        return Settled(attempt, self._after(entry, placement, completion, error, now))

    def _after(
        self, entry: PendingTask, placement: Placement, completion: Completion | None,
        error: ProviderError | None, now: float,
    ) -> Result | None:  # fmt: skip
        if completion is not None:
            return self._succeed(entry, placement, completion, now)
        provider = self.balancer.by_name[placement.provider]
        retry = entry.retry
        retry.agent = placement.agent
        if error is not None:
            costed = sum(self._costs(a, entry.retry.offered_at) for a in entry.attempts)
            verdict = retry_policy.decide(
                error, provider, retry, entry.attempts, costed, now, self._settings.pool,
                failover_on_refusal=self._settings.routing.failover_on_refusal,
                max_hold_s=self._settings.routing.max_hold_s,
            )  # fmt: skip
            if verdict is not None:
                return self._end(entry, verdict[0], verdict[1], now)
            entry.asked = retry_policy.as_asked_next(entry.task, retry)
            if isinstance(error, RateLimited) and not retry.is_limited_alone:
                self._let_others_pass(retry)
        else:
            retry.attempt = len(entry.attempts) + 1
        if entry.task.deadline_at is not None and now >= entry.task.deadline_at:
            return self._end(entry, TaskStatus.EXPIRED, "the deadline has passed", now)
        self._enqueue(entry, now)
        return None

    def _let_others_pass(self, retry: RetryState) -> None:
        """It has drawn a 429: the cause may be the task, so that others of its priority go first."""
        priority, tag, number = retry.order
        passed = PASSED_AFTER_429 ** min(retry.draws_429, 8)
        retry.order = (priority, max(tag, self._virtual_time + passed), number)

    def _costs(self, attempt: Attempt, offered_at: float) -> bool:
        """Whether an attempt uses up one of the task's: forced calls and a dead network don't."""
        if attempt.forced or not attempt.error_kind:
            return False
        if attempt.error_kind in ("Unreachable", "TimedOut"):
            if attempt.started_at < offered_at:
                return False  # in an earlier life, whose times without network are not known any more
            registry, ended_at = self.balancer.registry, attempt.started_at + attempt.latency_s
            if registry.network.was_offline(attempt.started_at, ended_at):
                return False
            lost = attempt.error_kind == "Unreachable" and attempt.status is None
            if lost and not registry.heard_since(ended_at):
                return False  # it may be the network, until any provider has answered
        return PROVIDER_ERRORS[attempt.error_kind].costs_attempt

    def _succeed(
        self, entry: PendingTask, placement: Placement, completion: Completion, now: float
    ) -> Result:
        self._forget(entry)
        return Result(
            entry.task,
            TaskStatus.SUCCEEDED,
            now,
            tuple(entry.attempts),
            output=completion.text,
            finish_reason=completion.finish_reason.value,
            truncated=completion.finish_reason.value == "length",
            warnings=(*placement.warnings, *completion.warnings),
            tier=placement.tier,
            baseline_nanos=self.balancer.registry.prices.baseline_nanos(completion.usage, now),
        )

    # ------------------------------------------------------------------ queues

    def _enqueue(self, entry: PendingTask, now: float) -> None:
        self._queues.push(entry, now)
        if entry.task.deadline_at is not None:
            self._with_deadline += 1
            heapq.heappush(self._deadlines, (entry.task.deadline_at, next(self._sequence), entry))
            self._sweep_deadlines()

    def _sweep_deadlines(self) -> None:
        """Tasks that do not wait any more go, wherever in the heap they stand; each that waits stays once."""
        if len(self._deadlines) <= SLACK + 2 * self._with_deadline:
            return
        live = {item[2].retry.order: item for item in self._deadlines if item[2].queue is not None}
        self._deadlines[:] = live.values()
        heapq.heapify(self._deadlines)

    def _dequeue(self, entry: PendingTask) -> None:
        self._queues.take(entry)
        if entry.task.deadline_at is not None:
            self._with_deadline -= 1
            self._sweep_deadlines()
        if self._drop_hold(entry) is not None:
            self._queues.wake_held_back()

    def _forget(self, entry: PendingTask) -> None:
        task = entry.task
        self.balancer.registry.prompt_cache.left(entry.retry.prefixes)
        if self._entries.pop((task.batch, task.id), None) is None:
            return
        flow = self._flows[task.batch, task.submitter]
        flow.open -= 1
        if not flow.open:
            del self._flows[task.batch, task.submitter]

    # ------------------------------------------------------------------ for pages

    def waiting_for(self, limit: int = 6) -> tuple[WaitingFor, ...]:
        """What the waiting tasks wait for, the most common first."""
        return self._queues.waiting_for(limit)

    def binding_reason(self) -> WaitReason | None:
        """What the oldest waiting task waits for; None where all wait for a free agent only."""
        return self._queues.binding_reason()

    def spent_budget(self) -> BudgetRefusal | None:
        """By which budget without a reset every waiting task is kept; None while anything else may go on."""
        return self._queues.spent_budget()

    @property
    def kept_count(self) -> int:
        """How many waiting tasks a budget of their batch or submitter keeps."""
        return self._queues.kept_count()

    def kept_by_own_budget(self) -> list[tuple[BudgetRefusal, list[Task]]]:
        """The tasks that a budget of their batch or submitter keeps: nothing else keeps theirs from going."""
        return self._queues.kept_by_own_budget()

    def oldest_waiting_at(self) -> float | None:
        return self._queues.oldest_waiting_at()


def _is_hopeless(entry: PendingTask, blocked: WaitCondition, now: float) -> bool:
    """Nobody will ever serve it; one that was refused waits for nobody else who is out for long."""
    if blocked.until == NEVER or not entry.retry.refused or blocked.free or blocked.report is None:
        return blocked.until == NEVER
    return not blocked.report.expected_before(now + SOON_S)


def _uncertain(placement: Placement, now: float) -> Attempt:
    return Attempt(
        placement.attempt, placement.provider, placement.model, placement.agent, Outcome.UNCERTAIN,
        placement.at, now - placement.at, placement.choice, placement.reasons, placement.forced,
        "InternalError", cost_nanos=placement.reserved_nanos, max_tokens=placement.max_tokens,
    )  # fmt: skip


def outcome_of(completion: Completion | None, error: ProviderError | None) -> Outcome:
    """How an attempt is settled. Cut off, timed out or cancelled while it was out: it may be billed."""
    if completion is not None:
        return Outcome.OK
    if error is None:
        return Outcome.UNCERTAIN
    unanswered = error.status is None or error.status == 200
    if error.may_be_billed and error.sent and unanswered and error.usage is None:
        return Outcome.UNCERTAIN
    return Outcome.FAILED if error.counts_against_health else Outcome.NEUTRAL
