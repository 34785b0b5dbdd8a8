"""How providers really count, written apart from the code under test: what our buckets must never overrun.

Every server refuses a call that does not fit and counts what it lets in:

    anthropic  requests; uncached input on arrival; output as it is produced, so a call needs only room
    openai     requests; max(max_tokens, characters / 4) on arrival, and refused calls are requests too
    gemini     requests; input on arrival; requests of a day to midnight Pacific
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from src.records import LimitReport, Usage
from src.routing.limits.group import Need, RateLimitGroup, Reservation
from src.settings import LimitSettings

EPSILON = 1e-6  # units: what rounding may take from a level


class Level:
    """One bucket of a server: full at first, refilled evenly."""

    def __init__(self, per_minute: float, capacity: float, now: float) -> None:
        self.per_second, self.capacity = per_minute / 60.0, capacity
        self.level, self.at = capacity, now

    def has(self, amount: float, now: float) -> bool:
        if now > self.at:
            self.level = min(self.capacity, self.level + (now - self.at) * self.per_second)
            self.at = now
        return self.level + EPSILON >= min(amount, self.capacity)

    def take(self, amount: float) -> None:
        self.level -= amount


@dataclass
class Server:
    """One provider. Limits per minute; `burst_s` of requests and `token_burst_s` of tokens fit at once."""

    api_format: str
    now: float
    requests: float | None = None
    tokens: float | None = None  # input tokens for gemini
    input_tokens: float | None = None
    output_tokens: float | None = None
    requests_per_day: int | None = None
    burst_s: float = 1.0
    token_burst_s: float = 60.0
    admitted: int = 0
    denied: int = 0
    taken: dict[str, float] = field(default_factory=dict)
    today: int = 0
    _levels: dict[str, Level] = field(default_factory=dict)
    _midnight: float = 0.0

    def __post_init__(self) -> None:
        for name in ("requests", "tokens", "input_tokens", "output_tokens"):
            per_minute = getattr(self, name)
            if per_minute is not None:
                self._set(name, per_minute)
        self._midnight = _midnight_in_california(self.now)

    def _set(self, name: str, per_minute: float) -> None:
        seconds = self.burst_s if name == "requests" else self.token_burst_s
        capacity = max(per_minute / 60.0 * seconds, 1.0)
        fresh = Level(per_minute, capacity, self.now)
        if name in self._levels:
            fresh.level, fresh.at = min(self._levels[name].level, capacity), self._levels[name].at
        self._levels[name] = fresh

    def change(self, **per_minute: float) -> None:
        """Other limits from now on; what was used stays used."""
        for name, value in per_minute.items():
            setattr(self, name, value)
            self._set(name, value)

    def charges(self, need: Need, sent_input: int) -> dict[str, float]:
        if self.api_format == "openai":
            return {"requests": 1, "tokens": max(need.tokens, sent_input)}
        if self.api_format == "gemini":
            return {"requests": 1, "tokens": sent_input}
        return {"requests": 1, "input_tokens": sent_input, "output_tokens": 1}

    def arrive(self, need: Need, sent_input: int, now: float) -> bool:
        """Whether the call gets in. `sent_input` is how long the prompt really is."""
        if now >= self._midnight:
            self.today, self._midnight = 0, _midnight_in_california(now)
        wanted = {name: n for name, n in self.charges(need, sent_input).items() if name in self._levels}
        capacities = [self._levels[name].has(amount, now) for name, amount in wanted.items()]
        fits = all(capacities)
        if self.requests_per_day is not None and self.today >= self.requests_per_day:
            fits = False
        if not fits:
            self.denied += 1
            if self.api_format == "openai" and "requests" in self._levels:
                level = self._levels["requests"]
                level.level = min(level.level, max(0.0, level.level - 1.0))
            return False
        self.admitted += 1
        self.today += 1
        for name, amount in wanted.items():
            if name != "output_tokens":
                self._take(name, amount)
        return True

    def produced(self, output_tokens: int, now: float) -> None:
        if "output_tokens" in self._levels:
            self._levels["output_tokens"].has(0, now)
            self._take("output_tokens", output_tokens)

    def _take(self, name: str, amount: float) -> None:
        self._levels[name].take(amount)
        self.taken[name] = self.taken.get(name, 0.0) + amount

    def headers(self, now: float) -> tuple[LimitReport, ...]:
        """What an answer says of the limits, as of the call's arrival. Gemini says nothing."""
        if self.api_format == "gemini":
            return ()
        reports = []
        for name, level in self._levels.items():
            level.has(0, now)
            limit = round(level.per_second * 60.0)
            left = limit - (level.capacity - level.level)
            reports.append(LimitReport(name, limit, max(0, int(left)), 60.0))
        return tuple(reports)

    def most(self, name: str, seconds: float) -> float:
        """What fits into so many seconds: the bucket and its refill."""
        level = self._levels[name]
        return level.capacity + level.per_second * seconds


def _midnight_in_california(now: float) -> float:
    zone = ZoneInfo("America/Los_Angeles")
    tomorrow = datetime.fromtimestamp(now, zone).date() + timedelta(days=1)
    return datetime(tomorrow.year, tomorrow.month, tomorrow.day, tzinfo=zone).timestamp()


@dataclass
class Traffic:
    """What went through a group: when each call was sent, and which were refused when."""

    sent: list[float] = field(default_factory=list)
    denied: list[float] = field(default_factory=list)


def configured_limits(server: Server) -> LimitSettings:
    """The server's limits as a user would tell them."""
    given: dict[str, Any] = {
        "requests_per_minute": server.requests,
        "tokens_per_minute": server.tokens,
        "input_tokens_per_minute": server.input_tokens,
        "output_tokens_per_minute": server.output_tokens,
        "requests_per_day": server.requests_per_day,
        "burst_s": server.burst_s,
        "token_burst_s": server.token_burst_s,
    }
    return LimitSettings(**{name: value for name, value in given.items() if value is not None})


class _Run:
    """One sender behind a rate-limit group, one server, and the calls on their way between them."""

    def __init__(
        self,
        group: RateLimitGroup,
        server: Server,
        need: Callable[[], tuple[Need, Usage]],
        on_the_way_s: Callable[[], float],
        latency_s: Callable[[], float],
        retry_after_s: float | None,
    ) -> None:
        self.group, self.server, self.need = group, server, need
        self.on_the_way_s, self.latency_s, self.retry_after_s = on_the_way_s, latency_s, retry_after_s
        self.seen = Traffic()
        self.next = need()
        self.todo: list[tuple[float, int, Callable[[float], None]]] = []
        self.count = 0

    def at(self, moment: float, what: Callable[[float], None]) -> None:
        self.count += 1
        heapq.heappush(self.todo, (moment, self.count, what))

    def until(self, end: float) -> None:
        self.at(self.server.now, self.send)
        while self.todo and self.todo[0][0] <= end:
            now, _, what = heapq.heappop(self.todo)
            self.server.now = now
            what(now)
            assert self.count < 1_000_000, "it spins"

    def send(self, now: float) -> None:
        closed = self.group.closed(now)
        until = closed.until if closed is not None else None
        need, usage = self.next
        wait_s = 0.0
        if closed is None:
            _, wait_s = self.group.wait(need, now)
            until = now + wait_s
        if closed is not None or wait_s:
            if until is not None:  # else the scout's answer asks again
                self.at(until, self.send)
            return
        held = self.group.reserve(need, now)
        self.next = self.need()
        self.seen.sent.append(now)
        self.at(now + self.on_the_way_s(), lambda then: self.arrive(held, need, usage, then))
        self.at(now, self.send)

    def arrive(self, held: Reservation, need: Need, usage: Usage, now: float) -> None:
        fits = self.server.arrive(need, usage.input_tokens, now)
        reports = self.server.headers(now)
        back_s = self.latency_s() if fits else 0.02
        self.at(now + back_s, lambda then: self.settle(held, usage if fits else None, reports, then))

    def settle(
        self, held: Reservation, usage: Usage | None, reports: tuple[LimitReport, ...], now: float
    ) -> None:
        group, scouting = self.group, self.group.limit_probes
        if usage is not None:
            self.server.produced(usage.output_tokens, now)
        group.settle(held, usage, charged=False, now=now)
        group.learn(reports, held, now)
        if usage is None:
            self.seen.denied.append(now)
            group.rate_limited(self.retry_after_s, held.sent_at, now)
        else:
            if group.unknown:
                group.answered_without_headers(now)
            group.succeeded()
        if scouting:
            self.at(now, self.send)


def run(
    group: RateLimitGroup,
    server: Server,
    seconds: float,
    *,
    need: Callable[[], tuple[Need, Usage]],
    on_the_way_s: Callable[[], float] = lambda: 0.02,
    latency_s: float | Callable[[], float] = 0.5,
    retry_after_s: float | None = None,
) -> Traffic:
    """Send as much as `group` lets through, each call as soon as it does, for so many seconds."""
    latency = latency_s if callable(latency_s) else lambda: latency_s
    going = _Run(group, server, need, on_the_way_s, latency, retry_after_s)
    going.until(server.now + seconds)
    return going.seen
