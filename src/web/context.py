"""What every request needs, and values that may be a moment old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

from flask import current_app, g

from ..config import version
from ..core.clock import Clock
from ..core.store import Store
from ..records import Event
from ..routing.cost.pricing import PriceBook
from ..settings import Settings
from .access import LOCAL, AccessPolicy
from .roles import OPERATE, SUBMIT, Role

T = TypeVar("T")
MAX_WAITING = 64  # requests that wait for an answer, so that `serving.THREADS` leaves some for the others
MAX_SUBMITTING = 40  # requests that submit tasks at once, which costs CPU for their schemas
FRESH_S = 0.5  # a running pool writes what it sees once a second
SUMS_FRESH_S = 2.0  # sums over days and batches cost more to read and move less


class ViewCache:
    """Answers remembered for a moment: however many ask, the store is read a few times a second.

    Two that ask at once wait for one answer. What was begun before `forget` is not kept after it.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, Any]] = {}
        self._made_of: dict[str, tuple[Any, Any]] = {}
        self._making: dict[str, threading.Lock] = {}
        self._age = 0

    def get(self, key: str, make: Callable[[], T], fresh_s: float = FRESH_S) -> T:
        """The remembered value of `key`, or a new one. Keys are few and fixed."""
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
        """What `make` makes of this very view, made once."""
        kept = self._made_of.get(key)
        if kept is None or kept[0] is not view:
            kept = self._made_of[key] = (view, make())
        return cast(T, kept[1])

    def forget(self) -> None:
        """Somebody changed something: the next look is a new one."""
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
    settings_lock: threading.Lock = field(default_factory=threading.Lock)  # held to read and change a setting
    waiting: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_WAITING)
    )
    submitting: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_SUBMITTING)
    )

    def now(self) -> float:
        return self.clock.now()

    def record_event(self, kind: str, message: str, *, provider: str = "", task_id: str = "") -> None:
        """Store an event of a change, and drop the cached views, which are out of date now."""
        self.store.events.add([Event(self.now(), kind, message, provider, task_id)])
        self.cache.forget()

    @cached_property
    def configured(self) -> frozenset[str]:
        """The providers that can be called."""
        if self.providers is not None:
            return frozenset(self.providers)
        return frozenset(name for name, row in self.settings.providers.items() if row.enabled)

    @cached_property
    def prices(self) -> PriceBook:
        return PriceBook(lambda model: self.settings.lookup_model(model).price)

    @cached_property
    def version(self) -> str:
        return version()


def app_context() -> AppContext:
    """The site of the request that is being answered."""
    return cast(AppContext, current_app.extensions["orchestrator"])


def caller_name() -> str:
    """Who asks: the name of their token, or `local` where none is needed."""
    return cast(str, g.get("caller", LOCAL)) if g else LOCAL


def caller_role() -> Role:
    """What who asks may do."""
    return cast(Role, g.get("role", OPERATE)) if g else OPERATE  # code of ours outside a request may do all


def visible_submitter() -> str:
    """The name of who asks where they may see their own tasks alone, else empty."""
    return caller_name() if caller_role() == SUBMIT else ""
