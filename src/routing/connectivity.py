"""Which providers are reachable: network outages, silent providers, and the calls lost in them.

Evidence. An answer of any kind, to a call or to a health check (the list of models, which costs nothing),
shows that a provider is there. A call or health check without a connection shows that it is not; so does a
health check that times out, if an earlier one was answered (not every server has such a list). A broken
connection only raises the question, and a health check answers it. Evidence of absence holds for FRESH_S: a
provider that failed an hour ago and had no call since is checked again.

    every provider is gone                  offline: no breaker, attempt or forced call is spent on it
    one is silent, another is there         its breaker opens, and its calls in flight are lost
    some are gone, nothing from the rest    the rest get health checks

The orchestrator abandons lost calls (`take_abandoned`): at once if their provider is silent and others
answer; after a network outage, those that do not return within the time that makes a silence suspicious. If
the health check answers, silent calls alone prove nothing, since answers may take long. Then `stalls.py`
decides, and one call at a time tries the provider.

A call at a worker that does not answer shows nothing of its provider (`set_unseen`): its silence is not the
provider's, and it is not abandoned here. It ends when its worker answers again, or is lost.

A health check is due (`next_health_check_at`) once at the start, every `health_interval_s` while there is a
doubt, and every `offline_probe_s` while offline. It is made HEALTH_CHECK_S before a silence becomes
suspicious, so that its outcome is known by then.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from enum import StrEnum

from ..errors import ProviderError, Unreachable
from ..records import Outcome
from .health.circuit_breaker import BreakerState
from .registry import Registry
from .stalls import Stalls
from .state import ProviderState
from .verification import Verifier

HEALTH_CHECK_S = 3.0  # its time limit
FRESH_S = 15.0
_EARLY_AT_MOST = 0.6  # of the time after which a silence is suspicious
_SLEEP_CUTS_S = 30.0  # a smaller jump may be a clock that was set


class HealthCheckResult(StrEnum):
    """The outcome of a health check."""

    ANSWERS = "answers"
    KEY_REFUSED = "key_refused"  # 401: it is there, but rejects the key
    FORBIDDEN = "forbidden"  # 403
    REFUSES = "refuses"  # it is there, but answers with an error of its own
    SILENT = "silent"  # it timed out
    UNREACHABLE = "unreachable"


_REFUSALS = {HealthCheckResult.KEY_REFUSED: 401, HealthCheckResult.FORBIDDEN: 403}


class ConnectivityMonitor:
    """Applies the rules above to ended calls and health checks. Times are UTC epoch seconds."""

    def __init__(self, registry: Registry, verifier: Verifier) -> None:
        self._registry, self._verifier = registry, verifier
        self.stalls = Stalls(registry)
        self._unseen: frozenset[int] = frozenset()
        self._floor_s = registry.settings.routing.stall_timeout_s
        self._interval_s = registry.settings.breaker.health_interval_s

    # ------------------------------------------------------------------ evidence

    def settled(
        self,
        provider: ProviderState,
        outcome: Outcome,
        error: ProviderError | None,
        placed_at: float,
        now: float,
    ) -> None:
        """A call has ended."""
        if isinstance(error, Unreachable):
            provider.connection.lost_sight(placed_at)
            if not error.sent:
                provider.connection.proved_unreachable(now)
                self._judge(now)
        elif outcome is Outcome.OK or (error is not None and error.status is not None):
            provider.connection.reached(now)
            since = provider.connection.unreachable_since
            if since is None or placed_at >= since:  # an older call only says that there was a network
                self.reached(provider, now)

    def record_health_check(
        self,
        provider: ProviderState,
        found: HealthCheckResult,
        asked_at: float,
        now: float,
        models: Collection[str] = (),
    ) -> bool:
        """A health check has ended. Whether calls may go now that could not before.

        `asked_at`: when it began. `models`: the names on the list, where it returned one.
        """
        changed = False
        if found not in (HealthCheckResult.SILENT, HealthCheckResult.UNREACHABLE):
            provider.connection.lists_models = True
            changed = self._registry.network.offline_since is not None
            self.reached(provider, now)
            changed |= self._verifier.health_check(
                provider, asked_at, now,
                answers=found is HealthCheckResult.ANSWERS, status=_REFUSALS.get(found), models=models,
            )  # fmt: skip
        elif self._proves_absence(provider, found, asked_at):
            connection = provider.connection
            connection.lost_sight(connection.heard_at if provider.in_flight > provider.unseen else asked_at)
            connection.proved_unreachable(now)
        well = found is HealthCheckResult.ANSWERS
        if well:
            changed |= self._verifier.mended(provider, now)
            changed |= provider.answers_health(now, self._floor_s)
        if provider.breaker.state is not BreakerState.CLOSED:
            provider.breaker.health(well, now)
            changed = changed or provider.half_open
        return self._judge(now) or changed

    @staticmethod
    def _proves_absence(provider: ProviderState, found: HealthCheckResult, asked_at: float) -> bool:
        """Whether a health check without an answer shows that the provider can't be reached."""
        if provider.connection.reached_at >= asked_at:
            return False
        return found is HealthCheckResult.UNREACHABLE or provider.connection.lists_models

    def reached(self, provider: ProviderState, now: float) -> None:
        """The provider is there, so the pool is online."""
        provider.connection.found(now)
        since = self._registry.network.came_online(now)
        if since is None:
            return
        for each in self._registry.providers:
            each.connection.network_is_back(now)
            self._forgive(each, since)
            if now - since >= self._registry.settings.routing.offline_probe_s:
                each.connection.cut(now, each.stall_timeout_s(self._floor_s))
        text = f"online again after {now - since:.0f} s: {provider.name} can be reached"
        self._registry.events.add(now, "online", text, level="alert")

    def jumped(self, seconds: float, now: float) -> None:
        """The clock jumped (a laptop slept): calls in flight then show nothing about their providers."""
        self._registry.network.jumped(seconds, now)
        for provider in self._registry.providers:
            provider.connection.heard(now)
            if seconds >= _SLEEP_CUTS_S:
                provider.connection.cut(now, provider.stall_timeout_s(self._floor_s))

    # ------------------------------------------------------------------ verdicts

    def _judge(self, now: float) -> bool:
        """Find out whether the pool is offline, or one provider silent. Whether anything has changed."""
        if self._registry.network.offline_since is not None:
            return False
        watched = self._watched()
        gone = [p for p in watched if self._is_gone(p, now)]
        if gone and len(gone) == len(watched):
            self._go_offline(gone, now)
            return True
        silent = [p for p in gone if self._is_silent(p, now) and self._others_are_there(p, now)]
        for provider in silent:
            after_s = now - provider.connection.heard_at
            provider.breaker.trip(now, f"silent for {after_s:.0f} s, and so is its list of models")
            provider.connection.cut(now, 0.0)
            self._registry.status.report(provider, now)
        return bool(silent)

    def _go_offline(self, gone: list[ProviderState], now: float) -> None:
        """Offline since the last ones went: a provider that was dead long before does not count."""
        went = [p.connection.unreachable_since for p in gone if p.connection.unreachable_since is not None]
        since = min(at for at in went if at >= max(went) - FRESH_S)
        self._registry.network.went_offline(since)
        for each in gone:
            self._forgive(each, since)
        text = "offline: no provider can be reached, waiting for the network"
        self._registry.events.add(now, "offline", text, level="alert", since=since)

    @staticmethod
    def _forgive(provider: ProviderState, since: float) -> None:
        """Failures since then were the network's; a breaker that was open before stays open."""
        if provider.breaker.state is BreakerState.CLOSED or provider.breaker.opened_at >= since:
            provider.breaker.forgive()

    def _watched(self) -> list[ProviderState]:
        return [p for p in self._registry.providers if not (p.paused or p.key.rejection)]

    @staticmethod
    def _is_gone(provider: ProviderState, now: float) -> bool:
        return provider.connection.is_gone(now, FRESH_S)

    def _is_silent(self, provider: ProviderState, now: float) -> bool:
        """Whether nothing was heard from the provider for long; time-outs are no sign of life."""
        if (
            provider.in_flight == provider.unseen or provider.connection.heard_at < provider.connection.cut_at
        ):  # or its calls are given up now
            return False
        return now - provider.connection.heard_at >= provider.stall_timeout_s(self._floor_s)

    def _others_are_there(self, provider: ProviderState, now: float) -> bool:
        return any(self._is_there(p, now) for p in self._watched() if p is not provider)

    def _is_there(self, provider: ProviderState, now: float) -> bool:
        return now - provider.connection.reached_at <= self._interval_s

    # ------------------------------------------------------------------ what to do about it

    def next_health_check_at(self, provider: ProviderState, asked_at: float, now: float) -> float:
        """When the provider's health check is due. `asked_at`: when the last one began, below 0 for none."""
        if self._registry.network.offline_since is not None:
            return asked_at + self._registry.settings.routing.offline_probe_s
        due = asked_at + self._interval_s
        if provider.wants_look(asked_at):
            return due if provider.key.worked else now
        if due < 0:  # the first: whether it answers such requests has to be known before it matters
            return now
        if self._doubtful(provider, now):
            return due
        if provider.in_flight == provider.unseen:
            return math.inf
        suspect_s = provider.stall_timeout_s(self._floor_s)
        return max(
            due, provider.connection.heard_at + suspect_s - min(HEALTH_CHECK_S, _EARLY_AT_MOST * suspect_s)
        )

    def _doubtful(self, provider: ProviderState, now: float) -> bool:
        if provider.key.rejection or provider.doubted or provider.breaker.state is not BreakerState.CLOSED:
            return True
        if provider.connection.unreachable_since is not None and not self._is_gone(provider, now):
            return True
        watched = self._watched()
        if not any(self._is_gone(p, now) for p in watched):
            return False
        return not any(self._is_there(p, now) for p in watched)

    def set_unseen(self, permits: Collection[int], now: float) -> None:
        """These calls, and no others, are at workers that do not answer."""
        if self._unseen == frozenset(permits):
            return
        self._unseen = frozenset(permits)
        for provider in self._registry.providers:
            more, oldest_at = 0, now
            for number, held in self._registry.permits.items():
                if held.provider is not provider or held.is_flex:
                    continue
                was_seen, is_seen = held.seen_from != math.inf, number not in self._unseen
                if was_seen != is_seen:
                    held.seen_from = now if is_seen else math.inf
                    more += 1 if is_seen else -1
                if is_seen:
                    oldest_at = min(oldest_at, held.placed_at if held.seen_from is None else held.seen_from)
            if more:
                provider.see(more, oldest_at)

    def take_abandoned(self, now: float) -> list[int]:
        """The permits of calls to give up now; each is named once."""
        self._judge(now)
        lost: list[int] = []
        for provider in self._registry.providers:
            if not provider.connection.take_cut(now):
                continue
            mine = [
                number
                for number, held in self._registry.permits.items()
                if held.provider is provider
                and (held.is_flex or held.seen_from != math.inf)
                and held.placed_at <= provider.connection.cut_at
            ]
            if mine:
                text = f"{provider.name}: {len(mine)} calls in flight are given up, their tasks go elsewhere"
                self._registry.events.add(now, "calls_lost", text, provider.name, "warning")
            lost += mine
        return list(dict.fromkeys(lost + self.stalls.take(now)))
