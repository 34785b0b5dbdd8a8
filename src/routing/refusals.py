"""Why a task can't go to a provider now.

A refusal has a kind, an end and a scope. Decisions compare kinds and scopes; `refusal_text.py` makes text
of them, which no decision reads.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import NamedTuple

from ..records import RefusalKind, WaitReason
from .cost.budgets import BudgetRefusal

NEVER = math.inf

_INDEFINITE = frozenset({RefusalKind.PAUSED, RefusalKind.ZERO_WEIGHT})
_BY_BUDGET = frozenset({RefusalKind.BUDGET_SPENT, RefusalKind.BUDGET_TOO_SMALL})
_OF_BUDGETS = _BY_BUDGET | {RefusalKind.BUDGET_IN_USE}


class Scope(Enum):
    """Which tasks a refusal affects: a wider scope includes every narrower one."""

    TASK = "task"  # this one, by its size, model, history or budget
    GROUP = "group"  # all tasks for a rate-limit group
    PROVIDER = "provider"
    POOL = "pool"


# Module names: a decision looks them up faster than a member of a class.
TASK, GROUP, PROVIDER, POOL = Scope.TASK, Scope.GROUP, Scope.PROVIDER, Scope.POOL


class Refusal(NamedTuple):
    """Why one option is not eligible.

    `until` is UTC epoch seconds; None: until a call settles; NEVER: no time ends it. `budget` is set where a
    budget refuses the call, even if another refusal lasts longer and names the kind.
    """

    kind: RefusalKind
    until: float | None = None
    scope: Scope = PROVIDER
    detail: str = ""
    budget: BudgetRefusal | None = None

    @property
    def is_indefinite(self) -> bool:
        """Whether only a user ends it, not time or a call."""
        return self.kind in _INDEFINITE

    @property
    def is_by_budget(self) -> bool:
        """Whether it ends with a budget's period, or when its limit is raised."""
        return self.kind in _BY_BUDGET

    def may_end_by(self, latest: float) -> bool:
        """Whether time or a call may end it by `latest`."""
        return not self.is_indefinite if self.until is None else self.until <= latest

    def wait_reason(self, provider: str) -> WaitReason:
        """The refusal as what a task waits for."""
        scope = self.budget.rule.scope if self.budget is not None and self.kind in _OF_BUDGETS else ""
        return WaitReason(self.kind, provider, self.detail, scope)
