"""Numbers, amounts and times as text, the same on the terminal, in messages and on the pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from .records import NANOS_PER_USD

MISSING = "-"
NAMES_SHOWN = 3


def money(nanos: int | None) -> str:
    """Dollars: `$12.34`, `$0.5113`, `$0.00012`; `unknown` for None, never $0.

    Amounts below a dollar have four decimal places, smaller ones two significant digits.
    """
    if nanos is None:
        return "unknown"
    dollars, sign = abs(nanos) / NANOS_PER_USD, "-" if nanos < 0 else ""
    if dollars == 0:
        return "$0"
    if dollars >= 1:
        return f"{sign}${dollars:,.2f}"
    places = min(9, max(4, 1 - math.floor(math.log10(dollars))))
    text = f"{dollars:.{places}f}"
    return f"{sign}${text.rstrip('0') if places > 4 else text}"


def duration(seconds: float | None) -> str:
    """`40 ms`, `1.2 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`; `-` for None. Never negative."""
    if seconds is None:
        return MISSING
    if seconds < 0.95:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name}" + (f" {rest} {lower}" if rest else "")
    return f"{whole} s"


def rough_duration(seconds: float) -> str:
    """`40 s`, `9 min`, `2 h`, `3 d`: whole units, rounded down, for a time that goes on. Never negative."""
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {name}"
    return f"{int(max(0.0, seconds))} s"


def share(part: float, whole: float) -> float | None:
    """`part / whole`; None where there is no whole."""
    return part / whole if whole else None


def percent(part: float | None, digits: int = 0) -> str:
    """`26 %` for 0.256; `-` for None."""
    return MISSING if part is None else f"{100 * part:.{digits}f} %"


def count(number: float | None) -> str:
    """A number for a narrow place: `1,234`, `12.3 k`, `4.6 M`; `-` for None."""
    if number is None:
        return MISSING
    for size, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (10_000, "k")):
        if abs(number) >= size:
            scaled = number / (1000 if unit == "k" else size)
            return f"{f'{scaled:.1f}'.removesuffix('.0') if scaled < 100 else f'{scaled:,.0f}'} {unit}"
    return f"{number:,.0f}" if abs(number) >= 10 or number == int(number) else f"{number:.1f}"


def rate(per_second: float | None) -> str:
    """`12.0 /s`, or `30.0 /min` below one a second; `-` for None."""
    if per_second is None:
        return MISSING
    return f"{per_second:,.1f} /s" if per_second >= 1 or per_second == 0 else f"{per_second * 60:,.1f} /min"


def plural(number: int, one: str, many: str = "") -> str:
    """`1 task`, `1,200 tasks`, `0 tries`; `many` is the plural where it is not `one` with an s."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def shortened(names: Sequence[str], total: int | None = None) -> str:
    """The first names of a list: `a, b, c, ...`. `total`: how many there are, if not `len(names)`."""
    more = (len(names) if total is None else total) > NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if more else "")


def humanise(name: str) -> str:
    """`code generation` for `code_generation`."""
    return name.replace("_", " ")


def local_time(at: float, now: float, *, seconds: bool = False) -> str:
    """`14:05`, or `14:05:00` with `seconds`; with the date if that is another day than `now`.

    Both are epoch seconds; the text is in the local time zone of this process.
    """
    then, today = (datetime.fromtimestamp(each).astimezone() for each in (at, now))
    if then.date() != today.date():
        return then.strftime("%Y-%m-%d %H:%M")
    return then.strftime("%H:%M:%S" if seconds else "%H:%M")


def utc_time(at: float, now: float, *, seconds: bool = True) -> str:
    """`14:05:00 UTC`, or `14:05 UTC` without `seconds`; with the date if that is another day than `now`."""
    then = datetime.fromtimestamp(at, UTC)
    today = then.date() == datetime.fromtimestamp(now, UTC).date()
    return then.strftime(("%H:%M:%S" if seconds else "%H:%M") if today else "%Y-%m-%d %H:%M") + " UTC"


def utc_minute(at: float, now: float) -> str:
    """`14:05 UTC`, with the date if that is another day than `now`."""
    return utc_time(at, now, seconds=False)


def exact_time(at: float) -> str:
    """`2026-11-28 14:05:00 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso_time(at: float) -> str:
    """`2026-11-28T14:05:00.000Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
