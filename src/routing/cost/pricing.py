"""What a call costs: a price compiled once into integers, then two multiplications and a sum per call.

Rules

1. A price is compiled from the `genai-prices` catalogue for one (catalogue, model, moment), or taken from
   the configuration, which wins. Without either the price is unknown, which is `None`. A model
   without a rate for prompt tokens *and* one for answer tokens (transcription) is unknown too: a missing
   rate never counts as 0. Only a model for embeddings, by its name, has no answer tokens to pay.
2. Rates are integers: nano-dollars per token, times a power of ten (`scale`) that makes all rates of the
   model whole. A cost is exact until the one division at its end, which rounds up.
3. Tokens for which the catalogue has no rate of their own cost what the kind above them costs: cached and
   cache-written tokens the prompt rate, reasoning tokens the answer rate.
4. A tier is a cliff: once the prompt (fresh, cached and written tokens together) is *longer* than a tier's
   start, all tokens of the call, answers too, cost that tier's rates.
5. The upper bound takes each prompt byte for a token, 16 tokens for the frame of each message, the dearest
   of all rates that a prompt of up to that length can reach, and all of `max_tokens` at the answer rate.
6. A compiled price holds for `valid_from <= now < valid_until`: between two dates or times of day at
   which a condition of the catalogue changes. `PriceBook` compiles again outside of that.

Why: `genai_prices.calc_price` takes about 100 us, and a decision needs the price of every candidate. It is
the oracle of the tests instead.

Caveats: prices are those of a plain synchronous call; `charge` takes the factor of a cheaper service. Cache
writes cost the catalogue's standard rate, not that for an hour's lifetime. A call that is in flight while a
price changes is priced by the moment the caller passes, best its start. The catalogue is the one inside the
installed package; nothing here starts its refresh over the network.
The first compilation imports the catalogue (0.1 s), so compile a price before work starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from math import ceil, inf
from typing import NamedTuple, Protocol

from genai_prices import data_snapshot
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from ...errors import ConfigError
from ...records import NANOS_PER_USD, Usage
from ...settings import ProviderConfig

MESSAGE_TOKENS = 16  # the frame of a message: its role and separators, with room to spare
UNLIMITED_TOKENS = 2**62  # what a free answer rate affords

_NANOS_PER_TOKEN = Decimal(NANOS_PER_USD) / 1_000_000  # of a rate in USD per million tokens
_NANOS_PER_CALL = Decimal(NANOS_PER_USD) / 1_000  # of a rate in USD per thousand calls
EMBEDS = "embed"  # in the name of a model for embeddings, such as text-embedding-3-small or mistral-embed
KEYLESS = "keyless"  # the price list of a server that takes no key: it can't bill anyone, so all is free


class PriceLike(Protocol):
    """A configured price, USD per million tokens. A cache rate of None: the prompt rate."""

    @property
    def input(self) -> float:
        """Prompt tokens."""

    @property
    def output(self) -> float:
        """Answer tokens."""

    @property
    def cache_read(self) -> float | None:
        """Prompt tokens read from a cache."""

    @property
    def cache_write(self) -> float | None:
        """Prompt tokens written to a cache."""


@dataclass(frozen=True, slots=True)
class Band:
    """The rates of a call whose prompt is longer than `above_tokens`, in nano-dollars x scale per token."""

    above_tokens: int
    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int


class Charge(NamedTuple):
    """What a call costs, and what a prompt cache and a lower price have saved on it, in nano-dollars."""

    cost_nanos: int
    cache_saved_nanos: int = 0
    discount_nanos: int = 0


@dataclass(frozen=True, slots=True)
class CompiledPrice:
    """The price of one model, ready to multiply. Bands ascend by `above_tokens`; the first is the base."""

    model: str
    source: str  # `catalogue` or `configuration`
    scale: int
    bands: tuple[Band, ...]
    ceilings: tuple[tuple[int, int, int], ...]  # (above_tokens, dearest prompt rate, dearest answer rate)
    per_call: int = 0  # nano-dollars x scale
    valid_from: float = -inf
    valid_until: float = inf

    def cost_nanos(self, usage: Usage) -> int:
        """What `usage` costs, rounded up to whole nano-dollars."""
        fresh, read, written = usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens
        band = self.bands[0]
        if len(self.bands) > 1:
            band = self._band(fresh + read + written)
        total = (
            fresh * band.input
            + read * band.cache_read
            + written * band.cache_write
            + usage.output_tokens * band.output
            + usage.reasoning_tokens * (band.reasoning - band.output)  # already counted in the answer
            + self.per_call
        )
        return -(-total // self.scale)

    def charge(self, usage: Usage, factor: float = 1.0) -> Charge:
        """What `usage` costs at `factor` times the price, and by how much that is less than at the price."""
        live = self.cost_nanos(usage)
        is_cached = usage.cache_read_tokens or usage.cache_write_tokens
        saved = self.cost_nanos(usage.uncached) - live if is_cached else 0
        cost = live if factor == 1.0 else ceil(live * factor)
        return Charge(cost, saved, live - cost)

    def upper_bound_nanos(self, prompt_bytes: int, message_count: int, max_tokens: int) -> int:
        """What a call can cost at most: UTF-8 bytes + 16 per message as prompt, `max_tokens` of answer."""
        tokens = prompt_bytes + MESSAGE_TOKENS * message_count
        _, input_rate, output_rate = self._ceiling(tokens)
        return -(-(tokens * input_rate + max_tokens * output_rate + self.per_call) // self.scale)

    def max_tokens_within(self, nanos: int, prompt_bytes: int, message_count: int) -> int:
        """The largest max_tokens whose upper bound is within `nanos`; -1 where the prompt alone is above."""
        tokens = prompt_bytes + MESSAGE_TOKENS * message_count
        _, input_rate, output_rate = self._ceiling(tokens)
        left = nanos * self.scale - tokens * input_rate - self.per_call
        if left < 0:
            return -1
        return left // output_rate if output_rate else UNLIMITED_TOKENS

    def _band(self, prompt_tokens: int) -> Band:
        found = self.bands[0]
        for band in self.bands:
            if prompt_tokens > band.above_tokens:
                found = band
        return found

    def _ceiling(self, prompt_tokens: int) -> tuple[int, int, int]:
        found = self.ceilings[0]
        if len(self.ceilings) > 1:
            for ceiling in self.ceilings:
                if prompt_tokens > ceiling[0]:
                    found = ceiling
        return found


class PriceBook:
    """Prices by catalogue and model, compiled at their first use and again when they have changed.

    `rows` answers with the configuration's price of a model, or None: a function over the settings' rows,
    or the `get` of a mapping.
    """

    def __init__(self, rows: Callable[[str], PriceLike | None] | None = None) -> None:
        self._rows = rows
        self._prices: dict[tuple[str | None, str], CompiledPrice | None] = {}

    def __repr__(self) -> str:
        known = sum(price is not None for price in self._prices.values())
        return f"<PriceBook {known} known, {len(self._prices) - known} unknown>"

    def price(self, catalogue: str | None, model: str, now: float) -> CompiledPrice | None:
        """The price at `now`, None where it is unknown. `catalogue` as `catalogue_of` says."""
        key = (catalogue, model)
        try:
            price = self._prices[key]
        except KeyError:
            return self._compile(key, now)
        if price is None or price.valid_from <= now < price.valid_until:
            return price
        return self._compile(key, now)

    def _compile(self, key: tuple[str | None, str], now: float) -> CompiledPrice | None:
        catalogue, model = key
        price = compile_price(catalogue, model, now, self._rows(model) if self._rows else None)
        self._prices[key] = price
        return price


def catalogue_of(provider: str, config: ProviderConfig) -> str | None:
    """The price list that applies to a provider (`anthropic`, `openai`, `google`, `groq`, ...), or None.

    A provider that needs no key (its `api_key_env` is empty) has the free list.

    The provider that bears its API format's name has that format's list, also behind a company's proxy, a
    regional endpoint or the simulator. Any other has the list of the company whose real address it is reached
    at. A server that merely speaks an API format has none: a self-hosted model is not billed as its namesake.
    """
    if config.keyless:
        return KEYLESS
    if provider == config.api_format and config.api.price_list:
        return config.api.price_list
    try:
        return data_snapshot.get_snapshot().find_provider(None, None, config.base_url).id
    except LookupError:
        return None


def compile_price(
    catalogue: str | None, model: str, at: float, override: PriceLike | None = None
) -> CompiledPrice | None:
    """The price of `model` at `at` (UTC epoch seconds); None where it is unknown.

    `catalogue` is as `catalogue_of` says; None for a server without a price list.
    `override` replaces whatever the catalogue says. Raises ConfigError for one that is no price.
    """
    if override is not None:
        return _from_override(model, override)
    if catalogue is None:
        return None
    if catalogue == KEYLESS:
        return _compiled(model, KEYLESS, [(-1, *(Decimal(0),) * 5)])
    try:
        _, info = data_snapshot.get_snapshot().find_provider_model(model, None, catalogue, None)
    except LookupError:
        return None
    return compile_model(model, info, at)


def compile_model(model: str, info: ModelInfo, at: float) -> CompiledPrice | None:
    """The price that the catalogue's `info` has at `at`; None where a rate is missing (rule 1)."""
    price = info.get_prices(datetime.fromtimestamp(at, UTC))
    if price.input_mtok is None or (price.output_mtok is None and EMBEDS not in model.lower()):
        return None
    valid_from, valid_until = _validity(info.prices, at)
    per_call = _rate(price.requests_kcount or Decimal(0), 0) * _NANOS_PER_CALL
    return _compiled(model, "catalogue", _bands(price), per_call, valid_from, valid_until)


_Rates = tuple[int, Decimal, Decimal, Decimal, Decimal, Decimal]
"""A band before scaling: above_tokens, then nano-dollars per token in the order of `Band`."""


def _bands(price: ModelPrice) -> list[_Rates]:
    """One band for the base and one for each token count above which any rate changes."""
    input_price, output_price = price.input_mtok or Decimal(0), price.output_mtok or Decimal(0)
    columns = (
        input_price,
        input_price if price.cache_read_mtok is None else price.cache_read_mtok,
        input_price if price.cache_write_mtok is None else price.cache_write_mtok,
        output_price,
        output_price if price.output_reasoning_mtok is None else price.output_reasoning_mtok,
    )
    starts = {tier.start for column in columns if isinstance(column, TieredPrices) for tier in column.tiers}
    return [
        (start, *(_rate(column, start + 1) * _NANOS_PER_TOKEN for column in columns))  # type: ignore[misc]
        for start in (-1, *sorted(starts))
    ]


def _rate(price: Decimal | TieredPrices, prompt_tokens: int) -> Decimal:
    """The rate for a prompt of that length: that of the highest tier whose start it passes."""
    if isinstance(price, Decimal):
        return price
    for tier in reversed(price.tiers):
        if prompt_tokens > tier.start:
            return tier.price
    return price.base


def _from_override(model: str, row: PriceLike) -> CompiledPrice:
    usd_per_mtok = [
        row.input,
        row.input if row.cache_read is None else row.cache_read,
        row.input if row.cache_write is None else row.cache_write,
        row.output,
        row.output,
    ]
    rates = [Decimal(str(usd)) for usd in usd_per_mtok]  # of the written digits, not of the nearest binary
    if not all(rate.is_finite() and rate >= 0 for rate in rates):
        raise ConfigError("a price is a finite number of USD, not below 0", where=f"models.{model}.price")
    fresh, read, written, output, reasoning = (rate * _NANOS_PER_TOKEN for rate in rates)
    return _compiled(model, "configuration", [(-1, fresh, read, written, output, reasoning)])


def _compiled(
    model: str,
    source: str,
    bands: list[_Rates],
    per_call: Decimal = Decimal(0),
    valid_from: float = -inf,
    valid_until: float = inf,
) -> CompiledPrice:
    """Scale all rates to whole numbers and add the ceilings for upper bounds."""
    scale = 10 ** max(_places(rate) for rate in (per_call, *(rate for _, *rates in bands for rate in rates)))
    whole = tuple(Band(above, *(int(rate * scale) for rate in rates)) for above, *rates in bands)
    return CompiledPrice(
        model, source, scale, whole, tuple(_ceilings(whole)), int(per_call * scale), valid_from, valid_until
    )


def _places(rate: Decimal) -> int:
    """Decimal places that are not zero."""
    exponent = rate.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _ceilings(bands: tuple[Band, ...]) -> Iterator[tuple[int, int, int]]:
    """The dearest rates up to each band: the real prompt may end in any band below its upper bound."""
    dearest_input = dearest_output = 0
    for band in bands:
        dearest_input = max(dearest_input, band.input, band.cache_read, band.cache_write)
        dearest_output = max(dearest_output, band.output, band.reasoning)
        yield band.above_tokens, dearest_input, dearest_output


def _validity(prices: ModelPrice | list[ConditionalPrice], at: float) -> tuple[float, float]:
    """The moments of the last change of any condition up to `at` and of the next one after it."""
    if isinstance(prices, ModelPrice):
        return -inf, inf
    changes = [moment for row in prices for moment in _changes(row.constraint, at)]
    return (
        max((moment for moment in changes if moment <= at), default=-inf),
        min((moment for moment in changes if moment > at), default=inf),
    )


def _changes(constraint: StartDateConstraint | TimeOfDateConstraint | None, at: float) -> Iterator[float]:
    """When a condition turns on or off, as far as it matters around `at`. Dates and times are UTC."""
    if isinstance(constraint, StartDateConstraint):
        yield datetime.combine(constraint.start_date, time(), UTC).timestamp()
    elif isinstance(constraint, TimeOfDateConstraint):
        today = datetime.fromtimestamp(at, UTC).date()
        for moment in (constraint.start_time, constraint.end_time):
            # An offset may move a time by up to a day, hence two days to each side.
            yield from (_on(today + timedelta(days=shift), moment) for shift in (-2, -1, 0, 1, 2))


def _on(day: date, moment: time) -> float:
    return datetime.combine(day, moment, moment.tzinfo or UTC).timestamp()
