"""Checks that a task's values can be stored, sent and read again: values that JSON has, and valid text.

A line of a file is JSON already, except for numbers too large for a float and halves of surrogate pairs. A
task that is made in Python may hold anything.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from ...errors import InputError
from ...messages import Message, Tool, text_parts
from .validation_messages import Path, path_text, shown

DEEPEST = 100  # levels: parsers that read the row again have limits of their own
MOST_VALUES = 1_000_000  # in one key of a task
LONGEST_DIGITS = 4_000  # of a whole number: Python itself writes no more than 4,300
_LARGEST = 10**LONGEST_DIGITS


def check_values(fields: Mapping[str, Any]) -> None:
    """Raises InputError with the path of the first value that JSON has no form for."""
    for key, value in fields.items():
        if type(value) is str and value.isascii() and type(key) is str and key.isascii():
            continue  # most values of most rows
        _check_key(key, ())
        _check(value, (key,))


def _check(value: Any, path: Path) -> None:
    """Walk without recursion, so that deep nesting gets its own message."""
    held: list[tuple[Any, Iterator[tuple[int | str, Any]]]] = []  # the containers around it
    around: set[int] = set()
    inner = value
    for count in itertools.count(1):
        if count > MOST_VALUES:  # a list that holds another twice, which holds another twice, ...
            raise InputError(f"{path_text(path[:1])} holds more than {MOST_VALUES:,} values")
        if not _is_leaf(inner, path):
            if id(inner) in around:
                raise InputError(f"{path_text(path)} contains itself, which JSON has no form for")
            if len(held) >= DEEPEST:
                raise InputError(f"{path_text(path[:1])} is nested deeper than {DEEPEST} levels")
            around.add(id(inner))
            held.append((inner, _parts(inner, path)))
        following = None
        while held and (following := next(held[-1][1], None)) is None:
            around.discard(id(held.pop()[0]))
        if following is None:
            return
        key, inner = following
        path = (*path[: len(held)], key)


def _parts(container: Any, path: Path) -> Iterator[tuple[int | str, Any]]:
    if not isinstance(container, dict):
        yield from enumerate(container)
        return
    for key, value in container.items():
        _check_key(key, path)
        yield key, value


def _is_leaf(value: Any, path: Path) -> bool:
    """False for a list or an object. Raises InputError for a value that JSON has no form for."""
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, str):
        _check_text(value, path_text(path))
        return True
    if isinstance(value, int | float):
        _check_number(value, path)
        return True
    if isinstance(value, list | tuple | dict):
        return False
    if isinstance(value, Message):  # of a program
        for text in text_parts(value):
            _check_text(text, path_text(path))
        return True
    if isinstance(value, Tool):
        return True
    raise InputError(
        f"{path_text(path)} is of type {type(value).__name__}, which JSON has no form for; "
        "give text, a number, true, false, null, a list or an object"
    )


def _check_key(key: Any, path: Path) -> None:
    where = f" in {path_text(path)}" if path else ""
    if not isinstance(key, str):
        raise InputError(f"key {shown(key)}{where} is of type {type(key).__name__}; keys are text")
    if not key.isascii():
        _check_text(key, f"key {shown(key)}{where}")


def _check_text(text: str, where: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(f"{where} contains half of a surrogate pair, which is not valid text") from None


def _check_number(value: float, path: Path) -> None:
    if isinstance(value, int):
        if not -_LARGEST < value < _LARGEST:
            raise InputError(f"{path_text(path)} is a number of more than {LONGEST_DIGITS:,} digits")
    elif not math.isfinite(value):
        raise InputError(f"{path_text(path)} must be a finite number, not {value}")
