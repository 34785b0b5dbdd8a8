"""Results as a file: JSON Lines or CSV, made row by row while it is sent."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

from ..core.results import encode_row, result_row
from ..records import Result
from .bodies import TaskFilter
from .site import Site

COLUMNS = (
    "id", "line", "status", "output", "finish_reason", "truncated", "error", "warnings", "provider", "model",
    "agent", "task_type", "tier", "cost_usd", "latency_s", "simulated",
)  # fmt: skip
USAGE = ("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")
MOST_BATCHES = 100_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would calculate instead of show


def results(site: Site, wanted: TaskFilter) -> Iterator[Result]:
    """Final results in the order of their files, oldest batch first."""
    batches = [wanted.batch] if wanted.batch else [b.name for b in reversed(site.store.batches(MOST_BATCHES))]
    for batch in batches:
        if site.store.batch(batch) is None:
            continue
        for stored in site.store.all_results(batch):
            if _passes(stored.result, wanted):
                yield stored.result


def _passes(result: Result, wanted: TaskFilter) -> bool:
    task, final = result.task, result.final
    return (
        (wanted.status is None or result.status is wanted.status)
        and (not wanted.type or task.task_type == wanted.type)
        and (not wanted.submitter or task.submitter == wanted.submitter)
        and (not wanted.provider or (final is not None and final.provider == wanted.provider))
        and task.id.startswith(wanted.id)
    )


def as_jsonl(site: Site, wanted: TaskFilter) -> Iterator[bytes]:
    for result in results(site, wanted):
        row = result_row(result, simulated=site.simulated)
        yield encode_row({"id": row.pop("id"), "batch": result.task.batch, **row})


def as_csv(site: Site, wanted: TaskFilter) -> Iterator[bytes]:
    """RFC 4180 with a header. What a spreadsheet would take for a formula begins with an apostrophe."""
    yield _csv_line(["batch", *COLUMNS, *USAGE, "attempts"])
    for result in results(site, wanted):
        row = result_row(result, simulated=site.simulated)
        row["warnings"] = "; ".join(row["warnings"])
        cells = [result.task.batch, *(row[name] for name in COLUMNS), *(row["usage"][name] for name in USAGE)]
        yield _csv_line([*cells, len(row["attempts"])])


def _csv_line(cells: list[object]) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow([_cell(cell) for cell in cells])
    return line.getvalue().encode("utf-8", "replace")


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str) and value.startswith(_FORMULA):
        return "'" + value
    return value
