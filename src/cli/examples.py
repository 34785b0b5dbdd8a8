"""The built-in examples: answered by the simulator, only offered if they would cost money."""

from __future__ import annotations

from ..bootstrap import Setup, command_line, relative
from ..core.intake import TaskContext, read_tasks
from ..core.plans import TaskSample
from ..formatting import money, plural
from ..package import RESOURCES
from ..records import Task
from .batch import Batch
from .plan import plan_sample
from .session import Session

EXAMPLES_FILE = RESOURCES / "examples" / "tasks.jsonl"


def examples_batch(setup: Setup) -> Batch:
    """The examples as a batch with a results file in the state folder."""
    output = setup.settings.state_dir / "results" / "examples.jsonl"
    return Batch(str(output.resolve()), str(EXAMPLES_FILE), str(output))


def add_examples(session: Session, batch: Batch) -> None:
    """Queue the examples that are not stored yet."""
    now = session.now()
    session.store.intake.create_batch(batch.name, now=now, source=batch.source, output_path=batch.output)
    report = session.store.intake.add_tasks(_examples(session, batch.name), now=now)
    if report.added:
        session.note(f"first start: queued {plural(report.added, 'task')} of {relative(EXAMPLES_FILE)}")


def offer_examples(session: Session) -> None:
    """Print what the examples would cost and which command runs them. Spends nothing."""
    sample = TaskSample()
    for task in _examples(session, "examples"):
        sample.add(task)
    plan = plan_sample(session, sample)
    cost = f"about {money(plan.expected_nanos)}, at most {money(plan.highest_nanos)}"
    if plan.unknown_prices:
        cost += f", no price for {', '.join(plan.unknown_prices)}"
    session.note(f"not running the {sample.count} examples ({cost}). To run them:")
    command = command_line("run", relative(EXAMPLES_FILE), "-o", "results/examples.jsonl")
    session.note(f"  {command}")


def _examples(session: Session, batch: str) -> list[Task]:
    lines = read_tasks(EXAMPLES_FILE, TaskContext(batch, session.setup.settings, session.now()))
    return [line for line in lines if isinstance(line, Task)]
