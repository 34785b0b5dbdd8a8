"""The examples of a first start: worked off on the simulator, only offered where they would cost money."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import PROJECT_ROOT
from ..core.intake import read_tasks
from ..records import Task
from .batch import Batch
from .progress import say
from .setup import Setup
from .words import money, tasks

if TYPE_CHECKING:
    from ..core.store import Store

EXAMPLES_FILE = PROJECT_ROOT / "examples" / "tasks.jsonl"
TYPICAL_OUTPUT_TOKENS = 400  # of an answer to one of the examples
CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class Estimate:
    """What tasks would cost in nano-dollars; `unknown` models have no price and are in neither sum."""

    likely_nanos: int
    highest_nanos: int
    unknown: tuple[str, ...]


def examples_batch(setup: Setup) -> Batch:
    """The examples as a batch of the queue, with a results file under the state folder."""
    output = setup.settings.state_dir / "results" / "examples.jsonl"
    return Batch(str(output.resolve()), str(EXAMPLES_FILE), str(output))


def add_examples(store: Store, setup: Setup, batch: Batch, now: float) -> None:
    """Put the examples on the queue; those that are there already stay as they are."""
    store.create_batch(batch.name, now=now, source=batch.source, output_path=batch.output)
    report = store.add_tasks(_examples(setup, batch.name, now), now=now)
    if report.added:
        say(f"first start: {tasks(report.added)} of {_shown(EXAMPLES_FILE)} put on the queue")


def offer_examples(setup: Setup, now: float) -> None:
    """Say what the examples would cost and which command runs them; spends nothing."""
    wanted = _examples(setup, "examples", now)
    estimate = estimate_cost(wanted, setup, now)
    command = ["run", _shown(EXAMPLES_FILE), "-o", "results/examples.jsonl"]
    say(
        f"nothing is spent unasked. {len(wanted)} examples would cost about {money(estimate.likely_nanos)}, "
        f"at most {money(estimate.highest_nanos)}"
        + (f" (no price is known for {', '.join(estimate.unknown)})" if estimate.unknown else "")
        + ":"
    )
    say(f"  {shlex.join([_shown(Path(sys.executable)), _shown(Path(sys.argv[0])), *command])}")


def estimate_cost(wanted: Sequence[Task], setup: Setup, now: float) -> Estimate:
    """Likely: the mean over the providers that have a key. Highest: the dearest one, max_tokens all used."""
    from ..routing.pricing import PriceBook, catalogue_of
    from ..routing.routes import choose_tier

    settings = setup.settings
    book = PriceBook(lambda model: settings.model_row(model).price)
    likely, highest, unknown = 0, 0, set()
    for task in wanted:
        tier = choose_tier(task, settings)
        costs: list[tuple[int, int]] = []
        for access in setup.configured:
            model, _ = settings.resolve_model(access.row.models.of(tier))
            price = book.price(catalogue_of(access.name, access.row.wire, access.base_url), model, now)
            if price is None:
                unknown.add(model)
                continue
            row = settings.model_row(model)
            limit = task.max_tokens or settings.tiers.max_tokens(tier) + row.thinking_headroom_tokens
            size = (task.prompt_bytes, len(task.messages))
            typical = (task.prompt_chars // CHARS_PER_TOKEN, len(task.messages))
            costs.append(
                (
                    price.upper_bound_nanos(*typical, min(limit, TYPICAL_OUTPUT_TOKENS)),
                    price.upper_bound_nanos(*size, limit),
                )
            )
        if costs:
            likely += sum(cost for cost, _ in costs) // len(costs)
            highest += max(bound for _, bound in costs)
    return Estimate(likely, highest, tuple(sorted(unknown)))


def _examples(setup: Setup, batch: str, now: float) -> list[Task]:
    lines = read_tasks(EXAMPLES_FILE, batch=batch, settings=setup.settings, now=now)
    return [line for line in lines if isinstance(line, Task)]


def _shown(path: Path) -> str:
    """Relative to here where that is shorter to type."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)
