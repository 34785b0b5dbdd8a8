"""`plan`: what a file will cost, how long it will take and which limit binds; calls nobody."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import fingerprint
from ..core.clock import Clock
from ..core.intake import BadLine, read_tasks
from ..core.planning import Plan, make_plan
from ..errors import InputError
from ..records import Task, TaskStatus
from .progress import console, say
from .setup import Options, Setup, open_store, prepare
from .words import duration, money, tasks

if TYPE_CHECKING:
    from ..core.store import Store

RECORDS_S = 7 * 86_400.0  # what was recorded in this time is what a plan goes by
BAD_LINES_SHOWN = 5
WORTH_TELLING_S = 0.5  # a shorter wait is no limit that binds


def plan(options: Options, source: str, *, fmt: str | None = None, as_json: bool = False) -> int:
    """Print the plan of a file; the exit code. Raises OrchestratorError where it can't be read."""
    setup = prepare(options)
    clock = Clock()
    bad: list[BadLine] = []
    wanted = list(_tasks(source, fmt, setup, clock.now(), bad))
    if not wanted:
        raise InputError(f"{source}: holds no task")
    with open_store(setup) as store:
        found = plan_tasks(setup, store, wanted, clock.now())
    if as_json:
        sys.stdout.write(json.dumps(_as_json(found, bad, setup)) + "\n")
        return 0
    say(setup.headline())
    for text in _lines(found, len(bad)):
        console(stderr=False).print(text, markup=False, soft_wrap=True)
    for line in bad[:BAD_LINES_SHOWN]:
        say(f"{source}, {line}")
    if len(bad) > BAD_LINES_SHOWN:
        say(f"{source}: {len(bad) - BAD_LINES_SHOWN:,} more bad lines")
    return 0


def plan_tasks(setup: Setup, store: Store, wanted: Iterable[Task], now: float) -> Plan:
    """The plan for tasks, by what this state's store has recorded and learned."""
    from ..core.forecast import Forecast

    access = {each.name: each for each in (setup.access.values() if setup.simulated else setup.configured)}
    learned = {}
    if not setup.simulated:  # a simulator starts anew each time
        for name, each in access.items():
            known = store.learned(each.base_url, fingerprint(each))
            learned[name] = dict((known or {}).get("groups", {}))
    forecast = Forecast.from_store(store, now - RECORDS_S, now)
    return make_plan(wanted, setup.settings, forecast, now=now, configured=access, learned=learned)


def _tasks(source: str, fmt: str | None, setup: Setup, now: float, bad: list[BadLine]) -> Iterator[Task]:
    stream = sys.stdin.buffer if source == "-" else Path(source)
    lines = read_tasks(
        stream, batch="plan", settings=setup.settings, now=now, fmt=fmt, on_warning=lambda text: say(text)
    )
    for line in lines:
        if isinstance(line, BadLine):
            bad.append(line)
        else:
            yield line


def _lines(plan: Plan, bad: int) -> Iterator[str]:
    lines = "1 bad line" if bad == 1 else f"{bad:,} bad lines"
    yield tasks(plan.tasks) + (f", and {lines} that would be left out" if bad else "")
    yield f"tokens: {plan.prompt_tokens:,} in, about {plan.output_tokens:,} out"
    yield (
        f"cost: about {money(plan.expected_nanos)} "
        f"(low {money(plan.low_nanos)}, at most {money(plan.highest_nanos)})"
    )
    for (provider, tier), nanos in sorted(plan.cost_nanos.items(), key=lambda item: -item[1]):
        yield f"  {provider} {tier}: about {money(nanos)}"
    if plan.unknown_prices:
        yield f"no price is known for {', '.join(plan.unknown_prices)}: it is in none of these sums"
    yield f"time: about {duration(plan.duration_s)}; calls: " + ", ".join(
        f"{name} {count:,}" for name, count in sorted(plan.calls.items())
    )
    waits = [(what, s) for what, s in plan.binding if s >= WORTH_TELLING_S]
    if waits:
        yield "tasks wait for: " + ", ".join(f"{what} {duration(s)}" for what, s in waits[:3])
    if plan.unknown_limits:
        names = ", ".join(plan.unknown_limits)
        yield f"the limits of {names} are not known: it may take longer ([providers.NAME.limits] tells them)"
    failed = sum(n for status, n in plan.statuses.items() if status is not TaskStatus.SUCCEEDED)
    if failed:
        yield f"{tasks(failed)} can't be answered: no provider serves them, or their deadline is too near"
    if not plan.from_records:
        yield "nothing has been recorded yet: answers are assumed to be of the usual length and speed"


def _as_json(plan: Plan, bad: list[BadLine], setup: Setup) -> dict[str, Any]:
    row = {each.name: getattr(plan, each.name) for each in dataclasses.fields(plan)}
    row["cost_nanos"] = [
        {"provider": provider, "tier": tier, "nanos": nanos}
        for (provider, tier), nanos in plan.cost_nanos.items()
    ]
    row["bad_lines"] = [{"line": line.line, "reason": line.reason} for line in bad]
    return {**row, "simulated": setup.simulated}
