"""Reads tasks: the lines of a file or a stream become `Task`s, or `BadLine`s with a reason.

    bytes -> lines -> rows (one reader per format) -> validated fields -> tasks

Everything streams. Only a digest of each id stays in memory, so that duplicates are found. A line without an
id gets the same one in every run: it is made of what the line sends and of its ordinal among lines that send
the same. So other lines, and columns that are not sent, do not change it.

A bad line does not stop the others. InputError stops the reading: the file cannot be read, or is not in the
expected format.
"""

from __future__ import annotations

from .agent_prompts import check_agent
from .chat_writing import written_calls, written_choice, written_messages, written_tools
from .csv_rows import TEMPLATE_OPTION
from .fields import TaskFields, check_batch_name
from .formats import FORMATS, OPENAI_BATCH, SUFFIXES
from .json_text import parse_json, read_object
from .lines import MAX_LINE_BYTES, BadLine, plain_name
from .own_columns import NO_COLUMNS, OwnColumns, of_objects, of_table
from .pins import able_providers, check_pins, never_called, unserved_reason
from .prices import names_only_unpriced, price_remedy, unpriced_warning
from .reading import (
    AS_IT_IS,
    ReadOptions,
    changes,
    columns_of,
    earlier_options,
    for_batch,
    read_tasks,
    stored_options,
)
from .row_defaults import NO_DEFAULTS, RowDefaults, missing, option_of
from .schema_file import read_schema
from .tasks import TaskContext, make_task, unknown_type_warning, what_it_sends
from .template import Template
from .validation_messages import shown

QUEUE = "queue"  # the batch of tasks that are submitted one by one

__all__ = [
    "AS_IT_IS",
    "FORMATS",
    "MAX_LINE_BYTES",
    "NO_COLUMNS",
    "NO_DEFAULTS",
    "OPENAI_BATCH",
    "QUEUE",
    "SUFFIXES",
    "TEMPLATE_OPTION",
    "BadLine",
    "OwnColumns",
    "RowDefaults",
    "ReadOptions",
    "TaskContext",
    "TaskFields",
    "Template",
    "able_providers",
    "changes",
    "check_agent",
    "check_batch_name",
    "check_pins",
    "columns_of",
    "for_batch",
    "earlier_options",
    "make_task",
    "missing",
    "names_only_unpriced",
    "never_called",
    "of_objects",
    "of_table",
    "option_of",
    "parse_json",
    "plain_name",
    "price_remedy",
    "read_schema",
    "read_object",
    "read_tasks",
    "shown",
    "stored_options",
    "unknown_type_warning",
    "unpriced_warning",
    "unserved_reason",
    "what_it_sends",
    "written_calls",
    "written_choice",
    "written_messages",
    "written_tools",
]
