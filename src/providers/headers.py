"""Limits and waiting times in the headers and error details of an answer. Pure: text in, values out.

Header names are lower case in every mapping here (`select_headers` makes them so).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..records import LimitReport
from . import values
from .values import DAY_S, duration_s, http_date, mapping, sequence

MINUTE_S = 60.0
_MOST_DETAILS = 100
LONG_WAIT_S = 300.0  # no per-minute limit asks for this much: a longer wait is a quota of hours or days

WANTED_HEADERS = (
    b"x-ratelimit-", b"anthropic-ratelimit-", b"retry-after", b"date", b"request-id", b"x-request-id",
)  # fmt: skip
_ANTHROPIC_DIMENSIONS = (
    ("requests", "requests"),
    ("input-tokens", "input_tokens"),
    ("output-tokens", "output_tokens"),
)


def select_headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that are read here, from the pairs as they were received.

    One pass over the bytes: looking each name up in the SDK's header object costs ten times as much.
    """
    found: dict[str, str] = {}
    for name, value in raw:
        lower = name.lower()
        if lower.startswith(WANTED_HEADERS):
            found[values.header(lower)] = values.header(value)
    return found


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """The wait that the provider states, in seconds; it may send milliseconds, seconds or an HTTP date.

    A date is compared with the answer's own `Date`, so that a wrong clock on either side does not matter.
    """
    milliseconds = values.number(headers.get("retry-after-ms"), values.YEAR_S * 1000)
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after")
    seconds = values.number(text, values.YEAR_S)
    if seconds is not None:
        return seconds
    at = http_date(text)
    answered = answered_at(headers, now)
    return None if at is None else values.time_ahead(at, answered) - answered


def answered_at(headers: Mapping[str, str], now: float) -> float:
    """When the provider answered, by its own clock; `now` where it does not say. Epoch seconds."""
    at = http_date(headers.get("date"))
    return now if at is None else at


def anthropic_limits(headers: Mapping[str, str]) -> tuple[LimitReport, ...]:
    """Anthropic's limits count over a minute. Its `tokens` is reported only without the two parts of it.

    `reset`, the time when the bucket is full again, is not read: a call needs less than a full bucket.
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


def google_details(details: object) -> tuple[tuple[str, ...], tuple[str, ...], float | None]:
    """`(reasons, quota ids, retry delay in seconds)` of the `error.details[]` of a Google API."""
    reasons: list[str] = []
    quotas: list[str] = []
    delay_s: float | None = None
    for detail in map(mapping, sequence(details)[:_MOST_DETAILS]):
        kind = values.text(detail.get("@type")).rpartition(".")[2]
        if kind == "ErrorInfo":
            reasons.append(values.text(detail.get("reason")))
        elif kind == "RetryInfo":
            delay_s = duration_s(detail.get("retryDelay"))
        elif kind == "QuotaFailure":
            violations = map(mapping, sequence(detail.get("violations"))[:_MOST_DETAILS])
            quotas += [values.text(violation.get("quotaId")) for violation in violations]
    return tuple(filter(None, reasons)), tuple(filter(None, quotas)), delay_s


def _count(text: str | None) -> int | None:
    """A limit, or what is left of one: whole, rounded down."""
    value = values.number(text)
    return None if value is None else int(value)
