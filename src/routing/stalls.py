"""Calls without a reply although their provider's health check answers: long answers, or none?

An answer that is not streamed shows nothing before its end, not even headers, so a long answer looks like
silence. (The events of a stream are heard, and once some were delivered its call is never abandoned.)
Two things can be measured: how long this provider's answers usually take, and how long another
provider takes for the same task. Hence two steps.

    1. Nothing has come back from a provider for `stall_after_s`: QUIET x its 95th percentile, at least
       FLOOR_S, and FEW_FLOOR_S while it has answered fewer than FEW calls. Its oldest call whose task may go
       elsewhere is abandoned (uncertain: it may be billed), and the task goes elsewhere.
    2. The task is answered there in less than QUICKER of the time that it waited here, and still nothing has
       come back: the provider is at fault. Its breaker opens, and its other calls whose tasks may move are
       abandoned too. If the answer takes long there as well, the tasks are long: the next call is abandoned
       after twice the time, and so on.

A single call that hangs while its provider answers others is abandoned too: after HUNG x the 95th percentile,
at least HUNG_FLOOR_S, and never while fewer than FEW answers are known. That is one call per provider in that
time, and the next one after twice the time, until another provider answers an abandoned task in less than
QUICKER of it. It does not count against the provider's health.

So longer work (a reasoning model, a cold start) costs one call at a time and no outage. A task is abandoned
once by these rules. A task without another provider waits for its time limit, since a second call may be
billed too, and is not known to be faster.

FLOOR_S: twice `stall_timeout_s`, after which no new call goes there anyway. QUIET is 3, as for suspicion.
"""

from __future__ import annotations

import math

from .health.circuit_breaker import CLOSED
from .registry import Registry
from .state import Permit, ProviderState

FLOOR_S, FEW_FLOOR_S = 10.0, 20.0
FEW = 20
QUIET = 3.0
QUICKER = 0.5
HUNG, HUNG_FLOOR_S = 6.0, 30.0  # far beyond the 99th percentile of answers whose times are spread as usual
_DOUBLINGS_AT_MOST = 6


Asked = dict[int, tuple[float, int]]  # by provider: when a call was last abandoned, how many since the reset


class Stalls:
    """Decides which calls are abandoned; the orchestrator cancels them. Times are UTC epoch seconds."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._asked: Asked = {}  # calls abandoned because nothing came back at all
        self._hung_asked: Asked = {}  # and those that hung alone
        self._proven: set[int] = set()

    def take(self, now: float) -> list[int]:
        """The permits of calls to abandon now; each is returned once."""
        if self._registry.network.offline_since is not None:
            return []
        lost: list[int] = []
        for provider in self._registry.providers:
            if provider.index in self._proven:
                self._proven.discard(provider.index)
                lost += [held.number for held in self._movable(provider)]
            elif provider.breaker.state is not CLOSED:
                lost += self._silent_probes(provider, now)
            elif self._is_stalled(provider, now):
                lost += self._give_up_oldest(self._movable(provider), self._asked, now)
            else:
                lost += self._give_up_oldest(self._hung(provider, now), self._hung_asked, now)
        return lost

    @staticmethod
    def _give_up_oldest(calls: list[Permit], asked: Asked, now: float) -> list[int]:
        """Abandon the oldest of these calls, so that its task shows how long another provider takes."""
        if not calls:
            return []
        oldest = min(calls, key=lambda held: held.number)
        index = oldest.provider.index
        oldest.compared = True
        if oldest.retry is not None:
            oldest.retry.given_up = (index, now - oldest.placed_at)
        asked[index] = now, asked.get(index, (0.0, 0))[1] + 1
        return [oldest.number]

    def _hung(self, provider: ProviderState, now: float) -> list[Permit]:
        """The provider's calls that take far longer than its answers do, although later ones were
        answered."""
        quantiles = provider.history.quantiles()
        if not provider.in_flight or quantiles is None or provider.history.ok < FEW:
            return []
        asked_at, times = self._hung_asked.get(provider.index, (-math.inf, 0))
        wait_s = max(HUNG_FLOOR_S, HUNG * quantiles[1]) * 2.0 ** min(times, _DOUBLINGS_AT_MOST)
        if now - asked_at < wait_s or not self._registry.others_serve(provider, now):
            return []
        return [
            held
            for held in self._movable(provider)
            if now - held.placed_at >= wait_s and provider.answered > held.number
        ]

    def answered(self, held: Permit, latency_s: float, now: float) -> None:
        """A call was answered. If another provider was silent on its task, that proves that provider
        stalled."""
        self._asked.pop(held.provider.index, None)
        if held.retry is None or held.retry.given_up is None:
            return
        index, silent_s = held.retry.given_up
        silent = self._registry.providers[index]
        asked_at, _ = self._asked.get(index, (-math.inf, 0))  # none: it has answered since
        if silent is held.provider or silent.connection.heard_at > asked_at or latency_s > QUICKER * silent_s:
            return
        after_s = now - silent.connection.heard_at
        reason = f"silent for {after_s:.0f} s on what {held.provider.name} answers in {latency_s:.1f} s"
        silent.breaker.trip(now, reason)
        self._proven.add(index)
        self._registry.status.report(silent, now)

    def _is_stalled(self, provider: ProviderState, now: float) -> bool:
        if provider.in_flight == provider.unseen or provider.paused or provider.breaker.state is not CLOSED:
            return False
        asked_at, times = self._asked.get(provider.index, (-math.inf, 0))
        wait_s = self.stall_after_s(provider) * 2.0 ** min(times, _DOUBLINGS_AT_MOST)
        return (
            now - provider.connection.heard_at >= wait_s
            and now - asked_at >= wait_s / 2.0
            and self._registry.others_serve(provider, now)
        )

    def _silent_probes(self, provider: ProviderState, now: float) -> list[int]:
        """The calls that outlive a probe: where the breaker is not closed they need no comparison."""
        if not provider.in_flight or not self._registry.others_serve(provider, now):
            return []
        probe_s = self._registry.settings.breaker.probe_timeout_s
        placed_by = now - max(self.stall_after_s(provider), probe_s)
        silent = [held for held in self._movable(provider) if held.placed_at <= placed_by]
        for held in silent:
            if held.retry is not None:
                held.retry.given_up = (provider.index, now - held.placed_at)
        return [held.number for held in silent]

    @staticmethod
    def stall_after_s(provider: ProviderState) -> float:
        """Seconds without a reply after which one call is abandoned."""
        quantiles = provider.history.quantiles()
        floor_s = FLOOR_S if provider.history.ok >= FEW else FEW_FLOOR_S
        return max(floor_s, QUIET * quantiles[1]) if quantiles is not None else floor_s

    def _movable(self, provider: ProviderState) -> list[Permit]:
        """The provider's calls whose tasks another one may serve, that were not abandoned before, and whose
        worker answers."""
        return [
            held
            for held in self._registry.permits.values()
            if held.provider is provider and held.may_move and held.retry is not None
            and held.retry.given_up is None and held.seen_from != math.inf
        ]  # fmt: skip
