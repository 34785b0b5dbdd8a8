"""The state of one application that all its requests share, and a cache of views."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

from flask import current_app, g

from ..access import AccessPolicy
from ..core.clock import Clock
from ..core.store import Store
from ..package import version
from ..records import LOCAL, Event
from ..routing.cost.pricing import PriceBook
from ..settings import Settings
from ..tokens import OPERATE, SUBMIT, Role
from .batch_rates import BatchRates
from .past_usage import PastUsage

T = TypeVar("T")
MAX_WAITING = 64  # requests that wait for an answer, so that `serving.THREADS` leaves some for the others
MAX_SUBMITTING = 40  # requests that submit tasks at once, which costs CPU for their schemas
FRESH_S = 0.5  # a running orchestrator writes a snapshot once a second
SUMS_FRESH_S = 2.0  # sums over days and batches cost more to read and change less


class ViewCache:
    """Views kept for a moment, so that any number of requests reads the store a few times a second.

    Concurrent requests for one view wait for one computation. A view begun before `forget` is not kept.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, Any]] = {}
        self._made_of: dict[str, tuple[Any, Any]] = {}
        self._making: dict[str, threading.Lock] = {}
        self._age = 0

    def get(self, key: str, make: Callable[[], T], fresh_s: float = FRESH_S) -> T:
        """The cached value of `key`, or a new one. There are few keys, all fixed."""
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() < kept[0]:
            return cast(T, kept[1])
        with self._making.setdefault(key, threading.Lock()):
            kept = self._kept.get(key)
            if kept is not None and time.monotonic() < kept[0]:
                return cast(T, kept[1])
            age = self._age
            made = make()
            if age == self._age:
                self._kept[key] = (time.monotonic() + fresh_s, made)
            return made

    def made_of(self, view: Any, key: str, make: Callable[[], T]) -> T:
        """The result of `make` for this very view, computed once."""
        kept = self._made_of.get(key)
        if kept is None or kept[0] is not view:
            kept = self._made_of[key] = (view, make())
        return cast(T, kept[1])

    def forget(self) -> None:
        """Drop all views after a change."""
        self._age += 1
        self._kept.clear()


@dataclass
class AppContext:
    """What every request of one application needs. Several threads share it."""

    settings: Settings
    store: Store
    simulated: bool
    clock: Clock = field(default_factory=Clock)
    access: AccessPolicy = field(default_factory=AccessPolicy)
    providers: Collection[str] | None = None  # those that can be called; None: all that are enabled
    identities: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # base URL, digest of the key
    start_command: str = "python real_agent_orchestrator.py"  # starts an orchestrator on this state
    orchestrator: str = ""  # the incarnation that started these pages, which end with it
    cache: ViewCache = field(default_factory=ViewCache)
    batch_rates: BatchRates = field(default_factory=BatchRates)
    settings_lock: threading.Lock = field(default_factory=threading.Lock)  # held to read and change a setting
    waiting: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_WAITING)
    )
    submitting: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_SUBMITTING)
    )

    def now(self) -> float:
        return self.clock.now()

    @contextmanager
    def changing_settings(self) -> Iterator[None]:
        """Read and change settings, without another thread in between. Drops the cached views at the end."""
        with self.settings_lock:
            yield
        self.cache.forget()

    def record_event(
        self, kind: str, message: str, *, provider: str = "", task_id: str = "", batch: str = ""
    ) -> None:
        """Store an event of a change, and drop the cached views, which are out of date now."""
        fields = {"batch": batch} if batch else {}
        self.store.events.add([Event(self.now(), kind, message, provider, task_id, fields=fields)])
        self.cache.forget()

    @cached_property
    def configured(self) -> frozenset[str]:
        """The providers that can be called."""
        if self.providers is not None:
            return frozenset(self.providers)
        return frozenset(name for name, row in self.settings.providers.items() if row.enabled)

    @cached_property
    def past_usage(self) -> PastUsage:
        """Sums of calls over hours and days. No action changes what is past, so `forget` keeps them."""
        return PastUsage(self.store.reports.usage)

    @cached_property
    def prices(self) -> PriceBook:
        return PriceBook(lambda model: self.settings.lookup_model(model).price)

    @cached_property
    def version(self) -> str:
        return version()


def app_context() -> AppContext:
    """The context of the current request."""
    return cast(AppContext, current_app.extensions["orchestrator"])


def caller_name() -> str:
    """The name of the caller's token, or `local` where no token is set."""
    return cast(str, g.get("caller", LOCAL)) if g else LOCAL


def caller_role() -> Role:
    """The role of the caller."""
    return cast(Role, g.get("role", OPERATE)) if g else OPERATE  # outside a request everything is allowed


def visible_submitter() -> str:
    """The caller's name if they may see only their own tasks, else empty."""
    return caller_name() if caller_role() == SUBMIT else ""
