"""The last check before a request is written to its provider.

Between the decision to make a call and its first byte a connection may have to be opened, and the process may
be stopped for any time. A caller who may lose the right to send meanwhile sets `may_send` in the context of
the call's task; the transport asks it when the connection is there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

may_send: ContextVar[Callable[[], bool] | None] = ContextVar("may_send", default=None)


class NotSent(BaseException):
    """The request was not sent: its caller may not send any more.

    Not an Exception, since the SDKs take every exception for a failed exchange.
    """


def check() -> None:
    """Raises NotSent where the request may not be sent any more."""
    allowed = may_send.get()
    if allowed is not None and not allowed():
        raise NotSent
