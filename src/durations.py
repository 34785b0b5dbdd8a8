"""One grammar of durations, wherever a user writes one: `90s`, `30m`, `24h`, `7d`, `2w`, `1h30m`."""

from __future__ import annotations

import math
import re

UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
EXAMPLES = "90s, 30m, 24h, 7d or 1h30m"
LONGEST_S = 10 * 365 * UNITS_S["d"]

_PART = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([smhdw])"
_WHOLE = re.compile(f"(?:{_PART})+")


def parse_duration(text: str) -> float:
    """The seconds of a duration with its units. Raises ValueError for anything else, and beyond 10 years."""
    text = text.strip()
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"must be a duration such as {EXAMPLES}, not {text[:40]!r}")
    return _within(sum(float(number) * UNITS_S[unit] for number, unit in re.findall(_PART, text)), text)


def seconds_of(value: object) -> float:
    """A duration above 0: seconds as a number, or a text, with units or without. Raises ValueError."""
    if isinstance(value, str):
        try:
            seconds = float(value)
        except ValueError:
            seconds = parse_duration(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise ValueError(f"must be seconds or a duration such as {EXAMPLES}")
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"must be above 0 and finite, not {value}")
    return _within(seconds, str(value))


def _within(seconds: float, text: str) -> float:
    if seconds > LONGEST_S:
        raise ValueError(f"must be at most 10 years, not {text[:40]!r}")
    return seconds
