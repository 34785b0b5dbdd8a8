"""The JSON schema that an answer must match: whether it is a schema, and whether an answer matches it.

A schema comes from a user's row and an answer from a model, so neither is trusted. A schema may only refer to
itself (nothing is fetched), nests `DEEPEST` levels at most, and has at most `MOST_EXPANSIONS` expanded
references. One that recurses without end is refused at submission. Validating an answer has a time limit: a
short one on the event loop, a longer one in a thread. `format` is a note to the model and is not checked,
which is JSON Schema's default.

Models wrap JSON into code fences and sentences in spite of the instructions; `answer_text` finds it. The
last complete JSON outside of thinking that matches is the answer, and only that JSON is returned.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from .answer_text import STRICT_JSON, json_within
from .errors import InputError
from .schema_patterns import with_bounded_work, working_for

DEEPEST = 64
LARGEST_CHARS = 256 * 1024
MOST_EXPANSIONS = 10_000  # definitions that refer to each other n times a level grow by n a level
CHECK_S, JUDGE_S, JUDGE_APART_S = (
    5.0,
    0.02,
    0.5,
)  # processor time for a schema, an answer at once, in a thread
JUDGE_CHAR_S = 2e-6  # more for each character of an answer
_AT_ONCE_CHARS = 20_000  # of an answer: reading and judging a longer one takes milliseconds
_KEPT = 256  # compiled schemas: a file has a handful, each of them on many rows
_MAX_PROBLEMS_SHOWN = 5
_PROBLEM_CHARS = 300
_NOT_SCHEMAS = frozenset(["enum", "const", "default", "examples", "required"])  # data, whatever it looks like
_DEFINITIONS = frozenset(["$defs", "definitions"])  # they apply where something refers to them
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


_checking = threading.Lock()  # a hundred at once would keep all other threads from the interpreter


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raises InputError, with one sentence and the place in the schema, for what is no usable schema."""
    try:
        text = schema_text(schema)
        with _checking:
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
    try:
        with working_for(CHECK_S):  # the rules of a schema have patterns and references too
            error = best_match(rules.iter_errors(schema))
    except TimeoutError:
        return f"takes longer than {CHECK_S:g} s to check"
    if error:
        return f"is not a JSON schema: {_place('response_schema', error.path)}: {_short(error.message)}"
    return _lost_reference(schema) or _too_many_expansions(schema) or _endless(validator)


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


def _too_many_expansions(schema: Mapping[str, Any]) -> str:
    """Judging an answer may follow every reference from every place that leads to it."""
    resolver = _registry(schema).resolver()
    counts: dict[str, int] = {}

    def of(reference: str) -> int:
        if reference not in counts:
            counts[reference] = 1  # while it is counted: one that leads back to itself is no more than that
            counts[reference] = 1 + within(resolver.lookup(reference).contents)
        return counts[reference]

    def within(part: Any) -> int:
        return sum(map(of, _references(part, but=_DEFINITIONS)))

    number = within(schema)
    if number <= MOST_EXPANSIONS:
        return ""
    return f"has {number:,} references when all are written out; at most {MOST_EXPANSIONS:,} are allowed"


def _endless(validator: Any) -> str:
    """A schema that is itself again before it has read anything can't be checked against."""
    try:
        with working_for(CHECK_S):
            for probe in _PROBES:
                validator.is_valid(probe)
    except RecursionError:
        return "refers to itself without end"
    except TimeoutError:
        return f"takes longer than {CHECK_S:g} s to check an empty answer"
    return ""


def _registry(schema: Mapping[str, Any]) -> Any:
    """Knows the schema itself and fetches nothing."""
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    return Registry().with_resource("", DRAFT202012.create_resource(schema))


def _references(part: Any, but: frozenset[str] = frozenset()) -> Iterator[str]:
    """The references in a part of a schema, not followed; without those under the keywords `but`."""
    if isinstance(part, list):
        for item in part:
            yield from _references(item, but)
    elif isinstance(part, Mapping):
        for key, value in part.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            elif key not in _NOT_SCHEMAS and key not in but:
                yield from _references(value, but)


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
    return with_bounded_work(draft)(schema, registry=Registry())


# ---------------------------------------------------------------- answers


async def read_answer_apart(answer: str, schema: Mapping[str, Any]) -> Reading:
    """As `read_answer`, for an event loop: what is long, or takes long to judge, is read in a thread."""
    if len(answer) <= _AT_ONCE_CHARS:
        with suppress(TimeoutError):
            return _read(answer, schema, JUDGE_S)
    return await asyncio.to_thread(read_answer, answer, schema)


def read_answer(answer: str, schema: Mapping[str, Any]) -> Reading:
    """The JSON in a model's answer if it matches `schema`, else what is wrong with it."""
    try:
        return _read(answer, schema, JUDGE_APART_S + JUDGE_CHAR_S * len(answer))
    except TimeoutError:
        return Reading(None, "It can't be judged: the schema takes too long on it.", _TOO_LONG)


def _read(answer: str, schema: Mapping[str, Any], seconds: float) -> Reading:
    """Raises TimeoutError."""
    validator = _validator(schema_text(schema))
    text = answer.strip()
    with working_for(seconds):
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
_TOO_LONG = "the schema takes too long on it"
_MOST_JUDGED = 100  # of the JSON in one answer, the last first


def _judged(text: str, validator: Any) -> Reading:
    """Raises TimeoutError."""
    try:
        value = STRICT_JSON.decode(text)
    except json.JSONDecodeError as error:
        feedback = f"It is not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        return Reading(None, feedback, _NO_JSON)
    except (ValueError, RecursionError):
        return Reading(None, "It is not JSON that can be read.", _NO_JSON)
    try:
        problems = list(islice(validator.iter_errors(value), _MAX_PROBLEMS_SHOWN))
    except RecursionError:
        return Reading(None, "It is nested too deeply.", "it is nested too deeply")
    if not problems:
        return Reading(text)
    feedback = "\n".join(f"- {_place('$', each.absolute_path)}: {_short(each.message)}" for each in problems)
    broken = problems[0].validator or False  # a schema that is `false` allows no value
    return Reading(None, feedback, f"{_place('$', problems[0].absolute_path)} breaks {broken!r}")


def _place(root: str, path: Any) -> str:
    """`$.items[2].price`."""
    return root + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)


def _short(text: str) -> str:
    return text if len(text) <= _PROBLEM_CHARS else text[: _PROBLEM_CHARS - 3] + "..."
