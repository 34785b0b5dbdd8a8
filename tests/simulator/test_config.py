"""Errors in the configuration are reported with their path and the allowed values."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from src.simulator.batches.faults import ACTIONS, EFFECTS
from src.simulator.batches.settings import BatchSettings, Turnaround
from src.simulator.config import Latency, Limits, OutputTokens, ProviderConfig, merge, parse
from src.simulator.faults import FAULTS, FaultWindow
from src.simulator.process import PROJECT_ROOT
from src.simulator.readers import ConfigError


def test_nothing_given_is_the_three_providers_without_limits() -> None:
    config = parse({})
    assert list(config.providers) == ["anthropic", "openai", "gemini"]
    assert config.seed == 1
    assert config.providers["gemini"].api_format == "gemini"
    assert config.providers["openai"].limits == Limits()


def test_a_second_provider_of_an_api_format_is_a_row() -> None:
    config = parse(
        {"seed": 7, "providers": {"groq": {"api_format": "openai", "limits": {"requests_per_minute": 60}}}}
    )
    assert config.seed == 7
    assert config.providers["groq"].api_format == "openai"
    assert config.providers["groq"].limits.requests_per_minute == 60


def test_the_seed_of_the_command_line_goes_first() -> None:
    assert parse({"seed": 7}, seed=0).seed == 0


def test_null_is_as_good_as_not_given() -> None:
    limits = {"requests_per_minute": None, "burst_s": None}
    config = parse({"providers": {"openai": {"keys": None, "limits": limits, "faults": None}}})
    assert config.providers["openai"].keys is None
    assert config.providers["openai"].limits == Limits()


def test_windows_and_prefixes_take_their_short_forms() -> None:
    row = {
        "refuses_temperature": True,
        "schedule": [{"fault": "reset"}, {"from_s": 1, "to_s": 2, "fault": "down"}],
    }
    config = parse({"providers": {"openai": row}}).providers["openai"]
    assert config.refuses_temperature == ("",)
    assert config.schedule == (FaultWindow(0, None, "reset", 1.0), FaultWindow(1, 2, "down", 1.0))


def provider(**row: Any) -> dict[str, Any]:
    return {"providers": {"openai": row}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param(
            {"batch_clock_factor": -1}, "batch_clock_factor: expected a number of at least 0", id="clock"
        ),
        pytest.param(
            provider(batches={"faults": {"create_rest": 1}}), "did you mean 'create_reset'?", id="batch fault"
        ),
        pytest.param(
            provider(batches={"row_faults": {"bad_gateway": 1}}),
            "unknown fault 'bad_gateway'",
            id="row fault",
        ),
        pytest.param(
            provider(batches={"turnaround": {"p90_s": 60}}), "turnaround: p90_s is below median_s", id="p90"
        ),
        pytest.param(
            provider(batches={"max_queued_rows": 5}), "max_queued_rows is not a limit of openai", id="foreign"
        ),
        pytest.param(provider(batches={"expiring": 1.5}), "a number of at most 1", id="share"),
        pytest.param([], "configuration: expected an object, got []", id="not an object"),
        pytest.param(
            {"providrs": {}}, "unknown key 'providrs', did you mean 'providers'?", id="top-level key"
        ),
        pytest.param({"providers": {}}, "providers: expected at least one", id="no provider"),
        pytest.param({"seed": "x"}, 'seed: expected a whole number, got "x"', id="seed"),
        pytest.param(
            {"providers": {"groq": {}}}, 'providers.groq: "api_format" is needed', id="no API format"
        ),
        pytest.param(
            {"providers": {"a b": {"api_format": "openai"}}}, "providers: 'a b': letters, digits", id="name"
        ),
        pytest.param(
            provider(api_format="cohere"),
            "providers.openai.api_format: expected one of anthropic, openai, gemini",
            id="api",
        ),
        pytest.param(provider(limit={}), "unknown key 'limit', did you mean 'limits'?", id="key"),
        pytest.param(
            provider(limits={"requests_per_minut": 1}),
            "did you mean 'requests_per_minute'?",
            id="name of a limit",
        ),
        pytest.param(
            provider(limits={"requests_per_minute": 0}),
            "providers.openai.limits.requests_per_minute: expected a number above 0, got 0",
            id="limit of zero",
        ),
        pytest.param(
            provider(limits={"output_tokens_per_minute": 5}),
            "output_tokens_per_minute is not a limit of openai, use tokens_per_minute",
            id="limit that OpenAI does not count",
        ),
        pytest.param(
            provider(model_limits={"m": {"input_tokens_per_minute": 5}}), "model_limits.m: input", id="model"
        ),
        pytest.param(
            provider(faults={"rate_limits": 1}),
            "unknown fault \"rate_limits\", did you mean 'rate_limit'?",
            id="fault",
        ),
        pytest.param(
            provider(faults={"reset": 1.5}), "faults.reset: expected a number of at most 1", id="rate"
        ),
        pytest.param(provider(schedule={}), "schedule: expected a list of windows", id="schedule"),
        pytest.param(
            provider(schedule=[{"from_s": 1}]), 'schedule[0]: the key "fault" is missing', id="no fault"
        ),
        pytest.param(
            provider(schedule=[{"from_s": 5, "to_s": 5, "fault": "reset"}]),
            "schedule[0].to_s: expected a number above 5, got 5",
            id="empty window",
        ),
        pytest.param(provider(port=70_000), "port: expected a number of at most 65535", id="port"),
        pytest.param(
            provider(port=True), "port: expected a number of at least 0, got true", id="port is a flag"
        ),
        pytest.param(provider(headers="no"), "headers: expected true or false", id="flag"),
        pytest.param(provider(keys="k"), "keys: expected a list of names", id="keys"),
        pytest.param(
            provider(latency={"jitter": -1}), "latency.jitter: expected a number of at least 0", id="jitter"
        ),
        pytest.param(
            provider(latency={"jitter": float("nan")}), "latency.jitter: expected a number", id="nan"
        ),
        pytest.param(
            provider(output_tokens={"mean": 0}), "output_tokens.mean: expected a number of at", id="mean"
        ),
    ],
)
def test_a_mistake_names_its_place_and_what_is_allowed(config: Any, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(config)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_patch_merges_objects_replaces_lists_and_removes_by_null() -> None:
    current = {"limits": {"burst_s": 2, "requests_per_minute": 5}, "schedule": [1], "echo": True}
    change = {
        "limits": {"requests_per_minute": None},
        "schedule": [2],
        "echo": None,
        "latency": {"jitter": None},
    }
    assert merge(current, change) == {"limits": {"burst_s": 2}, "schedule": [2], "latency": {}}


def test_the_documentation_names_every_key_and_fault() -> None:
    text = (PROJECT_ROOT / "docs" / "simulator.md").read_text(encoding="utf-8")
    for table in (ProviderConfig, Limits, Latency, OutputTokens, FaultWindow, BatchSettings, Turnaround):
        assert [each.name for each in fields(table) if f"`{each.name}`" not in text.replace('"', "`")] == []
    assert [fault for fault in FAULTS if f"`{fault}`" not in text] == []
    assert [name for name in ACTIONS if f"`{name}`" not in text] == []
    assert [name for name in EFFECTS if f"`_{name}`" not in text] == []
    assert "`batch_clock_factor`" in text
