"""One provider without its HTTP: limits, faults, answers, counters.

A call enters in one synchronous step: limits, then a fault that is answered by an error, then the reply. What
ends it raises Fail, which becomes the provider's own error. What the reply produced is charged afterwards.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from .answers import Author, CacheUse
from .anthropic_format import AnthropicFormat
from .buckets import Cost, Gate
from .checks import check, parse, read_body
from .config import ProviderConfig
from .faults import IN_A_STREAM, IN_THE_ANSWER, REFUSED_BY_LIMIT, FaultPlan
from .gemini_format import GeminiFormat
from .net import Clock
from .openai_format import OpenAIFormat
from .shapes import Answer, ApiFormat, Ask, Fail, Json, Reply, Slicer, refused
from .spoiling import HUGE_CHUNK_TOKENS, spoil
from .stats import Stats

API_FORMATS: dict[str, ApiFormat] = {
    api_format.name: api_format for api_format in (AnthropicFormat(), OpenAIFormat(), GeminiFormat())
}


@dataclass(slots=True)
class Call:
    """A call that was admitted: its answer, and its charges."""

    ask: Ask
    reply: Reply
    digest: int
    cache: CacheUse
    fault: str | None
    headers: dict[str, str] = field(default_factory=dict)


class Engine:
    """The state of one provider."""

    def __init__(
        self, name: str, config: ProviderConfig, seed: int, clock: Clock, answered: set[int]
    ) -> None:
        self.name = name
        self.clock = clock
        self.config = config
        self.api_format = API_FORMATS[config.api_format]
        self.stats = Stats()
        self.plan = FaultPlan(config.faults, config.schedule)
        self._author = Author(seed, name)
        self.seed = seed
        self._answered = answered  # prompts answered by any provider: a second answer is a duplicate
        self._number = 0
        self._reseed()
        self._gate = Gate(config.api_format, config.limits, config.model_limits, clock.now())

    def configure(self, config: ProviderConfig) -> None:
        """Apply a new configuration. Buckets keep their use, calls in flight their configuration."""
        self.config = config
        self.plan = FaultPlan(config.faults, config.schedule)
        limits = config.limits, config.model_limits
        self._gate = self._gate.replaced(config.api_format, *limits, self.clock.now())

    def reset(self) -> None:
        """Set counters to zero, fill buckets, reseed and clear the cache."""
        self.stats.clear()
        self._author.forget()
        self._number = 0
        self._reseed()
        config = self.config
        self._gate = Gate(config.api_format, config.limits, config.model_limits, self.clock.now())

    def _reseed(self) -> None:
        # two generators, so that faults depend only on the order in which calls arrive
        self._fault_rng = random.Random(f"faults:{self.seed}:{self.name}")
        self._jitter_rng = random.Random(f"jitter:{self.seed}:{self.name}")
        self._flex_rng = random.Random(f"flex:{self.seed}:{self.name}")

    # -- the course of a call --

    def pick_fault(self) -> str | None:
        """The fault of a generation that arrives now."""
        return self.plan.pick(self.clock.t(), self._fault_rng)

    def pick_fault_of_models(self) -> str | None:
        """The fault of a model list that is asked for now."""
        return self.plan.pick_for_models(self.clock.t(), self._jitter_rng)

    def read(self, raw: bytes, kind: str, model: str, query: Mapping[str, str]) -> Ask:
        """The request in a body. Raises Fail if this provider does not take it."""
        try:
            most = self.api_format.max_body_bytes
            if most is not None and len(raw) > most:
                raise Fail("too_large")
            ask = parse(self.api_format, raw, kind, model, query)
            check(ask, self.api_format, self.config, self._author.input_tokens(ask, self.config))
        except Fail:
            self._gate.count_refused(model, self.clock.now())
            raise
        return ask

    def count(self, raw: bytes, model: str, query: Mapping[str, str]) -> bytes:
        """The body that says how many tokens a request has. Raises Fail if this provider does not take it."""
        ask = parse(self.api_format, raw, "count", model, query)
        tokens = self._author.input_tokens(ask, self.config)
        check(ask, self.api_format, self.config, tokens)
        return self.api_format.count(tokens)

    def enter(self, ask: Ask, fault: str | None, headers: dict[str, str]) -> Call:
        """Admit the call and write its answer. `headers` gets those of limits, even if it raises Fail."""
        config, author = self.config, self._author
        if ask.flex:
            self._check_flex(ask)
        input_tokens = author.input_tokens(ask, config)
        cache = self._cache_use(ask, input_tokens)
        cost = self._admit(ask, input_tokens, cache, headers)
        if fault in IN_A_STREAM and ask.stream is None:
            fault = None
        if fault is not None:
            self._fail_if_error(fault, ask, input_tokens, cost)
        call = self._write(ask, input_tokens, cache, fault)
        call.headers = headers
        self.stats.admitted_input_tokens += input_tokens
        return call

    def _check_flex(self, ask: Ask) -> None:
        """Raises Fail where the model does not take the service tier flex, or it has no room now.

        The limits of the account have no part in it.
        """
        if not ask.model.startswith(self.config.flex_models):
            raise refused(f"Flex is not available for the model {ask.model}.", "service_tier")
        if self._flex_rng.random() < self.config.flex_unavailable:
            self.stats.flex_refused += 1
            raise Fail("flex_unavailable", model=ask.model)

    def _cache_use(self, ask: Ask, input_tokens: int) -> CacheUse:
        if self.api_format.name == "anthropic" or ask.marks_only:
            return self._author.marked_cache(ask, self.config)
        return self._author.prefix_cache(ask, input_tokens, self.config)

    def _write(self, ask: Ask, input_tokens: int, cache: CacheUse, fault: str | None) -> Call:
        """The answer, spoiled by a fault that shows in it."""
        digest = self._author.digest(ask)
        if ask.embeds:
            return Call(ask, Reply("", "stop", input_tokens, 0), digest, cache, fault)
        reply = self._author.reply(ask, digest, input_tokens, self.config, cache)
        if fault is not None:
            spoil(ask, reply, fault, self.config, blocks_prompts=self.api_format.blocks_prompts)
        return Call(ask, reply, digest, cache, fault)

    def row(self, body: Json, kind: str, model: str, fault: str | None) -> Call:
        """The answer to a row of a batch: checked and written like a live one, but without limits.

        Raises Fail where the provider does not take it, or where the fault is an error.
        """
        ask = read_body(self.api_format, body, kind, model, {})
        if ask.stream is not None:
            raise refused("Streaming is not supported in a batch.", "stream")
        input_tokens = self._author.input_tokens(ask, self.config)
        check(ask, self.api_format, self.config, input_tokens)
        if fault is not None and not self._shows_in_the_answer(fault):
            window = self.config.context_window
            raise Fail(fault, model=ask.model, used=input_tokens + window, window=window)
        call = self._write(ask, input_tokens, self._cache_use(ask, input_tokens), fault)
        self._author.remember(call.cache)
        return call

    def row_tokens(self, body: Json, kind: str, model: str) -> int:
        """The input tokens of a row of a batch. Raises Fail where the provider does not take it."""
        return self._author.input_tokens(read_body(self.api_format, body, kind, model, {}), self.config)

    def produced(self, call: Call, output_tokens: int) -> None:
        """Charge output; for a stream that the client left, what had been produced by then."""
        self.stats.output_tokens += output_tokens
        self._gate.produced(call.ask.model, output_tokens, self.clock.now())

    def prompt_was_read(self, call: Call) -> None:
        """Keep what the call wrote to the prompt cache; calls that came before this can't read it."""
        self._author.remember(call.cache)

    def answered(self, call: Call) -> None:
        """Count a usable answer, and whether any provider had answered the same prompt before."""
        if call.fault in ("empty", "no_stop_reason") or call.ask.embeds:
            return
        self.stats.answer(call.ask.model, call.reply.input_tokens, call.reply.output_tokens, call.ask.flex)
        self.stats.answered_duplicates += self.note_answer(call.digest)

    def note_answer(self, digest: int) -> bool:
        """Remember that a prompt was answered; whether any provider had answered it before."""
        was_answered = digest in self._answered
        self._answered.add(digest)
        return was_answered

    def delay_factor(self, ask: Ask) -> float:
        """A lognormal factor for the latency of one call."""
        jitter = self.config.latency.jitter
        slowness = self.config.flex_slowness if ask.flex else 1.0
        # mean 1, so that the mean latency is what the configuration says
        return slowness * math.exp(self._jitter_rng.gauss(-(jitter**2) / 2, jitter))

    def slicer(self, call: Call) -> Slicer:
        """What cuts an answer into the chunks of a stream."""
        chunk_tokens = self.config.chunk_tokens or self.api_format.chunk_tokens
        if call.fault == "stream_huge":
            chunk_tokens = HUGE_CHUNK_TOKENS
        hidden = 0 if call.reply.thinking else call.reply.thinking_tokens
        return Slicer(chunk_tokens, self.config.chars_per_token, hidden)

    # -- limits and errors --

    def _admit(self, ask: Ask, input_tokens: int, cache: CacheUse, headers: dict[str, str]) -> Cost:
        """Charge the limits. Raises Fail where one of them refuses the call."""
        if self.api_format.name == "anthropic":  # elsewhere cached input counts like any other
            input_tokens -= cache.read_tokens
        estimate = math.ceil(ask.chars / 4)  # how OpenAI estimates, whatever the real count
        cost = Cost(input_tokens, max(ask.max_tokens or 0, estimate))
        if not self._gate.limits_anything:
            return cost
        now = self.clock.now()
        denied = self._gate.admit(ask.model, cost, now)
        if self.config.headers:
            headers.update(self.api_format.limit_headers(self._gate.levels(ask.model, now), now))
        if denied is not None:
            self.stats.limited_by[denied.kind] += 1
            facts = asdict(denied)
            raise Fail("limited", limit_kind=facts.pop("kind"), model=ask.model, **facts)
        return cost

    def _fail_if_error(self, fault: str, ask: Ask, input_tokens: int, cost: Cost) -> None:
        """Raises Fail for a fault that is answered by an error, charged as the provider charges errors."""
        self.stats.by_fault[fault] += 1
        if self._shows_in_the_answer(fault):
            return
        self._gate.refund(ask.model, cost, self.clock.now(), with_request=fault in REFUSED_BY_LIMIT)
        window = self.config.context_window
        raise Fail(fault, model=ask.model, used=input_tokens + window, window=window)

    def _shows_in_the_answer(self, fault: str) -> bool:
        return fault in IN_THE_ANSWER or (fault == "content_policy" and self.api_format.blocks_prompts)

    def error(
        self, fail: Fail, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> tuple[Answer, dict[str, str]]:
        """The provider's own form of an error, and `headers` with the id of the request."""
        facts = self._facts(fail, method=method, path=path)
        answer = self.api_format.error(fail.kind, facts)
        return answer, {**(headers or {}), **self.api_format.id_headers(facts["ident"])}

    def error_frame(self, ask: Ask, *, is_first: bool) -> bytes:
        """An error inside a stream."""
        return self.api_format.error_frame(ask, self._facts(Fail("stream_error")), is_first=is_first)

    def _facts(self, fail: Fail, **more: str) -> Json:
        """What the messages of errors name."""
        return {
            "ident": self.ident(),
            "now": self.clock.now(),
            "model": "",
            "wait_s": self.config.retry_after_s,
            "masked_key": "sk-***",
            "message": "Invalid request.",
            **more,
            **fail.facts,
        }

    def ident(self) -> str:
        """A new id for an answer; equal runs give equal ids."""
        self._number += 1
        return f"{self.seed:x}{self._number:010x}"
