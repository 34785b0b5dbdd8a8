"""Before money is spent: the plan in short, and a question.

`run` asks above `confirm_above_usd`. A server asks about the tasks that are queued when it starts, since the
user may not know of them. It does not ask about tasks that are submitted while it serves.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ..bootstrap import Setup
from ..control_characters import terminal_safe
from ..core.intake import names_only_unpriced, price_remedy
from ..core.plans import Plan, TaskSample
from ..errors import InputError
from ..formatting import money, plural
from ..records import NANOS_PER_USD, Task
from ..settings import Settings
from .plan import WORTH_A_WORD, plan_sample
from .plan_text import short_lines
from .preflight import Preflight
from .progress import say
from .progress_counts import OPEN_STATUSES

if TYPE_CHECKING:
    from ..core.store import Store


def ask_first(
    setup: Setup,
    store: Store,
    found: Preflight,
    now: float,
    *,
    yes: bool,
    max_cost: float | None,
    quiet: bool,
) -> Plan | None:
    """Tell what is left of a batch and what it will cost; the plan, None where nothing is left.

    Raises click.Abort where the answer is no, InputError where nobody can be asked. Nothing is stored before.
    """
    if not found.sample.count:
        return None
    if found.sample.count > WORTH_A_WORD and not quiet:
        say(f"plan: {len(found.sample.kept):,} tasks go through virtual time, which takes some seconds")
    if max_cost is not None:
        _refuse_unpriced(found.sample.kept, setup.settings)
    plan = plan_sample(setup, store, found.sample, now)
    if not quiet:
        for line in short_lines(plan, found.bad):
            say(line)
    if not yes and (why := _too_dear(plan, setup.settings.confirm_above_usd, max_cost)):
        _ask(why, "--yes runs it, --max-cost USD bounds it")
    return plan


def ask_about_queue(setup: Setup, store: Store, now: float, *, yes: bool) -> None:
    """Before a live state is served: name the tasks that are open and their cost, and ask.

    Raises click.Abort where the answer is no, InputError where there is no terminal to ask on.
    """
    if setup.simulated or not (
        waiting := sum(store.reports.task_counts()[status] for status in OPEN_STATUSES)
    ):
        return
    if yes:
        say(f"answering {plural(waiting, 'task')} queued before this start (--yes)")
        return
    found = TaskSample()
    found.count, found.kept = store.reports.open_tasks(WORTH_A_WORD)
    if found.count:
        cost, them = _cost(plan_sample(setup, store, found, now)), "it" if found.count == 1 else "them"
        _ask(
            f"{plural(found.count, 'task')} queued before this start: {cost}",
            f"--yes answers {them}, the task list of web_server.py cancels {them}",
        )


def _cost(plan: Plan) -> str:
    if plan.price_is_unknown:
        return f"no price is known for {', '.join(plan.unknown_prices)}"
    more = f", and no price is known for {', '.join(plan.unknown_prices)}" if plan.unknown_prices else ""
    return f"expected to cost {money(plan.expected_nanos)}, at most {money(plan.highest_nanos)}{more}"


def _refuse_unpriced(tasks: Sequence[Task], settings: Settings) -> None:
    """Raises InputError where a cap would let no call pass: each task names models whose price is unknown."""
    kinds = {(task.models, task.providers): task for task in tasks}
    if all(names_only_unpriced(task, settings) for task in kinds.values()):
        models = sorted({model for task in tasks for model in task.models})
        shown = ", ".join(models[:3]) + (", ..." if len(models) > 3 else "")
        raise InputError(
            f"no price is known for {shown}, so --max-cost could not be kept and would let no call pass: "
            f"{price_remedy(models[0], settings)}, or leave --max-cost out"
        )


def _too_dear(plan: Plan, above_usd: float, max_cost: float | None) -> str:
    """Why a question is due; empty where none is. An unknown price is not taken for a small one."""
    if max_cost is not None and max_cost <= above_usd:
        return ""
    if plan.unknown_prices:
        return f"the price of {', '.join(plan.unknown_prices)} is unknown"
    if plan.expected_nanos <= above_usd * NANOS_PER_USD:
        return ""
    return f"this is expected to cost {money(plan.expected_nanos)}"


def _ask(why: str, remedy: str) -> None:
    """Raises click.Abort for a no, InputError with the `remedy` where there is no terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(f"{why}, and there is no terminal to ask on: {remedy}")
    sys.stderr.write(terminal_safe(f"{why}. Go on? [y/N] "))
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise click.Abort
