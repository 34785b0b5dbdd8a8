"""The plan in short and a question, before money is spent.

`run` asks above `confirm_above_usd`. A server asks about tasks that are queued when it starts, since the user
may not know of them. It does not ask about tasks that are submitted while it serves.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from ..control_characters import terminal_safe
from ..core.budget_keeper import kept_caps
from ..core.intake import names_only_unpriced, price_remedy
from ..core.plans import Plan, TaskSample
from ..errors import InputError
from ..formatting import money, plural, shortened
from ..package import program
from ..records import NANOS_PER_USD, OPEN_STATUSES, Task
from ..settings import Settings
from .plan import SLOW_FROM, plan_sample
from .plan_text import models_text, short_lines
from .preflight import Preflight
from .session import Session


def confirm_run(
    session: Session, found: Preflight, *, yes: bool, cap: Cap | None, quiet: bool, defers: bool = False
) -> Plan | None:
    """Print the plan of what is left of a batch, and ask. Returns the plan; None if nothing is left.

    `defers`: its tasks may go to the providers' batch APIs.

    Raises click.Abort if the answer is no, InputError without a terminal. Nothing is stored before.
    """
    if not found.sample.count:
        return None
    if found.sample.count > SLOW_FROM and not quiet:
        session.note(f"planning {len(found.sample.kept):,} tasks, which takes some seconds")
    settings = session.setup.settings
    if cap is not None:
        _refuse_unpriced(found.sample.kept, settings)
    plan = plan_sample(session, found.sample, defers=defers)
    affordable = plan if cap is None else _affordable(session, found.sample, plan, cap)
    if not quiet:
        for line in short_lines(plan, affordable, found.rejected):
            session.note(line)
    if not yes and (why := _why_ask(plan, affordable, settings.confirm_above_usd, cap)):
        ask(why, "--yes runs it, --max-cost USD bounds it")
    return affordable


def _affordable(session: Session, sample: TaskSample, plan: Plan, cap: Cap) -> Plan:
    """The plan for as many tasks as the cap pays for.

    Each call in flight reserves the most that it can cost. So a cap below the highest cost of the plan leaves
    room for fewer calls at once, which a plan of all tasks finds out; one of every n-th task can't.
    """
    if sample.every > 1 or not 0 < cap.left_nanos < plan.highest_nanos:
        return cap.affordable(plan)
    return plan_sample(session, sample, cap.left_nanos)


@dataclass(frozen=True, slots=True)
class Cap:
    """A batch's `--max-cost` and what earlier runs have left of it, nano-dollars."""

    batch: str
    limit_usd: float
    left_nanos: int

    @classmethod
    def of(cls, session: Session, batch: str, limit_usd: float) -> Cap:
        """The cap with what this state has booked for the batch, uncertain cost included."""
        spent = 0
        if session.store.reports.batch(batch) is not None:
            calls = session.store.reports.summary(batch).calls
            spent = calls.cost_nanos + calls.uncertain_nanos
        return cls(batch, limit_usd, max(0, round(limit_usd * NANOS_PER_USD) - spent))

    def pays(self, plan: Plan) -> bool:
        """Whether it pays for the whole plan, as far as that is expected."""
        return plan.expected_nanos <= self.left_nanos

    def affordable(self, plan: Plan) -> Plan:
        """The plan for as many of its tasks as the cap pays for."""
        if self.pays(plan):
            return plan
        return plan.for_all(int(plan.tasks * self.left_nanos / plan.expected_nanos), plan.sampled)

    def pays_for_a_task(self, plan: Plan) -> bool:
        """Whether it pays for even one of the tasks, with a short answer."""
        return self.left_nanos * plan.tasks >= max(1, plan.low_nanos)


def confirm_queue(session: Session, *, yes: bool) -> None:
    """Before a live state is served: name the unfinished tasks and their cost, and ask.

    Tasks whose own `--max-cost` is spent cost nothing and are left out. Raises click.Abort if the answer is
    no, InputError without a terminal.
    """
    if session.setup.simulated or not (
        waiting := sum(session.store.reports.task_counts()[status] for status in OPEN_STATUSES)
    ):
        return
    if yes:
        session.note(f"answering {plural(waiting, 'task')} queued before this start (--yes)")
        return
    plans = list(_queue_plans(session))
    if count := sum(plan.tasks for plan, _ in plans):
        them = "it" if count == 1 else "them"
        pages = Path(program("pages")[-1]).name
        spent = kept_caps(session.store).keys() - {cap.batch for _, cap in plans if cap is not None}
        ask(
            f"{plural(count, 'task')} queued before this start: {_cost(plans)}{_files(session, spent)}",
            f"--yes answers {them}, the task list of {pages} cancels {them}",
        )


def _files(session: Session, left_out: Collection[str]) -> str:
    """`; 12 of them are rows of answers.csv`: the results files that lack rows; empty if there is none."""
    parts = []
    for batch in session.store.reports.batches():
        left = sum(batch.counts.get(status, 0) for status in OPEN_STATUSES)
        if left and batch.output_path and batch.name not in left_out:
            parts.append(f"{left:,} {'is a row' if left == 1 else 'are rows'} of {batch.output_path}")
    return f"; of them {shortened(parts)}" if parts else ""


def _queue_plans(session: Session) -> Iterator[tuple[Plan, Cap | None]]:
    """A plan for each batch with a cap that still pays for a task, and one for all other tasks."""
    caps = kept_caps(session.store)
    count, kept = session.store.reports.open_tasks(SLOW_FROM)
    groups: dict[str, list[Task]] = {}
    for task in kept:
        groups.setdefault(task.batch if task.batch in caps else "", []).append(task)
    for batch, tasks in groups.items():
        sample = TaskSample()
        sample.kept, sample.count = tasks, round(count * len(tasks) / len(kept))
        plan = plan_sample(session, sample)
        cap = Cap.of(session, batch, caps[batch]) if batch else None
        if cap is None or cap.pays_for_a_task(plan):
            yield plan, cap


def _cost(plans: Sequence[tuple[Plan, Cap | None]]) -> str:
    unknown = sorted({name for plan, _ in plans for name in plan.unknown_prices})
    missing = f"no price for {', '.join(unknown)}" if unknown else ""
    if all(plan.price_is_unknown for plan, _ in plans):
        return missing
    expected = sum(_capped(plan.expected_nanos, cap) for plan, cap in plans)
    highest = sum(_capped(plan.highest_nanos, cap) for plan, cap in plans)
    text = f"expected to cost {money(expected)}, at most {money(highest)}"
    return f"{text}, and {missing}" if missing else text


def _capped(nanos: int, cap: Cap | None) -> int:
    return nanos if cap is None else min(nanos, cap.left_nanos)


def _refuse_unpriced(tasks: Sequence[Task], settings: Settings) -> None:
    """Raises InputError if a cap would block every call: each task names models whose price is unknown."""
    kinds = {(task.models, task.providers): task for task in tasks}
    if all(names_only_unpriced(task, settings) for task in kinds.values()):
        models = sorted({model for task in tasks for model in task.models})
        raise InputError(
            f"no price for {shortened(models)}, so --max-cost would block every call: "
            f"{price_remedy(models[0], settings)}, or leave --max-cost out"
        )


def _why_ask(plan: Plan, affordable: Plan, above_usd: float, cap: Cap | None) -> str:
    """Why to ask; empty if there is no need. An unknown price is not assumed to be small.

    A cap that pays for the whole plan answers the question: the user has named that amount.
    """
    if cap is not None and cap.limit_usd <= above_usd:
        return ""
    if plan.unknown_prices:
        return f"the price of {', '.join(plan.unknown_prices)} is unknown"
    if affordable.expected_nanos <= above_usd * NANOS_PER_USD or (cap is not None and cap.pays(plan)):
        return ""
    return f"this is expected to cost {money(affordable.expected_nanos)}: {models_text(affordable)}"


def ask(why: str, remedy: str) -> None:
    """Raises click.Abort for a no, InputError with the `remedy` without a terminal."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InputError(f"{why}, and there is no terminal to ask on: {remedy}")
    sys.stderr.write(terminal_safe(f"{why}. Go on? [y/N] "))
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise click.Abort
