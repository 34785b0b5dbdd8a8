"""The result of evaluating a task's options, and the wait condition of a task that can't be placed.

`ProviderSelector` fills a `CandidateReport`. Where no option can serve the task now, the report becomes the
`WaitCondition` that the scheduler acts on.
"""

from __future__ import annotations

from typing import NamedTuple

from ..records import Candidate, Placement, RefusalKind, WaitReason
from .cost.budgets import BudgetRefusal
from .health.circuit_breaker import CLOSED
from .refusals import NEVER, TASK, Refusal
from .routes import Option, Route
from .state import ProviderState

SOON_S = 600.0  # where a budget refuses, no provider that is unavailable for longer is waited for
PATIENCE = 4.0  # x preferred_wait_s: how long a task waits at most in a queue that moves

_new = tuple.__new__  # at every decision: a third of the time of a call of the class
_AT_PREFERRED = WaitReason(RefusalKind.PREFERRED)


class WaitCondition(NamedTuple):
    """What ends the wait of a task that could not be placed.

    `until` is UTC epoch seconds; None: a call must settle; NEVER: no provider can ever serve the task.
    """

    until: float | None
    settles: int  # bits of providers whose next settled call may let the task go
    report: CandidateReport | None = None  # None: no option was evaluated
    head_of_line: tuple[Option, float] | None = (
        None  # the option whose group it holds as the oldest, and until when
    )
    over_budget: BudgetRefusal | None = None  # set if only a budget blocks the task now
    waits_for: WaitReason | None = None  # what is expected to end first
    common: bool = False  # not specific to the task: similar tasks of other classes wait as well
    free: bool = False  # others could serve it, but it waits for its preferred provider
    room_at: float = NEVER  # when the first refusal ends
    held_back: bool = False  # an older task holds a group that it could use
    progress_at: float = -NEVER  # where `free`: as in `CandidateReport`

    @property
    def reasons(self) -> tuple[Candidate, ...]:
        """The outcome of every option, and every provider that the route leaves out."""
        return self.report.reasons() if self.report is not None else ()


class PlacementResult(NamedTuple):
    """The outcome of one attempt to place a task: at least one of the two is set.

    With a placement, `blocked` is the condition that all similar tasks wait for from now on; None: others may
    go as well.
    """

    placement: Placement | None
    blocked: WaitCondition | None


class CandidateReport:
    """Which options of a route are eligible for a task, and why the others are not."""

    __slots__ = (
        "any_settle",
        "eligible",
        "head_of_line",
        "held_back",
        "on_trial",
        "over_budget",
        "own",
        "preferred_until",
        "progress_at",
        "refused",
        "route",
        "scores",
        "wake_at",
        "writers",
    )

    def __init__(self, route: Route) -> None:
        self.route = route
        self.eligible: list[Option] = []
        self.scores: dict[int, float] = {}  # by provider
        self.refused: list[tuple[Option, Refusal]] = []  # with `eligible`: in the order of the route
        self.head_of_line: tuple[Option, float] | None = (
            None  # of the groups short of tokens, the first to have them
        )
        self.held_back = False  # whether an older task holds a group
        self.writers = 0  # bits of providers with a call in flight that writes the task's prefix to a cache
        self.wake_at = NEVER
        self.preferred_until = (
            NEVER  # until then the task waits for its preferred provider although others are free
        )
        self.progress_at = -NEVER  # when a call last went to the preferred provider, if its limits keep it
        self.on_trial = False  # whether a call to one of the eligible would be a probe
        self.own = False  # whether a refusal is about this task alone
        self.any_settle = False  # a settle at any provider may help: a budget is not one provider's
        self.over_budget: list[BudgetRefusal] = []  # those that no settle ends

    # ------------------------------------------------------------------ filling

    def admit(self, option: Option, score: float, on_trial: bool) -> None:
        """The option is eligible."""
        self.eligible.append(option)
        self.scores[option.provider.index] = score
        if on_trial:
            self.on_trial = True

    def refuse(self, option: Option, refusal: Refusal) -> None:
        """The option is not eligible."""
        self.refused.append((option, refusal))
        if refusal.scope is TASK or refusal.budget is not None:
            self.note(option, refusal)

    def note(self, option: Option, refusal: Refusal) -> None:
        """What the refusal means for the task as a whole."""
        if refusal.scope is TASK:
            self.own = True
        if refusal.budget is not None:
            if refusal.budget.in_flight:
                self.any_settle = True
            else:
                self.over_budget.append(refusal.budget)
        elif refusal.kind is RefusalKind.HEAD_OF_LINE:
            self.held_back = True
        elif refusal.kind is RefusalKind.RATE_LIMIT and refusal.scope is TASK and refusal.until is not None:
            self._offer_hold(option, refusal.until)

    def _offer_hold(self, option: Option, until: float) -> None:
        if until < NEVER and (self.head_of_line is None or until < self.head_of_line[1]):
            self.head_of_line = (option, until)

    def wake_by(self, at: float) -> None:
        """Evaluate the task again at `at` at the latest."""
        self.wake_at = min(self.wake_at, at)

    # ------------------------------------------------------------------ reading

    def reasons(self) -> tuple[Candidate, ...]:
        """A line for every option in the order of the route, then one for every provider left out."""
        found = [
            _new(
                Candidate,
                (option.provider.name, option.model.name, self.scores[option.provider.index], "", ""),
            )
            for option in self.eligible
        ]
        if self.refused:
            found = self._with_refused(found)
        return (*found, *self.route.excluded)

    def _with_refused(self, admitted: list[Candidate]) -> list[Candidate]:
        found = []
        lines, refused = iter(admitted), iter(self.refused)
        following = next(refused, None)
        for option in self.route.options:
            if following is not None and option is following[0]:
                provider, refusal = option.provider, following[1]
                found.append(
                    Candidate(provider.name, option.model.name, provider.score, refusal.kind, refusal.detail)
                )
                following = next(refused, None)
            else:
                found.append(next(lines))
        return found

    def until_of(self, provider: ProviderState) -> float | None:
        """The earliest end of the provider's refusals; None: unknown; NEVER: no settle will lift them."""
        ends = [
            NEVER if refusal.is_indefinite else refusal.until
            for option, refusal in self.refused
            if option.provider is provider
        ]
        known = [until for until in ends if until is not None]
        if len(known) < len(ends):
            return None
        return min(known, default=NEVER)

    def expected_before(self, latest: float) -> bool:
        """Whether time or a settled call is expected to admit any option by `latest`."""
        return any(refusal.may_end_by(latest) for _, refusal in self.refused)

    def wait_condition(self, now: float, latest: float) -> WaitCondition:
        """What the task waits for. `latest`: from then on a call may be forced through an open breaker."""
        room_at, first = self.wake_at, self.refused[0] if self.refused else None
        ends_at = NEVER
        for each in self.refused:
            end = each[1].until
            if end is not None and end < ends_at:
                ends_at, first = end, each
        room_at = min(room_at, ends_at)
        settles = self._settles(now)
        until = min(room_at, self.preferred_until)
        shared = self.preferred_until < NEVER if self.eligible else self.expected_before(latest)
        return WaitCondition(
            None if until == NEVER and settles else until,
            settles, self, self.head_of_line, self._spent_budget(now), self._waits_for(first),
            not self.own and shared, bool(self.eligible), room_at, self.held_back, self.progress_at,
        )  # fmt: skip

    def _settles(self, now: float) -> int:
        """Bits of the providers whose next settled call may change the report; -1: any."""
        if self.any_settle:
            return -1
        settles = self.writers
        for option, refusal in self.refused:
            provider = option.provider
            if (
                refusal.until is None
                or self.head_of_line is not None
                or provider.may_open_up
                or (refusal.until < NEVER and _may_end_early(option, now))
            ):
                settles |= provider.bit
        if self.preferred_until == NEVER:  # eligible, and still waiting: for a call in flight, wherever it is
            for option in self.eligible:
                settles |= option.provider.bit
        return settles

    def _spent_budget(self, now: float) -> BudgetRefusal | None:
        """The budget that keeps the task, where nothing else is worth waiting for."""
        if not self.over_budget or self.eligible:
            return None
        for _, refusal in self.refused:
            ends_soon = refusal.until is None or refusal.until <= now + SOON_S
            if ends_soon and not refusal.is_by_budget and refusal.kind is not RefusalKind.RESERVED:
                return None
        return self.over_budget[0]

    def _waits_for(self, first: tuple[Option, Refusal] | None) -> WaitReason | None:
        """The refusal that ends first; an unknown end comes after all known ones."""
        if first is None:
            return _AT_PREFERRED if self.eligible else None
        option, refusal = first
        return refusal.wait_reason(option.provider.name)


def preferred_wait_ends_at(offered_at: float, progress_at: float, after_s: float) -> float:
    """Until when a task waits for its preferred provider although others are free.

    `after_s` since the task came or since a call last went there (`progress_at`), and PATIENCE times that at
    most: a queue that moves is worth waiting in, one that stands still is not.
    """
    return min(max(offered_at, progress_at) + after_s, offered_at + PATIENCE * after_s)


def _may_end_early(option: Option, now: float) -> bool:
    """Whether the next settled call may end a refusal that has an end."""
    provider = option.provider
    if provider.breaker.state is not CLOSED:  # a forced call may succeed
        return True
    return provider.in_flight > 0 and (now < option.model.group.cold_until or provider.doubted)
