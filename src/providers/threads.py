"""A daemon thread for blocking work, since the event loop's pool is small and shared.

Importing an SDK takes a second or two. At exit the interpreter waits for the threads of a
`ThreadPoolExecutor` and for all that are not daemons; nothing is lost with a daemon.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def run_in_thread(work: Callable[[], T], name: str) -> T:
    """The result of `work`, done in a thread that ends with it."""
    future: Future[T] = Future()
    threading.Thread(target=_do, args=(future, work), name=name, daemon=True).start()
    return await asyncio.wrap_future(future)


def _do(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - every error belongs to the task that waits, not to this thread
        future.set_exception(error)
    else:
        future.set_result(result)
