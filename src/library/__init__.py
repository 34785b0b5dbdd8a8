"""The pool as a Python library: `Pool` for asyncio, `answer` for plain code.

    pool     Pool with its two ways to ask, one task or a stream of them, and answer, which blocks
    engine   the thread that a pool works on, over a store of its own or that of the state folder
    lead     who answers the tasks: this process, or a running server
    given    tasks of what a program passes: prompts, mappings, Task values

State. A pool without a `run_name` keeps its tasks in a temporary folder and leaves nothing behind. With a
`run_name` they are kept in the state folder, as those of `run` are: a program that is started again with the
same name gets stored answers without a call. A `state_dir`, or a budget in the configuration, has the state
kept too, since earlier spending counts then.
"""

from __future__ import annotations

import logging

from ..package import PACKAGE
from .given import GivenTask
from .pool import Pool, Progress, answer

logging.getLogger(PACKAGE).addHandler(logging.NullHandler())  # a program decides itself what it logs

__all__ = ["GivenTask", "Pool", "Progress", "answer"]
