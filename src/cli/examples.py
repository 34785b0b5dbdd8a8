"""The examples of a first start: worked off on the simulator, only offered where they would cost money."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..bootstrap import Setup, command_line, relative
from ..config import PROJECT_ROOT
from ..core.intake import read_tasks
from ..core.plans import TaskSample
from ..formatting import money, plural
from ..records import Task
from .batch import Batch
from .plan import plan_sample
from .progress import say

if TYPE_CHECKING:
    from ..core.store import Store

EXAMPLES_FILE = PROJECT_ROOT / "examples" / "tasks.jsonl"


def examples_batch(setup: Setup) -> Batch:
    """The examples as a batch of the queue, with a results file under the state folder."""
    output = setup.settings.state_dir / "results" / "examples.jsonl"
    return Batch(str(output.resolve()), str(EXAMPLES_FILE), str(output))


def add_examples(store: Store, setup: Setup, batch: Batch, now: float) -> None:
    """Put the examples on the queue; those that are there already stay as they are."""
    store.intake.create_batch(batch.name, now=now, source=batch.source, output_path=batch.output)
    report = store.intake.add_tasks(_examples(setup, batch.name, now), now=now)
    if report.added:
        say(f"first start: {plural(report.added, 'task')} of {relative(EXAMPLES_FILE)} put on the queue")


def offer_examples(setup: Setup, store: Store, now: float) -> None:
    """Say what the examples would cost and which command runs them; spends nothing."""
    wanted = TaskSample()
    for task in _examples(setup, "examples", now):
        wanted.add(task)
    plan = plan_sample(setup, store, wanted, now)
    command = command_line("run", relative(EXAMPLES_FILE), "-o", "results/examples.jsonl")
    say(
        f"nothing is spent unasked. {wanted.count} examples would cost about {money(plan.expected_nanos)}, "
        f"at most {money(plan.highest_nanos)}"
        + (f" (no price is known for {', '.join(plan.unknown_prices)})" if plan.unknown_prices else "")
        + ":"
    )
    say(f"  {command}")


def _examples(setup: Setup, batch: str, now: float) -> list[Task]:
    lines = read_tasks(EXAMPLES_FILE, batch=batch, settings=setup.settings, now=now)
    return [line for line in lines if isinstance(line, Task)]
