"""Downloads: results as JSON Lines or CSV, streamed row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from flask import Response, stream_with_context

from ..core.results import (
    ATTEMPTS,
    COLUMNS,
    METADATA,
    TOOL_CALLS,
    USAGE,
    csv_line,
    encode_row,
    flat_row,
    guard,
    prompt_of,
    result_row,
)
from ..records import Result
from .bodies import ExportQuery, TaskFilter
from .context import AppContext, app_context
from .presenters.tasks import selection_of

PAGE = 500  # rows of one read
PROMPT = "prompt"
MIME_TYPES = {"csv": "text/csv", "jsonl": "application/x-ndjson"}


def download(parts: Iterable[bytes], name: str, kind: str) -> Response:
    """A response that is streamed into a file, whose name says whether the providers are simulators."""
    response = Response(stream_with_context(iter(parts)), mimetype=MIME_TYPES[kind])
    suffix = f"simulated.{kind}" if app_context().simulated else kind
    response.headers["Content-Disposition"] = f'attachment; filename="{name}.{suffix}"'
    return response


def results(context: AppContext, wanted: TaskFilter) -> Iterator[Result]:
    """The final results that match and that the caller may see, oldest first; `PAGE` of them in memory."""
    selection = replace(selection_of(context, wanted), oldest_first=True)
    after = wanted.after
    while True:
        page = context.store.tasks.page(PAGE, selection, after=after)
        for stored in context.store.result_sync.results_at([row.row for row in page.rows]):
            yield stored.result
        after = page.next_after
        if after is None:
            return


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
    header = ["batch", *COLUMNS, TOOL_CALLS, *USAGE, ATTEMPTS, METADATA]
    if wanted.prompts:
        header.insert(header.index("output"), PROMPT)
    yield csv_line(header)
    for result in results(context, wanted):
        cells = flat_row(result_row(result, simulated=context.simulated)) | {"batch": result.task.batch}
        if wanted.prompts:
            cells[PROMPT] = prompt_of(result.task)
        yield csv_line(guard(cells[name]) for name in header)
