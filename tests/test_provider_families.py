"""Settings of several keys and endpoints: what is refused, what limits a row has, what names mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config import load_settings
from src.core.intake.pins import able_providers, effective_providers
from src.core.preferences import preference_shares
from src.core.store.sums import CallSums, UsageRow
from src.errors import ConfigError, InputError
from src.gateway.formats.base import FormatError
from src.gateway.names import ModelChoice, choose
from src.settings import Settings

ROW = """[providers.{name}]
api_format = "{api}"
family = "{family}"
limit_group = "{group}"
base_url = "https://api.openai.com/v1"
api_key_env = ["{variable}"]
weight = 0.2
models = {{ economy = "gpt-6-luna", standard = "gpt-6.1-terra", premium = "gpt-6.1-sol" }}
"""


def row(
    name: str = "openai-b", *, api: str = "openai", family: str = "openai", group: str = "", limits: str = ""
) -> str:
    variable = f"{name.upper().replace('-', '_')}_API_KEY"
    text = ROW.format(name=name, api=api, family=family, group=group, variable=variable)
    return text + (f"limits = {{ {limits} }}\n" if limits else "")


def loaded(folder: Path, text: str) -> Settings:
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return load_settings(folder / "mine.toml", environ={})


@pytest.fixture
def two(tmp_path: Path) -> Settings:
    return loaded(tmp_path, row())


# ------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (row(family="openia"), "no provider 'openia'; did you mean 'openai'"),
        (row(family="anthropic"), "must be a provider of the same api_format"),
        (row(family="openai-b"), "has no family itself"),
        (row() + row("openai-c", family="openai-b"), "has no family itself"),
        (
            row(group="acme") + "[providers.anthropic]\nlimit_group = 'acme'\n",
            "limit_group 'acme': its providers need one api_format",
        ),
        (
            row(group="acme", limits="requests_per_minute = 5")
            + row("openai-c", group="acme", limits="requests_per_minute = 6"),
            "limit_group 'acme': state its limits in one provider, or the same in each",
        ),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, text)
    assert why in str(refused.value)


def test_limits_stated_in_one_row_are_those_of_its_group(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        "[providers.openai]\nlimit_group = 'acme'\n"
        + row(group="acme", limits="requests_per_minute = 50")
        + row("openai-c", group="other")
        + row("openai-d"),
    ).providers
    per_minute = {name: found[name].limits.requests_per_minute for name in found if "openai" in name}
    assert per_minute == {"openai": 50, "openai-b": 50, "openai-c": None, "openai-d": None}


# ------------------------------------------------------------------ names


def test_the_name_of_a_family_stands_for_its_rows(two: Settings) -> None:
    both = ("openai", "openai-b")
    assert able_providers((), ("openai",), two) == both
    assert able_providers((), ("openai-b",), two) == ("openai-b",)
    assert able_providers(("gpt-6-nano",), (), two) == both
    assert two.left_by(["gpt-6-nano"], ["openai"]) == list(both)
    assert two.left_by([], ["openai-b", "gemini"]) == ["gemini", "openai-b"]


@pytest.mark.parametrize(
    ("providers", "only", "allowed"),
    [
        (["openai"], (), ("openai",)),
        ([], ("openai",), ("openai",)),
        (["openai-b"], ("openai",), ("openai-b",)),
        (["openai"], ("openai-b",), ("openai-b",)),
        (["openai", "gemini"], ("openai-b", "gemini"), ("openai-b", "gemini")),
    ],
)
def test_rows_within_only(
    two: Settings, providers: list[str], only: tuple[str, ...], allowed: object
) -> None:
    assert effective_providers((), providers, only, two) == allowed


def test_a_row_outside_only_is_refused(two: Settings) -> None:
    with pytest.raises(InputError, match="excluded by --only"):
        effective_providers((), ["openai"], ("gemini",), two)


def test_names_of_the_gateway_pin_the_family_or_one_row(two: Settings) -> None:
    assert choose("openai/gpt-6-luna", two, ["openai-b"]) == ModelChoice(
        models=("gpt-6-luna",), providers=("openai",)
    )
    assert choose("openai-b/standard", two, ["openai-b"]) == ModelChoice(
        tier="standard", providers=("openai-b",)
    )
    with pytest.raises(FormatError):
        choose("openai-b/gpt-6-luna", two, ["openai"])


def test_an_answer_of_any_row_is_one_of_the_preferred_family(two: Settings) -> None:
    kind = next(name for name, config in two.task_types.items() if config.prefer == "openai")
    rows = [
        UsageRow((kind, provider), CallSums(ok=count))
        for provider, count in {"openai": 3, "openai-b": 4, "gemini": 3}.items()
    ]
    (held,) = preference_shares(rows, two)
    assert (held.answers, held.preferred_answers) == (10, 7)
