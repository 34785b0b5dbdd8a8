"""Lengths of time on the command line: `30d`, `12h`, `2w`."""

from __future__ import annotations

import re

from ..errors import InputError

_UNITS_S = {"h": 3_600.0, "d": 86_400.0, "w": 7 * 86_400.0}
_AGE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([hdw])")


def parse_age(text: str, option: str) -> float:
    """The seconds of `30d`, `12h` or `2w`, as `option` takes it. Raises InputError."""
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise InputError(f"{option}: {text!r} is not an age such as 30d, 12h or 2w")
    return float(found[1]) * _UNITS_S[found[2]]
