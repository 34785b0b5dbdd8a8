"""Daemon threads for blocking calls, since the event loop's pool is small and shared.

A call that hangs in a thread cannot be ended from outside. At exit the interpreter waits for the threads of a
`ThreadPoolExecutor` and for all that are not daemons, so with a server that sends a byte a second a stop
would take as long as the answer. A daemon loses nothing: the task of its call was cancelled, and its cost is
booked as uncertain.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")
_Job = tuple["Future[T]", Callable[[], T]]


async def run_in_thread(work: Callable[[], T], name: str) -> T:
    """The result of `work`, done in a thread that ends with it."""
    future: Future[T] = Future()
    threading.Thread(target=_do, args=(future, work), name=name, daemon=True).start()
    return await asyncio.wrap_future(future)


class DaemonPool:
    """At most `count` calls at a time, each in a thread, started when first needed.

    A cancelled call keeps its thread until it ends; one that has not begun is dropped.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count, self._name = count, name
        self._jobs: SimpleQueue[_Job[object] | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._closed = False

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue `work`. From one thread only: the event loop's. Raises RuntimeError once closed."""
        if self._closed:
            raise RuntimeError("closed")
        future: Future[T] = Future()
        self._jobs.put((future, work))  # type: ignore[arg-type]
        if not self._idle.acquire(blocking=False) and self._threads < self._count:
            self._threads += 1
            name = f"{self._name}-{self._threads}"
            threading.Thread(target=self._serve, name=name, daemon=True).start()
        return future

    def close(self) -> None:
        """Let every thread end after what it is doing. Waits for none."""
        if not self._closed:
            self._closed = True
            for _ in range(self._threads):
                self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            _do(*job)
            del job  # otherwise the last answer is kept until the next call
            self._idle.release()


def _do(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - every error belongs to the task that waits, not to this thread
        future.set_exception(error)
    else:
        future.set_result(result)
