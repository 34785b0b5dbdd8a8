"""The condition of each provider as one word, and events when it changes.

States, the gravest first: paused, misconfigured, offline, exhausted, open, half_open, suspect, limited,
degraded, healthy.
"""

from __future__ import annotations

from typing import NamedTuple

from ..records import RefusalKind
from ..refusal_text import refusal_text
from .event_log import EventLog
from .health.circuit_breaker import HALF_OPEN, OPEN
from .health.network import NetworkState
from .state import ProviderState

DEGRADED_ERROR_RATE = 0.1

_PHRASES = {"open": "gets no tasks", "half_open": "is tried with one call"}  # "is open" reads as good news
_ALERT_STATES = frozenset({"open", "exhausted", "misconfigured"})
_OUT_STATES = _ALERT_STATES | {"half_open"}
_QUIET_STATES = frozenset({"healthy", "degraded", "limited"})  # no event for changes between these


class Condition(NamedTuple):
    """A provider's condition. `until`: its known end, UTC epoch seconds."""

    state: str
    reason: str = ""
    until: float | None = None


class StatusReporter:
    """Names the condition of providers, and adds an event to the log when one has changed."""

    def __init__(self, events: EventLog, network: NetworkState, stall_timeout_s: float) -> None:
        self._events, self._network = events, network
        self._stall_timeout_s = stall_timeout_s

    def condition(self, provider: ProviderState, now: float) -> Condition:
        """The gravest condition of the provider."""
        breaker = provider.breaker
        breaker.tick(now)
        if provider.paused:
            return Condition("paused", "paused by hand")
        if provider.key.rejection:
            return Condition("misconfigured", provider.key.rejection)
        if self._network.offline_since is not None:
            return Condition("offline", "no provider can be reached")
        if provider.quota.until:
            spent = refusal_text(RefusalKind.QUOTA_SPENT, provider.quota.code)
            return Condition("exhausted", spent, provider.quota.until)
        if breaker.state is OPEN:
            return Condition("open", breaker.reason, breaker.open_until)
        if breaker.state is HALF_OPEN:
            return Condition("half_open", "one probe decides")
        silent_since = provider.silent_since(now, self._stall_timeout_s)
        if silent_since is not None:
            silence = f"{provider.in_flight} calls in flight, no reply for {now - silent_since:.0f} s"
            return Condition("suspect", silence)
        return _milder_condition(provider, now)

    def report(self, provider: ProviderState, now: float, *, silently: bool = False) -> None:
        """Add an event if the condition has changed. `silently`: another event has just reported it."""
        state, reason, until = self.condition(provider, now)
        if state == provider.shown_state:
            return
        was, provider.shown_state = provider.shown_state, state
        if silently or (state in _QUIET_STATES and was in _QUIET_STATES):
            return
        level = _level(was, state)
        if level == "warning" and not provider.history.ok:
            level = "info"  # it has not answered yet, so how long it takes is not known
        times = {"until": until} if until is not None and state in _ALERT_STATES else {}
        text = _text(provider.name, was, state, reason)
        self._events.add(now, f"provider_{state}", text, provider.name, level, **times)


def _milder_condition(provider: ProviderState, now: float) -> Condition:
    holds = [g for g in provider.groups.values() if now < g.held_until]
    if holds:
        # Long to its end: neither its last hour nor another model's short hold means that it is back.
        long = [g for g in holds if g.held_long]
        first = min(long or holds, key=lambda g: g.held_until)
        why = refusal_text(first.held_kind, first.held_detail)
        return Condition("exhausted" if long else "limited", f"{first.name}: {why}", first.held_until)
    if provider.history.error_rate > DEGRADED_ERROR_RATE:
        return Condition("degraded", f"{provider.history.error_rate:.0%} of recent calls failed")
    if provider.breaker.slow_start_share(now) < 1.0:
        return Condition("degraded", "recovering: its share grows back")
    return Condition("healthy")


def _text(name: str, was: str, state: str, reason: str) -> str:
    if state == "misconfigured":
        return reason  # which names the provider
    if was in _OUT_STATES and state in _QUIET_STATES:
        return f"{name} is back: {state}" + (f", {reason}" if reason else "")
    return f"{name} {_PHRASES.get(state, f'is {state}')}" + (f": {reason}" if reason else f" (was {was})")


def _level(was: str, state: str) -> str:
    """An outage is an alert when it begins and ends, not each time that it is tried."""
    if {was, state} == {"open", "half_open"}:
        return "info"
    if state in _ALERT_STATES or was in _OUT_STATES:
        return "alert"
    return "warning" if "suspect" in (was, state) else "info"
