"""The condition of each provider as one word, and events when it changes.

States, the gravest first: paused, misconfigured, offline, exhausted, open, half_open, suspect, limited,
degraded, healthy.
"""

from __future__ import annotations

from typing import NamedTuple

from ..records import ProviderCondition, RefusalKind
from ..refusal_text import refusal_text
from .event_log import EventLog
from .health import circuit_breaker
from .health.network import NetworkState
from .state import SHARED_GROUP, ProviderState

DEGRADED_ERROR_RATE = 0.1

# "is open" would read like availability
_PHRASES = {
    ProviderCondition.OPEN: "gets no tasks",
    ProviderCondition.HALF_OPEN: "is tried with one call",
}
_ALERT_STATES = frozenset(
    {ProviderCondition.OPEN, ProviderCondition.EXHAUSTED, ProviderCondition.MISCONFIGURED}
)
_OUT_STATES = _ALERT_STATES | {ProviderCondition.HALF_OPEN}
# changes between these cause no event
_QUIET_STATES = frozenset({ProviderCondition.HEALTHY, ProviderCondition.DEGRADED, ProviderCondition.LIMITED})


class Condition(NamedTuple):
    """A provider's condition. `until`: its known end, UTC epoch seconds."""

    state: ProviderCondition
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
            return Condition(ProviderCondition.PAUSED, "paused by hand")
        if provider.key.rejection:
            return Condition(ProviderCondition.MISCONFIGURED, provider.key.rejection)
        if self._network.offline_since is not None:
            return Condition(ProviderCondition.OFFLINE, "no provider can be reached")
        if provider.quota.until:
            spent = refusal_text(RefusalKind.QUOTA_SPENT, provider.quota.code)
            return Condition(ProviderCondition.EXHAUSTED, spent, provider.quota.until)
        if breaker.state is circuit_breaker.OPEN:
            return Condition(ProviderCondition.OPEN, breaker.reason, breaker.open_until)
        if breaker.state is circuit_breaker.HALF_OPEN:
            return Condition(ProviderCondition.HALF_OPEN, "one probe decides")
        silent_since = provider.silent_since(now, self._stall_timeout_s)
        if silent_since is not None:
            silence = f"{provider.in_flight} calls in flight, no reply for {now - silent_since:.0f} s"
            return Condition(ProviderCondition.SUSPECT, silence)
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
        reason = why if first.name == SHARED_GROUP else f"{first.name}: {why}"
        state = ProviderCondition.EXHAUSTED if long else ProviderCondition.LIMITED
        return Condition(state, reason, first.held_until)
    if provider.history.error_rate > DEGRADED_ERROR_RATE:
        return Condition(
            ProviderCondition.DEGRADED, f"{provider.history.error_rate:.0%} of recent calls failed"
        )
    if provider.breaker.slow_start_share(now) < 1.0:
        return Condition(ProviderCondition.DEGRADED, "its share is growing back")
    return Condition(ProviderCondition.HEALTHY)


def _text(name: str, was: ProviderCondition, state: ProviderCondition, reason: str) -> str:
    if state == ProviderCondition.MISCONFIGURED:
        return reason  # which names the provider
    if was in _OUT_STATES and state in _QUIET_STATES:
        return f"{name} recovered" + (f", still {state}: {reason}" if reason else "")
    return f"{name} {_PHRASES.get(state, f'is {state}')}" + (f": {reason}" if reason else f" (was {was})")


def _level(was: ProviderCondition, state: ProviderCondition) -> str:
    """An outage is an alert when it begins and ends, not each time that it is tried."""
    if {was, state} == {ProviderCondition.OPEN, ProviderCondition.HALF_OPEN}:
        return "info"
    if state in _ALERT_STATES or was in _OUT_STATES:
        return "alert"
    return "warning" if ProviderCondition.SUSPECT in (was, state) else "info"
