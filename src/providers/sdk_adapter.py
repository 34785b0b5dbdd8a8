"""The common part of the adapters: one exchange through an SDK, over the transport that all share.

A call goes through the SDK and takes the raw response. The SDK builds, signs and sends the request and raises
its exceptions; only its typed models are not used. Filling them costs up to half of a call, and they know
neither the parameters that only some models take nor what compatible servers leave out.

The anthropic and openai SDKs are built alike: their own `post` returns the raw response
(`cast_to=httpx2.Response`). Another SDK's adapter has its own `_post` and `_get`.

Two costs of these SDKs are avoided: a random key for each call, of which the number is enough, and parsing
the same few addresses several times a call.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from typing import Any, ClassVar
from uuid import uuid4

from ..config import ProviderAccess
from ..errors import InvalidResponse, ProviderError, TimedOut, Unreachable
from ..records import Completion, CompletionRequest, FinishReason, LimitReport
from ..stream_events import Finished, StreamEvent
from . import values
from .answers import Answer, content_for, finish_with, parts_beyond_text, with_ids
from .error_bodies import error_beside, error_in, status_in
from .error_classes import ErrorAnswer, MessagePattern
from .failures import ErrorFactory, Verdict, by_class
from .headers import select_headers
from .native import native_body, native_headers
from .prompts import Json, unknown_end, why_unusable
from .rendering import Rendered
from .sse import EventParser, EventTooLong, ServerSentEvent
from .stream_reader import BrokenStream, ErrorEvent, StreamReader, deltas_of
from .threads import run_in_thread
from .usage import NO_REASON, NOTHING, Reported, is_whole, of_answer, of_error


class SdkAdapter(ABC):
    """One provider over its SDK. Subclasses hold what differs between the APIs."""

    path: ClassVar[str]
    models_path: ClassVar[str]
    codes: ClassVar[Mapping[str, type[ProviderError]]]
    classes: ClassVar[Mapping[str, Verdict]]
    message_patterns: ClassVar[tuple[MessagePattern, ...]] = ()
    answer_keys: ClassVar[tuple[str, ...]]  # keys of the answer in the body of a 200
    native_form: ClassVar[str] = ""  # of `Native`: such a request is sent as its caller wrote it
    requires_max_tokens: ClassVar[bool] = False

    options: ClassVar[Json] = {}  # given to the SDK with every call

    def __init__(self, access: ProviderAccess, slots: int, max_bytes: int) -> None:
        self.name = access.name
        self._base_url = access.base_url
        self._key = access.key.get_secret_value()
        self._slots, self._max_bytes = slots, max_bytes
        self._connect_timeout_s = access.config.connect_timeout_s
        self._schema_form = access.config.api.schema_form
        self._errors = ErrorFactory(access.name, self._key)
        self._call_keys = map(f"{uuid4()}-{{}}".format, count())
        self._client: Any = None
        self._building = asyncio.Lock()
        self._closed = False

    async def warm_up(self) -> None:
        """Import the SDK and build the client, in a thread of its own: it takes a second or two."""
        async with self._building:
            if self._client is None and not self._closed:
                self._client = await run_in_thread(self._build, f"{self.name}-warm-up")

    async def complete(self, request: CompletionRequest) -> Completion:
        """One exchange. Raises a `ProviderError` subclass for everything that is not a usable answer."""
        await self._ready(request)
        rendered = self._render(request)
        response = await self._exchange(request.timeout_s, request, rendered)
        found = select_headers(response.headers.raw)
        limits = self._limits(found)
        return self._answer(response.content, request, found, limits, rendered.warnings)

    async def stream(self, request: CompletionRequest) -> AsyncGenerator[StreamEvent, None]:
        """As `complete`, event by event; the last one is `Finished`. Closing it closes the connection."""
        await self._ready(request)
        rendered = self._render(request, stream=True)
        response = await self._exchange(request.timeout_s, request, rendered, stream=True)
        body = response.stream
        try:
            found = select_headers(response.headers.raw)
            limits = self._limits(found)
            if "json" in response.headers.get("content-type", ""):  # a server that does not stream
                content = bytearray()
                while data := await self._receive(body, request):
                    content += data
                completion = self._answer(bytes(content), request, found, limits, rendered.warnings)
                for event in deltas_of(completion):
                    yield event
                yield Finished(completion)
                return
            reader, parser = self._reader(request), EventParser(self._max_bytes)
            at_end = False
            while not (reader.terminated or at_end):
                data = await self._receive(body, request)
                at_end = not data
                for received in self._parsed(parser, data, request, limits):
                    for event in self._read(reader, received, request, found, limits, at_end=at_end):
                        yield event
            if not reader.whole:
                message = f"the stream was cut off: it ended without {reader.ending}"
                raise self._unusable(InvalidResponse, message, request, limits)
            warnings = (*rendered.warnings, *reader.warnings)
            completion = self._whole(reader.body(), request, found, limits, warnings)
            yield Finished(completion, reader.final_raw)
            await body.finish()
        finally:
            body.close()

    async def list_models(self, timeout_s: float) -> list[str]:
        """The provider's models: a free health check. Raises like `complete`."""
        await self._ready(None)
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._exchange(timeout_s, None, None)
        except TimeoutError as error:
            raise self._errors.error(TimedOut, f"no models within {timeout_s:g} s", None) from error
        body, _ = self._json(response.content, None, ())
        return [self._errors.mask_key(model) for model in self._models(body)]

    async def close(self) -> None:
        """Close all connections. Safe to call twice; no call is made afterwards."""
        self._closed = True
        async with self._building:  # a client that is being built is closed too
            client, self._client = self._client, None
        if client is not None:
            await client.close()

    # -- what differs by API

    @abstractmethod
    def _reader(self, request: CompletionRequest) -> StreamReader:
        """What reads the stream of the answer to this request."""

    @abstractmethod
    def _build(self) -> Any:
        """The SDK's client. Runs in a thread; imports the SDK."""

    @abstractmethod
    def _rendered(self, request: CompletionRequest) -> Rendered:
        """What the SDK takes as the request, in this API's form."""

    @abstractmethod
    def _limits(self, found: Mapping[str, str]) -> tuple[LimitReport, ...]:
        """The limits that the headers report."""

    @abstractmethod
    def _read_answer(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
    ) -> Answer:
        """What a body says. Raises where there can be no answer in it."""

    @abstractmethod
    def _codes_of(self, error: Json) -> tuple[str, ...]:
        """The codes in an error body, most specific first."""

    # -- the exchange

    @staticmethod
    def _lean(client: Any) -> Any:
        """An SDK's client that parses each address once."""
        client._prepare_url = cache(client._prepare_url)
        return client

    async def _ready(self, request: CompletionRequest | None) -> None:
        if self._client is None:
            await self.warm_up()
        if self._closed:
            raise self._errors.error(Unreachable, "the adapter is closed", request, sent=False)

    def _is_native(self, request: CompletionRequest) -> bool:
        """Whether the request came in this API's own form."""
        return request.native is not None and request.native.form == self.native_form

    def _render(self, request: CompletionRequest, *, stream: bool = False) -> Rendered:
        """The request as it is sent: its caller's own body, or what it says in this API's form."""
        if request.native is None or not self._is_native(request):
            rendered = self._rendered(request)
        else:
            body = native_body(request.native, request, requires_max_tokens=self.requires_max_tokens)
            rendered = Rendered(body, headers=native_headers(request.native))
        return replace(rendered, body=self._streamed(rendered.body, request)) if stream else rendered

    async def _exchange(
        self,
        timeout_s: float,
        request: CompletionRequest | None,
        rendered: Rendered | None,
        *,
        stream: bool = False,
    ) -> Any:
        """The raw response: to the request, or without one the list of models."""
        from .transport import timeout

        limit = timeout(timeout_s, self._connect_timeout_s)
        try:
            if request is None or rendered is None:
                return await self._get(limit)
            return await self._post(request, rendered, limit, stream)
        except Exception as error:  # three packages may raise anything; none of it may end the pool
            raise self._failure(error, request) from error

    async def _post(self, request: CompletionRequest, rendered: Rendered, limit: Any, stream: bool) -> Any:
        """One call through the SDK. Raises anything; an error's `response` is the provider's answer.

        With `stream` the response is not read yet: its `stream` is the transport's `Body`.
        """
        from httpx2 import Response

        options = {**self.options, "timeout": limit, "idempotency_key": next(self._call_keys)}
        if rendered.headers:
            options["headers"] = rendered.headers
        return await self._client.post(
            self.path, body=rendered.body, cast_to=Response, options=options, stream=stream, stream_cls=None
        )

    def _streamed(self, body: Json, request: CompletionRequest) -> Json:
        """The same request for a stream."""
        return {**body, "stream": True}

    async def _get(self, limit: Any) -> Any:
        """The list of models, through the SDK. Raises like `_post`."""
        from httpx2 import Response

        options = {**self.options, "timeout": limit}
        return await self._client.get(self.models_path, cast_to=Response, options=options)

    def _models(self, body: Json) -> list[str]:
        """The names in a list of models."""
        return values.names(body.get("data"), "id")

    def _failure(self, error: Exception, request: CompletionRequest | None) -> ProviderError:
        response = getattr(error, "response", None)
        if response is None or response.status_code < 300:
            return self._unanswered(error, request)
        found = select_headers(response.headers.raw)
        return self._answered_error(error_in(response.content), response.status_code, found, request)

    def _answered_error(
        self, error: Json, status: int, found: Mapping[str, str], request: CompletionRequest | None
    ) -> ProviderError:
        """The error that the provider answered with, `error` as `error_in` reads it."""
        answer = ErrorAnswer(
            status,
            self._codes_of(error),
            str(error["message"]),
            found,
            self._limits(found),
            from_api=not error["is_page"],
            flagged=error["is_flagged"],
        )
        return self._errors.of_answer(answer, self.codes, request, time.time(), self.message_patterns)

    def _unanswered(self, error: Exception, request: CompletionRequest | None) -> ProviderError:
        """By the transport's exception, else by the class of the SDK's."""
        from .transport import verdict_on

        verdict, said = verdict_on(error) or (by_class(error, self.classes), error)
        return self._errors.of_exception(verdict, said, request)

    async def _receive(self, body: Any, request: CompletionRequest) -> bytes:
        """The next bytes of a body; nothing at its end."""
        try:
            return bytes(await body.read())
        except Exception as error:  # as in `_exchange`
            raise self._failure(error, request) from error

    def _parsed(
        self,
        parser: EventParser,
        data: bytes,
        request: CompletionRequest,
        limits: tuple[LimitReport, ...],
    ) -> list[ServerSentEvent]:
        """The events in the next bytes of a stream, or at its end."""
        try:
            return parser.feed(data) if data else parser.rest()
        except EventTooLong as error:
            raise self._unusable(InvalidResponse, str(error), request, limits) from error

    def _read(  # what it gets beside the event is for the error that the event may be
        self,
        reader: StreamReader,
        received: ServerSentEvent,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
        *,
        at_end: bool,
    ) -> Sequence[StreamEvent]:
        """What an event of a stream says. Nothing follows the last one."""
        if reader.terminated:
            return ()
        try:
            return reader.read(received)
        except ErrorEvent as event:
            raise self._answered_error(event.error, status_in(event.error), found, request) from event
        except BrokenStream as error:
            message = "the stream was cut off within an event" if at_end else str(error)
            raise self._unusable(InvalidResponse, message, request, limits) from error

    def _answer(
        self,
        content: bytes,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
        warnings: tuple[str, ...],
    ) -> Completion:
        """The answer in a body that came whole. `warnings` are those about the request."""
        body, more = self._json(content, request, limits)
        if error := error_beside(body, self.answer_keys):
            raise self._answered_error(error, status_in(error), found, request)
        completion = self._whole(body, request, found, limits, (*warnings, *more))
        return replace(completion, raw=body) if self._is_native(request) else completion

    def _whole(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
        warnings: tuple[str, ...],
    ) -> Completion:
        completion = self._errors.without_key_in(self._completion(body, request, found, limits))
        return replace(completion, warnings=(*completion.warnings, *warnings)) if warnings else completion

    def _completion(
        self,
        body: Json,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
    ) -> Completion:
        """The answer as a `Completion`; also of a body that was put together from a stream.

        Raises where there is no usable answer. To a native request any end that the API gives is one.
        """
        answer = self._read_answer(body, request, found, limits)
        content = content_for(request, answer.parts, answer.other, answer.finish)
        finish, more = answer.finish, unknown_end(answer.finish, answer.reason)
        if finish is None and is_whole(answer.used, request, content.written):
            finish, more = FinishReason.OTHER, (NO_REASON,)
        unusable = why_unusable(content.written, finish, answer.why, content.other)
        if unusable and not (isinstance(finish, FinishReason) and self._may_be_empty(request, finish)):
            cls, message = self._explained(*unusable, answer.reason)
            raise self._unusable(cls, message, request, limits, answer.used, answer.reason)
        usage, warnings = of_answer(answer.used, request, content.written)
        return Completion(
            content.text,
            finish_with(content, finish if isinstance(finish, FinishReason) else FinishReason.OTHER),
            usage,
            answer.model or request.model,
            limits,
            warnings + more,
            answer.request_id,
            with_ids(parts_beyond_text(content)),
        )

    def _may_be_empty(self, request: CompletionRequest, finish: FinishReason) -> bool:
        return self._is_native(request) and finish is not FinishReason.REFUSED

    def _explained(
        self, cls: type[ProviderError], message: str, reason: str
    ) -> tuple[type[ProviderError], str]:
        """`(error class, message)` of an unusable answer that ended with `reason`."""
        return cls, message

    def _json(
        self, content: bytes, request: CompletionRequest | None, limits: tuple[LimitReport, ...]
    ) -> tuple[Json, tuple[str, ...]]:
        try:
            body, warnings = values.read_json(content)
        except values.NotJson as error:
            message = f"the answer is not JSON ({error})"
            raise self._unusable(InvalidResponse, message, request, limits) from error
        if not isinstance(body, dict):
            raise self._unusable(InvalidResponse, "the answer is not a JSON object", request, limits)
        return body, warnings

    def _unusable(
        self,
        cls: type[ProviderError],
        message: str,
        request: CompletionRequest | None,
        limits: tuple[LimitReport, ...],
        used: Reported = NOTHING,
        code: str = "",
    ) -> ProviderError:
        """The error of a 200 that is not an answer; it is billed where `used` can be true."""
        usage = of_error(used, request) if request else None
        return self._errors.error(cls, message, request, status=200, code=code, limits=limits, usage=usage)
