"""The waiting tasks in their classes and groups, and which class goes next.

    push(entry)          a task waits, for the first time or again
    take(entry)          it no longer waits
    next_class(now)      of all classes that are not parked, the one whose head goes first
    park(...)            its head has to wait, and so do those with the same condition
    next_at(now)         when time alone changes anything

The cost of a decision does not depend on the number of waiting tasks. If one condition holds all classes, it
grows only with the number of groups.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from random import Random

from ..records import RefusalKind, Task, WaitingFor, WaitReason
from .allocation.planner import FREE
from .candidates import WaitCondition, preferred_wait_ends_at
from .cost.budgets import BudgetRefusal
from .queue_groups import ALWAYS, PendingTask, QueueClass, QueueGroup
from .refusals import NEVER
from .retry_state import RetryState
from .routes import Route
from .state import ProviderState

APART = 64  # classes at most for tasks that differ only in having drawn a 429
_SLOTS = WaitReason(RefusalKind.SLOTS)
MOST_ROUTES = 1_000  # kept, since classes come and go


class Queues:
    """The queues of a scheduler. `route_of` builds the route of a task; times are UTC epoch seconds."""

    def __init__(
        self,
        route_of: Callable[[Task, float], Route],
        preferred_wait_s: float,
        providers: Sequence[ProviderState],
    ) -> None:
        self._route_of = route_of
        self._providers = providers
        self._preferred_wait_s = preferred_wait_s
        self._classes: dict[tuple[object, ...], QueueClass] = {}
        self._groups: dict[tuple[object, ...], QueueGroup] = {}
        self._parked: dict[QueueClass, None] = {}  # for a reason of their own
        self._new: dict[QueueClass, None] = {}  # whose head was not evaluated yet
        self._routes: dict[tuple[object, ...], Route] = {}
        self.waiting = 0

    def __iter__(self) -> Iterator[QueueClass]:
        return iter(self._classes.values())

    # ------------------------------------------------------------------ in and out

    def push(self, entry: PendingTask, now: float) -> None:
        """A task waits: find its class, or open one."""
        retry, task = entry.retry, entry.task
        key = entry.key
        if retry.attempt > 1:
            key = (
                *key, retry.tried, retry.refused, retry.avoid, retry.again, retry.max_tokens,
                bool(retry.failed), _apart_after_429s(retry),
            )  # fmt: skip
        found = self._classes.get(key)
        if found is None:
            route = self._routes.get(key)
            if route is None:
                if len(self._routes) >= MOST_ROUTES:
                    self._routes.clear()
                route = self._routes[key] = self._route_for(entry, now)
            group = self._group_of(route, entry)
            found = self._classes[key] = QueueClass(key, route, group, task.task_type, len(task.messages))
            group.classes[found] = None
        entry.queue = found
        heapq.heappush(found.heap, (retry.order, entry))
        found.count += 1
        found.chars += task.text_chars
        self.waiting += 1
        if found.route.prefer >= 0:
            self._providers[found.route.prefer].preferring += 1
        if found.heap[0][1] is entry:
            self._wake(found)
            self._new[found] = None

    def take(self, entry: PendingTask) -> None:
        """The task no longer waits. No effect for one that does not wait."""
        queue = entry.queue
        if queue is None:
            return
        entry.queue = None
        queue.count -= 1
        queue.chars -= entry.task.text_chars
        self.waiting -= 1
        if queue.route.prefer >= 0:
            self._providers[queue.route.prefer].preferring -= 1
        if not queue.count:
            self._drop(queue)
        elif queue.heap[0][1] is entry:
            heapq.heappop(queue.heap)
            queue.head()
            if queue.parked_until == ALWAYS:
                queue.group.enlist(queue)
        else:
            queue.sweep()

    def _route_for(self, entry: PendingTask, now: float) -> Route:
        """The route of the task. A turn of a run prefers the provider that served the last one."""
        route, prefer = self._route_of(entry.task, now), entry.retry.prefer
        if route.best_rank is None and any(option.provider.index == prefer for option in route.options):
            return replace(route, prefer=prefer)
        return route

    def _group_of(self, route: Route, entry: PendingTask) -> QueueGroup:
        again, hurried = entry.retry.attempt > 1, entry.task.deadline_at is not None
        places = (route.groups, route.pinned)
        key = (places, route.prefer, again, hurried)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = QueueGroup(places, route.prefer, again, hurried)
        return group

    def _drop(self, queue: QueueClass) -> None:
        del self._classes[queue.key]
        self._parked.pop(queue, None)
        self._new.pop(queue, None)
        group = queue.group
        del group.classes[queue]
        if not group.classes:
            del self._groups[group.places, group.prefer, group.again, group.hurried]

    def reroute(self, now: float) -> None:
        """The models that tasks may use have changed: every class gets a new route and wakes."""
        self._routes.clear()
        self._groups.clear()
        self._parked.clear()
        for each in list(self._classes.values()):
            head = each.head()
            if head is None:
                raise AssertionError(f"a class without tasks was kept: {each.key}")
            each.route = self._routes[each.key] = self._route_for(head, now)
            each.advice = FREE
            each.group = self._group_of(each.route, head)
            each.group.classes[each] = None
            each.listed, each.rests_until = (), ALWAYS
            self._wake(each)

    # ------------------------------------------------------------------ whose turn

    def next_class(self, now: float) -> QueueClass | None:
        """The class whose head goes first; None: all are parked or empty."""
        best = None
        for group in self._groups.values():
            if group.parked_until > now:
                continue
            if group.parked_until > ALWAYS:
                group.unpark()
            found = group.first(now)
            if found is not None and (best is None or found.listed < best.listed):
                best = found
        # A new class is evaluated although its group waits: no provider may ever be able to serve it.
        while best is None and self._new:
            new = next(iter(self._new))
            del self._new[new]
            if new.parked_until <= now:
                best = new
        if best is not None:
            self._new.pop(best, None)
        return best

    def park(self, queue: QueueClass, blocked: WaitCondition, now: float) -> None:
        """The head of `queue` has to wait, and so do those with the same condition."""
        if blocked.common:
            self.park_alike(queue, blocked, now)
        if not blocked.common or blocked.free or queue.group.parked_until <= now:
            self._park(queue, blocked, blocked.until)

    def _park(self, queue: QueueClass, blocked: WaitCondition, until: float | None) -> None:
        queue.park(blocked, until)
        self._parked[queue] = None
        queue.group.rest(queue)

    def park_alike(self, queue: QueueClass, blocked: WaitCondition, now: float) -> None:
        """The condition is not specific to the class: all with the same options, or preference, wait."""
        if blocked.free:
            self._park_for_preferred(queue.group, blocked, now)
        elif blocked.room_at > now:
            for group in self._groups.values():
                if group.parked_until <= now and group.places == queue.group.places and not group.hurried:
                    group.park(blocked, blocked.room_at)

    def _park_for_preferred(self, group: QueueGroup, blocked: WaitCondition, now: float) -> None:
        """Other providers are free: each head waits for its preferred one for its own time."""
        if group.again or group.hurried:
            return
        for each in group.classes:
            head = each.head() if each.parked_until <= now else None
            if head is None:
                continue
            preferred_until = preferred_wait_ends_at(
                head.retry.offered_at, blocked.progress_at, self._preferred_wait_s
            )
            if preferred_until > now:
                self._park(each, blocked, min(blocked.room_at, preferred_until))

    def next_at(self, now: float) -> float:
        """When time alone lets a class be evaluated again; NEVER: it does not."""
        return min((group.next_at(now) for group in self._groups.values()), default=NEVER)

    def draw(self, provider: ProviderState, dice: Random) -> PendingTask | None:
        """A task without failures and 429s that may go to the provider, each with the same probability."""
        classes, counts = [], []
        for each in self._classes.values():
            head = each.head()
            if head is None or head.retry.failed or head.retry.draws_429:
                continue
            if any(option.provider is provider for option in each.route.options):
                classes.append(each)
                counts.append(each.count)
        return dice.choices(classes, counts)[0].draw(dice) if classes else None

    # ------------------------------------------------------------------ waking

    def _wake(self, queue: QueueClass) -> None:
        queue.unpark()
        self._parked.pop(queue, None)
        queue.group.enlist(queue)

    def wake_all(self) -> None:
        """Something changed for all tasks: weights, a pause, the network."""
        for group in self._groups.values():
            group.unpark()
        self._wake_those(self._parked)

    def wake_for(self, providers: int) -> None:
        """A call to one of these providers has ended, or they take more calls. `providers`: their bits."""
        for group in self._groups.values():
            if group.settles & providers:
                group.unpark()
        if self._parked:
            self._wake_those(each for each in self._parked if each.settles & providers)

    def wake_held_back(self) -> None:
        """A head-of-line hold has ended: the classes that it kept are evaluated again."""
        self._wake_those(each for each in self._parked if each.held_back)

    def _wake_those(self, queues: Iterable[QueueClass]) -> None:
        for each in list(queues):
            self._wake(each)

    # ------------------------------------------------------------------ for pages

    def waiting_for(self, limit: int) -> tuple[WaitingFor, ...]:
        """What the waiting tasks wait for, the most common first."""
        found: dict[WaitReason, list[float]] = {}
        for each in self._classes.values():
            holder = each.holder
            if holder.parked_until > ALWAYS:
                sums = found.setdefault(holder.waits_for or _SLOTS, [0, NEVER])
                sums[0] += each.count
                sums[1] = min(sums[1], holder.parked_until)
        rows = sorted(found.items(), key=lambda item: -item[1][0])[:limit]
        return tuple(WaitingFor(int(n), at if at < NEVER else None, why) for why, (n, at) in rows)

    def binding_reason(self) -> WaitReason | None:
        """What the oldest waiting task waits for; None: for a free agent slot."""
        first = min(self._classes.values(), key=lambda c: c.heap[0][0], default=None)
        if first is None or first.holder.parked_until == ALWAYS:
            return None
        return first.holder.waits_for

    def spent_budget(self) -> BudgetRefusal | None:
        """The budget without a reset that blocks every waiting task; None while any may continue."""
        kept = [
            c.over_budget
            for c in self._parked
            if c.over_budget is not None and c.over_budget.until is None and c.parked_until > ALWAYS
        ]
        return kept[0] if kept and len(kept) == len(self._classes) else None

    def kept_count(self) -> int:
        """How many tasks `kept_by_own_budget` returns."""
        return sum(c.count for c in self._parked if _keeps_itself(c))

    def kept_by_own_budget(self) -> list[tuple[BudgetRefusal, list[Task]]]:
        """The tasks that only a budget of their own batch or submitter blocks, by class."""
        return [
            (c.over_budget, [entry.task for _, entry in c.heap if entry.queue is c])
            for c in self._parked
            if c.over_budget is not None and _keeps_itself(c)
        ]

    def oldest_waiting_at(self) -> float | None:
        """When the oldest waiting task was offered; None without one."""
        heads = [h.task.created_at for c in self._classes.values() if (h := c.head()) is not None]
        return min(heads, default=None)


def _apart_after_429s(retry: RetryState) -> int:
    """The part of a class's key that separates tasks with wait times of their own."""
    return 1 + int(retry.order[2]) % APART if retry.draws_429 else 0


def _keeps_itself(each: QueueClass) -> bool:
    """Whether a budget of its own batch or submitter, and no shared one, blocks the class."""
    over = each.over_budget
    return over is not None and over.rule.scope in ("batch", "submitter") and each.parked_until > ALWAYS
