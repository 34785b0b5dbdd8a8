"""Headers and names, without a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from src.config import load_settings
from src.gateway.formats.base import FormatError
from src.gateway.formats.problems import ProblemKind
from src.gateway.names import ModelChoice, choose, listed
from src.gateway.requests import RequestOptions, request_options, run_id

SETTINGS = load_settings(environ={})
ALL = tuple(SETTINGS.providers)
SESSION = "57a121ec-f78c-48c3-a745-e3036a3ecc33"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


def user(user_id: Any) -> dict[str, Any]:
    return {"metadata": {"user_id": user_id}}


RUNS: dict[str, tuple[dict[str, str], dict[str, Any], str]] = {
    "nothing": ({}, {}, ""),
    "its own header": ({"x-orchestrator-run-id": "r1", "traceparent": TRACEPARENT}, {}, "r1"),
    "Claude Code": ({"x-claude-code-session-id": SESSION, "traceparent": TRACEPARENT}, {}, SESSION),
    "Claude Code's body": ({}, user(json.dumps({"device_id": "d", "session_id": SESSION})), SESSION),
    "Claude Code's body before": ({}, user(f"user_ab12_account__session_{SESSION}"), SESSION),
    "another user": ({}, user(f"someone_session_{SESSION}"), ""),
    "JSON that is none": ({}, user("{" * 500), ""),
    "a session that is a list": ({}, user('{"session_id": ["a"]}'), ""),
    "no text": ({}, user(7), ""),
    "a trace": ({"traceparent": TRACEPARENT}, {}, TRACE),
    "a trace of zeros": ({"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"}, {}, ""),
    "no trace": ({"traceparent": "00-x-y-01"}, {}, ""),
}


@pytest.mark.parametrize("case", RUNS)
def test_the_run_is_what_the_client_says(case: str) -> None:
    headers, body, expected = RUNS[case]
    assert run_id(headers, body) == expected


@pytest.mark.parametrize(
    ("headers", "timeout_s"),
    [
        ({}, 595.0),
        ({"x-stainless-read-timeout": "600.0"}, 595.0),
        ({"x-stainless-read-timeout": "60"}, 55.0),
        ({"x-stainless-read-timeout": "25"}, 20.0),
        ({"x-stainless-read-timeout": "20"}, 16.0),
        ({"x-stainless-read-timeout": "5"}, 4.0),
        ({"x-stainless-read-timeout": "0.5"}, 0.4),
        ({"x-stainless-read-timeout": "nan"}, 595.0),
        ({"x-stainless-read-timeout": "-1"}, 595.0),
        ({"x-stainless-read-timeout": "soon"}, 595.0),
        ({"x-stainless-read-timeout": "60", "x-orchestrator-timeout": "7200"}, 7200.0),
    ],
)
def test_the_deadline_is_before_the_clients_own(headers: dict[str, str], timeout_s: float) -> None:
    assert request_options(headers, {}, "operate", {}).timeout_s == timeout_s


@pytest.mark.parametrize(
    "headers",
    [
        {"timeout": "0"},
        {"timeout": "nan"},
        {"timeout": "1e9"},
        {"priority": "10"},
        {"priority": "1.0"},
        {"priority": "²"},
        {"run-id": "a\x07"},
        {"run-id": "a" * 201},
        {"run-max-cost-usd": "-1"},
        {"task-type": "reserch"},
        {"bacth": "a"},
    ],
)
def test_a_header_that_says_nothing_is_refused_by_name(headers: dict[str, str]) -> None:
    given = {f"x-orchestrator-{name}": value for name, value in headers.items()}
    with pytest.raises(FormatError) as refused:
        request_options(given, {}, "submit", SETTINGS.task_types)
    assert refused.value.problem.kind is ProblemKind.BAD_REQUEST
    assert next(iter(given)) in str(refused.value)


def test_all_headers_are_read() -> None:
    given = {
        "timeout": "5",
        "run-id": "r",
        "run-max-cost-usd": "0.5",
        "priority": "9",
        "task-type": "research",
        "batch": "b",
    }
    headers = {f"x-orchestrator-{name}": value for name, value in given.items()}
    found = request_options(headers, {}, "submit", SETTINGS.task_types)
    assert found == RequestOptions(5.0, "r", 0.5, 9, "research", "b")


# ------------------------------------------------------------------ names


def test_every_listed_name_is_one(called: tuple[str, ...] = ALL) -> None:
    for name, owner in listed(SETTINGS, called):
        choice = choose(name, SETTINGS, called)
        assert choice.tier == name or choice.models
        assert not choice.providers or choice.providers == (owner,)


def test_a_name_is_a_pin() -> None:
    model = SETTINGS.providers["openai"].models.premium
    assert choose(model, SETTINGS, ALL) == ModelChoice(models=(model,))
    assert choose(f"openai/{model}", SETTINGS, ALL) == ModelChoice(models=(model,), providers=("openai",))
    assert choose("gemini/economy", SETTINGS, ALL) == ModelChoice("economy", (), ("gemini",))


def test_fallbacks_are_those_of_the_settings_in_their_order() -> None:
    first, second = (SETTINGS.providers[name].models.standard for name in ("anthropic", "openai"))
    gateway = SETTINGS.gateway.model_copy(update={"fallbacks": {first: (second,)}})
    settings = SETTINGS.model_copy(update={"gateway": gateway})
    assert choose(first, settings, ALL).models == (first, second)
    assert choose(second, settings, ALL).models == (second,)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("premum", "did you mean 'premium'?"),
        ("gemini/claude-sonnet-5-5", "no provider serves"),
        ("", "known: auto, economy"),
        ("x" * 10_000, "known: auto, economy"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name: str, said: str) -> None:
    with pytest.raises(FormatError, match="model") as refused:
        choose(name, SETTINGS, ALL)
    assert refused.value.problem.kind is ProblemKind.MODEL_NOT_FOUND
    assert said in str(refused.value) and len(str(refused.value)) < 1_500


def test_a_model_of_a_provider_without_a_key_is_refused_with_the_reason() -> None:
    with pytest.raises(FormatError, match=r"openai: no key in OPENAI_API_KEY"):
        choose(SETTINGS.providers["openai"].models.standard, SETTINGS, ("anthropic",))
