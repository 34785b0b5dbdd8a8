"""What every request needs, and values that may be a moment old."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

from flask import current_app, g

from ..config import version
from ..core.clock import Clock
from ..core.store import Store
from ..routing.pricing import PriceBook
from ..settings import Settings
from .access import LOCAL, AccessPolicy
from .roles import OPERATE, SUBMIT, Role

T = TypeVar("T")
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
    """One application's surroundings. `configured` are the providers that can be called at all, `identities`
    their base URL and the digest of their key, by which the store knows what was learned about them.
    """

    settings: Settings
    store: Store
    clock: Clock
    simulated: bool
    configured: frozenset[str]
    access: AccessPolicy
    identities: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    serving: str = ""  # the command that starts an orchestrator on this state
    beside: str = ""  # the incarnation of the orchestrator that these pages end with
    cache: ViewCache = field(default_factory=ViewCache)

    def now(self) -> float:
        return self.clock.now()

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
