"""What asking every option of a task has brought, and what a task remembers between its attempts.

The `Chooser` fills a `Survey`; where nothing can go now, `blocked` makes of it what dispatch acts on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..records import Candidate, Message
from .budgets import Refusal
from .limits import Need
from .prefixes import Prefix
from .routes import Option
from .state import AgentState, ProviderState

NEVER = math.inf
SOON_S = 600.0  # where a budget refuses, a provider that is out for longer is nothing to wait for
CLAIMED = "an older task waits for its room"
SHUNNED = "its room is left to tasks that are charged less there"


@dataclass(slots=True)
class Memory:
    """What a task remembers of its earlier attempts, and how long it has waited."""

    offered_at: float
    order: tuple[float, ...] = ()  # its place in the queue: smaller goes first
    attempt: int = 1
    tried: int = 0  # bits of the providers that failed it
    tried_until: float = 0.0  # until then they are not asked again
    avoid: frozenset[str] = frozenset()  # models that can't serve it
    again: int = -1  # the provider that gets one more try at once
    max_tokens: int | None = None  # after an answer without text: more room
    turns: tuple[Message, ...] = ()  # after an answer that does not match its schema: that, and what is wrong
    agent: AgentState | None = None  # who served it last
    prefixes: tuple[Prefix, ...] = ()  # beginnings of its prompt that others may share, the longest first


class Blocked(NamedTuple):
    """Why a task could not be placed, in a form that dispatch can act on."""

    until: float | None  # None: something must settle; NEVER: no provider will ever serve it
    reasons: tuple[Candidate, ...]
    claim: tuple[Option, float] | None  # the model group it waits for with first claim, and until when
    settles: int  # bits of providers whose next settle may make room
    over_budget: Refusal | None = None  # set where a budget alone keeps the task from going now
    waits_for: str = ""  # for people: what is expected to end first
    common: bool = False  # nothing of the task's own is in the way: its like in other classes wait as well
    free: bool = False  # others could serve it, but it waits for its preferred provider
    room_at: float = NEVER  # when the first refusal ends
    claimed: bool = False  # an older task's claim keeps it out somewhere


class Survey:
    """What asking every option of a task has brought."""

    __slots__ = (
        "any_settle",
        "claim",
        "eligible",
        "needs",
        "over_budget",
        "own",
        "reasons",
        "refused",
        "scores",
        "spill_at",
        "wake_at",
    )

    def __init__(self) -> None:
        self.eligible: list[Option] = []
        self.scores: dict[int, float] = {}
        self.needs: dict[int, Need] = {}  # by id(option): what the call would draw there
        self.reasons: list[Candidate] = []
        self.refused: list[tuple[Option, str, float | None]] = []
        self.claim: tuple[Option, float] | None = None
        self.wake_at = NEVER
        self.spill_at = NEVER  # until then the task waits for its preferred provider although others are free
        self.own = False  # whether a refusal is about this task and not about everybody
        self.any_settle = False  # a settle anywhere may make room: a budget is not one provider's
        self.over_budget: list[Refusal] = []  # budgets that no settle will open again

    def accept(self, option: Option, score: float) -> None:
        self.eligible.append(option)
        self.scores[option.provider.index] = score
        self.reasons.append(Candidate(option.provider.name, option.model.name, score))

    def refuse(self, option: Option, why: str, until: float | None) -> None:
        self.refused.append((option, why, until))
        self.reasons.append(Candidate(option.provider.name, option.model.name, option.provider.score, why))

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
        settles = -1 if self.any_settle else 0
        until = self.wake_at
        claims = self.claim is not None
        for option, _, end in self.refused:
            provider = option.provider
            opens = provider.in_flight and (provider.may_open_up or now < option.model.group.cold_until)
            if end is None or claims or opens:
                settles |= provider.bit
            if end is not None and end < until:
                until = end
        if self.spill_at == NEVER:  # it waits for a call that is out, of whoever it may be
            for option in self.eligible:
                settles |= option.provider.bit
        only_budget = self.over_budget and not self.eligible and not self._may_go_elsewhere_by(now + SOON_S)
        over = self.over_budget[0] if only_budget else None
        common = not self.own and (self.spill_at < NEVER if self.eligible else self.expected_before(latest))
        ends = min(until, self.spill_at)
        return Blocked(
            None if ends == NEVER and settles else ends,
            tuple(self.reasons), self.claim, settles, over, self._waits_for(), common,
            bool(self.eligible), until, any(why is CLAIMED for _, why, _ in self.refused),
        )  # fmt: skip

    def _may_go_elsewhere_by(self, latest: float) -> bool:
        """Whether an option that no budget refuses may come free by then."""
        refusals = {str(refusal) for refusal in self.over_budget}
        return any(
            why not in refusals and why != SHUNNED and (end is None or end <= latest)
            for _, why, end in self.refused
        )

    def _waits_for(self) -> str:
        """The refusal that ends first; one whose end nobody knows comes after all that are known."""
        if not self.refused:
            return "its preferred provider" if self.eligible else ""
        option, why, _ = min(self.refused, key=lambda r: math.inf if r[2] is None else r[2])
        name = option.provider.name
        return why if why.startswith((name, "budget", "offline")) else f"{name}: {why}"


def _indefinite(why: str) -> bool:
    """Refusals that no settle will lift."""
    return why in ("paused", "weight is 0")
