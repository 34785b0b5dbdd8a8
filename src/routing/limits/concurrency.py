"""How many calls a provider may have in flight: as many as do not slow it down.

    an answer in slow start        calls in flight at most
    ----------------------------   -------------------------------------------------------
    as usual                       + 1, up to twice as many as have been in flight
    SLOW x the usual latency       - 1, not below INITIAL

    latency ratio of a window      calls in flight at most
    ----------------------------   -------------------------------------------------------
    up to STEADY, limit was used   + sqrt(limit) / 2, after slow start
    above STEADY                   x STEADY / ratio, at least x LARGEST_CUT: ends slow start
    hardly lower after deep cuts   back to before, and slow start: load is not what makes it
                                   slow, and this latency is the usual one from now on
    share of failures >= FAILING   x (1 - share), at least x LARGEST_CUT, not below INITIAL:
                                   begins slow start

A window's ratio is the median, over its calls, of a call's latency divided by the usual one of its kind
(model and task type). The formula is a gradient as in Netflix's concurrency-limits (`Gradient2Limit`: limit x
tolerance x usual latency / latency, tolerance 1.5, plus a queue of sqrt(limit)) and in Envoy's adaptive
concurrency filter (limit x (minimum latency + buffer) / latency + sqrt(limit)). Answers of models differ in
length by far more than those of the services which these were made for. Hence medians of whole windows
instead of every sample, a latency per kind, and the step back where a cut did not help: work that has become
longer is no overload.

A few failing rows are no reason to slow down a provider, and failures of all calls concern the breaker. Hence
INITIAL is the minimum after failures, and slow start follows them. It also follows cuts that did not help:
answers that have become longer would else keep a pool small for as long as its sum of square roots takes.

A window has as many calls as the limit, all of them placed after the last one ended, so that one burst is one
observation. A difference below NOISE_S is the client's own. Calls that show nothing about health do not
count: 429s are the concern of the limits.

The limit starts at INITIAL calls, so that few calls reveal a provider that can't carry a whole pool. Where a
request limit is stated, by the configuration or a header, the provider carries that rate, and so, by Little's
law, rate x latency calls at once: the limit starts there, for answers after FIRST_ANSWER_S. A rate above
NO_LIMIT_PER_S says that there is no limit, and nothing about what the provider carries.

Slow start is TCP's (RFC 5681): it begins with the first answer, and no answer has to wait for a slower one.
The first event of a stream counts like an answer. Where a kind has had few answers yet, an answer is measured
against those of all kinds.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

INITIAL = 8
FIRST_ANSWER_S = 4.0
NO_LIMIT_PER_S = 1_000.0  # the largest request limits that providers publish are half of that
LEAST = 2  # of the limit, and ...
WINDOW = 8  # ... of the calls in a window
STEADY = 1.2
SLOW, SLOW_OF_ANY = 1.5, 2.0
LARGEST_CUT = 0.5
DEEP = 0.65  # of the calls in flight before: with so many fewer it is seen whether that helps
FAILING = 0.5
NOISE_S = 0.1
SURE = 1.5  # a ratio up to this has to occur twice in a row: it may be chance
USED = 0.8
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
        "_changed_at",
        "_cut_load",
        "_cut_ratio",
        "_failures",
        "_is_new",
        "_load",
        "_peak",
        "_peak_load",
        "_peak_of_last",
        "_ratios",
        "_seconds",
        "_size",
        "_slow_start",
        "_slow_windows",
        "_usual",
        "_usual_of_any",
        "_was_cut",
        "limit",
        "most",
    )

    def __init__(self, most: int, stated_per_s: float | None = None) -> None:
        self.most = most
        self.limit = min(most, INITIAL)
        self._usual: dict[Hashable, tuple[float, int]] = {}  # by kind: mean latency, of so many
        self._usual_of_any = 0.0, 0
        self._slow_start = True
        self._is_new = True  # the limit has not changed yet, so usual latencies are still learned
        self._was_cut = False
        self._slow_windows = 0
        self._before_cut, self._cut_load, self._cut_ratio = 0, 0.0, 0.0
        self._began_at = self._changed_at = -math.inf
        self._peak = 0
        self._start(-math.inf)
        if stated_per_s is not None:
            self.stated(stated_per_s)

    def stated(self, per_s: float) -> None:
        """The configuration or a header states that `per_s` calls a second pass."""
        if not self._was_cut and per_s <= NO_LIMIT_PER_S:
            self.start_at(math.ceil(per_s * FIRST_ANSWER_S))

    def start_at(self, limit: int) -> None:
        """So many calls are known to be carried, or so many as there are slots."""
        self.limit = max(self.limit, min(self.most, limit))
        self._size = max(self.limit, WINDOW)

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
        return average_s * (math.log2(1.0 + rounds) if self._slow_start else rounds)

    def _start(self, now: float) -> None:
        """Begin a window."""
        self._began_at = now
        self._size = max(self.limit, WINDOW)
        self._ratios: list[float] = []
        self._calls = self._failures = self._load = self._peak_load = 0
        self._peak_of_last, self._peak = self._peak, 0
        self._seconds = 0.0

    # ------------------------------------------------------------------ slow start

    def placed(self, in_flight: int) -> None:
        """A call goes to the provider. `in_flight`: calls to it, with this one."""
        if in_flight > self._peak:
            self._peak = in_flight

    def answered(self, *, placed_at: float, kind: Hashable, latency_s: float | None = None) -> None:
        """A call was answered after `latency_s`; None: the first event of its stream has come.

        To be called once for each call, before `record`. `kind`: its model and task type.
        """
        if not self._slow_start or self._slow_windows or placed_at < self._changed_at:
            return
        if self.limit < min(self.most, 2 * max(self._peak, self._peak_of_last)):
            slow = latency_s is not None and self._is_slow(kind, latency_s)
            self._set(max(INITIAL, self.limit - 1) if slow else self.limit + 1)

    def _is_slow(self, kind: Hashable, latency_s: float) -> bool:
        (usual, of), times = self._usual.get(kind, (0.0, 0)), SLOW
        if of < INITIAL:
            (usual, of), times = self._usual_of_any, SLOW_OF_ANY
        return of >= INITIAL and latency_s > max(times * usual, usual + NOISE_S)

    # ------------------------------------------------------------------ windows

    def record(
        self, *, ok: bool, placed_at: float, latency_s: float, kind: Hashable, in_flight: int, now: float
    ) -> None:
        """A call has ended that shows something about health.

        `in_flight`: calls to the provider when it was placed, with it. `kind`: its model and task type.
        """
        if ok:
            ratio = self._ratio(kind, latency_s)
        if placed_at < self._began_at:
            return
        self._calls += 1
        self._load += in_flight
        if in_flight > self._peak_load:
            self._peak_load = in_flight
        if ok:
            self._seconds += latency_s
            if ratio is not None:
                self._ratios.append(ratio)
        else:
            self._failures += 1
        if self._calls >= self._size:
            self._judge(now)
            self._start(now)

    def _ratio(self, kind: Hashable, latency_s: float) -> float | None:
        """The latency by the usual one of its kind; None: that is still being learned."""
        usual, of = self._usual.get(kind, (0.0, 0))
        ratio = None
        if of >= _LEARN:
            ratio = latency_s / usual if usual > 0.0 else 1.0
        if of < _LEARN or self._is_new:
            if len(self._usual) >= _KINDS:
                self._usual.clear()
            self._usual[kind] = (usual * of + latency_s) / (of + 1), of + 1
            usual, of = self._usual_of_any
            self._usual_of_any = (usual * of + latency_s) / (of + 1), of + 1
        return ratio

    def _judge(self, now: float) -> None:
        """Adjust the limit by the calls of the window: see the table above."""
        failed = self._failures / self._calls
        if failed >= FAILING:
            least = min(self.limit, INITIAL)
            self._cut(max(least, self.limit * max(LARGEST_CUT, 1.0 - failed)), now)
            self._slow_start, self._before_cut = True, 0
            return
        answered = self._calls - self._failures
        if 2 * len(self._ratios) < answered:
            return  # most of them are of kinds whose usual latency is still being learned
        ratio = sorted(self._ratios)[len(self._ratios) // 2]
        is_noise = ratio <= 0.0 or self._seconds / answered * (1.0 - 1.0 / ratio) < NOISE_S
        if is_noise or ratio <= STEADY:
            self._slow_windows = self._before_cut = 0
            if not self._slow_start and self._peak_load >= USED * self.limit:
                self._set(self.limit + max(1.0, math.sqrt(self.limit) / 2.0))
            return
        self._slow_windows += 1
        if self._did_not_help(ratio):
            self._take_back(ratio)
        elif 2 * self._peak_load >= self.limit and (ratio > SURE or self._slow_windows > 1):
            self._slow_down(ratio, now)

    def _slow_down(self, ratio: float, now: float) -> None:
        self._slow_start = False
        if not self._before_cut:
            self._before_cut, self._cut_ratio = min(self.limit, self._peak_load), ratio
            self._cut_load = self._load / self._calls
        self._cut(min(self.limit, self._peak_load) * max(LARGEST_CUT, STEADY / ratio), now)

    def _take_back(self, ratio: float) -> None:
        """Back to before the cut: load is not what makes the provider slow, and this latency is usual now."""
        self._set(self._before_cut)
        self._usual = {kind: (usual * ratio, of) for kind, (usual, of) in self._usual.items()}
        usual, of = self._usual_of_any
        self._usual_of_any = usual * ratio, of
        self._slow_start = True
        self._slow_windows = self._before_cut = 0

    def _did_not_help(self, ratio: float) -> bool:
        """Whether latency has fallen by less than half of what it would fall if load were the cause."""
        if not self._before_cut:
            return False
        load = self._load / self._calls / self._cut_load
        if load > DEEP and self.limit > LEAST:
            return False
        return ratio > self._cut_ratio * (1.0 + load) / 2.0

    def _cut(self, limit: float, now: float) -> None:
        self._changed_at, self._was_cut = now, True
        self._set(limit)

    def _set(self, limit: float) -> None:
        self._is_new = False
        self.limit = max(min(LEAST, self.most), min(self.most, int(limit)))
