"""The boundary: whatever a provider sends becomes a bounded value that can be stored."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.providers import values
from src.providers.values import LARGEST, MOST_TOKENS, NotJson, read_json
from src.storable import is_clean

NOW = 1_800_000_000.0

COUNTS: list[tuple[Any, int | None]] = [
    (12, 12),
    (12.0, 12),
    (12.2, 13),
    ("1200", 1200),
    (" 1200 ", 1200),
    ("12.0", 12),
    (0, 0),
    (18446744073709551615, MOST_TOKENS),
    (10**400, MOST_TOKENS),
    ("9" * 400, MOST_TOKENS),
    (1e308, MOST_TOKENS),
    (math.inf, MOST_TOKENS),
    (-1, None),
    (-(10**400), None),
    ("-5", None),
    (math.nan, None),
    (None, None),
    (True, None),
    ("many", None),
    ("1_000", None),
    ("\u0663", None),  # a digit, but none of ours
    ("nan", None),
    ("", None),
    ([], None),
    ({"n": 1}, None),
]


@pytest.mark.parametrize(("value", "found"), COUNTS)
def test_counts(value: Any, found: int | None) -> None:
    assert values.count(value) == found


TEXTS: list[tuple[Any, str]] = [
    ("plain", "plain"),
    ("no key \ud83d here", "no key \ufffd here"),
    ("a\0b", "a\ufffdb"),
    ("\ud83d\ude00", "\U0001f600"),
    (429, "429"),
    (10**400, str(LARGEST)),
    (None, ""),
    (True, ""),
    (["a"], ""),
]


@pytest.mark.parametrize(("value", "found"), TEXTS)
def test_texts(value: Any, found: str) -> None:
    assert values.text(value) == found


def test_a_text_is_cut_at_its_limit() -> None:
    assert values.text("x" * 500, 10) == "xxxxxxx..."
    assert values.text("x" * 10, 10) == "x" * 10


def test_a_reason_of_any_shape_is_a_sentence() -> None:
    assert values.sentence([{"loc": ["body"], "msg": "é"}]) == '[{"loc": ["body"], "msg": "é"}]'
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert values.sentence(deep) == ""


DATES: list[tuple[str, float | None]] = [
    ("Fri, 15 Jan 2027 08:00:30 GMT", NOW + 30),
    ("Sat, 28 Nov 99999999999 08:00:00 GMT", None),
    ("Sat, 28 Nov 2026 08:00:00 +9999", None),
    ("Wed, 28 Nov 1900 08:00:00 GMT", None),
    ("Mon, 31 Feb 2027 08:00:00 GMT", None),
    ("soon", None),
    ("", None),
]


@pytest.mark.parametrize(("written", "found"), DATES)
def test_dates(written: str, found: float | None) -> None:
    assert values.http_date(written) == found


def test_times_and_durations_end_within_a_year() -> None:
    assert values.time_ahead(1e18, NOW) == NOW + values.YEAR_S
    assert values.time_ahead(math.nan, NOW) == NOW
    assert values.time_ahead(0.0, NOW) == NOW
    assert values.duration_s("99999999999999") == values.YEAR_S
    assert values.duration_s("9999999999999d") == values.YEAR_S
    assert values.duration_s(1e300, 60.0) == 60.0


B = b'{"text":"gr\xc3\xbc\xc3\x9fe"}'
LENIENT: list[tuple[bytes, tuple[str, ...]]] = [
    (B, ()),
    (b"\xef\xbb\xbf" + B, ()),
    (B.decode().encode("utf-16"), ()),
    (B.decode().encode("latin-1"), (values.LATIN_1,)),
    (B + b"\n[DONE]", (values.STREAMED,)),
    (B + b"\n\ndata: [DONE]\n\n", (values.STREAMED,)),
    (b"data: " + B + b"\n\ndata: [DONE]\n\n", (values.STREAMED,)),
    (b": wait\nevent: message\ndata: " + B + b"\n\n", (values.STREAMED,)),
    (B + b'\ndata: {"choices":[]}\n\n: end', (values.STREAMED,)),
]


@pytest.mark.parametrize(("content", "warnings"), LENIENT)
def test_json_with_a_fault_that_leaves_it_whole(content: bytes, warnings: tuple[str, ...]) -> None:
    assert read_json(content) == ({"text": "grüße"}, warnings)


def test_control_characters_and_broken_letters_are_read_over() -> None:
    assert read_json(b'{"a":"x\ty\nz\x01"}') == ({"a": "x\ty\nz\x01"}, (values.UNESCAPED,))
    assert read_json(b'{"a":"x\0"}').value == {"a": "x\ufffd"}
    assert read_json(b'{"a":"\xc3\xbc \xff"}') == ({"a": "ü \ufffd"}, (values.NOT_UTF8,))
    found = read_json(rb'{"\ud83d":["\ud83d\ude00 \udc00", "\u0000", "\ud83"]}'.replace(rb', "\ud83"', b""))
    assert found == ({"\ufffd": ["\U0001f600 \ufffd", "\ufffd"]}, (values.REPLACED,))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"<html></html>",
        B + B,
        B + b" and more",
        b"data: \n\n",
        b": : : :\n" * 50_000,
        b"[" * 200_000 + b"]" * 200_000,
        b"data: " + b"[" * 200_000,
        b"\xff\xfe\x00",
    ],
)
def test_what_is_not_json_is_that_and_nothing_worse(content: bytes) -> None:
    with pytest.raises(NotJson):
        read_json(content)


def test_numbers_of_json_are_bounded() -> None:
    written = b"[%s, -%s, 1e999, -1e999, NaN, Infinity, -Infinity, 3, 0.5]" % (b"9" * 400, b"9" * 5000)
    found = read_json(written).value
    assert found == [LARGEST, -LARGEST, LARGEST, -LARGEST, None, None, None, 3, 0.5]


@pytest.mark.parametrize("value", [b"[]", b"{}", b'"ab"', b"1.5", b"[[]]"])
def test_a_body_of_a_million_values_is_not_read(value: bytes) -> None:
    with pytest.raises(NotJson, match="more values"):
        read_json(b"[" + b",".join([value] * 1_100_000) + b"]")


def test_a_long_text_is_read() -> None:
    long = "if (a[0], b) { return; } " * 100_000
    assert read_json(json.dumps({"text": long}).encode()).value == {"text": long}


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


def bounded(value: Any) -> bool:
    """Whether a value of JSON can be stored wherever we store."""
    if isinstance(value, str):
        return is_clean(value)
    if isinstance(value, float | int):
        return math.isfinite(value) and abs(value) <= LARGEST
    if isinstance(value, dict):
        return all(is_clean(key) and bounded(item) for key, item in value.items())
    return all(map(bounded, value)) if isinstance(value, list) else value is None


@given(ANY_JSON, st.booleans())
def test_all_that_json_can_hold_comes_in_bounded(value: Any, escaped: bool) -> None:
    written = json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")
    assert bounded(read_json(written).value)


@given(st.binary() | st.binary().map(lambda tail: B + tail) | st.binary().map(lambda head: head + B))
def test_all_bytes_are_json_or_are_not(content: bytes) -> None:
    with contextlib.suppress(NotJson):
        assert bounded(read_json(content).value)


@given(ANY_JSON | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_every_reader_takes_everything(value: Any) -> None:
    assert len(values.text(value)) <= values.NAME_CHARS
    assert is_clean(values.sentence(value))
    assert values.count(value) in (None, *range(10)) or 0 <= (values.count(value) or 0) <= MOST_TOKENS
    assert (values.duration_s(value) or 0.0) <= values.YEAR_S
    written = value if isinstance(value, str) else json.dumps(value)
    assert (values.http_date(written) or 0.0) >= 0.0
    assert is_clean(values.header(written.encode("utf-8", "surrogatepass")))
