"""Masks keys in texts of others: errors of providers may repeat one, and alerts would carry it on."""

from __future__ import annotations

import re

MASK = "***"

# How keys begin, and how providers show one they repeat: the first and last letters around asterisks.
_KEY_LIKE = re.compile(
    r"\b((?:sk|pk|rk|gsk|xai|xox[a-z])[-_]|AIza|Bearer\s+)[-\w*.~+/=]{4,}"
    r"|\b(Basic\s+)[-\w.~+/=]{12,}"
    r"|\bhooks\.slack\.com/\S+"
    r"|[\w-]*\*{3,}[\w*-]*"
)


def without_keys(text: str) -> str:
    """`text` with a mask over all that looks like a key. Its prefix stays, to identify the key."""
    return _KEY_LIKE.sub(lambda found: f"{found[1] or found[2] or ''}{MASK}", text)


_PIECE_CHARS = 8  # a shorter piece of a key reveals little, and would match ordinary words
_BETWEEN = r"(?:\\[nrt]|\W){0,8}"  # line ends, quotes, spaces and their escapes, where a text breaks a key


class KeyMask:
    """Masks one known key: whole, broken by line ends or quotes, or a piece of it."""

    def __init__(self, key: str) -> None:
        self._key = key
        is_long = len(key) >= _PIECE_CHARS
        self._broken = re.compile(_BETWEEN.join(map(re.escape, key))) if is_long else None
        self._pieces = frozenset(key[at : at + _PIECE_CHARS] for at in range(len(key) - _PIECE_CHARS + 1))

    def __repr__(self) -> str:
        return "<KeyMask>"

    def whole(self, text: str) -> str:
        """`text` without the whole key."""
        return text.replace(self._key, MASK) if self._key else text

    def everywhere(self, text: str) -> str:
        """`text` without the key and without any piece of it of eight characters or more."""
        text = self.whole(text)
        if self._broken is None:
            return text
        text = self._broken.sub(MASK, text)
        covered = [at for at in range(len(text)) if text[at : at + _PIECE_CHARS] in self._pieces]
        for first, last in reversed(_runs(covered)):
            text = text[:first] + MASK + text[last + _PIECE_CHARS :]
        return text


def _runs(starts: list[int]) -> list[tuple[int, int]]:
    """The first and last of the numbers that are at most a piece apart: such pieces overlap or touch."""
    runs: list[tuple[int, int]] = []
    for at in starts:
        if runs and at - runs[-1][1] <= _PIECE_CHARS:
            runs[-1] = (runs[-1][0], at)
        else:
            runs.append((at, at))
    return runs
