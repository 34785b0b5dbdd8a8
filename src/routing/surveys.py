"""What asking every option of a task has brought, and what a task remembers between its attempts.

The `Chooser` fills a `Survey`; where nothing can go now, `blocked` makes of it what dispatch acts on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..records import Candidate, Message, Placement
from .blame import SURELY_OWN, Evidence
from .breaker import CLOSED
from .budgets import Refusal
from .limits import Need
from .prefixes import Prefix
from .routes import Option, Route
from .state import AgentState, ProviderState

NEVER = math.inf
SOON_S = 600.0  # where a budget refuses, a provider that is out for longer is nothing to wait for
PATIENCE = 4.0  # x preferred_wait_s: a queue in which tasks go is waited in for so long at most
CLAIMED = "an older task waits for its room"
SHUNNED = "its room is left to tasks that are charged less there"


@dataclass(slots=True)
class Memory:
    """What a task remembers of its earlier attempts, and how long it has waited."""

    offered_at: float
    order: tuple[float, ...] = ()  # its place in the queue: smaller goes first
    attempt: int = 1
    given_up: tuple[int, float] | None = None  # (provider, how long) whose silence it has left
    failed: tuple[tuple[int, int], ...] = ()  # (provider, permit) of its first failure at each
    limited: tuple[tuple[Evidence, int], ...] = ()  # (model group's, permit) of its newest 429 at each
    own_429s: int = 0  # those that another call's answer shows to be the row's own, as `blame.py` counts them
    draws_429: int = 0  # with each it lets more others go first
    tried: int = 0  # bits of the providers that failed it
    tried_until: float = 0.0  # until then they are not asked again
    refused: int = 0  # bits of those that refused its content: they are not asked again
    avoid: frozenset[str] = frozenset()  # models that can't serve it, and provider/model where one can't
    again: int = -1  # the provider that gets one more try at once
    max_tokens: int | None = None  # after an answer without text: more room
    turns: tuple[Message, ...] = ()  # after an answer that does not match its schema: that, and what is wrong
    agent: AgentState | None = None  # who served it last
    prefixes: tuple[Prefix, ...] = ()  # beginnings of its prompt that others may share, the longest first

    @property
    def is_limited_alone(self) -> bool:
        """Whether its 429s are no matter of pace but its own."""
        return self.own_429s >= SURELY_OWN


class Blocked(NamedTuple):
    """Why a task could not be placed, in a form that dispatch can act on."""

    until: float | None  # None: something must settle; NEVER: no provider will ever serve it
    settles: int  # bits of providers whose next settle may make room
    survey: Survey | None = None  # None: nobody was asked
    claim: tuple[Option, float] | None = None  # the model group it has first claim on, and until when
    over_budget: Refusal | None = None  # set where a budget alone keeps the task from going now
    waits_for: str = ""  # for people: what is expected to end first
    common: bool = False  # nothing of the task's own is in the way: its like in other classes wait as well
    free: bool = False  # others could serve it, but it waits for its preferred provider
    room_at: float = NEVER  # when the first refusal ends
    claimed: bool = False  # an older task's claim keeps it out somewhere
    progress_at: float = -NEVER  # where `free`: as in `Survey`

    @property
    def reasons(self) -> tuple[Candidate, ...]:
        """What every provider has said."""
        return self.survey.reasons() if self.survey is not None else ()


class Tried(NamedTuple):
    """What came of the try to place a task: at least one of the two.

    With a placement, `blocked` says what from now on keeps all of its like; None: others may go as well.
    """

    placement: Placement | None
    blocked: Blocked | None


class Survey:
    """What asking every option of a task has brought."""

    __slots__ = (
        "any_settle",
        "claim",
        "claimed",
        "eligible",
        "needs",
        "on_trial",
        "over_budget",
        "own",
        "progress_at",
        "refused",
        "route",
        "scores",
        "spill_at",
        "wake_at",
        "writers",
    )

    def __init__(self, route: Route) -> None:
        self.route = route
        self.eligible: list[Option] = []
        self.scores: dict[int, float] = {}
        self.needs: dict[int, Need] = {}  # by id(option): what the call would draw there
        self.refused: list[tuple[Option, str, float | None]] = []
        self.claim: tuple[Option, float] | None = None
        self.claimed = False  # whether an older task's claim is in the way
        self.writers = 0  # bits of providers with a call out that brings the task's beginning into a cache
        self.wake_at = NEVER
        self.spill_at = NEVER  # until then the task waits for its preferred provider although others are free
        self.progress_at = -NEVER  # when a call last went to the preferred provider, if its limits keep it
        self.on_trial = False  # whether one of the eligible is
        self.own = False  # whether a refusal is about this task and not about everybody
        self.any_settle = False  # a settle anywhere may make room: a budget is not one provider's
        self.over_budget: list[Refusal] = []  # budgets that no settle will open again

    def reasons(self) -> tuple[Candidate, ...]:
        """A line for every option in the order of the route, then one for every provider left out."""
        found = []
        refused = iter(self.refused)
        eligible = iter(self.eligible)
        accepted = next(eligible, None)
        for option in self.route.options:
            provider = option.provider
            if option is accepted:
                found.append(Candidate(provider.name, option.model.name, self.scores[provider.index]))
                accepted = next(eligible, None)
            else:
                found.append(Candidate(provider.name, option.model.name, provider.score, next(refused)[1]))
        return (*found, *self.route.excluded)

    def offer_claim(self, option: Option, until: float) -> None:
        if until < NEVER and (self.claim is None or until < self.claim[1]):
            self.claim = (option, until)

    def until_of(self, provider: ProviderState) -> float | None:
        """The earliest end of the provider's refusals; None: unknown; NEVER: no settle will lift them."""
        ends = [
            NEVER if until is None and _indefinite(why) else until
            for option, why, until in self.refused
            if option.provider is provider
        ]
        if not ends:
            return NEVER
        known = [until for until in ends if until is not None]
        return min(known) if known and len(known) == len(ends) else None

    def wake_by(self, at: float) -> None:
        self.wake_at = min(self.wake_at, at)

    def expected_before(self, latest: float) -> bool:
        """Whether any option is expected to come free by then; one that waits for a settle is."""
        return any(
            until <= latest if until is not None else not _indefinite(why) for _, why, until in self.refused
        )

    def blocked(self, now: float, latest: float) -> Blocked:
        """What dispatch is told. `latest`: until then room is waited for before anything is forced."""
        settles = -1 if self.any_settle else self.writers
        until, ends_at = self.wake_at, NEVER
        claims, expected = self.claim is not None, False
        first: tuple[Option, str, float | None] | None = self.refused[0] if self.refused else None
        for refusal in self.refused:
            option, why, end = refusal
            provider = option.provider
            if end is None:
                settles |= provider.bit
                expected = expected or not _indefinite(why)
                continue
            if end < ends_at:
                ends_at, first = end, refusal
            expected = expected or end <= latest
            cold = provider.in_flight and end < NEVER and now < option.model.group.cold_until
            closes = end < NEVER and provider.breaker.state is not CLOSED  # if a forced call succeeds
            doubt = end < NEVER and provider.in_flight and provider.doubted  # which an answer ends
            if claims or cold or closes or doubt or provider.may_open_up:
                settles |= provider.bit
        until = min(until, ends_at)
        if self.spill_at == NEVER:  # it waits for a call that is out, of whoever it may be
            for option in self.eligible:
                settles |= option.provider.bit
        only_budget = self.over_budget and not self.eligible and not self._may_go_elsewhere_by(now + SOON_S)
        over = self.over_budget[0] if only_budget else None
        common = not self.own and (self.spill_at < NEVER if self.eligible else expected)
        ends = min(until, self.spill_at)
        return Blocked(
            None if ends == NEVER and settles else ends,
            settles, self, self.claim, over, self._waits_for(first), common,
            bool(self.eligible), until, self.claimed, self.progress_at,
        )  # fmt: skip

    def _may_go_elsewhere_by(self, latest: float) -> bool:
        """Whether an option that no budget refuses may come free by then."""
        refusals = {str(refusal) for refusal in self.over_budget}
        return any(
            why not in refusals and why != SHUNNED and (end is None or end <= latest)
            for _, why, end in self.refused
        )

    def _waits_for(self, first: tuple[Option, str, float | None] | None) -> str:
        """The refusal that ends first; one whose end nobody knows comes after all that are known."""
        if first is None:
            return "its preferred provider" if self.eligible else ""
        option, why, _ = first
        if why == "offline":
            return "the network"
        name = option.provider.name
        return why if why.startswith((name, "budget", "cap of batch")) else f"{name}: {why}"


def spills_at(offered_at: float, progress_at: float, after_s: float) -> float:
    """Until when a task waits for its preferred provider although others are free.

    `after_s` since the task came or since a call last went there (`progress_at`), and PATIENCE times that at
    most: a queue that moves is worth waiting in, one that stands is not.
    """
    return min(max(offered_at, progress_at) + after_s, offered_at + PATIENCE * after_s)


def _indefinite(why: str) -> bool:
    """Refusals that no settle will lift."""
    return why in ("paused", "weight is 0")
