"""Prices: compiled integers against the catalogue's own decimals, for every model and every tier."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import genai_prices
import pytest
from genai_prices import data_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from src.errors import ConfigError
from src.records import NANOS_PER_USD, Usage
from src.routing.cost.pricing import (
    UNLIMITED_TOKENS,
    CompiledPrice,
    PriceBook,
    catalogue_of,
    compile_model,
    compile_price,
)
from src.settings import PriceConfig, ProviderConfig, TierModels

ROOT = Path(__file__).resolve().parents[2]
AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC).timestamp()
PROVIDERS = ("anthropic", "openai", "google")
WITH_ODD_PRICES = ("deepseek", "perplexity")  # by time of day; per request and per reasoning token

USAGES = [
    pytest.param(Usage(), id="nothing"),
    pytest.param(Usage(input_tokens=1), id="one token in"),
    pytest.param(Usage(output_tokens=1), id="one token out"),
    pytest.param(Usage(1_234, 0, 0, 567, 0), id="plain"),
    pytest.param(Usage(1_234, 40_000, 0, 567, 0), id="cached"),
    pytest.param(Usage(7, 3, 991, 11, 0), id="written to the cache"),
    pytest.param(Usage(2_000, 0, 0, 9_001, 8_003), id="mostly reasoning"),
    pytest.param(Usage(100_000, 0, 0, 1, 0), id="up to the first tier"),
    pytest.param(Usage(100_001, 0, 0, 1, 0), id="past the first tier"),
    pytest.param(Usage(0, 128_001, 0, 13, 0), id="past the second tier by cache reads"),
    pytest.param(Usage(1, 0, 200_000, 13, 0), id="past the third tier by cache writes"),
    pytest.param(Usage(90_666, 90_667, 90_668, 13, 5), id="past the fourth tier by all kinds"),
    pytest.param(Usage(999_983, 7, 13, 65_537, 65_536), id="a full window"),
]


def snapshot_models(provider: str) -> list[str]:
    found = data_snapshot.find_provider_by_id(data_snapshot.get_snapshot().providers, provider)
    assert found is not None
    return [model.id for model in found.models]


def compiled_models(providers: tuple[str, ...] = PROVIDERS) -> list[tuple[str, CompiledPrice]]:
    every = ((p, compile_price(p, model, AT)) for p in providers for model in snapshot_models(p))
    return [(provider, price) for provider, price in every if price is not None]


def as_catalogue_usage(usage: Usage) -> genai_prices.Usage:
    return genai_prices.Usage(
        input_tokens=usage.prompt_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
    )


def in_nanos(usd: Decimal) -> int:
    return int((usd * 1_000_000_000).to_integral_value(rounding=ROUND_CEILING))


def oracle_nanos(provider: str, model: str, usage: Usage, at: float = AT) -> int:
    calculation = genai_prices.calc_price(
        as_catalogue_usage(usage),
        model,
        provider_id=provider,
        genai_request_timestamp=datetime.fromtimestamp(at, UTC),
    )
    return in_nanos(calculation.total_price)


usages = st.builds(
    lambda fresh, read, written, output, share: Usage(fresh, read, written, output, int(output * share)),
    st.integers(0, 400_000),
    st.integers(0, 400_000),
    st.integers(0, 400_000),
    st.integers(0, 200_000),
    st.floats(0, 1),
)


# ------------------------------------------------------------------ against the oracle


@pytest.mark.parametrize("usage", USAGES)
@pytest.mark.parametrize("provider", PROVIDERS + WITH_ODD_PRICES)
def test_every_model_costs_what_the_catalogue_calculates(provider: str, usage: Usage) -> None:
    prices = compiled_models((provider,))
    assert prices
    for _, price in prices:
        assert price.cost_nanos(usage) == oracle_nanos(provider, price.model, usage), price.model


@settings(deadline=None)
@given(choice=st.sampled_from(compiled_models(PROVIDERS + WITH_ODD_PRICES)), usage=usages)
def test_any_usage_costs_what_the_catalogue_calculates(
    choice: tuple[str, CompiledPrice], usage: Usage
) -> None:
    provider, price = choice
    assert price.cost_nanos(usage) == oracle_nanos(provider, price.model, usage)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_only_models_without_token_rates_are_unknown(provider: str) -> None:
    listed = data_snapshot.find_provider_by_id(data_snapshot.get_snapshot().providers, provider)
    assert listed is not None
    for info in listed.models:
        rates = info.get_prices(datetime.fromtimestamp(AT, UTC))
        answers = rates.output_mtok is not None or "embed" in info.id  # which are not paid by the token
        priced = rates.input_mtok is not None and answers
        assert (compile_model(info.id, info, AT) is not None) == priced, info.id


def test_the_default_models_are_priced() -> None:
    for catalogue, model in (
        ("anthropic", "claude-haiku-5-5"),
        ("anthropic", "claude-sonnet-5-5"),
        ("anthropic", "claude-opus-5-5"),
        ("openai", "gpt-6-luna"),
        ("openai", "gpt-6.1-terra"),
        ("openai", "gpt-6.1-sol"),
        ("google", "gemini-3.5-flash-lite"),
        ("google", "gemini-3.8-flash"),
        ("google", "gemini-4-argon"),
    ):
        assert compile_price(catalogue, model, AT) is not None, model


@pytest.mark.parametrize(
    ("catalogue", "alias", "model"),
    [
        pytest.param("anthropic", "claude-sonnet-5-5-20260901", "claude-sonnet-5-5", id="dated"),
        pytest.param("openai", "gpt-6-luna-2026-10-01", "gpt-6-luna", id="dated with dashes"),
        pytest.param("openai", "gpt-6-luna-20261001", "gpt-6-luna", id="date written compactly"),
        pytest.param("openai", "GPT-6-Luna", "gpt-6-luna", id="capitals"),
        pytest.param(
            "openai", "ft:gpt-4o-mini-2024-07-18:acme::x1", "ft:gpt-4o-mini-2024-07-18", id="fine-tuned"
        ),
        pytest.param(
            "gemini", "gemini-flash-lite-latest", "gemini-3.5-flash-lite", id="latest, by API format"
        ),
    ],
)
def test_an_alias_has_the_price_of_its_model(catalogue: str, alias: str, model: str) -> None:
    usage = Usage(1_000, 200, 300, 4_000)
    price, wanted = compile_price(catalogue, alias, AT), compile_price(catalogue, model, AT)
    assert price is not None
    assert wanted is not None
    assert price.cost_nanos(usage) == wanted.cost_nanos(usage) > 0


# ------------------------------------------------------------------ unknown is unknown


@pytest.mark.parametrize(
    ("catalogue", "model"),
    [
        pytest.param("openai", "llama3.2", id="not in the list"),
        pytest.param(None, "gpt-4o", id="no list"),
        pytest.param("nobody", "gpt-4o", id="no such list"),
        pytest.param("openai", "whisper-1", id="priced by the hour"),
    ],
)
def test_a_model_without_a_price_is_unknown_and_not_free(catalogue: str | None, model: str) -> None:
    assert compile_price(catalogue, model, AT) is None


@pytest.mark.parametrize(
    ("model", "nanos"), [("text-embedding-3-small", 20), ("text-embedding-3-large", 130)]
)
def test_embeddings_have_no_answer_to_pay(model: str, nanos: int) -> None:
    price = compile_price("openai", model, AT)
    assert price is not None
    assert price.cost_nanos(Usage(input_tokens=1_000)) == 1_000 * nanos
    assert price.upper_bound_nanos(984, 1, 1) == 1_000 * nanos


def config_of(api: str, base_url: str, api_key_env: tuple[str, ...] = ()) -> ProviderConfig:
    models = TierModels(economy="m", standard="m", premium="m")
    return ProviderConfig(
        api_format=api, weight=1.0, base_url=base_url, models=models, api_key_env=api_key_env
    )


@pytest.mark.parametrize(
    ("provider", "api", "base_url", "catalogue"),
    [
        ("anthropic", "anthropic", "https://api.anthropic.com", "anthropic"),
        ("openai", "openai", "https://llm-proxy.example.com/v1", "openai"),
        ("gemini", "gemini", "http://127.0.0.1:40123", "google"),
        ("cheap", "openai", "https://api.openai.com/v1", "openai"),
        ("fast", "openai", "https://api.groq.com/openai/v1", "groq"),
        ("ollama", "openai", "http://127.0.0.1:11434/v1", None),
        ("claude", "openai", "https://llm.example.com/anthropic", None),
    ],
)
def test_a_price_list_counts_for_the_company_that_is_really_called(
    provider: str, api: str, base_url: str, catalogue: str | None
) -> None:
    assert catalogue_of(provider, config_of(api, base_url, api_key_env=("SOME_KEY",))) == catalogue


@pytest.mark.parametrize("provider", ["ollama", "openai"])
def test_a_server_that_takes_no_key_is_free_unless_its_model_has_a_price(provider: str) -> None:
    catalogue = catalogue_of(provider, config_of("openai", "http://127.0.0.1:11434/v1"))
    free = compile_price(catalogue, "llama3.2", AT)
    assert free is not None
    assert free.cost_nanos(Usage(input_tokens=10**6, output_tokens=10**6)) == 0
    assert free.upper_bound_nanos(10**6, 1, 10**6) == 0
    priced = compile_price(catalogue, "llama3.2", AT, PriceConfig(input=1.0, output=2.0))
    assert priced is not None
    assert priced.cost_nanos(Usage(input_tokens=10**6, output_tokens=10**6)) == 3 * NANOS_PER_USD


# ------------------------------------------------------------------ prices of the configuration


@dataclass(frozen=True)
class Row:
    input: float
    output: float
    cache_read: float | None = None
    cache_write: float | None = None


def test_a_configured_price_wins_over_the_catalogue() -> None:
    price = compile_price("openai", "gpt-4o", AT, Row(0.1, 0.0000007, 0.03, 0.2))
    assert price is not None
    assert price.source == "configuration"
    assert price.cost_nanos(Usage(1, 0, 0, 0)) == 100
    assert price.cost_nanos(Usage(0, 1, 0, 0)) == 30
    assert price.cost_nanos(Usage(0, 0, 1, 0)) == 200
    assert price.cost_nanos(Usage(0, 0, 0, 10_000_000)) == 7_000
    assert price.cost_nanos(Usage(0, 0, 0, 1)) == 1  # rounded up


def test_configured_cache_rates_that_are_missing_are_the_prompt_rate() -> None:
    price = compile_price(None, "llama3.2", AT, Row(2, 6))
    assert price is not None
    assert price.cost_nanos(Usage(1, 10, 100, 1_000)) == 111 * 2_000 + 1_000 * 6_000


def test_a_free_server_is_known_to_be_free() -> None:
    price = compile_price(None, "llama3.2", AT, Row(0, 0))
    assert price is not None
    assert price.cost_nanos(Usage(10**6, 0, 0, 10**6)) == 0
    assert price.max_tokens_within(0, 5_000, 3) == UNLIMITED_TOKENS


@pytest.mark.parametrize(
    "bad", [Row(-1, 1), Row(1, float("nan")), Row(1, 1, -0.5), Row(1, 1, 0, float("inf"))]
)
def test_a_configured_price_that_is_no_price_is_refused(bad: Row) -> None:
    with pytest.raises(ConfigError, match=r"models\.m\.price"):
        compile_price(None, "m", AT, bad)


# ------------------------------------------------------------------ upper bounds


@settings(deadline=None)
@given(
    choice=st.sampled_from(compiled_models()),
    usage=usages,
    spare_tokens=st.integers(0, 300_000),
    spare_output=st.integers(0, 10_000),
    messages=st.integers(0, 40),
)
def test_no_call_within_the_bound_costs_more_than_the_bound(
    choice: tuple[str, CompiledPrice], usage: Usage, spare_tokens: int, spare_output: int, messages: int
) -> None:
    _, price = choice
    prompt_bytes = max(0, usage.prompt_tokens - 16 * messages) + spare_tokens
    bound = price.upper_bound_nanos(prompt_bytes, messages, usage.output_tokens + spare_output)
    assert price.cost_nanos(usage) <= bound


@settings(deadline=None)
@given(
    choice=st.sampled_from(compiled_models()),
    nanos=st.integers(0, 10**10),
    prompt_bytes=st.integers(0, 500_000),
    messages=st.integers(1, 9),
)
def test_max_tokens_within_is_the_largest_that_fits(
    choice: tuple[str, CompiledPrice], nanos: int, prompt_bytes: int, messages: int
) -> None:
    _, price = choice
    most = price.max_tokens_within(nanos, prompt_bytes, messages)
    if most < 0:
        assert price.upper_bound_nanos(prompt_bytes, messages, 0) > nanos
    elif most != UNLIMITED_TOKENS:
        assert price.upper_bound_nanos(prompt_bytes, messages, most) <= nanos
        assert price.upper_bound_nanos(prompt_bytes, messages, most + 1) > nanos


def model_info(prices: ModelPrice | list[ConditionalPrice]) -> ModelInfo:
    return ModelInfo(id="m", match=ClauseEquals("m"), prices=prices)


def tiered(base: str, *tiers: tuple[int, str]) -> TieredPrices:
    return TieredPrices(base=Decimal(base), tiers=[Tier(start, Decimal(price)) for start, price in tiers])


def compiled(**rates: Decimal | TieredPrices) -> CompiledPrice:
    price = compile_model("m", model_info(ModelPrice(**rates)), AT)
    assert price is not None
    return price


def test_the_bound_takes_the_cache_write_rate_where_that_is_dearer() -> None:
    price = compiled(input_mtok=Decimal(2), cache_write_mtok=Decimal("2.5"), output_mtok=Decimal(10))
    assert price.upper_bound_nanos(1_000, 2, 100) == (1_000 + 32) * 2_500 + 100 * 10_000


def test_the_bound_takes_the_tier_that_it_reaches() -> None:
    price = compiled(input_mtok=tiered("0.1", (100_000, "0.5")), output_mtok=tiered("0.5", (100_000, "2.5")))
    assert price.upper_bound_nanos(100_000 - 16, 1, 10) == 100_000 * 100 + 10 * 500
    assert price.upper_bound_nanos(100_001 - 16, 1, 10) == 100_001 * 500 + 10 * 2_500


def test_a_fraction_of_a_nano_dollar_is_rounded_up_once_per_call() -> None:
    price = compiled(input_mtok=Decimal("0.0625"), cache_read_mtok=Decimal("0.00625"), output_mtok=Decimal(0))
    assert price.cost_nanos(Usage(1)) == 63
    assert price.cost_nanos(Usage(16)) == 1_000
    assert price.cost_nanos(Usage(1, 1)) == 69  # 62.5 + 6.25
    assert price.upper_bound_nanos(1, 0, 0) == 63


def test_the_bound_does_not_fall_where_a_higher_tier_is_cheaper() -> None:
    price = compiled(input_mtok=tiered("3", (1_000, "1")), output_mtok=Decimal(5))
    assert price.upper_bound_nanos(2_000, 0, 0) == 2_000 * 3_000
    assert price.cost_nanos(Usage(2_000)) == 2_000 * 1_000
    assert price.cost_nanos(Usage(1_000)) == 1_000 * 3_000


# ------------------------------------------------------------------ tiers of unlike starts


tiered_prices = st.builds(
    lambda base, tiers: tiered(base, *tiers),
    st.integers(0, 90).map(str),
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 90).map(str)), max_size=3),
)
any_rates = st.one_of(st.decimals(0, 99, places=6), tiered_prices)
some_rates = st.one_of(st.none(), any_rates)


@settings(deadline=None)
@given(
    rates=st.tuples(any_rates, any_rates, some_rates, some_rates, some_rates, st.integers(0, 20)),
    usage=st.builds(
        lambda fresh, read, written, reasoning, more: Usage(
            fresh, read, written, reasoning + more, reasoning
        ),
        *[st.integers(0, 30)] * 5,
    ),
)
def test_any_mixture_of_tiers_costs_what_the_catalogue_calculates(
    rates: tuple[Decimal, Decimal, Decimal | None, Decimal | None, Decimal | None, int], usage: Usage
) -> None:
    names = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "output_reasoning_mtok")
    prices = ModelPrice(**dict(zip(names, rates[:5], strict=True)), requests_kcount=Decimal(rates[5]))
    price = compile_model("m", model_info(prices), AT)
    assert price is not None
    assert price.cost_nanos(usage) == in_nanos(prices.calc_price(as_catalogue_usage(usage))["total_price"])


# ------------------------------------------------------------------ prices that change


def at_utc(*when: int) -> float:
    return datetime(*when, tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]


def a_listed_change() -> tuple[str, str, float]:
    """A model of the catalogue whose price changed or will change, and when."""
    for provider in PROVIDERS:
        for model in snapshot_models(provider):
            price = compile_price(provider, model, at_utc(2025, 1, 1))
            if price is not None and price.valid_until != float("inf"):
                return provider, model, price.valid_until
    raise AssertionError("the catalogue knows no change of a price any more")


def test_a_price_holds_until_the_day_on_which_the_next_one_starts() -> None:
    provider, model, change = a_listed_change()
    before = compile_price(provider, model, change - 1)
    after = compile_price(provider, model, change)
    assert before is not None
    assert after is not None
    assert (before.valid_until, after.valid_from) == (change, change)
    assert change % 86_400 == 0  # a midnight in UTC
    assert after.bands != before.bands


@pytest.mark.parametrize("provider", (*PROVIDERS, "deepseek"))
def test_a_compiled_price_is_right_at_both_ends_of_its_validity(provider: str) -> None:
    usage = Usage(1_000, 100, 10, 1_000)
    for _, price in compiled_models((provider,)):
        for moment in (price.valid_from, AT, price.valid_until - 1):
            if abs(moment) != float("inf"):
                assert price.cost_nanos(usage) == oracle_nanos(provider, price.model, usage, moment)


by_time_of_day = [
    pytest.param(TimeOfDateConstraint(time(8), time(20)), id="within a day"),
    pytest.param(TimeOfDateConstraint(time(16, 30), time(0, 30)), id="across midnight"),
    pytest.param(
        TimeOfDateConstraint(
            time(1, tzinfo=timezone(timedelta(hours=8))), time(9, tzinfo=timezone(timedelta(hours=8)))
        ),
        id="at an offset that crosses midnight",
    ),
]


@pytest.mark.parametrize("constraint", by_time_of_day)
def test_a_price_by_time_of_day_is_compiled_again_whenever_it_changes(
    constraint: TimeOfDateConstraint,
) -> None:
    info = model_info(
        [
            ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(2), output_mtok=Decimal(2))),
            ConditionalPrice(constraint, prices=ModelPrice(input_mtok=Decimal(1), output_mtok=Decimal(1))),
            ConditionalPrice(
                StartDateConstraint(datetime(2026, 11, 25, tzinfo=UTC).date()),
                prices=ModelPrice(input_mtok=Decimal(7), output_mtok=Decimal(7)),
            ),
        ]
    )
    now, compilations = at_utc(2026, 11, 23), 0
    price = compile_model("m", info, now)
    while now < at_utc(2026, 11, 26):
        assert price is not None
        if not price.valid_from <= now < price.valid_until:
            price, compilations = compile_model("m", info, now), compilations + 1
            assert price is not None
        wanted = info.get_prices(datetime.fromtimestamp(now, UTC)).input_mtok
        assert isinstance(wanted, Decimal)
        assert price.cost_nanos(Usage(1)) == wanted * 1_000
        now += 300
    assert 4 <= compilations <= 7  # twice a day, and at the start of the last price


# ------------------------------------------------------------------ the book


def test_the_book_compiles_once_and_again_when_the_price_has_changed() -> None:
    book, (provider, model, change) = PriceBook(), a_listed_change()
    first = book.price(provider, model, change - 1_000)
    assert first is not None
    assert book.price(provider, model, change - 0.001) is first
    second = book.price(provider, model, change)
    assert second is not None
    assert second.valid_from == change
    assert book.price(provider, model, change - 1) == first  # a replay of recorded traffic goes back


def test_configured_prices_come_before_those_of_the_catalogue() -> None:
    book = PriceBook({"llama3.2": Row(1, 2), "gpt-4o": Row(3, 4)}.get)
    configured = book.price(None, "llama3.2", AT)
    over = book.price("openai", "gpt-4o", AT)
    listed = book.price("openai", "gpt-6-luna", AT)
    assert configured is not None
    assert over is not None
    assert listed is not None
    assert (configured.source, over.source, listed.source) == ("configuration", "configuration", "catalogue")
    assert book.price(None, "gpt-6-luna", AT) is None
    assert repr(book) == "<PriceBook 3 known, 1 unknown>"


def test_pricing_opens_no_connection_and_starts_no_thread() -> None:
    program = """
import sys, threading
def refuse(event, args):
    assert not event.startswith("socket."), event
sys.addaudithook(refuse)
from src.routing.cost.pricing import PriceBook
book = PriceBook()
assert book.price("openai", "gpt-6-luna", 1.79e9) is not None
assert book.price("openai", "no-such-model", 1.79e9) is None
assert threading.active_count() == 1
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("usage", "factor", "charge"),
    [
        (Usage(1000, output_tokens=100), 1.0, (2_500_000, 0, 0)),
        (Usage(1000, output_tokens=100), 0.5, (1_250_000, 0, 1_250_000)),
        (Usage(400, 600, 0, 100), 1.0, (1_420_000, 1_080_000, 0)),
        (Usage(400, 0, 600, 100), 1.0, (2_800_000, -300_000, 0)),
        (Usage(400, 600, 0, 100), 0.5, (710_000, 1_080_000, 710_000)),
    ],
    ids=["live", "at half price", "read from a cache", "written to a cache", "both"],
)
def test_a_charge_says_what_a_cache_and_a_lower_price_have_saved(
    usage: Usage, factor: float, charge: tuple[int, int, int]
) -> None:
    price = compile_price(None, "m", AT, Row(2.0, 5.0, 0.2, 2.5))
    assert price is not None and price.charge(usage, factor) == charge
    assert sum(price.charge(usage, factor)) == price.cost_nanos(usage.uncached), "the parts add up"
