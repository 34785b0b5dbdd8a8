"""The JSON schema that an answer must match: whether it is a schema, and whether an answer matches it.

A schema comes from a user's row and an answer from a model, so neither is trusted: a schema may only refer
to itself (nothing is fetched), nests `DEEPEST` levels at most, and one that never ends is refused when it
comes in. `format` is a note to the model and is not checked, as JSON schema has it by default.

Models wrap JSON into code fences and sentences although they are told not to; `answer_text` finds it. The
last whole JSON outside of thinking that matches is the answer, and only what belongs to it is handed on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from .answer_text import STRICT_JSON, json_within
from .errors import InputError
from .schema_patterns import searching, with_bounded_patterns

DEEPEST = 64
LARGEST_CHARS = 256 * 1024
_KEPT = 256  # compiled schemas: a file has a handful, each of them on many rows
_PROBLEMS_TOLD = 5
_PROBLEM_CHARS = 300
_NOT_SCHEMAS = frozenset(["enum", "const", "default", "examples", "required"])  # data, whatever it looks like
_PROBES: tuple[Any, ...] = ({}, [], "", 0, True, None)


class Reading(NamedTuple):
    """The JSON of an answer, or why there is none: `problems` in words for the model, `where` for people.

    `where` repeats nothing of the answer: it goes to logs and pages.
    """

    text: str | None
    problems: str = ""
    where: str = ""


def schema_text(schema: Mapping[str, Any]) -> str:
    """The schema as it is sent in words: the same letters for the same schema."""
    return json.dumps(schema, ensure_ascii=False, separators=(",", ":"))


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises InputError, with one sentence and the place in the schema, for what is no usable schema."""
    try:
        text = schema_text(schema)
        why = "is nested too deeply" if _depth(schema) > DEEPEST else _what_is_wrong(text)
    except RecursionError:
        why = "is nested too deeply"
    if why:
        raise InputError(f"'response_schema' {why}")


@lru_cache(maxsize=_KEPT)
def _what_is_wrong(text: str) -> str:
    """What keeps the schema from being used; empty if nothing does. Once per schema, not once per row."""
    if len(text) > LARGEST_CHARS:
        return f"is longer than {LARGEST_CHARS // 1024} KiB"
    from jsonschema.exceptions import best_match

    validator = _validator(text)
    schema = validator.schema
    rules = type(validator)(validator.META_SCHEMA, format_checker=validator.FORMAT_CHECKER)
    with searching():  # the rules of a schema have patterns too
        error = best_match(rules.iter_errors(schema))
    if error:
        return f"is no JSON schema: {_place('response_schema', error.path)}: {_short(error.message)}"
    return _lost_reference(schema) or _endless(validator)


def _lost_reference(schema: Mapping[str, Any]) -> str:
    from referencing.exceptions import Unresolvable

    resolver = _registry(schema).resolver()
    for reference in _references(schema):
        if not reference.startswith("#"):
            return f"refers to {_short(reference)}: only a $ref that starts with # is followed"
        try:
            resolver.lookup(reference)
        except Unresolvable:
            return f"refers to {_short(reference)}, which is not in it"
    return ""


def _endless(validator: Any) -> str:
    """A schema that is itself again before it has read anything can't be checked against."""
    try:
        with searching():
            for probe in _PROBES:
                validator.is_valid(probe)
    except RecursionError:
        return "refers to itself without end"
    return ""


def _registry(schema: Mapping[str, Any]) -> Any:
    """Knows the schema itself and fetches nothing."""
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    return Registry().with_resource("", DRAFT202012.create_resource(schema))


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, list):
        for item in part:
            yield from _references(item)
    elif isinstance(part, Mapping):
        for key, value in part.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            elif key not in _NOT_SCHEMAS:
                yield from _references(value)


def _depth(part: Any) -> int:
    """Levels of nesting, counted without recursion."""
    level, deepest = [part], 0
    while level:
        deepest += 1
        level = [
            inner
            for each in level
            if isinstance(each, Mapping | list)
            for inner in (each.values() if isinstance(each, Mapping) else each)
        ]
    return deepest


@lru_cache(maxsize=_KEPT)
def _validator(text: str) -> Any:
    """The compiled schema, in the draft that it names, else the newest. It fetches nothing."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import validator_for
    from referencing import Registry

    schema = json.loads(text)
    draft = validator_for(schema, default=Draft202012Validator)
    return with_bounded_patterns(draft)(schema, registry=Registry())


# ---------------------------------------------------------------- answers


def read_answer(answer: str, schema: Mapping[str, Any]) -> Reading:
    """The JSON in a model's answer if it matches `schema`, else what is wrong with it."""
    validator = _validator(schema_text(schema))
    text = answer.strip()
    whole = _judged(text, validator)
    if whole.text is not None:
        return whole
    last: Reading | None = None
    for each in islice(reversed(json_within(text)), _MOST_JUDGED):
        reading = _judged(each, validator)
        if reading.text is not None:
            return reading
        last = last or reading
    # What is wrong with JSON that was found says more than that the whole text is none.
    return last if last is not None and whole.where == _NO_JSON else whole


_NO_JSON = "it is not JSON"
_TOO_LONG = "a pattern of the schema takes too long on it"
_MOST_JUDGED = 100  # of the JSON in one answer, the last first


def _judged(text: str, validator: Any) -> Reading:
    try:
        value = STRICT_JSON.decode(text)
    except json.JSONDecodeError as error:
        told = f"It is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        return Reading(None, told, _NO_JSON)
    except (ValueError, RecursionError):
        return Reading(None, "It is not JSON that can be read.", _NO_JSON)
    try:
        with searching():
            problems = list(islice(validator.iter_errors(value), _PROBLEMS_TOLD))
    except TimeoutError:
        return Reading(None, "It can't be judged: a pattern of the schema takes too long on it.", _TOO_LONG)
    except RecursionError:
        return Reading(None, "It is nested too deeply.", "it is nested too deeply")
    if not problems:
        return Reading(text)
    told = "\n".join(f"- {_place('$', each.absolute_path)}: {_short(each.message)}" for each in problems)
    return Reading(None, told, f"{_place('$', problems[0].absolute_path)} breaks {problems[0].validator!r}")


def _place(root: str, path: Any) -> str:
    """`$.items[2].price`."""
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _short(text: str) -> str:
    return text if len(text) <= _PROBLEM_CHARS else text[: _PROBLEM_CHARS - 3] + "..."
