"""Keys in texts of others: a provider's error repeats them, an alert carries that to a channel."""

from __future__ import annotations

import re

MASK = "***"

# How keys begin, and what providers make of one they repeat: the first and last letters around asterisks.
_KEY_LIKE = re.compile(
    r"\b((?:sk|pk|rk|gsk|xai|xox[a-z])[-_]|AIza|Bearer\s+)[-\w*.~+/=]{4,}"
    r"|\b(Basic\s+)[-\w.~+/=]{12,}"
    r"|\bhooks\.slack\.com/\S+"
    r"|[\w-]*\*{3,}[\w*-]*"
)


def without_keys(text: str) -> str:
    """`text` with a mask for whatever looks like a key; how it begins is left, to tell which it was."""
    return _KEY_LIKE.sub(lambda found: f"{found[1] or found[2] or ''}{MASK}", text)
