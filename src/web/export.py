"""Results as JSON Lines or CSV, streamed row by row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from ..core.intake import QUEUE
from ..core.results import (
    ATTEMPTS,
    COLUMNS,
    METADATA,
    USAGE,
    csv_line,
    encode_row,
    flat_row,
    guard,
    prompt_of,
    result_row,
)
from ..core.store import BatchRow
from ..records import Result
from . import visibility
from .bodies import ExportQuery, TaskFilter
from .context import AppContext, visible_submitter
from .problems import Problem

MAX_BATCHES = 100_000
PROMPT = "prompt"


def results(context: AppContext, wanted: TaskFilter) -> Iterator[Result]:
    """The final results that the caller may see, oldest batch first, each batch in the order of its file."""
    own = visible_submitter()
    for batch in _batches(context, wanted):
        submitter = own if batch.name == QUEUE else ""
        for stored in context.store.result_sync.all_results(batch.name):
            if _passes(stored.result, wanted) and submitter in ("", stored.result.task.submitter):
                yield stored.result


def _batches(context: AppContext, wanted: TaskFilter) -> Iterator[BatchRow]:
    if wanted.batch:
        with suppress(Problem):  # missing, or not visible
            yield visibility.find_batch(context, wanted.batch)
        return
    own = visible_submitter()
    for batch in reversed(context.store.reports.batches(MAX_BATCHES)):
        if not own or batch.name == QUEUE or batch.submitter == own:
            yield batch


def _passes(result: Result, wanted: TaskFilter) -> bool:
    task, by = result.task, result.answered_by
    return (
        (wanted.status is None or result.status == wanted.status)
        and (not wanted.type or task.task_type == wanted.type)
        and (not wanted.submitter or task.submitter == wanted.submitter)
        and (not wanted.provider or (by is not None and by.provider == wanted.provider))
        and task.id.startswith(wanted.id)
    )


def as_jsonl(context: AppContext, wanted: ExportQuery) -> Iterator[bytes]:
    """A line per result, with its prompt before its answer if that is wanted."""
    for result in results(context, wanted):
        row = result_row(result, simulated=context.simulated)
        begin = {"id": row.pop("id"), "batch": result.task.batch}
        prompt = {PROMPT: prompt_of(result.task)} if wanted.prompts else {}
        yield encode_row({**begin, **prompt, **row})


def as_csv(context: AppContext, wanted: ExportQuery) -> Iterator[bytes]:
    """RFC 4180 with a header.

    A spreadsheet would run text such as `=1+1` as a formula, and tasks and answers come from several people,
    so such cells begin with an apostrophe. JSON Lines keep them unchanged.
    """
    header = ["batch", *COLUMNS, *USAGE, ATTEMPTS, METADATA]
    if wanted.prompts:
        header.insert(header.index("output"), PROMPT)
    yield csv_line(header)
    for result in results(context, wanted):
        cells = flat_row(result_row(result, simulated=context.simulated)) | {"batch": result.task.batch}
        if wanted.prompts:
            cells[PROMPT] = prompt_of(result.task)
        yield csv_line(guard(cells[name]) for name in header)
