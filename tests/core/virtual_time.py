"""An event loop whose time passes only while nothing can happen, and a provider that answers by a script.

    report = run_virtually(pool.run(until_done=True))

A sleep of an hour takes no time. While the store's thread works, virtual time stands still and the loop waits
for it in real time.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

from src.core.clock import Clock
from src.records import Completion, CompletionRequest, FinishReason, Usage

T = TypeVar("T")
START = 1_795_000_000.0  # epoch seconds at which virtual time begins


class NothingLeft(AssertionError):
    """Every job waits, and neither a timer nor a thread will wake one."""


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type, misc]
    """Advances its loop's time in place of waiting."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> Any:
        if self.loop.threads_at_work:
            return super().select(timeout if timeout == 0 else None)
        if timeout is None:
            raise NothingLeft
        self.loop.elapsed_s += timeout
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`elapsed_s` counts from 0; `clock` shows the same time as epoch seconds from START."""

    def __init__(self) -> None:
        selector = _Selector()
        self.elapsed_s = 0.0
        self.threads_at_work = 0
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.elapsed_s

    def clock(self) -> Clock:
        return Clock(wall=lambda: START + self.elapsed_s, monotonic=self.time)

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self.threads_at_work += 1
        future.add_done_callback(self._thread_has_ended)
        return future

    async def shutdown_default_executor(self) -> None:
        self.threads_at_work += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self.threads_at_work -= 1

    def _thread_has_ended(self, _: object) -> None:
        self.threads_at_work -= 1


def run_virtually(make: Callable[[VirtualLoop], Coroutine[Any, Any, T]]) -> T:
    """Run what `make` makes in virtual time."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(make(loop))


Answer = Completion | Exception


def answered(text: str = "Yes.", tokens: int = 20) -> Completion:
    return Completion(text, FinishReason.STOP, Usage(10, 0, 0, tokens), "a model")


@dataclass
class Traffic:
    """Calls in flight at all adapters that share it."""

    in_flight: int = 0
    most: int = 0


@dataclass
class ScriptedAdapter:
    """A provider: for each request `script` says after how many seconds and with what it answers.

    `delivered` holds the prompt of each completion.
    """

    name: str
    script: Callable[[CompletionRequest], tuple[float, Answer]] = lambda request: (0.5, answered())
    models: list[str] = field(default_factory=list)  # what it lists as offered
    requests: list[CompletionRequest] = field(default_factory=list)
    delivered: list[str] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    closed: int = 0

    async def warm_up(self) -> None:
        return

    async def complete(self, request: CompletionRequest) -> Completion:
        self.requests.append(request)
        latency_s, answer = self.script(request)
        self.traffic.in_flight += 1
        self.traffic.most = max(self.traffic.most, self.traffic.in_flight)
        try:
            await asyncio.sleep(latency_s)
        finally:
            self.traffic.in_flight -= 1
        if isinstance(answer, Exception):
            raise answer
        self.delivered.append(prompt_of(request))
        return answer

    async def list_models(self, timeout_s: float) -> list[str]:
        return self.models

    async def close(self) -> None:
        self.closed += 1


def prompt_of(request: CompletionRequest) -> str:
    """The text of the last message."""
    return str(request.messages[-1].content)
