"""A call of the store whose connection was lost is made again, where nothing was committed by then.

A server ends connections: it is restarted, its administrator or a proxy kills idle ones. Idle ones are tried
before they are used (`pool_pre_ping`); this is for the rest, which die in the middle of a call. A call that
had committed something, or had begun to, raises ConnectionLost: its caller knows whether it can be repeated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from ...errors import ConnectionLost
from .database import Database

TRIES = 3
T = TypeVar("T")
_Method = Callable[..., Any]


def once_more(database: Database, call: Callable[[], T], *, always: bool = False) -> T:
    """What `call` returns, tried again where it can have changed nothing, or `always`."""
    committed = database.commits
    for _ in range(TRIES - 1):
        try:
            return call()
        except ConnectionLost:
            if database.commits != committed and not always:
                raise
    return call()


def repeating(*also: str, always: tuple[str, ...], never: tuple[str, ...]) -> Callable[[type[T]], type[T]]:
    """A class whose public methods go through `once_more`, and those named in `also`.

    Those in `always` do nothing the second time. Left out are generators, and those named in `never`: what
    they were given is used up by the first try.
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
        return once_more(self._database, lambda: method(self, *args, **kwargs), always=always)

    return call
