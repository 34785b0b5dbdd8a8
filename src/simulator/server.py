"""The providers as HTTP servers: one port each, one asyncio loop for all.

A call goes: fault on the way? -> key -> parse -> model, parameters, window -> limits (one synchronous step)
-> fault as an answer? -> latency -> usage charged -> answer. A step that ends it raises Fail, which becomes
the provider's own error.
"""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import asdict

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from .answers import Author, CacheUse
from .anthropic_format import AnthropicFormat
from .buckets import Cost, Gate
from .checks import check, check_key, parse
from .config import ProviderConfig
from .faults import BEFORE_READING, IN_THE_ANSWER, REFUSED_BY_LIMIT, FaultPlan
from .gemini_format import GeminiFormat
from .net import HOST, Clock, Listener, begin, reset_connection, whole
from .openai_format import OpenAIFormat
from .shapes import Answer, ApiFormat, Ask, Fail, Json, Reply
from .spoiling import spoil
from .stats import Stats

MAX_BODY_BYTES = 64 * 1024 * 1024
_REOPEN_S = 0.1  # seconds to the next try
_TRICKLE_S = 1.0  # seconds between two bytes
API_FORMATS: dict[str, ApiFormat] = {
    api_format.name: api_format for api_format in (AnthropicFormat(), OpenAIFormat(), GeminiFormat())
}
BASE_PATHS = {"anthropic": "", "openai": "/v1", "gemini": ""}
DEFAULT_MODELS = {
    "anthropic": ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"),
    "openai": ("gpt-6-luna", "gpt-6.1-terra", "gpt-6.1-sol"),
    "gemini": ("gemini-3.5-flash-lite", "gemini-3.8-flash", "gemini-4-argon"),
}


class ProviderServer:
    """One provider: its port, limits, faults, answers and counters."""

    def __init__(
        self, name: str, config: ProviderConfig, seed: int, clock: Clock, answered: set[int]
    ) -> None:
        self.name = name
        self.clock = clock
        self.config = config
        self.api_format = API_FORMATS[config.api_format]
        self.author = Author(seed, name)
        self.stats = Stats()
        self.listener = Listener(config.port)
        self._seed = seed
        self._answered = answered  # prompts answered by any provider: a second answer is a duplicate
        self._number = 0
        self._reseed()
        self._plan = FaultPlan(config.faults, config.schedule)
        self._gate = Gate(config.api_format, config.limits, config.model_limits, clock.now())
        self._never = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._server = web.Server(
            self._handle,
            request_factory=self._request,
            handler_cancellation=True,
            access_log=None,
            lingering_time=0,
        )

    @property
    def base_url(self) -> str:
        """The address that a client takes as its base URL."""
        return f"http://{HOST}:{self.listener.port}{BASE_PATHS[self.config.api_format]}"

    # -- life --

    async def ready(self) -> None:
        """Wait until the port is open or closed as scheduled; opening takes a moment."""
        if self._opening is not None:
            await self._opening

    def configure(self, config: ProviderConfig) -> None:
        """Apply a new configuration at once. Buckets keep their use, calls in flight their configuration."""
        self.config = config
        self._plan = FaultPlan(config.faults, config.schedule)
        limits = config.limits, config.model_limits
        self._gate = self._gate.replaced(config.api_format, *limits, self.clock.now())
        self.follow_schedule()

    def reset(self) -> None:
        """Set counters to zero, fill buckets, reseed, clear the cache and drop calls that hang."""
        self.stats.clear()
        self.author.forget()
        self._number = 0
        self._reseed()
        config = self.config
        self._gate = Gate(config.api_format, config.limits, config.model_limits, self.clock.now())
        self._never.set()
        self._never = asyncio.Event()
        self.follow_schedule()

    def _reseed(self) -> None:
        # two generators, so that faults depend only on the order in which calls arrive
        self._fault_rng = random.Random(f"faults:{self._seed}:{self.name}")
        self._jitter_rng = random.Random(f"jitter:{self._seed}:{self.name}")

    def follow_schedule(self) -> None:
        """Open or close the port as the schedule of faults says, now and at its next change."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        t = self.clock.t()
        if self._plan.is_down(t):
            self.listener.close()
            self._drop_connections()
        elif not self.listener.is_open and (self._opening is None or self._opening.done()):
            self._opening = asyncio.create_task(self._open())
        change = self._plan.next_change(t)
        if change is not None:
            self._timer = asyncio.get_running_loop().call_later(change - t + 0.001, self.follow_schedule)

    async def _open(self) -> None:
        while True:
            try:
                await self.listener.open(self._server)
                break
            except OSError:
                # the port could not be kept while it was closed, and another process has it
                await asyncio.sleep(_REOPEN_S)
        if self._plan.is_down(self.clock.t()):
            self.follow_schedule()

    def end(self) -> None:
        """Close everything at once."""
        if self._timer is not None:
            self._timer.cancel()
        self.listener.end()
        self._drop_connections()

    def _drop_connections(self) -> None:
        for connection in self._server.connections:
            reset_connection(connection.transport)

    # -- requests --

    def _request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        route = self.api_format.route(request.method, request.path)
        if route is None:
            return self._error(request, Fail("not_found"))
        kind, model = route
        if kind in ("models", "model"):
            return await self._list_models(request, model)
        stats, outcome = self.stats, "gone"
        run = stats.enter(self.clock.t())
        try:
            response, outcome = await self._call(request, kind, model)
        finally:
            stats.leave(run, self.clock.t(), outcome)
        return response

    async def _list_models(self, request: web.BaseRequest, model: str) -> web.StreamResponse:
        self.stats.model_list_calls += 1
        fault = self._plan.pick_for_models(self.clock.t(), self._jitter_rng)
        if fault in BEFORE_READING:
            return (await self._break(request, fault))[0]
        config, api_format = self.config, self.api_format
        try:
            if fault is not None:
                raise Fail(fault)
            check_key(self.api_format, self.config, request)
            if model and config.models is not None and model not in config.models:
                raise Fail("model_not_found", model=model)
        except Fail as fail:
            return self._error(request, fail)
        ids = DEFAULT_MODELS[api_format.name] if config.models is None else config.models
        window = config.context_window
        body = api_format.model(model, window) if model else api_format.models(ids, window)
        return whole(Answer(200, body), api_format.id_headers(self._ident()))

    async def _call(self, request: web.BaseRequest, kind: str, model: str) -> tuple[web.StreamResponse, str]:
        """The response and how it counts."""
        fault = self._plan.pick(self.clock.t(), self._fault_rng)
        if fault in BEFORE_READING:
            self.stats.by_fault[fault] += 1
            return await self._break(request, fault)
        extra: dict[str, str] = {}
        try:
            check_key(self.api_format, self.config, request)
            if kind == "stream":
                raise Fail("stream")
            ask = await self._read(request, model)
            reply, digest = await self._generate(ask, fault, extra)
        except Fail as fail:
            response = self._error(request, fail, extra)
            return response, str(response.status)
        return await self._send(request, ask, reply, digest, fault, extra)

    async def _read(self, request: web.BaseRequest, model: str) -> Ask:
        """The request as an Ask. Raises Fail if this provider does not take it."""
        raw = await request.read()
        try:
            ask = parse(self.api_format, raw, model, request.query)
            check(ask, self.api_format, self.config, self.author.input_tokens(ask, self.config))
        except Fail:
            self._gate.count_refused(model, self.clock.now())
            raise
        return ask

    # -- answers --

    async def _generate(self, ask: Ask, fault: str | None, extra: dict[str, str]) -> tuple[Reply, int]:
        """Admit the call, wait for its latency, charge its output. `extra` gets the headers of limits."""
        config, author = self.config, self.author
        input_tokens = author.input_tokens(ask, config)
        if self.api_format.name == "anthropic" or ask.marks_only:
            cache = author.marked_cache(ask, config)
        else:
            cache = author.prefix_cache(ask, input_tokens, config)
        cost = self._admit(ask, input_tokens, cache, extra)
        if fault is not None:
            self._fail_if_error(fault, ask, input_tokens, cost)
        digest = author.digest(ask)
        reply = author.reply(ask, digest, input_tokens, config, cache)
        if fault is not None:
            spoil(ask, reply, fault, self.config, blocks_prompts=self.api_format.blocks_prompts)
        self.stats.admitted_input_tokens += input_tokens
        try:
            await self._take_time(reply)
            author.remember(cache)  # calls that came meanwhile could not read it yet
        finally:  # an answer is charged even if the client has left
            self.stats.output_tokens += reply.output_tokens
            self._gate.produced(ask.model, reply.output_tokens, self.clock.now())
        return reply, digest

    def _admit(self, ask: Ask, input_tokens: int, cache: CacheUse, extra: dict[str, str]) -> Cost:
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
            extra.update(self.api_format.limit_headers(self._gate.levels(ask.model, now), now))
        if denied is not None:
            self.stats.limited_by[denied.kind] += 1
            facts = asdict(denied)
            raise Fail("limited", limit_kind=facts.pop("kind"), model=ask.model, **facts)
        return cost

    def _fail_if_error(self, fault: str, ask: Ask, input_tokens: int, cost: Cost) -> None:
        """Raises Fail for a fault that is answered by an error, charged as the provider charges errors."""
        self.stats.by_fault[fault] += 1
        if fault in IN_THE_ANSWER or (fault == "content_policy" and self.api_format.blocks_prompts):
            return
        self._gate.refund(ask.model, cost, self.clock.now(), with_request=fault in REFUSED_BY_LIMIT)
        window = self.config.context_window
        raise Fail(fault, model=ask.model, used=input_tokens + window, window=window)

    async def _take_time(self, reply: Reply) -> None:
        latency = self.config.latency
        wait_s = latency.first_token_s + latency.per_token_s * reply.output_tokens
        if wait_s > 0:
            # mean 1, so that the mean latency is what the configuration says
            wait_s *= math.exp(self._jitter_rng.gauss(-(latency.jitter**2) / 2, latency.jitter))
            await asyncio.sleep(wait_s)

    async def _send(
        self,
        request: web.BaseRequest,
        ask: Ask,
        reply: Reply,
        digest: int,
        fault: str | None,
        extra: dict[str, str],
    ) -> tuple[web.StreamResponse, str]:
        ident = self._ident()
        body = self.api_format.answer(ask, reply, ident)
        headers = {**extra, **self.api_format.id_headers(ident)}
        if fault == "malformed":
            return whole(Answer(200, body[: len(body) * 2 // 3]), headers), "200"
        if fault == "reset_midway":
            response = await begin(request, body, headers)
            await response.write(body[: len(body) // 2])
            await asyncio.sleep(0.01)  # let the half arrive before the reset overtakes it
            return self._abort(request, response), "reset"
        if fault == "trickle":
            response = await begin(request, body, headers)
            for i in range(len(body)):
                await response.write(body[i : i + 1])
                await asyncio.sleep(_TRICKLE_S)
            return response, "200"
        if fault not in ("empty", "no_stop_reason"):
            if digest in self._answered:
                self.stats.answered_duplicates += 1
            self._answered.add(digest)
        return whole(Answer(200, body), headers), "200"

    # -- faults and errors --

    async def _break(self, request: web.BaseRequest, fault: str) -> tuple[web.StreamResponse, str]:
        if fault == "silence":
            await self._never.wait()  # until the client leaves (this task is cancelled) or a reset drops it
        return self._abort(request, web.Response()), "reset"

    def _abort(self, request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
        reset_connection(request.transport)
        return response

    def _error(
        self, request: web.BaseRequest, fail: Fail, extra: dict[str, str] | None = None
    ) -> web.Response:
        ident = self._ident()
        facts: Json = {
            "ident": ident,
            "now": self.clock.now(),
            "model": "",
            "wait_s": self.config.retry_after_s,
            "masked_key": "sk-***",
            "method": request.method,
            "path": request.path,
            "message": "Invalid request.",
            **fail.facts,
        }
        answer = self.api_format.error(fail.kind, facts)
        return whole(answer, {**(extra or {}), **self.api_format.id_headers(ident)})

    def _ident(self) -> str:
        self._number += 1
        return f"{self._seed:x}{self._number:010x}"
