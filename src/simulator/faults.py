"""The faults: which there are, when and how often. Each API format has a table of the statuses and bodies."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

FAULTS: Mapping[str, str] = {
    # answered with an error
    "rate_limit": "429 with the time to wait",
    "rate_limit_bare": "429 without it",
    "slow_down": "429: traffic rose too fast",
    "daily_quota": "429: the quota of the day is spent",
    "spend_cap": "429: a spending limit is reached",
    "server_error": "500",
    "bad_gateway": "502 with an HTML page",
    "overloaded": "529 (Anthropic) or 503: the provider is overloaded",
    "unavailable": "503",
    "timeout_status": "504",
    "auth": "401",
    "forbidden": "403",
    "model_not_found": "404",
    "context_length": "400: the prompt is too long",
    "content_policy": "the request is refused: 400, or Gemini's blocked prompt",
    "bad_request": "400",
    # broken on the way
    "down": "connections are refused",
    "outage": "accepted connections are reset",
    "reset": "connection reset before the answer",
    "silence": "accepted and never answered",
    "reset_midway": "connection reset in the middle of the body or stream",
    "trickle": "headers, then one byte a second",
    # answered with 200, but not well
    "malformed": "a body, or a chunk in the middle of a stream, that is not JSON",
    "empty": "no text and a normal stop",
    "no_stop_reason": "text without a reason for its end",
    "length": "cut off at a token limit, with some text",
    "content_filter": "the answer is withheld",
    # where JSON was asked for; elsewhere these do nothing
    "wrong_json": "JSON that does not match its schema",
    "wrong_json_once": "the same, but right when the model is shown what is wrong with it",
    "fenced_json": "the JSON in a code fence, with a sentence before it",
    # only where the answer is streamed
    "stream_cut": "the stream ends in the middle, as if it were whole",
    "stream_stall": "the stream stops in the middle and stays open",
    "stream_unterminated": "everything but the event that ends the stream",
    "stream_error": "an error in the middle of the stream, inside the 200",
    "stream_slow_start": "headers at once, the first token after `slow_start_s`",
    "stream_bytes": "one byte at a time, as fast as they are taken",
    "stream_huge": "10 MB of text",
}
BEFORE_READING = frozenset({"down", "outage", "reset", "silence"})
IN_A_STREAM = frozenset(fault for fault in FAULTS if fault.startswith("stream_"))
IN_THE_ANSWER = IN_A_STREAM | frozenset(
    {"reset_midway", "trickle", "malformed", "empty", "no_stop_reason", "length", "content_filter"}
    | {"wrong_json", "wrong_json_once", "fenced_json"}
)
REFUSED_BY_LIMIT = frozenset({"rate_limit", "rate_limit_bare", "slow_down", "daily_quota", "spend_cap"})
OF_THE_PROVIDER = frozenset({"down", "outage", "silence", "server_error"})  # listing the models fails too


@dataclass(frozen=True, slots=True)
class FaultWindow:
    """A fault between two moments, in seconds since the start or the last reset. `to_s` None: for good."""

    from_s: float
    to_s: float | None
    fault: str
    rate: float = 1.0


class FaultPlan:
    """Which fault a call meets. `t` is seconds since the start or the last reset.

    Windows go first, in their order, each with a random number of its own. Then one number decides among the
    rates, so that each keeps its exact probability. Where they add up to more than 1, those of rate 1 come
    first.
    """

    def __init__(self, rates: Mapping[str, float], schedule: Sequence[FaultWindow]) -> None:
        self.schedule = tuple(schedule)
        self.permanent = {fault for fault, rate in rates.items() if rate >= 1.0}
        self.thresholds: list[tuple[float, str]] = []
        total = 0.0
        for fault, rate in sorted(rates.items(), key=lambda item: item[1] < 1.0):
            if rate > 0:
                total += rate
                self.thresholds.append((total, fault))

    def _open_windows(self, t: float) -> Iterator[FaultWindow]:
        for window in self.schedule:
            if window.from_s <= t and (window.to_s is None or t < window.to_s):
                yield window

    def pick(self, t: float, rng: random.Random) -> str | None:
        """The fault of a generation that arrives at `t`."""
        for window in self._open_windows(t):
            if window.rate >= 1.0 or rng.random() < window.rate:
                return window.fault
        if self.thresholds:
            number = rng.random()
            for threshold, fault in self.thresholds:
                if number < threshold:
                    return fault
        return None

    def pick_for_models(self, t: float, rng: random.Random) -> str | None:
        """The fault of a model list: only those of the provider as a whole."""
        for window in self._open_windows(t):
            if window.fault in OF_THE_PROVIDER and (window.rate >= 1.0 or rng.random() < window.rate):
                return window.fault
        return next((fault for fault in self.permanent if fault in OF_THE_PROVIDER), None)

    def is_down(self, t: float) -> bool:
        """Whether the port is closed. With a rate below 1 it stays open and `down` resets single calls."""
        return "down" in self.permanent or any(
            w.fault == "down" and w.rate >= 1.0 for w in self._open_windows(t)
        )

    def next_change(self, t: float) -> float | None:
        """When `is_down` may be different, None for never."""
        edges = [edge for w in self.schedule if w.fault == "down" for edge in (w.from_s, w.to_s)]
        return min((edge for edge in edges if edge is not None and edge > t), default=None)
