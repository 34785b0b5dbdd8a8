"""Reading tasks: lines of a file or a stream become frozen `Task`s, or a `BadLine` that says why not.

    bytes -> lines -> raw rows (one reader per format) -> validated rows -> tasks

Everything streams: what is kept per line is a digest of its id, so that a duplicate is noticed and a line
without an id gets the same one in the next run. That id is made of what the line sends and of its ordinal
among lines that send the same, so other lines, and columns that are not sent, do not change it.

A bad line never stops the others. What stops the reading is `InputError`: a file that can't be read, or
that is of another kind altogether.
"""

from __future__ import annotations

from .csv_rows import TEMPLATE_OPTION
from .fields import TaskFields, check_batch_name
from .formats import FORMATS, OPENAI_BATCH, SUFFIXES
from .json_text import parse_object
from .lines import MAX_LINE_BYTES, BadLine
from .making import make_task, unknown_type_warning
from .pins import Pins, nobody_to_ask
from .prices import names_only_unpriced, price_remedy, unpriced_warning
from .reading import AS_IT_IS, ReadOptions, columns_of, ids_of, read_tasks
from .shape import read_shape
from .template import Template
from .validation_messages import shown

QUEUE = "queue"  # the batch of tasks that were handed in one by one

__all__ = [
    "AS_IT_IS",
    "FORMATS",
    "MAX_LINE_BYTES",
    "OPENAI_BATCH",
    "QUEUE",
    "SUFFIXES",
    "TEMPLATE_OPTION",
    "BadLine",
    "Pins",
    "ReadOptions",
    "TaskFields",
    "Template",
    "check_batch_name",
    "columns_of",
    "ids_of",
    "make_task",
    "names_only_unpriced",
    "nobody_to_ask",
    "parse_object",
    "price_remedy",
    "read_shape",
    "read_tasks",
    "shown",
    "unknown_type_warning",
    "unpriced_warning",
]
