"""`plan`: estimate cost, time and bottlenecks of a file without calling a provider."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.batching.foresee import foresee
from ..core.batching.offers import Offers, Tokens, mean_max_tokens
from ..core.clock import Clock
from ..core.intake import BadLine, ReadOptions
from ..core.planning import RECORDS_S, last_start_s, make_plan
from ..core.plans import Plan, TaskSample, substitutions
from ..core.virtual_pool import VirtualPool, assume_ample_limits
from ..errors import InputError
from ..records import Task
from ..routing.cost.budgets import BudgetRule
from ..settings import Settings
from .batch import Batch, copy_of_stdin, lines_of
from .console import Console, fitting, print_line, rich_console
from .plan_text import SPARE_PLAN_COLUMNS, plan_lines, plan_table
from .plan_text import as_json as plan_as_json
from .session import Options, PoolOptions, Session, note_start, prepare, refuse_without_key, session
from .store_tasks import why_none

if TYPE_CHECKING:
    from ..core.forecast import Forecast
    from ..core.store import DeferredGroup
    from ..routing.routes import Option

BAD_LINES_SHOWN = 5
SLOW_FROM = 5_000  # tasks whose plan takes a noticeable time


def plan(
    options: Options,
    source: str,
    reading: ReadOptions,
    pool: PoolOptions,
    *,
    as_json: bool = False,
) -> int:
    """Print the plan of a file and return the exit code. Raises OrchestratorError."""
    setup = pool.apply(prepare(options))
    refuse_without_key(setup, reading)
    console = options.console
    lines = _Lines(on_warning=lambda text: console.note(f"{source}: {text}"))
    sample = TaskSample()
    batch = Batch("plan", source, "", reading, stdin=copy_of_stdin(source)).with_providers(setup.called)
    clock = Clock()
    for task in lines.of(batch, setup.settings, clock.now()):
        sample.add(task)
    if not sample.count:
        _note_bad(console, source, lines.bad)
        raise InputError(f"{source}: no usable tasks: {why_none(len(lines.bad))}")
    with session(setup, console, clock) as opened:
        found = plan_sample(opened, sample, defers=reading.defaults.deadline is not None)
    if as_json:
        sys.stdout.write(json.dumps(plan_as_json(found, lines.bad, simulated=setup.simulated)) + "\n")
        return 0
    note_start(setup, reading, console)
    screen = rich_console(stderr=False)
    for text in plan_lines(found, len(lines.bad)):
        if text:
            print_line(screen, text)
        else:
            screen.print(fitting(screen, partial(plan_table, found), SPARE_PLAN_COLUMNS))
    _note_bad(console, source, lines.bad)
    return 0


def _note_bad(console: Console, source: str, bad: Sequence[BadLine]) -> None:
    for line in bad[:BAD_LINES_SHOWN]:
        console.note(f"{source}, {line}")
    if len(bad) > BAD_LINES_SHOWN:
        console.note(f"{source}: {len(bad) - BAD_LINES_SHOWN:,} more rejected lines")


def plan_sample(
    session: Session, sample: TaskSample, cap_nanos: int | None = None, *, defers: bool = False
) -> Plan:
    """The plan for the sampled tasks, by what this state has recorded and learned.

    With `cap_nanos`: for those tasks that it pays for, with the calls in flight that it leaves room for.
    `defers`: tasks with a deadline may go to the providers' batch APIs.
    """
    from ..core.forecast import Forecast

    setup, store, now = session.setup, session.store, session.now()
    access = {each.name: each for each in (setup.access.values() if setup.simulated else setup.configured)}
    recorded = (now - RECORDS_S, now + 60.0)
    providers = setup.settings.providers
    forecast = Forecast.from_store(store, *recorded, long=sample.long, providers=providers)
    cap = None if cap_nanos is None else BudgetRule("batch", sample.kept[0].batch, "total", cap_nanos)
    pool = VirtualPool(setup.settings, access, learned_limits(session), cap)
    found = make_plan(sample.kept, pool, forecast, now=now, start_s=last_start_s(store))
    renamed = substitutions(sample.named, setup.settings)
    if cap is not None:
        return replace(found, tasks=sum(found.statuses.values()))
    planned = found.for_all(sample.count, sample.every)
    batches = None
    if defers:
        pool = replace(pool, estimates=learned_limits(session, "estimates"))
        balancer, turnarounds = pool.balancer(now), store.provider_batches.turnarounds
        assume_ample_limits(balancer)
        offers = Offers(balancer, partial(_expected, forecast))
        batches = foresee(sample.kept, sample.count / len(sample.kept), offers, turnarounds, now)
    return replace(planned, substitutions=renamed, agents=dict(sample.agents), batches=batches)


def _expected(forecast: Forecast, group: DeferredGroup, like: Task, option: Option) -> Tokens:
    """As the plan of live calls expects them, so that the prices of both ways can be compared."""
    provider, most = option.provider.name, max(1.0, mean_max_tokens(group, option))
    output = forecast.output_tokens(like, provider, option.model.name, round(most))
    prompt = forecast.prompt_tokens(like, provider, group.text_chars / group.rows)
    return Tokens(prompt, max(1.0, min(output, most)))


def learned_limits(session: Session, what: str = "groups") -> dict[str, dict[str, Any]]:
    """What earlier runs have learned, by provider: limits (`groups`) or `estimates`; nothing if simulated."""
    if session.setup.simulated:  # a simulator forgets its limits at its end
        return {}
    known = {name: session.store.learned_state.load(*key) for name, key in session.setup.identities.items()}
    return {name: dict((found or {}).get(what, {})) for name, found in known.items()}


@dataclass(slots=True)
class _Lines:
    """Yields tasks and keeps rejected lines."""

    bad: list[BadLine] = field(default_factory=list)
    on_warning: Callable[[str], None] = lambda _: None

    def of(self, batch: Batch, settings: Settings, now: float) -> Iterator[Task]:
        for line in lines_of(batch, settings, now, self.on_warning):
            if isinstance(line, BadLine):
                self.bad.append(BadLine(line.line, line.reason))  # without its text
            else:
                yield line
