"""The gateway beside a serving orchestrator: its address, and what it does before this process leads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ..bootstrap import build_gateway
from ..core.budget_keeper import gateway_limit_usd
from ..errors import ConfigError
from ..reloading import Reloader
from .session import Session

if TYPE_CHECKING:
    from ..core.leadership import Leadership
    from ..gateway.server import Gateway

FREE_WITHIN_S, AGAIN_S = 5.0, 0.1


@contextmanager
def served_gateway(
    session: Session, leadership: Leadership, reloader: Reloader, *, wanted: bool, standby: bool
) -> Iterator[Gateway | None]:
    """The gateway, None if none is `wanted`, once `leadership` leads. It listens while the block runs.

    Raises ConfigError if its port can't be used. A standby on the leader's machine can't have the port yet;
    it tries again when it leads.
    """
    with ExitStack() as stack:
        if not wanted:
            leadership.acquire(standby=standby, say=session.note)
            yield None
            return
        gateway: Gateway | None = None
        try:
            gateway = _listening(session, leadership, reloader, stack)
        except ConfigError:
            if not standby:
                raise
        if standby and gateway is not None:
            lead = stack.enter_context(gateway.standing_by())
            leadership.acquire(standby=True, say=session.note)
            lead()
        else:
            leadership.acquire(standby=standby, say=session.note)
        if gateway is None:
            gateway = _listening_soon(session, leadership, reloader, stack)
        leadership.publish(gateway.published)
        yield gateway


def daily_limit(session: Session) -> float | None:
    """What requests may cost a day, USD; None: no limit of the gateway's own. Says so where there is one."""
    daily_usd = None if session.setup.simulated else gateway_limit_usd(session.setup.settings)
    if daily_usd is None:
        return None
    session.note(
        f"gateway: no [budgets] are set, so requests stop at ${daily_usd:g} a day; set [budgets] daily_usd "
        'or [gateway] daily_usd ("none": no limit)'
    )
    return daily_usd


def _listening_soon(
    session: Session, leadership: Leadership, reloader: Reloader, stack: ExitStack
) -> Gateway:
    """The gateway at a port that the previous leader, which has just ended, frees in a moment."""
    end = time.monotonic() + FREE_WITHIN_S
    while True:
        try:
            return _listening(session, leadership, reloader, stack)
        except ConfigError:
            if time.monotonic() >= end:
                raise
        time.sleep(AGAIN_S)


def _listening(session: Session, leadership: Leadership, reloader: Reloader, stack: ExitStack) -> Gateway:
    gateway = build_gateway(session.setup, session.store, session.clock, leadership.incarnation)
    stack.callback(gateway.listener.close)
    stack.enter_context(reloader.step(gateway.reload))
    url = gateway.listener.url
    session.note(f"gateway: base URL {url}/v1 for OpenAI clients, {url} for Anthropic clients")
    return gateway
