"""Whatever a provider answers becomes a completion or one of our errors, and all of it can be stored.

Real HTTP through the real SDKs: a raw server says what a table or Hypothesis wants, three adapters read it.
"""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.core.store.codec import attempt_columns, dump_record
from src.errors import InvalidResponse, ProviderError, QuotaExhausted, RateLimited
from src.providers.base import ProviderAdapter
from src.providers.factory import build_adapter
from src.providers.failures import MAX_QUOTA_WAIT_S
from src.providers.values import LARGEST, MESSAGE_CHARS, MOST_TOKENS, NAME_CHARS, YEAR_S
from src.records import Attempt, Completion, LimitReport, Outcome, Usage
from src.storable import is_clean

from .conftest import API_FORMATS, SLOTS, access_to, ask
from .raw import Json, Raw, answer_of, response

CallResult = Completion | ProviderError
_NAME_CHARS = MESSAGE_CHARS + 100  # a message, and what stands before it


class Reader:
    """Three adapters before one server, on a loop of their own, for tests that are no coroutines."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.server = Raw()
        self.runner.run(self.server.start())
        self.adapters: dict[str, ProviderAdapter] = {
            api: build_adapter(access_to(api, self.server.url(api)), SLOTS, max_answer_mb=4)
            for api in API_FORMATS
        }

    def read(self, api: str, content: bytes) -> CallResult:
        """What the adapter makes of that answer to a call. Anything but our errors is raised."""
        self.server.answer = self.server.says(content)
        try:
            return self.runner.run(self.adapters[api].complete(ask(api)))
        except ProviderError as error:
            return error

    def models(self, api: str, content: bytes) -> list[str] | ProviderError:
        self.server.answer = self.server.says(content)
        try:
            return self.runner.run(self.adapters[api].list_models(5.0))
        except ProviderError as error:
            return error

    def close(self) -> None:
        for adapter in self.adapters.values():
            self.runner.run(adapter.close())
        self.runner.run(self.server.stop())
        self.runner.close()


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    made.close()


# ---------------------------------------------------------------- what can be stored


def check(result: CallResult) -> None:
    """Bounded, and stored by both databases and in UTF-8."""
    usage = result.usage or Usage()
    counts = [getattr(usage, name) for name in Usage.__slots__]
    assert all(isinstance(count, int) and 0 <= count <= 3 * MOST_TOKENS for count in counts)
    for limit in result.limits:
        _check_limit(limit)
    if isinstance(result, Completion):
        assert is_clean(result.text)
        assert result.text.strip()
        assert all(map(is_clean, result.warnings))
        assert max(len(result.model), len(result.request_id)) <= NAME_CHARS
        dump_record(result).encode()
    else:
        assert result.status is None or 100 <= result.status < 1_000
        assert len(str(result)) <= _NAME_CHARS
        assert 0 <= (result.retry_after_s or 0.0) <= YEAR_S
        assert result.resets_at is None or math.isfinite(result.resets_at)
        assert is_clean(result.code)
        assert len(result.code) <= NAME_CHARS
    _store(result, usage)


def _check_limit(limit: LimitReport) -> None:
    assert 0 < limit.limit <= LARGEST
    assert 0 <= (limit.remaining or 0) <= LARGEST


def _store(result: CallResult, usage: Usage) -> None:
    failed = isinstance(result, ProviderError)
    attempt = Attempt(
        number=1, provider="p", model="m", agent="a", outcome=Outcome.OK, started_at=0.0, latency_s=0.0,
        choice="weighted", reasons=(), error_kind=result.kind if failed else "",
        error=str(result) if failed else "", status=result.status if failed else 200, usage=usage,
    )  # fmt: skip
    assert is_clean(attempt.error), "nothing behind the boundary has to clean it"
    columns = (*attempt_columns(attempt), result.model)
    for value in columns:
        if isinstance(value, str):
            assert b"\0" not in value.encode()
        elif isinstance(value, int):
            assert abs(value) < 2**63
    marks = ", ".join("?" * len(columns))
    with sqlite3.connect(":memory:") as database:
        database.execute(f"SELECT {marks}", columns).fetchone()
    database.close()


# ---------------------------------------------------------------- arbitrary answers

TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
JSON_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ODD_NUMBERS = st.sampled_from(
    [0, -1, 2**64, 10**400, 1e308, math.nan, math.inf, "1200", "-3", None, True, []]
)


@st.composite
def changed(draw: st.DrawFn, api: str) -> Json:
    """A good answer in which one place, at any depth, holds something else."""
    body = answer_of(api, draw(st.sampled_from(["Elbe.", "\ud83d", "a\0b", " ", "x" * 3_000])))
    place: Any = body
    for _ in range(draw(st.integers(0, 5))):
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys)) if keys else None
        if key is None or not isinstance(place[key], dict | list) or not place[key]:
            break
        place = place[key]
    if isinstance(place, dict):
        place[draw(st.sampled_from([*place, "error", "code", "message"]))] = draw(JSON_VALUE | ODD_NUMBERS)
    else:
        place[draw(st.integers(0, len(place) - 1))] = draw(JSON_VALUE)
    return body


FACTS = st.fixed_dictionaries({"message": JSON_VALUE, "code": JSON_VALUE, "type": JSON_VALUE})
ERROR = st.fixed_dictionaries(
    {"error": FACTS | JSON_VALUE},
    optional={"details": JSON_VALUE, "detail": JSON_VALUE, "message": JSON_VALUE},
)
LINE = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=30)
HEADER_NAMES = st.sampled_from(
    [
        "Retry-After", "retry-after-ms", "Date", "X-Request-Id", "request-id", "Content-Type",
        "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
        "x-ratelimit-limit-tokens", "anthropic-ratelimit-requests-limit", "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining", "Server", "Location", "Content-Encoding", "Set-Cookie",
    ]
)  # fmt: skip
HEADER_VALUES = LINE | st.sampled_from(
    [
        "99999999999999", "9" * 400, "-1", "1e400", "nan", "inf", "6m0s", "9999999999d", "0", "-0.0",
        "Sat, 28 Nov 99999999999 08:00:00 GMT", "Sat, 28 Nov 9999 08:00:00 GMT",
        "gzip", "deflate", "br", "gzip, gzip", "Thu, 01 Jan 1970 00:00:00 GMT",
    ]
)  # fmt: skip
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES).map(": ".join), max_size=5)
STATUSES = st.sampled_from(
    [200, 200, 200, 201, 307, 400, 401, 403, 404, 408, 413, 429, 429, 500, 503, 529, 599]
)
ANY = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(value: Any, *, escaped: bool) -> bytes:
    return json.dumps(value, ensure_ascii=escaped).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("api", API_FORMATS)
@ANY
@given(data=st.data())
def test_any_answer_becomes_a_completion_or_an_error_of_ours(
    reader: Reader, api: str, data: st.DataObject
) -> None:
    bodies = st.binary(max_size=60) | st.builds(
        written, changed(api) | ERROR | JSON_VALUE, escaped=st.booleans()
    )
    body, status, headers = data.draw(bodies), data.draw(STATUSES), data.draw(HEADERS)
    check(reader.read(api, response(body, status, *headers)))


@pytest.mark.parametrize("api", API_FORMATS)
@ANY
@given(data=st.data())
def test_any_list_of_models_is_one_or_an_error_of_ours(reader: Reader, api: str, data: st.DataObject) -> None:
    key, name = ("models", "name") if api == "gemini" else ("data", "id")
    rows = st.lists(st.fixed_dictionaries({name: JSON_VALUE}) | JSON_VALUE, max_size=4)
    bodies = st.binary(max_size=40) | st.builds(
        written, st.fixed_dictionaries({key: rows | JSON_VALUE}) | JSON_VALUE, escaped=st.booleans()
    )
    content = response(data.draw(bodies), data.draw(STATUSES), *data.draw(HEADERS))
    found = reader.models(api, content)
    if isinstance(found, ProviderError):
        check(found)
    else:
        assert all(is_clean(model) and 0 < len(model) <= NAME_CHARS for model in found)


# ---------------------------------------------------------------- the cases of reports


def counted(api: str, **usage: Any) -> bytes:
    """An answer whose counts are those of Anthropic's names, under the API format's own."""
    names = {
        "anthropic": ("input_tokens", "output_tokens"),
        "openai": ("prompt_tokens", "completion_tokens"),
        "gemini": ("promptTokenCount", "candidatesTokenCount"),
    }[api]
    counts = {name: usage[key] for name, key in zip(names, ("input", "output"), strict=True) if key in usage}
    body = answer_of(api, **counts)
    if api == "gemini":
        del body["usageMetadata"]["totalTokenCount"]
    return response(json.dumps(body).encode())


HUGE = [18446744073709551615, 2**63, 10**400, 1e308, "9" * 400, math.inf]
UNTRUE = [0, -1, -(10**400), None, "", "many", True, [], {}, math.nan, *HUGE]


@pytest.mark.parametrize("api", API_FORMATS)
@pytest.mark.parametrize("number", UNTRUE, ids=lambda n: repr(n)[:12])
def test_a_count_that_can_not_be_true_is_estimated_and_warned_of(
    reader: Reader, api: str, number: Any
) -> None:
    for which in ("input", "output"):
        result = reader.read(api, counted(api, **{which: number}))
        assert isinstance(result, Completion)
        check(result)
        # 27 characters are asked, 5 answered; the other count is what the answer says
        assert result.usage.prompt_tokens == (7 if which == "input" else 12)
        assert result.usage.output_tokens == (2 if which == "output" else 3)
        assert len(result.warnings) == 1
        assert "estimated from characters" in result.warnings[0]


@pytest.mark.parametrize("api", API_FORMATS)
def test_counts_as_text_are_numbers(reader: Reader, api: str) -> None:
    result = reader.read(api, counted(api, input="1200", output=" 30 "))
    assert isinstance(result, Completion)
    assert (result.usage.prompt_tokens, result.usage.output_tokens, result.warnings) == (1200, 30, ())


@pytest.mark.parametrize("api", API_FORMATS)
@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_half_a_surrogate_in_an_error_is_replaced(reader: Reader, api: str, status: int) -> None:
    result = reader.read(api, response(rb'{"error":{"message":"no key \ud83d here\u0000"}}', status))
    check(result)
    assert "no key \ufffd here" in str(result)


@pytest.mark.parametrize("api", API_FORMATS)
@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize("bracket", ["[]", '{"a":1}'])
def test_deep_nesting_is_no_json(reader: Reader, api: str, status: int, bracket: str) -> None:
    opening, closing = ('{"a":', "}") if bracket[0] == "{" else ("[", "]")
    body = (opening * 200_000 + "1" + closing * 200_000).encode()
    for result in (
        reader.read(api, response(body, status)),
        reader.models(api, response(body, status)),
    ):
        assert isinstance(result, ProviderError)
        check(result)
        if status == 200:
            assert type(result) is InvalidResponse
            assert result.usage is None, "what it costs is uncertain"


@pytest.mark.parametrize("api", API_FORMATS)
def test_a_date_that_is_none_is_ignored(reader: Reader, api: str) -> None:
    header = "Retry-After: Sat, 28 Nov 99999999999 08:00:00 GMT"
    result = reader.read(api, response(b'{"error":{"message":"slow"}}', 429, header))
    assert isinstance(result, RateLimited)
    assert result.retry_after_s is None


@pytest.mark.parametrize("api", API_FORMATS)
@pytest.mark.parametrize("wait", ["99999999999999", "9" * 400, "Sat, 28 Nov 9999 08:00:00 GMT"])
def test_a_wait_without_end_is_bounded(reader: Reader, api: str, wait: str) -> None:
    for status in (429, 503):
        result = reader.read(api, response(b'{"error":{"message":"slow"}}', status, f"Retry-After: {wait}"))
        check(result)
        assert isinstance(result, ProviderError)
        if isinstance(result, QuotaExhausted):
            assert result.reset_guessed
            assert result.resets_at is not None
            assert result.retry_after_s is not None
            assert result.resets_at <= 4e9
            assert result.retry_after_s <= YEAR_S
    assert MAX_QUOTA_WAIT_S < YEAR_S


SENSE = "Grüße an die Elbe."
WHOLE: dict[str, Any] = {
    "an empty error": lambda body: written({**body, "error": {}}, escaped=False),
    "error null": lambda body: written({**body, "error": None}, escaped=False),
    "a BOM": lambda body: b"\xef\xbb\xbf" + written(body, escaped=False),
    "Latin-1": lambda body: json.dumps(body, ensure_ascii=False).encode("latin-1"),
    "[DONE]": lambda body: written(body, escaped=False) + b"\n[DONE]",
    "an event stream behind": lambda body: written(body, escaped=False) + b"\n\ndata: [DONE]\n\n",
    "an event stream around": lambda body: b"data: " + written(body, escaped=False) + b"\n\ndata: [DONE]\n\n",
}
SILENT = {"an empty error", "error null", "a BOM"}


@pytest.mark.parametrize("api", API_FORMATS)
@pytest.mark.parametrize("fault", WHOLE)
def test_a_whole_answer_with_a_fault_is_used(reader: Reader, api: str, fault: str) -> None:
    result = reader.read(api, response(WHOLE[fault](answer_of(api, SENSE))))
    assert isinstance(result, Completion), result
    assert result.text == SENSE
    assert bool(result.warnings) is (fault not in SILENT)
    check(result)


@pytest.mark.parametrize("api", API_FORMATS)
def test_raw_control_characters_are_kept(reader: Reader, api: str) -> None:
    body = written(answer_of(api, "two|lines"), escaped=False).replace(b"|", b"\n\t\x01")
    result = reader.read(api, response(body))
    assert isinstance(result, Completion)
    assert result.text == "two\n\t\x01lines"
    assert len(result.warnings) == 1


def without_reason(api: str, text: str, output: int) -> bytes:
    names = {"anthropic": "output_tokens", "openai": "completion_tokens", "gemini": "candidatesTokenCount"}
    body = answer_of(api, text, **{names[api]: output})
    if api == "anthropic":
        body["stop_reason"] = None
    elif api == "openai":
        body["choices"][0]["finish_reason"] = None
    else:
        del body["candidates"][0]["finishReason"]
        del body["usageMetadata"]["totalTokenCount"]
    return response(json.dumps(body).encode())


@pytest.mark.parametrize("api", API_FORMATS)
def test_no_stop_reason_is_enough_where_text_and_usage_agree(reader: Reader, api: str) -> None:
    result = reader.read(api, without_reason(api, "It flows to the sea.", 6))
    assert isinstance(result, Completion)
    assert len(result.warnings) == 1
    for text, output in (("It flows to the sea.", 390), ("It flows to the sea, and then it", 8)):
        assert isinstance(reader.read(api, without_reason(api, text, output)), InvalidResponse)
