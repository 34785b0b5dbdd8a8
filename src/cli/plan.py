"""`plan`: what a file will cost, how long it will take and which limit binds; calls nobody."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..bootstrap import Setup, open_store
from ..config import identity
from ..core.clock import Clock
from ..core.intake import BadLine, ReadOptions
from ..core.planning import RECORDS_S, last_start_s, make_plan
from ..core.plans import Plan, TaskSample, substitutions
from ..core.virtual_pool import VirtualPool
from ..errors import InputError
from ..records import Task
from ..settings import Settings
from .batch import Batch, input_of, lines_of
from .plan_text import as_json as plan_as_json
from .plan_text import plan_lines, plan_table
from .progress import console, say
from .setup import Options, headline, prepare, refuse_without_key

if TYPE_CHECKING:
    from ..core.store import Store

BAD_LINES_SHOWN = 5
WORTH_A_WORD = 5_000  # tasks whose plan takes a noticeable while


def plan(
    options: Options,
    source: str,
    reading: ReadOptions,
    *,
    strict_params: bool = False,
    as_json: bool = False,
) -> int:
    """Print the plan of a file; the exit code. Raises OrchestratorError where it can't be read."""
    setup = prepare(options)
    if strict_params:
        setup = setup.with_settings(strict_params=True)
    refuse_without_key(setup, reading.pins)
    clock = Clock()
    lines = _Lines(on_warning=lambda text: say(f"{source}: {text}"))
    sample = TaskSample()
    batch = Batch("plan", source, "", reading, stdin=input_of(source)).asking(setup.called)
    for task in lines.of(batch, setup.settings, clock.now()):
        sample.add(task)
    if not sample.count:
        raise InputError(f"{source}: holds no task")
    with open_store(setup) as store:
        found = plan_sample(setup, store, sample, clock.now())
    if as_json:
        sys.stdout.write(json.dumps(plan_as_json(found, lines.bad, simulated=setup.simulated)) + "\n")
        return 0
    say(headline(setup))
    screen = console(stderr=False)
    for text in plan_lines(found, len(lines.bad)):
        screen.print(text if text else plan_table(found), soft_wrap=True)
    _say_bad_lines(source, lines.bad)
    return 0


def _say_bad_lines(source: str, bad: list[BadLine]) -> None:
    for line in bad[:BAD_LINES_SHOWN]:
        say(f"{source}, {line}")
    if len(bad) > BAD_LINES_SHOWN:
        say(f"{source}: {len(bad) - BAD_LINES_SHOWN:,} more bad lines")


def plan_sample(setup: Setup, store: Store, sample: TaskSample, now: float) -> Plan:
    """The plan for tasks, by what this state's store has recorded and learned."""
    from ..core.forecast import Forecast

    access = {each.name: each for each in (setup.access.values() if setup.simulated else setup.configured)}
    forecast = Forecast.from_store(store, now - RECORDS_S, now + 60.0)
    settings = setup.settings.model_copy(update={"agent_prompts": False})  # as `run` has it
    pool = VirtualPool(settings, access, learned_limits(setup, store))
    found = make_plan(sample.kept, pool, forecast, now=now, start_s=last_start_s(store))
    renamed = substitutions(sample.named, setup.settings)
    return replace(found.for_all(sample.count, sample.every), substitutions=renamed)


def learned_limits(setup: Setup, store: Store) -> dict[str, dict[str, Any]]:
    """The limits that earlier runs have found out, by provider; a simulator starts anew each time."""
    if setup.simulated:
        return {}
    known = {each.name: store.learned_state.load(*identity(each)) for each in setup.configured}
    return {name: dict((found or {}).get("groups", {})) for name, found in known.items()}


@dataclass(slots=True)
class _Lines:
    """Reads tasks and keeps what was bad."""

    bad: list[BadLine] = field(default_factory=list)
    on_warning: Callable[[str], None] = lambda _: None

    def of(self, batch: Batch, settings: Settings, now: float) -> Iterator[Task]:
        for line in lines_of(batch, settings, now, self.on_warning):
            if isinstance(line, BadLine):
                self.bad.append(BadLine(line.line, line.reason))  # without its text
            else:
                yield line
