"""A slip in the settings is found when they are read and named with what was meant; no secret is repeated."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from genai_prices import data_snapshot

from src.cli.config_warnings import config_warnings
from src.config import RENAMED, load_settings, provider_access
from src.errors import ConfigError, hint, nearest
from src.providers.api_formats import API_FORMATS
from src.routing.cost.pricing import compile_price
from src.setting_types import known_keys
from src.settings import LimitSettings, Settings, with_slots
from tests.helpers import ROOT

OWN_AGENT = '[[agents]]\nname = "mine"\ncalls_in_flight = 1\n'
PROVIDER = """[providers."NAME"]
api_format = "openai"
base_url = "http://127.0.0.1:11434/v1"
weight = 0.1
models = { economy = "m", standard = "m", premium = "m" }
"""
NOW = 1_795_000_000.0
KEY = "sk-proj-0123456789abcdefghij"


def loaded(folder: Path, text: str) -> Settings:
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return load_settings(folder / "mine.toml", environ={})


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as raised:
        loaded(folder, text)
    assert "mine.toml: " in str(raised.value) and "\n" not in str(raised.value)
    return str(raised.value).partition("mine.toml: ")[2]


# ------------------------------------------------------------------ names and numbers


def renamed_in_the_changelog() -> dict[tuple[str, str], str]:
    """The table of renamed settings, by section and old name."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`\[.+\]`) \| `(\w+)` \| `(\w+)` \|$", text, re.MULTILINE)
    return {
        (section.partition(".")[0], old): new
        for sections, old, new in rows
        for section in re.findall(r"\[([^]]+)\]", sections)
    }


@pytest.mark.parametrize(("section", "old"), RENAMED, ids=".".join)
def test_a_renamed_setting_is_refused_with_its_new_name(tmp_path: Path, section: str, old: str) -> None:
    new = RENAMED[section, old]
    place = {"providers": "providers.openai", "models": "models.m"}.get(section, section)
    assert refused(tmp_path, f"[{place}]\n{old} = 1") == (
        f"unknown setting '{place}.{old}'; it is now called {new!r}"
    )
    assert new in known_keys(Settings, tuple(place.split(".")))


def test_the_changelog_lists_the_renamed_settings() -> None:
    assert renamed_in_the_changelog() == RENAMED


SLIPS = {
    "budget of a provider": (
        "[budgets.providers.opanai]\ndaily_usd = 1",
        "budgets.providers: no provider 'opanai'; did you mean 'openai'?",
    ),
    "row of a provider": (
        "[providers.opanai]\nweight = 0.5",
        """needs api_format = "anthropic", "openai" or "gemini"; did you mean 'openai'?""",
    ),
    "API format": (
        '[providers.openai]\napi_format = "openia"',
        "providers.openai.api_format = 'openia': no API format of this name; did you mean 'openai'?",
    ),
    "API format of a model": (
        '[models."m"]\napi_format = "x"',
        "models.m.api_format = 'x': no API format of this name; known: anthropic, openai, gemini",
    ),
    "limit without end": (
        "[providers.openai.limits]\nrequests_per_minute = inf",
        "providers.openai.limits.requests_per_minute = inf: ",
    ),
    "budget without a submitter": (
        "[budgets.providers.x]\ndaily_usd = 1",
        "budgets.providers: no provider 'x'; known: anthropic, openai, gemini",
    ),
    "time zone": (
        '[budgets]\ntime_zone = "Europe/Berlni"',
        "budgets.time_zone = 'Europe/Berlni': is not a known time zone; did you mean 'Europe/Berlin'?",
    ),
    "no time zone at all": ('[budgets]\ntime_zone = "/"', "allowed is an IANA name: Europe/Berlin"),
    "percent below 1": ("[budgets]\nalert_percent = [-5, 80]", "budgets.alert_percent.0 = -5: "),
    "percent above 100": ("[budgets]\nalert_percent = [50, 50000]", "budgets.alert_percent.1 = 50000: "),
    "task type of an agent": (
        OWN_AGENT + 'home = "openai"\ntask_types = ["analysys"]',
        "task_types of agent 'mine': no task type 'analysys'; did you mean 'analysis'?",
    ),
    "home of an agent": (
        OWN_AGENT + 'home = "antropic"',
        "home of agent 'mine': no provider 'antropic'; did you mean 'anthropic'?",
    ),
    "preferred provider": (
        '[task_types.poems]\nprefer = "gemni"\ntier = "standard"',
        "task_types.poems.prefer: no provider 'gemni'; did you mean 'gemini'?",
    ),
    "emergency provider": (
        '[routing]\nemergency_provider = "open-ai"',
        "routing.emergency_provider: no provider 'open-ai'; did you mean 'openai'?",
    ),
    "a setting of a budget": (
        "[budgets.providers.openai]\ndaily_us = 1",
        "unknown setting 'budgets.providers.openai.daily_us'; did you mean 'daily_usd'?",
    ),
    "a setting of a price": (
        '[models."m".price]\ncache_reed = 1',
        "unknown setting 'models.m.price.cache_reed'; did you mean 'cache_read'?",
    ),
    "a price below nothing": (
        '[models."m".price]\ninput = 1\noutput = 1\ncache_read = -1',
        "models.m.price.cache_read = -1: ",
    ),
    "address without a scheme": (
        '[providers.openai]\nbase_url = "localhost:8080/v1"',
        "providers.openai.base_url: must be an address that starts with http:// or https://",
    ),
    "half of an IPv6 address": (
        '[providers.openai]\nbase_url = "http://[::1"',
        "base_url: must be an address",
    ),
    "address without a host": ('[providers.openai]\nbase_url = "http://"', "base_url: must be an address"),
    "port beyond all": ('[providers.openai]\nbase_url = "http://x:99999"', "base_url: must be an address"),
    "price that no database holds": (
        '[models."m".price]\ninput = 1e30\noutput = 1',
        "models.m.price.input = 1e+30: must be less than or equal to 1000000",
    ),
    "million agents": (OWN_AGENT + 'home = "openai"\ncount = 1000000', "agents.0.count = 1000000: must be "),
    "two agents of one name": (
        2 * (OWN_AGENT + 'home = "openai"\n'),
        "agents: several are named 'mine'",
    ),
    "agent without a name": (
        OWN_AGENT.replace("mine", "") + 'home = "openai"',
        "agents.0.name = '': must be 1 to 200 characters",
    ),
    "task type with a line end": (
        '[task_types."a\\nb"]\ntier = "standard"',
        r"task_types = 'a\nb': must be 1 to 200 characters, without commas and line ends",
    ),
    "provider with a slash": (PROVIDER.replace("NAME", "a/b"), "providers = 'a/b': must not contain '/'"),
    "model without a name": (
        PROVIDER.replace("NAME", "mine").replace('economy = "m"', 'economy = ""'),
        "providers.mine.models.economy = '': must be 1 to 200 characters",
    ),
    "number for a table": ("providers = 1", "providers = 1: must be a table"),
    "number for a section": ("[providers]\nopenai = 1", "providers.openai = 1: must be a table"),
    "unknown setting with a line end": ('"a\\nb" = 1', r"unknown setting 'a\\nb'; "),
    "endless nesting": ("x = " + "[" * 3_000, "is not valid TOML: nested too deeply"),
    "endless digits": ("x = " + "9" * 5_000, "is not valid TOML: a number has too many digits"),
    "variable of an address": (
        '[providers.openai]\nbase_url_env = "http://127.0.0.1/v1"',
        "providers.openai.base_url_env: must be the name of an environment variable",
    ),
}


@pytest.mark.parametrize(("text", "expected"), SLIPS.values(), ids=SLIPS.keys())
def test_a_slip_is_refused_with_where_it_is_and_what_is_allowed(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert expected in refused(tmp_path, text)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xef\xbb\xbf[store]\nretention_days = 30\n", ""),
        (b"[store]\n# caf\xe9\n", "not UTF-8 at byte 14; save the file as UTF-8"),
    ],
    ids=["byte order mark", "Latin-1"],
)
def test_settings_are_utf_8_with_or_without_a_mark(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    if expected:
        with pytest.raises(ConfigError, match=expected):
            load_settings(file, {})
    else:
        assert load_settings(file, {}).store.retention_days == 30


UNUSABLE = {
    "no scheme": ("OPENAI_BASE_URL", "localhost:8080/v1"),
    "no host": ("OPENAI_BASE_URL", "http://"),
    "half of an IPv6 address": ("OPENAI_BASE_URL", "http://[::1"),
    "port beyond all": ("OPENAI_BASE_URL", "http://127.0.0.1:99999"),
    "escape sequence": ("OPENAI_BASE_URL", "http://\x1b[31m"),
    "blank inside": ("OPENAI_BASE_URL", "http://a b"),
    "two lines": ("OPENAI_API_KEY", f"{KEY}\n{KEY}"),
    "not ASCII": ("OPENAI_API_KEY", f"{KEY}\xe9"),
    "control character": ("OPENAI_API_KEY", f"{KEY}\x01x"),
}


@pytest.mark.parametrize(("variable", "value"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_variable_that_no_request_can_carry_is_refused(tmp_path: Path, variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as raised:
        provider_access(loaded(tmp_path, ""), {"OPENAI_API_KEY": KEY, variable: value})
    said = str(raised.value)
    assert said.startswith(f"{variable}: must ") and KEY not in said and "\x1b" not in said


def test_white_space_around_an_address_and_a_key_is_dropped(tmp_path: Path) -> None:
    environ = {"OPENAI_API_KEY": f" {KEY}\r\n", "OPENAI_BASE_URL": " http://127.0.0.1/v1/ \r"}
    access = provider_access(loaded(tmp_path, ""), environ)["openai"]
    assert (access.base_url, access.key.get_secret_value()) == ("http://127.0.0.1/v1", KEY)


def test_all_misspelt_names_are_reported_at_once(tmp_path: Path) -> None:
    message = refused(
        tmp_path, '[budgets.providers.opanai]\ndaily_usd = 1\n[routing]\nemergency_provider = "gemni"'
    )
    assert "did you mean 'openai'?" in message and "did you mean 'gemini'?" in message


@pytest.mark.parametrize("zone", ["UTC", "utc", "Europe/Berlin", "America/Argentina/Buenos_Aires"])
def test_a_known_time_zone_is_taken(tmp_path: Path, zone: str) -> None:
    assert loaded(tmp_path, f'[budgets]\ntime_zone = "{zone}"').budgets.time_zone == zone


def test_a_provider_and_a_task_type_of_ones_own_can_be_named_everywhere(tmp_path: Path) -> None:
    text = """
        [providers.ollama]
        api_format = "openai"
        base_url = "http://127.0.0.1:11434/v1"
        weight = 0.1
        models = { economy = "llama3.2", standard = "llama3.2", premium = "llama3.2" }
        [providers.ollama.model_limits."some-new-model"]
        tokens_per_minute = 1000
        [task_types.poems]
        prefer = "ollama"
        tier = "economy"
        [routing]
        emergency_provider = "ollama"
        [budgets]
        alert_percent = []
        [budgets.providers.ollama]
        daily_usd = 1.0
        [[agents]]
        name = "poet"
        home = "ollama"
        task_types = ["poems", "general"]
        calls_in_flight = 1
    """
    assert loaded(tmp_path, text).agents[0].home == "ollama"


# ------------------------------------------------------------------ limits


@pytest.mark.parametrize("where", ["limits", 'model_limits."some-model"'])
@pytest.mark.parametrize("api", API_FORMATS)
def test_a_limit_that_the_api_does_not_count_is_refused_and_every_other_is_taken(
    tmp_path: Path, api: str, where: str
) -> None:
    counted = API_FORMATS[api].limits.counted
    for limit in LimitSettings.model_fields:
        text = f"[providers.{api}.{where}]\n{limit} = 1000"
        if limit in counted or limit.endswith("burst_s"):
            loaded(tmp_path, text)
        else:
            expected = f"providers.{api}.{where}.{limit}: {api} does not count that, but {', '.join(counted)}"
            assert refused(tmp_path, text) == expected


# ------------------------------------------------------------------ secrets

SECRETS = {
    "a key as a setting": f'[providers.openai]\napi_key = "{KEY}"',
    "by another name": f'[providers.openai]\nkey = "{KEY}"',
    "at the top": f'OPENAI_API_KEY = "{KEY}"',
    "in a table of its own": f'[providers.openai.secret]\nvalue = "{KEY}"',
    "a token of the pages": f'[server]\ntoken = "{KEY}"',
    "beside another slip": f'[server]\nprot = 1\napi-key = "{KEY}"',
}
IN_PLACE_OF_A_NAME = {
    "the key itself": f'[providers.openai]\napi_key_env = "{KEY}"',
    "in a list": f'[providers.openai]\napi_key_env = ["OPENAI_API_KEY", "{KEY}"]',
    "one that could be a name": f'[providers.openai]\napi_key_env = ["gsk_{KEY[8:]}"]',
    "a name that is no list": '[providers.openai]\napi_key_env = "OPENAI_API_KEY"',
    "no text": "[providers.openai]\napi_key_env = [7]",
}
ELSEWHERE = {
    "as an address": f'[providers.openai]\nbase_url = "{KEY}"',
    "as a list": f'[providers.openai]\nmodels = ["{KEY}"]',
    "as a limit": f'[providers.openai.limits]\nrequests_per_minute = "{KEY}"',
    "as a table": f'[providers]\nopenai = "{KEY}"',
    "of an unknown setting": f'[providers.openai]\nzzz = "{KEY}"',
}


@pytest.mark.parametrize("text", SECRETS.values(), ids=SECRETS.keys())
def test_a_key_in_the_file_is_refused_with_its_proper_place(tmp_path: Path, text: str) -> None:
    message = refused(tmp_path, text)
    assert "don't put keys in this file; set the variable that api_key_env names" in message
    assert KEY not in message and "did you mean 'api_key_env'" not in message


@pytest.mark.parametrize("text", IN_PLACE_OF_A_NAME.values(), ids=IN_PLACE_OF_A_NAME.keys())
def test_only_names_of_variables_say_where_a_key_is(tmp_path: Path, text: str) -> None:
    message = refused(tmp_path, text)
    assert "providers.openai.api_key_env: must list names of environment variables" in message
    assert KEY[8:] not in message and message.count("OPENAI_API_KEY") == 1


@pytest.mark.parametrize("text", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_a_key_in_a_wrong_place_is_not_repeated(tmp_path: Path, text: str) -> None:
    assert KEY not in refused(tmp_path, text)


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "my_company_key_2", "_K", "KEY_OF_2026_AND_LATER"])
def test_the_name_of_a_variable_is_taken(tmp_path: Path, name: str) -> None:
    settings = loaded(tmp_path, f'[providers.openai]\napi_key_env = ["{name}"]')
    assert settings.providers["openai"].api_key_env == (name,)


def test_a_number_called_token_is_a_slip_and_no_secret(tmp_path: Path) -> None:
    assert "did you mean 'economy_max_tokens'?" in refused(tmp_path, "[tiers]\neconomy_max_token = 5")


# ------------------------------------------------------------------ probable mistakes

PROBABLE_MISTAKES = {
    "a slip": ("gpt-6.1-soll", "so this applies only to tasks that name it; did you mean 'gpt-6.1-sol'?"),
    "a retired model": (
        "gpt-4o-mini",
        "the model is retired, and 'gpt-6-luna' is called instead",
    ),
    "a model of another provider": ("claude-opus-5-5", "no effect: openai does not serve that model"),
}


@pytest.mark.parametrize(("model", "expected"), PROBABLE_MISTAKES.values(), ids=PROBABLE_MISTAKES.keys())
def test_limits_without_effect_are_loaded_with_a_warning(tmp_path: Path, model: str, expected: str) -> None:
    settings = loaded(tmp_path, f'[providers.openai.model_limits."{model}"]\nrequests_per_minute = 9')
    (warning,) = config_warnings(settings)
    assert warning.startswith(f'providers.openai.model_limits."{model}": ') and warning.endswith(expected)


@pytest.mark.parametrize("model", ["gpt-6.1-sol", "gpt-6.2-sol", "gpt-6.1-sol-2026-09-01", "gpt-7"])
def test_a_model_that_may_exist_gets_no_warning(tmp_path: Path, model: str) -> None:
    settings = loaded(tmp_path, f'[providers.openai.model_limits."{model}"]\nrequests_per_minute = 9')
    assert list(config_warnings(settings)) == []


def test_a_baseline_without_a_price_gets_a_warning(tmp_path: Path) -> None:
    (warning,) = config_warnings(loaded(tmp_path, 'baseline_model = "gpt-6.1-soll"'))
    assert "no known price" in warning and "did you mean 'gpt-6.1-sol'?" in warning
    own = 'baseline_model = "mine"\n[models.mine]\nprice = { input = 1.0, output = 2.0 }'
    assert list(config_warnings(loaded(tmp_path, own))) == []


# ------------------------------------------------------------------ models


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("gpt-4.1", "openai"),
        ("gpt-4.1-mini", "openai"),
        ("o3", "openai"),
        ("o4-mini", "openai"),
        ("chatgpt-4o-latest", "openai"),
        ("ft:gpt-4o:acme::7", "openai"),
        ("gpt-99", "openai"),
        ("claude-opus-4-1", "anthropic"),
        ("gemini-2.5-pro", "gemini"),
        ("gemma-3", "gemini"),
    ],
)
def test_a_model_belongs_to_the_provider_that_offers_it(model: str, provider: str) -> None:
    assert load_settings(environ={}).left_by((model,), ()) == [provider]


@pytest.mark.parametrize(("provider", "catalogue"), [("anthropic", "anthropic"), ("openai", "openai")])
def test_every_text_model_of_the_price_list_is_valid(provider: str, catalogue: str) -> None:
    settings = load_settings(environ={})
    listed = data_snapshot.find_provider_by_id(data_snapshot.get_snapshot().providers, catalogue)
    assert listed is not None
    priced = [
        m.id for m in listed.models if "embed" not in m.id and compile_price(catalogue, m.id, NOW) is not None
    ]
    refused = [m for m in priced if provider not in settings.left_by((m,), ())]
    assert len(priced) > 20 and refused == []


@pytest.mark.parametrize("model", ["text-embedding-3-small", "whisper-1", "no-such-model"])
def test_a_model_that_answers_no_prompt_belongs_to_no_provider(model: str) -> None:
    assert load_settings(environ={}).left_by((model,), ()) == []


def test_a_retired_model_renames_itself_and_its_dated_variants_alone() -> None:
    settings = load_settings(environ={})
    for model, current in [
        ("gpt-4", "gpt-6.1-terra"),
        ("gpt-4-0613", "gpt-6.1-terra"),
        ("gpt-4-turbo", "gpt-4-turbo"),
        ("gpt-4o", "gpt-4o"),
        ("gpt-4.1", "gpt-4.1"),
    ]:
        assert settings.resolve_model(model)[0] == current


# ------------------------------------------------------------------ what they are made of


def test_what_was_meant_is_found_whatever_its_case_and_hyphens() -> None:
    assert nearest("EUROPE/berlin", ["Europe/Berlin", "UTC"]) == "Europe/Berlin"
    assert nearest("my_server", ["my-server", "yours"]) == "my-server"
    assert nearest("x", ["openai"]) == "" and hint("x", ["a", "bcd"]) == "known: a, bcd"


def test_the_settings_of_a_row_are_found_wherever_it_is() -> None:
    assert known_keys(Settings, ()) == list(Settings.model_fields)
    assert known_keys(Settings, ("providers", "x", "models")) == ["economy", "standard", "premium"]
    assert known_keys(Settings, ("providers", "models", "model_limits", "agents")) == list(
        LimitSettings.model_fields
    )
    assert known_keys(Settings, ("agents", 0)) == known_keys(Settings, ("agents",))
    assert "daily_usd" in known_keys(Settings, ("budgets", "submitters", "x"))
    assert "time_zone" not in known_keys(Settings, ("budgets", "submitters", "x"))


@pytest.mark.parametrize("total", [1, 2, 3, 6, 7, 8, 50, 112, 500])
def test_slots_are_spread_over_the_agents(total: int) -> None:
    found = with_slots(load_settings(environ={}).agents, total)
    assert {agent.name for agent in found} == {agent.name for agent in load_settings(environ={}).agents}, (
        "tasks may name each of them"
    )
    agents = [agent for agent in found if agent.count]
    slots = [agent.calls_in_flight for agent in agents]
    assert sum(slots) == total and max(slots) - min(slots) <= 1
    assert len({agent.home for agent in agents}) == min(total, 3), (
        "each provider keeps an agent while there is one"
    )
