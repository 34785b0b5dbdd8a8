"""How many calls a provider may have in flight: as many as do not slow it down.

    latency ratio of a window      calls in flight at most
    ----------------------------   -------------------------------------------------------
    up to CALM, limit was used     x GROWTH until it is slower once, from then on as below
    up to STEADY, limit was used   + sqrt(limit) / 2
    above STEADY                   x STEADY / ratio, at least x LARGEST_CUT
    hardly lower after deep cuts   back to before: load is not what makes it slow, and this
                                   latency is the usual one from now on
    share of failures >= FAILING   x (1 - share), at least x LARGEST_CUT, not below INITIAL

The ratio is the median, over the calls of a window, of a call's latency divided by the usual one of its kind
(model and task type). The formula is a gradient as in Netflix's concurrency-limits (`Gradient2Limit`: limit x
tolerance x usual latency / latency, tolerance 1.5, plus a queue of sqrt(limit)) and in Envoy's adaptive
concurrency filter (limit x (minimum latency + buffer) / latency + sqrt(limit)). Answers of models differ in
length by far more than those of the services which these were made for. Hence medians of whole windows
instead of every sample, a latency per kind, and the step back where a cut did not help: work that has become
longer is no overload.

A few failing rows are no reason to slow down a provider, and failures of all calls concern the breaker. Hence
INITIAL is the minimum after failures, and growth by GROWTH follows them.

A window has as many calls as the limit, all of them placed after the last change, so that one burst is one
observation. A difference below NOISE_S is the client's own. Calls that show nothing about health do not
count: 429s are the concern of the limits.

It starts at INITIAL calls, so that few calls reveal a provider that can't carry a whole pool. A request
limit, configured or stated by a header, may admit fewer calls in FIRST_ANSWER_S than there are slots. Then
that number is the start, and the limit is used fully from the beginning.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

INITIAL = 8
FIRST_ANSWER_S = 4.0
LEAST = 2  # of the limit, and ...
WINDOW = 8  # ... of the calls in a window
CALM, STEADY = 1.1, 1.2
GROWTH = 2.0
LARGEST_CUT = 0.5
DEEP = 0.65  # of the calls in flight before: with so many fewer it is seen whether that helps
FAILING = 0.5
NOISE_S = 0.1
SURE = 1.5  # a ratio up to this has to occur twice in a row: it may be chance
_LEARN = 16  # calls of a kind from which its usual latency is taken, at least
_KINDS = 256


class Concurrency:
    """The limit of one provider: `limit` calls may be in flight, between LEAST and `most`.

    Latencies are seconds; times are UTC epoch seconds.
    """

    __slots__ = (
        "_before_cut",
        "_began_at",
        "_calls",
        "_cut_load",
        "_cut_ratio",
        "_failures",
        "_growing",
        "_is_new",
        "_load",
        "_peak",
        "_ratios",
        "_seconds",
        "_slow_windows",
        "_usual",
        "limit",
        "most",
    )

    def __init__(self, most: int, stated_per_s: float | None = None) -> None:
        self.most = most
        self.limit = min(most, INITIAL)
        self._usual: dict[Hashable, tuple[float, int]] = {}  # by kind: mean latency, of so many
        self._growing = True
        self._is_new = True  # the limit has not changed yet, so usual latencies are still learned
        self._slow_windows = 0
        self._before_cut, self._cut_load, self._cut_ratio = 0, 0.0, 0.0
        self._began_at = -math.inf
        self._start(-math.inf)
        if stated_per_s is not None:
            self.stated(stated_per_s)

    def stated(self, per_s: float) -> None:
        """The configuration or a header states that `per_s` calls a second pass."""
        if self._is_new and per_s * FIRST_ANSWER_S < self.most:
            self.limit = max(self.limit, math.ceil(per_s * FIRST_ANSWER_S))

    def assume_full(self) -> None:
        """Take it to carry `most` calls: for a replay of calls that were in flight together."""
        self.limit, self._is_new = self.most, False

    def __repr__(self) -> str:
        return f"<Concurrency {self.limit} of {self.most}>"

    @property
    def may_grow(self) -> bool:
        """Whether more calls may be in flight once those in flight have returned."""
        return self.limit < self.most

    def drain_s(self, calls: int, average_s: float) -> float:
        """Seconds until so many calls have gone, with answers after `average_s`."""
        rounds = calls / self.limit
        return average_s * (math.log2(1.0 + rounds) if self._growing else rounds)

    def _start(self, now: float) -> None:
        self._began_at = now
        self._ratios: list[float] = []
        self._calls = self._failures = self._peak = self._load = 0
        self._seconds = 0.0

    def record(
        self, *, ok: bool, placed_at: float, latency_s: float, kind: Hashable, in_flight: int, now: float
    ) -> None:
        """A call has ended that shows something about health.

        `in_flight`: calls to the provider when it was placed, with it. `kind`: its model and task type.
        """
        if placed_at < self._began_at:
            return
        self._calls += 1
        self._load += in_flight
        if in_flight > self._peak:
            self._peak = in_flight
        if ok:
            self._seconds += latency_s
            self._observe(kind, latency_s)
        else:
            self._failures += 1
        if self._calls >= max(self.limit, WINDOW):
            self._judge()
            self._start(now)

    def _observe(self, kind: Hashable, latency_s: float) -> None:
        usual, of = self._usual.get(kind, (0.0, 0))
        if of >= _LEARN:
            self._ratios.append(latency_s / usual if usual > 0.0 else 1.0)
        if of < _LEARN or self._is_new:
            if len(self._usual) >= _KINDS:
                self._usual.clear()
            self._usual[kind] = (usual * of + latency_s) / (of + 1), of + 1

    def _judge(self) -> None:
        """Adjust the limit by the calls of the window: see the table above."""
        failed = self._failures / self._calls
        if failed >= FAILING:
            self._set(max(min(self.limit, INITIAL), self.limit * max(LARGEST_CUT, 1.0 - failed)))
            self._growing, self._before_cut = True, 0
            return
        answered = self._calls - self._failures
        if 2 * len(self._ratios) < answered:
            return  # most of them are of kinds whose usual latency is still being learned
        ratio = sorted(self._ratios)[len(self._ratios) // 2]
        is_noise = ratio <= 0.0 or self._seconds / answered * (1.0 - 1.0 / ratio) < NOISE_S
        if is_noise or ratio <= STEADY:
            self._slow_windows = self._before_cut = 0
            self._grow(calm=is_noise or ratio <= CALM)
            return
        self._slow_windows += 1
        if self._did_not_help(ratio):
            self._take_back(ratio)
        elif 2 * self._peak >= self.limit and (ratio > SURE or self._slow_windows > 1):
            self._cut(ratio)

    def _grow(self, *, calm: bool) -> None:
        """One step up, if the limit was used. `calm`: the provider is not slower at all."""
        if self._peak < 0.8 * self.limit:
            return
        more = max(1.0, math.sqrt(self.limit) / 2.0)
        if self._growing and calm:
            more = (GROWTH - 1.0) * self.limit
        self._set(self.limit + more)

    def _cut(self, ratio: float) -> None:
        self._growing = False
        if not self._before_cut:
            self._before_cut, self._cut_ratio = self.limit, ratio
            self._cut_load = self._load / self._calls
        self._set(self.limit * max(LARGEST_CUT, STEADY / ratio))

    def _take_back(self, ratio: float) -> None:
        """Back to before the cut: load is not what makes the provider slow, and this latency is usual now."""
        self._set(self._before_cut)
        self._usual = {kind: (usual * ratio, of) for kind, (usual, of) in self._usual.items()}
        self._growing, self._before_cut = True, 0

    def _did_not_help(self, ratio: float) -> bool:
        """Whether latency has fallen by less than half of what it would fall if load were the cause."""
        if not self._before_cut:
            return False
        load = self._load / self._calls / self._cut_load
        if load > DEEP and self.limit > LEAST:
            return False
        return ratio > self._cut_ratio * (1.0 + load) / 2.0

    def _set(self, limit: float) -> None:
        self._is_new = False
        self.limit = max(min(LEAST, self.most), min(self.most, int(limit)))
