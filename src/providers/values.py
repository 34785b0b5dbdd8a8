"""The boundary for data from providers: every value that comes in is bounded and can be stored.

    text         valid Unicode without NUL, cut at a limit
    counts       whole numbers from 0 to MOST_TOKENS; limits from 0 to LARGEST
    durations    finite, from 0 to a year
    times        from now to a year ahead
    JSON         no number beyond LARGEST, no NaN, no text that can't be stored; too deep is not JSON

Adapters take every value from a body or a header with one of these functions: in answers, errors, health
checks and lists of models. Code behind them need not be defensive. Each returns None (or "") for another kind
of value and raises nothing; only `read_json` raises, and only `NotJson`.

A good answer costs almost nothing extra: text is searched only where an escape could have put half a
surrogate pair or a NUL into it, and numbers are bounded while they are parsed.
"""

from __future__ import annotations

import json
import math
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from ..storable import clean

LARGEST = 2**53 - 1  # beyond it a double, and so JSON and SQLite's REAL, loses whole numbers
MOST_TOKENS = 1_000_000_000  # a hundred times the largest window; times any price it fits 64 bits
YEAR_S = 366 * 86_400.0
DAY_S = 86_400.0
MESSAGE_CHARS = 500  # of an error: more is a page of HTML
NAME_CHARS = 200  # of models, codes and ids of requests
MODELS_LISTED = 10_000

_DEEPEST = 200  # of lists and objects in each other; answers have 6
_SMALL_BYTES = 1_000_000
_MOST_VALUES = 1_000_000  # in a larger body: 32 MB of empty lists would take a gigabyte
_DIGITS_READ = 15  # a number of more is LARGEST
_COUNT = re.compile(r"\+?[0-9]+(?:\.[0-9]*)?")
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|d|h|m|s)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY_S}
_ODD_ESCAPE = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")  # may leave half a surrogate pair, or a NUL
_DATA = "data:"
_EVENT_FIELDS = (_DATA, "event:", "id:", "retry:", ":", "[DONE]")
_LINES_BEFORE = 20  # of an event stream before its first data

NOT_UTF8 = "the answer is not valid UTF-8; what could not be read is replaced"
LATIN_1 = "the answer is not UTF-8 and is read as Latin-1"
UNESCAPED = "the answer has control characters that JSON does not allow"
STREAMED = "the answer came with parts of an event stream"
REPLACED = "the answer has characters that can't be stored; they are replaced by U+FFFD"


class NotJson(ValueError):
    """The body can't be read as JSON, not even leniently."""


class Reading(NamedTuple):
    """A JSON value, and warnings about faults in its text."""

    value: Any
    warnings: tuple[str, ...] = ()


# ---------------------------------------------------------------- JSON


def read_json(content: bytes) -> Reading:
    """The JSON in a body, whose values are within bounds. Raises `NotJson`.

    Faults that leave the value intact are tolerated, each but a byte order mark with a warning: bytes that
    are not UTF-8, control characters inside strings, an event stream around the value or behind it.
    """
    if len(content) > _SMALL_BYTES and sum(map(content.count, (b"[", b"{", b","))) > _MOST_VALUES:
        raise NotJson("more values than an answer has")
    text, warnings = _decoded(content)
    value = _parsed(text, warnings)
    if _ODD_ESCAPE.search(text) or "\0" in text:
        value, changed = _storable(value)
        if changed:
            warnings.append(REPLACED)
    return Reading(value, tuple(warnings))


def _decoded(content: bytes) -> tuple[str, list[str]]:
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError:
        pass
    encoding = json.detect_encoding(content)
    if encoding != "utf-8":  # UTF-16 and UTF-32 show in the first bytes of any JSON
        try:
            return content.decode(encoding), []
        except UnicodeDecodeError:
            pass
    if content.decode("utf-8", "ignore").isascii():  # no letter beyond ASCII is UTF-8, so none is meant to be
        return content.decode("latin-1"), [LATIN_1]
    return content.decode("utf-8", "replace"), [NOT_UTF8]


def _parsed(text: str, warnings: list[str]) -> Any:
    try:
        return _STRICT.decode(text)
    except ValueError:
        pass
    except RecursionError as error:
        raise NotJson("nested too deeply") from error
    start, streamed = _start_of_value(text)
    try:
        value, end = _LENIENT.raw_decode(text, start)
    except (ValueError, RecursionError) as error:
        raise NotJson("not JSON") from error
    rest = text[end:].strip()
    if not all(line.lstrip().startswith(_EVENT_FIELDS) for line in rest.split("\n") if line.strip()):
        raise NotJson("more follows the JSON")
    if streamed or rest:
        warnings.append(STREAMED)
    if not _is_strict(text[start:end]):
        warnings.append(UNESCAPED)
    return value


def _start_of_value(text: str) -> tuple[int, bool]:
    """Where the value begins, and whether it stands in an event stream."""
    at, streamed = 0, False
    for _ in range(_LINES_BEFORE):
        at += len(text[at:]) - len(text[at:].lstrip())
        if text.startswith(_DATA, at):
            at += len(_DATA)
            return at + len(text[at:]) - len(text[at:].lstrip()), True
        if not text.startswith(_EVENT_FIELDS, at):
            break
        at, streamed = text.find("\n", at) + 1 or len(text), True
    return at, streamed


def _is_strict(text: str) -> bool:
    try:
        _STRICT.decode(text)
    except ValueError:
        return False
    return True


def _whole(digits: str) -> int:
    if len(digits) <= _DIGITS_READ:
        return int(digits)
    return -LARGEST if digits[0] == "-" else LARGEST


def _fraction(digits: str) -> float:
    return max(-float(LARGEST), min(float(LARGEST), float(digits)))


def _no_number(_: str) -> None:
    """NaN and Infinity, which are no JSON."""


_STRICT = json.JSONDecoder(parse_int=_whole, parse_float=_fraction, parse_constant=_no_number)
_LENIENT = json.JSONDecoder(parse_int=_whole, parse_float=_fraction, parse_constant=_no_number, strict=False)


def _storable(value: Any, depth: int = 0) -> tuple[Any, bool]:
    """`(value with all its text clean, whether any was not)`. Values that lie too deep are left out."""
    if isinstance(value, str):
        whole = clean(value)
        return whole, whole != value
    if depth > _DEEPEST:
        return None, True
    if isinstance(value, list):
        each = [_storable(item, depth + 1) for item in value]
        return [item for item, _ in each], any(changed for _, changed in each)
    if isinstance(value, dict):
        pairs = [(clean(key), _storable(item, depth + 1)) for key, item in value.items()]
        return {key: item for key, (item, _) in pairs}, any(changed for _, (_, changed) in pairs)
    return value, False


def mapping(value: object) -> dict[str, Any]:
    """`value` where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """`value` where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


# ---------------------------------------------------------------- text


def text(value: object, limit: int = NAME_CHARS) -> str:
    """A string or a number as text of at most `limit` characters; "" for everything else."""
    if type(value) is str and len(value) <= limit and value.isascii() and "\0" not in value:
        return value  # nearly always
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(_within(value, -LARGEST, LARGEST))
    elif not isinstance(value, str):
        return ""
    found = clean(value[: limit + 1])
    return found if len(found) <= limit else found[: limit - 3] + "..."


def sentence(value: object, limit: int = MESSAGE_CHARS) -> str:
    """As `text`; a list or an object as its JSON, so that a reason of any shape can be shown."""
    if not isinstance(value, list | dict) or not value:
        return text(value, limit)
    try:
        return text(json.dumps(value, ensure_ascii=False), limit)
    except (ValueError, RecursionError):
        return ""


def names(rows: object, key: str) -> list[str]:
    """What `key` names in each row of a list, of a list of models for instance."""
    found = (text(mapping(row).get(key)) for row in sequence(rows)[:MODELS_LISTED])
    return [name for name in found if name]


# ---------------------------------------------------------------- numbers


def number(value: object, largest: float = LARGEST) -> float | None:
    """A number from 0 to `largest`, from a number or its digits; more is `largest`. None: no such number."""
    if isinstance(value, str):
        digits = value[:NAME_CHARS].strip()
        if not _COUNT.fullmatch(digits):
            return None
        value = float(digits)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    return float(_within(value, 0, largest))


def count(value: object, most: int = MOST_TOKENS) -> int | None:
    """A whole number from 0 to `most`, as `number` reads one, rounded up."""
    found = number(value, most)
    return None if found is None else math.ceil(found)


def _within(value: float, least: float, most: float) -> float:
    """Also for integers that no float can hold."""
    return least if value < least else most if value > most else value


# ---------------------------------------------------------------- times


def duration_s(value: object, longest_s: float = YEAR_S) -> float | None:
    """Seconds of `120ms`, `1.5s`, `6m0s`, `24h0m0s` or a bare number, at most `longest_s`; None: neither."""
    if not isinstance(value, str):
        return number(value, longest_s)
    written = value[:NAME_CHARS].strip()
    parts = _DURATION.findall(written)
    if parts and "".join(digits + unit for digits, unit in parts) == written:
        seconds = sum(float(digits) * _UNIT_S[unit] for digits, unit in parts)
        return min(seconds, longest_s)
    return number(written, longest_s)


def http_date(value: str | None) -> float | None:
    """Epoch seconds of an HTTP date between 1970 and 9999; None where it is none."""
    if not value:
        return None
    try:
        at = parsedate_to_datetime(value[:NAME_CHARS])
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, IndexError):  # a year of eleven digits, a zone of 99 hours
        return None
    return seconds if seconds >= 0 else None


def time_ahead(at: float, now: float, longest_s: float = YEAR_S) -> float:
    """`at`, from `now` to `longest_s` later."""
    return _within(at, now, now + longest_s) if math.isfinite(at) else now


# ---------------------------------------------------------------- headers


def header(value: bytes) -> str:
    """A header's value as text. Headers are Latin-1 where they are not ASCII."""
    return value[:NAME_CHARS].decode("latin-1").replace("\0", "\ufffd")
