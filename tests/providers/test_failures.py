"""Which of our classes an answered error is, and what its message may say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.errors import (
    PROVIDER_ERRORS,
    AuthFailed,
    BadRequest,
    ContextTooLong,
    InvalidResponse,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestTooLarge,
    ServerError,
    TimedOut,
)
from src.providers.error_bodies import error_beside, error_in, status_in
from src.providers.error_classes import ErrorAnswer, classify, names_an_overrun
from src.providers.failures import ErrorFactory, causes
from src.records import LimitReport

from .conftest import ask

REQUEST = ask("openai", max_tokens=4_000)
ERRORS = ErrorFactory("groq", "gsk_0123456789")


@pytest.mark.parametrize(
    ("status", "cls"),
    [
        (400, BadRequest),
        (401, AuthFailed),
        (402, QuotaExhausted),
        (403, AuthFailed),
        (404, ModelUnavailable),
        (408, TimedOut),
        (409, ServerError),
        (413, RequestTooLarge),
        (418, BadRequest),
        (422, BadRequest),
        (425, ServerError),
        (429, RateLimited),
        (500, ServerError),
        (502, ServerError),
        (503, Overloaded),
        (498, Overloaded),
        (470, ServerError),
        (504, ServerError),
        (520, ServerError),
        (529, Overloaded),
        (304, InvalidResponse),
        (200, Overloaded),
    ],
)
def test_the_status_decides_where_no_code_does(status: int, cls: type[ProviderError]) -> None:
    assert classify(ErrorAnswer(status, ("unheard_of",), ""), {}, REQUEST)[0] is cls


def test_a_code_beats_the_status_and_the_first_known_code_counts() -> None:
    codes = {"spent": QuotaExhausted, "busy": Overloaded}
    assert classify(ErrorAnswer(400, ("odd", "spent", "busy"), ""), codes, REQUEST)[0] is QuotaExhausted


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 208310 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 198000 + 4000 > 200000, decrease input length",
        "The input token count (1196417) exceeds the maximum number of tokens allowed (1048576).",
        "This model's maximum context length is 8192 tokens. However, you requested 9,210 tokens.",
        "Le contexte est trop long : 33 000 (33000) jetons, 32768 au plus",
    ],
)
def test_a_refusal_that_counts_the_prompt_is_about_the_window(message: str) -> None:
    assert names_an_overrun(message, 4_000)
    assert classify(ErrorAnswer(400, (), message), {}, REQUEST)[0] is ContextTooLong


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens: 4000 > 2048, which is the maximum allowed number of output tokens",
        "messages.3.content.0: text content blocks must be non-empty",
        "temperature: must be between 0 and 1",
        "model claude-haiku-5-5-20260101 does not take claude-3-20250219 parameters",
        "Invalid value at 'generation_config' (max_output_tokens), 65536",
        "",
    ],
)
def test_other_refusals_are_not(message: str) -> None:
    assert not names_an_overrun(message, 4_000)


def test_a_prompt_is_never_too_long_for_listing_models() -> None:
    assert classify(ErrorAnswer(400, (), "208310 tokens > 200000"), {}, None)[0] is BadRequest


def test_an_error_names_provider_model_and_message() -> None:
    error = ERRORS.of_answer(ErrorAnswer(429, ("", "tokens"), "Slow\n  down"), {}, REQUEST, 0.0)
    assert str(error) == "groq: answered 429 tokens: Slow down"
    assert (error.provider, error.model, error.status, error.code) == ("groq", REQUEST.model, 429, "tokens")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("wrong key gsk_0123456789 given", "groq: wrong key *** given"),
        ("Incorrect API key provided: sk-abc***xyz.", "groq: Incorrect API key provided: sk-***"),
        ("Bearer abcdefgh1234 refused", "groq: Bearer *** refused"),
        ("API key AIzaSyD-1234567890 not valid", "groq: API key AIza*** not valid"),
        ("Invalid key Zq1x****9fKd", "groq: Invalid key ***"),
        ("no task-force here, no sk- either", "groq: no task-force here, no sk- either"),
    ],
)
def test_keys_are_never_repeated(said: str, shown: str) -> None:
    assert str(ERRORS.error(AuthFailed, said, None)) == shown
    assert "0123456789" not in repr(ERRORS)


def test_a_provider_is_named_even_where_its_key_is_its_name() -> None:
    assert str(ErrorFactory("ollama", "ollama").error(ServerError, "ollama fell", None)) == "ollama: *** fell"


def test_a_page_of_html_is_cut() -> None:
    assert len(str(ERRORS.error(ServerError, "<p>" * 1_000, None))) == len("groq: ") + 500


def test_a_minutes_limit_is_rate_limited_and_a_days_is_exhausted() -> None:
    minute = ErrorAnswer(429, (), "", {"retry-after": "12"}, (LimitReport("requests", 60, 0, 60.0),))
    day = ErrorAnswer(429, (), "", {"retry-after": "12"}, (LimitReport("requests", 200, 0, 86_400.0),))
    long = ErrorAnswer(429, (), "", {"retry-after": "7200"})
    assert type(ERRORS.of_answer(minute, {}, REQUEST, 1_000.0)) is RateLimited
    for answer, resets_at in ((day, 1_012.0), (long, 8_200.0)):
        error = ERRORS.of_answer(answer, {}, REQUEST, 1_000.0)
        assert type(error) is QuotaExhausted
        assert error.resets_at == resets_at
        assert error.reset_guessed is (answer is long)


def test_our_clock_counts_for_a_reset_however_wrong_the_providers_is() -> None:
    found = {"retry-after": "Fri, 15 Jan 2027 10:00:00 GMT", "date": "Fri, 15 Jan 2027 08:00:00 GMT"}
    spent = ERRORS.of_answer(ErrorAnswer(429, ("spent",), "", found), {"spent": QuotaExhausted}, REQUEST, 5.0)
    assert spent.resets_at == 7_205.0


@pytest.mark.parametrize("wait", ["99999999999999", "9" * 400, "Sat, 28 Nov 9999 08:00:00 GMT"])
def test_no_reset_is_later_than_a_day_and_a_half(wait: str) -> None:
    answer = ErrorAnswer(429, ("spent",), "", {"retry-after": wait})
    error = ERRORS.of_answer(answer, {"spent": QuotaExhausted}, REQUEST, 1_000.0)
    assert error.resets_at == 1_000.0 + 36 * 3_600


def test_a_spent_account_has_no_reset() -> None:
    error = ERRORS.of_answer(ErrorAnswer(429, ("spent",), ""), {"spent": QuotaExhausted}, REQUEST, 0.0)
    assert (type(error), error.resets_at, error.retry_after_s) == (QuotaExhausted, None, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"error": {"message": "no", "code": 3}}', "no"),
        (b'{"error": "no"}', "no"),
        (b'{"message": "no"}', "no"),
        (b'[{"error": {"message": "no"}}]', "no"),
        (b'"no"', "no"),
        (b"<html>no</html>", "a web page came instead of the API's answer"),
        (b"no such thing", "no such thing"),
        (b"\xff\xfe", "��"),
        (b"", ""),
    ],
)
def test_an_error_body_of_any_shape_has_a_message(content: bytes, message: str) -> None:
    assert error_in(content)["message"] == message


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "errors",
                    "message",
                    "detail",
                    "code",
                    "type",
                    "status",
                    "metadata",
                    "reasons",
                    "innererror",
                    "base_resp",
                    "status_code",
                    "loc",
                    "msg",
                    "choices",
                    "content_filter_result",
                    "other",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(body=VALUES, status=st.sampled_from([200, 400, 401, 403, 404, 413, 418, 429, 500, 503]))
def test_whatever_a_body_holds_it_has_a_reason_and_a_class(body: Any, status: int) -> None:
    described = error_in(json.dumps(body).encode())
    assert isinstance(described["message"], str)
    assert 200 <= status_in(described) < 600
    answer = ErrorAnswer(
        status, (), described["message"], from_api=not described["is_page"], flagged=described["is_flagged"]
    )
    assert classify(answer, {}, REQUEST)[0] in PROVIDER_ERRORS.values()
    assert str(ERRORS.of_answer(answer, {}, REQUEST, 0.0)).startswith("groq: ")
    if isinstance(body, dict):
        error_beside(body, ("choices",))


def test_a_cause_is_what_an_error_was_raised_from_and_not_what_happened_before() -> None:
    first, second = ValueError("first"), KeyError("second")
    try:
        try:
            raise RuntimeError("the attempt before")
        except RuntimeError:
            raise second from first
    except KeyError as error:
        assert list(causes(error)) == [second, first]
