"""Repeat a call of the store whose connection was lost, or that met a lock, while it has committed nothing.

A server ends connections: it restarts, or its administrator or a proxy kills them. Idle connections are
tested before use (`pool_pre_ping`); this module is for those that die in the middle of a call. A call that
has committed something, or has begun to, raises ConnectionLost: only its caller knows whether repeating it
is safe.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from ...errors import ConnectionLost, LockTimeout
from .database import Database

TRIES = 3
T = TypeVar("T")
_Method = Callable[..., Any]


def reconnect(database: Database, call: Callable[[], T], *, always: bool = False) -> T:
    """The result of `call`, repeated up to `TRIES` times while it cannot have committed, or `always`."""
    committed = database.commits
    for _ in range(TRIES - 1):
        try:
            return call()
        except (ConnectionLost, LockTimeout):
            if database.commits != committed and not always:
                raise
    return call()


def reconnecting(
    *also: str, always: tuple[str, ...] = (), never: tuple[str, ...] = ()
) -> Callable[[type[T]], type[T]]:
    """A class decorator: public methods, and the private ones named in `also`, go through `reconnect`.

    Methods named in `always` are repeated after a commit too, since they do nothing the second time. Not
    repeated are generators and the methods named in `never`: the first try uses up their arguments. The class
    keeps its `Database` as `_database`.
    """

    def decorate(cls: type[T]) -> type[T]:
        for name in dir(cls):
            method = inspect.getattr_static(cls, name)
            wanted = name in also or not (name.startswith("_") or name in never)
            if wanted and inspect.isfunction(method) and not inspect.isgeneratorfunction(method):
                setattr(cls, name, _repeated(method, name in always))
        return cls

    return decorate


def _repeated(method: _Method, always: bool) -> _Method:
    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return reconnect(self._database, lambda: method(self, *args, **kwargs), always=always)

    return call
