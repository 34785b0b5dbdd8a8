"""The keywords of JSON schema that search with a regular expression, with an end to the search.

A careless expression may try for years on a short text, and answers are judged where calls are placed: all
would stand still. So one answer has BUDGET_S for all its searches together; then it can't be judged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

BUDGET_S = 0.2

_until: ContextVar[float] = ContextVar("_until")


@contextmanager
def searching() -> Iterator[None]:
    """The time of one answer begins. Inside, a search that has none left raises TimeoutError."""
    token = _until.set(time.monotonic() + BUDGET_S)
    try:
        yield
    finally:
        _until.reset(token)


def with_bounded_patterns(validator_class: Any) -> Any:
    """The validator of the same draft whose searches end."""
    from jsonschema.validators import extend

    before = validator_class.VALIDATORS["additionalProperties"]

    def additional_properties(validator: Any, rule: Any, value: Any, schema: Mapping[str, Any]) -> Any:
        patterns = schema.get("patternProperties")
        if not patterns or not validator.is_type(value, "object"):
            return before(validator, rule, value, schema)
        # What a pattern finds is not additional: the names that are left are judged without patterns.
        left = {name: each for name, each in value.items() if not any(_finds(p, name) for p in patterns)}
        return before(validator, rule, left, {k: v for k, v in schema.items() if k != "patternProperties"})

    return extend(
        validator_class,
        {
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": additional_properties,
        },
    )


def _finds(pattern: str, text: str) -> bool:
    import regex

    left_s = _until.get() - time.monotonic()
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
