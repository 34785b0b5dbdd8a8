"""The keywords of JSON schema with an end to their work.

A careless expression may try for years on a short text, and references that branch can be followed for as
long. So a judgement has a time for all its keywords together; then it ends with TimeoutError. Every keyword
looks at the clock before it works, an expression while it works. The clock is the thread's processor time: a
busy machine makes no schema wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_until: ContextVar[float] = ContextVar("_until")


@contextmanager
def working_for(seconds: float) -> Iterator[None]:
    """The time of one judgement begins. Inside, a keyword that has none left raises TimeoutError."""
    token = _until.set(time.thread_time() + seconds)
    try:
        yield
    finally:
        _until.reset(token)


def with_bounded_work(validator_class: Any) -> Any:
    """The validator of the same draft whose work ends in time, inside `working_for`."""
    from jsonschema.validators import extend

    before = validator_class.VALIDATORS["additionalProperties"]

    def additional_properties(validator: Any, rule: Any, value: Any, schema: Mapping[str, Any]) -> Any:
        patterns = schema.get("patternProperties")
        if not patterns or not validator.is_type(value, "object"):
            return before(validator, rule, value, schema)
        # What a pattern finds is not additional: the names that are left are judged without patterns.
        left = {name: each for name, each in value.items() if not any(_finds(p, name) for p in patterns)}
        return before(validator, rule, left, {k: v for k, v in schema.items() if k != "patternProperties"})

    own = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": additional_properties,
        "uniqueItems": _unique_items,
    }
    keywords = {**validator_class.VALIDATORS, **own}
    return extend(validator_class, {name: _in_time(keyword) for name, keyword in keywords.items()})


def _in_time(keyword: Any) -> Any:
    def checked(validator: Any, rule: Any, value: Any, schema: Mapping[str, Any]) -> Any:
        if time.thread_time() >= _until.get():
            raise TimeoutError
        return keyword(validator, rule, value, schema)

    return checked


def _unique_items(validator: Any, wanted: bool, value: Any, _schema: Mapping[str, Any]) -> Iterator[Any]:
    """As the draft has it, in one pass: comparing each item with each takes the square of their number."""
    from jsonschema import ValidationError

    if wanted and validator.is_type(value, "array"):
        seen: set[Any] = set()
        for item in value:
            key = _key(item)
            if key in seen:
                yield ValidationError("it has items that are not unique")
                return
            seen.add(key)


def _key(value: Any) -> Any:
    """Equal for values that JSON schema takes for equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, bool) or value is None:
        return (type(value), value)
    if isinstance(value, list):
        return ("list", *map(_key, value))
    if isinstance(value, dict):
        return ("object", frozenset((name, _key(each)) for name, each in value.items()))
    return value


def _finds(pattern: str, text: str) -> bool:
    import regex

    left_s = _until.get() - time.thread_time()
    if left_s <= 0.0:
        raise TimeoutError
    return regex.search(pattern, text, timeout=left_s) is not None


def _pattern(validator: Any, pattern: str, value: Any, _schema: Mapping[str, Any]) -> Iterator[Any]:
    from jsonschema import ValidationError

    if validator.is_type(value, "string") and not _finds(pattern, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], value: Any, _schema: Mapping[str, Any]
) -> Iterator[Any]:
    if validator.is_type(value, "object"):
        for pattern, rule in patterns.items():
            for name, each in value.items():
                if _finds(pattern, name):
                    yield from validator.descend(each, rule, path=name, schema_path=pattern)
