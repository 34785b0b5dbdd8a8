"""Numbers as people read them, on the terminal as on the pages."""

from __future__ import annotations

import math

from ..records import NANOS_PER_USD


def money(nanos: int | None) -> str:
    """Dollars: `$12.34`, `$0.5113`, `$0.00012`; `unknown` for None, never $0.

    Below a dollar four places, and of a smaller amount two digits: the same amount reads the same everywhere.
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


def duration(seconds: float) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, below, lower in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name}" + (f" {rest} {lower}" if rest else "")
    return f"{whole} s"
