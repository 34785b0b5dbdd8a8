"""What an answer's headers and error details tell of limits and waits. Pure: text in, values out.

Header names are lower case in every mapping here (`picked` makes them so).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from ..records import LimitReport

MINUTE_S = 60.0
DAY_S = 86_400.0
LONG_WAIT_S = 300.0  # no per-minute limit asks for this much: a longer wait is a quota of hours or days

_WANTED = (b"x-ratelimit-", b"anthropic-ratelimit-", b"retry-after", b"date", b"request-id", b"x-request-id")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_S}
_ANTHROPIC_DIMENSIONS = (
    ("requests", "requests"),
    ("input-tokens", "input_tokens"),
    ("output-tokens", "output_tokens"),
)


def picked(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that say something here, from the pairs as they came over the wire.

    One pass over the bytes: looking each name up in the SDK's header object costs ten times as much.
    """
    found: dict[str, str] = {}
    for name, value in raw:
        lower = name.lower()
        if lower.startswith(_WANTED):
            found[lower.decode("ascii", "replace")] = value.decode("latin-1")
    return found


def duration_s(text: str | None) -> float | None:
    """Seconds of `120ms`, `1.5s`, `6m0s`, `24h0m0s` or a bare number; None for anything else."""
    text = (text or "").strip()
    parts = _DURATION.findall(text)
    if parts and "".join(number + unit for number, unit in parts) == text:
        return sum(float(number) * _UNIT_S[unit] for number, unit in parts)
    return _number(text)


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """How long the provider asks to wait: milliseconds, seconds or an HTTP date, whichever it sent.

    A date is compared with the answer's own `Date`, so that a wrong clock on either side does not matter.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = _number(text)
    if seconds is not None:
        return seconds
    at = http_date(text)
    return None if at is None else max(0.0, at - answered_at(headers, now))


def answered_at(headers: Mapping[str, str], now: float) -> float:
    """When the provider answered, by its own clock; `now` where it does not say. Epoch seconds."""
    at = http_date(headers.get("date"))
    return now if at is None else at


def http_date(text: str | None) -> float | None:
    """Epoch seconds of an HTTP date, None where it is none."""
    if not text:
        return None
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def anthropic_limits(headers: Mapping[str, str]) -> tuple[LimitReport, ...]:
    """Anthropic's limits count over a minute. Its `tokens` is reported only without the two parts of it.

    `reset` is when the bucket is full again, which nobody has to wait for: it is not read.
    """
    reports = [
        LimitReport(dimension, limit, _count(headers.get(f"anthropic-ratelimit-{name}-remaining")), MINUTE_S)
        for name, dimension in _ANTHROPIC_DIMENSIONS
        if (limit := _count(headers.get(f"anthropic-ratelimit-{name}-limit")))
    ]
    total = _count(headers.get("anthropic-ratelimit-tokens-limit"))
    if total and not any(report.dimension != "requests" for report in reports):
        remaining = _count(headers.get("anthropic-ratelimit-tokens-remaining"))
        reports.append(LimitReport("tokens", total, remaining, MINUTE_S))
    return tuple(reports)


def openai_limits(headers: Mapping[str, str]) -> tuple[LimitReport, ...]:
    """OpenAI's limits, their window worked out from `reset`. A limit of -1 or 0 means it is not known."""
    reports = []
    for dimension in ("requests", "tokens"):
        limit = _count(headers.get(f"x-ratelimit-limit-{dimension}"))
        if not limit:
            continue
        remaining = _count(headers.get(f"x-ratelimit-remaining-{dimension}"))
        window_s = openai_window_s(limit, remaining, headers.get(f"x-ratelimit-reset-{dimension}"))
        reports.append(LimitReport(dimension, limit, remaining, window_s))
    return tuple(reports)


def openai_window_s(limit: int, remaining: int | None, reset: str | None) -> float | None:
    """60 or 86,400: the window that `reset` belongs to, None where it could be either or neither.

    The bucket refills evenly, so reset = (limit - remaining) * window / limit. `reset` is rounded to what it
    shows (milliseconds, or whole seconds), and a fifth is allowed for the refill while the answer was made.
    """
    reset_s = duration_s(reset)
    if remaining is None or reset is None or not reset_s or remaining >= limit:
        return None
    rounding_s = 0.001 if "." in reset or "ms" in reset else 1.0
    scale = limit / (limit - remaining)
    shortest, longest = (reset_s - rounding_s) * scale, (reset_s + rounding_s) * scale
    fitting = [w for w in (MINUTE_S, DAY_S) if shortest <= 1.2 * w and longest >= 0.8 * w]
    return fitting[0] if len(fitting) == 1 else None


def day_is_spent(limits: Sequence[LimitReport]) -> bool:
    """Whether one of the limits counts over a day and has nothing left."""
    return any(report.remaining == 0 and report.window_s == DAY_S for report in limits)


def google_details(details: Iterable[Any]) -> tuple[tuple[str, ...], tuple[str, ...], float | None]:
    """`(reasons, quota ids, retry delay in seconds)` of the `error.details[]` of a Google API."""
    reasons: list[str] = []
    quotas: list[str] = []
    delay_s: float | None = None
    for detail in details:
        if not isinstance(detail, Mapping):
            continue
        kind = str(detail.get("@type", "")).rpartition(".")[2]
        if kind == "ErrorInfo" and detail.get("reason"):
            reasons.append(str(detail["reason"]))
        elif kind == "RetryInfo":
            delay_s = duration_s(str(detail.get("retryDelay", "")))
        elif kind == "QuotaFailure":
            violations = detail.get("violations")
            quotas += [
                str(violation["quotaId"])
                for violation in (violations if isinstance(violations, list) else ())
                if isinstance(violation, Mapping) and violation.get("quotaId")
            ]
    return tuple(reasons), tuple(quotas), delay_s


def _number(text: str | None) -> float | None:
    """A finite number of at least 0, None for anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _count(text: str | None) -> int | None:
    value = _number(text)
    return None if value is None else int(value)
