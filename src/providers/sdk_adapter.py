"""The common part of the adapters: one exchange through an SDK, over the transport that all share.

A call goes through the SDK and takes the raw response. The SDK builds, signs and sends the request and raises
its exceptions; only its typed models are not used. Filling them costs up to half of a call, and they know
neither the parameters that only some models take nor what compatible servers leave out.

The anthropic and openai SDKs are built alike: their own `post` returns the raw response
(`cast_to=httpx2.Response`). Another SDK's adapter has its own `_post` and `_send`.

Three costs of these SDKs are avoided: a random key for each call, of which the number is enough, parsing the
same few addresses several times a call, and deep copies of the defaults of options that are not given.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Mapping
from functools import lru_cache
from itertools import count
from typing import Any, ClassVar, TypeVar
from uuid import uuid4

from ..config import ProviderAccess
from ..errors import InvalidResponse, ProviderError, TimedOut, Unreachable
from ..records import Completion, CompletionRequest, LimitReport
from ..stream_events import Finished, Offer, StreamEvent, deltas_of, refuse
from . import values
from .answer_reader import AnswerReader
from .error_bodies import error_in, status_in
from .failures import Verdict, by_class
from .headers import select_headers
from .native import native_body, native_headers
from .prompts import Json
from .rendering import Rendered
from .sse import EventTooLong
from .stream_flow import StreamFlow
from .stream_reader import BrokenStream, ErrorEvent, StreamReader
from .threads import run_in_thread

Upload = tuple[Mapping[str, str], Mapping[str, tuple[str, bytes, str]]] | None
"""Fields of a form, and its files: each with name, content and media type."""

_T = TypeVar("_T")


class SdkAdapter(AnswerReader):
    """One provider over its SDK. Subclasses hold what differs between the APIs."""

    path: ClassVar[str]
    models_path: ClassVar[str]
    classes: ClassVar[Mapping[str, Verdict]]

    # Given to the SDK with every call. Of what is not given, the SDK copies its default each time.
    options: ClassVar[Json] = {"max_retries": 0, "params": {}}

    def __init__(self, access: ProviderAccess, slots: int, max_bytes: int) -> None:
        super().__init__(access)
        self.name = access.name
        self._base_url = access.base_url
        self._key = access.key.get_secret_value()
        self._slots, self._max_bytes = slots, max_bytes
        self._connect_timeout_s = access.config.connect_timeout_s
        self._schema_form = access.config.api.schema_form
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

    async def stream(
        self, request: CompletionRequest, offer: Offer = refuse
    ) -> AsyncGenerator[StreamEvent, None]:
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
                while data := await self._receive(body.read(), request):
                    content += data
                completion = self._answer(bytes(content), request, found, limits, rendered.warnings)
                for event in deltas_of(completion):
                    yield event
                yield Finished(completion)
                return
            reader = self._reader(request)
            clean = self._errors.without_key_in_bytes if self._is_native(request) else None
            flow, at_end = StreamFlow(reader, self._max_bytes, offer, clean), False
            while not (reader.terminated or at_end):
                at_end = not await self._receive(body.pump(flow.take), request)
                if at_end:
                    flow.end()
                for event in flow.pending:
                    yield event
                if flow.error is not None:
                    raise self._broken(flow.error, request, found, limits, at_end=at_end) from flow.error
            if not reader.whole:
                message = f"the stream was cut off: it ended without {reader.ending}"
                raise self._unusable(InvalidResponse, message, request, limits)
            warnings = (*rendered.warnings, *reader.warnings)
            completion = self._whole(reader.body(), request, found, limits, warnings)
            for event in reader.last():
                yield event
            yield Finished(completion, reader.final_raw)
            await body.finish()
        finally:
            body.close()

    async def row(self, request: CompletionRequest) -> tuple[Json, tuple[str, ...]]:
        """The body of a call as it stands in a batch, and what of the request the API can't take."""
        await self._ready(request)
        rendered = self._render(request)
        return rendered.body, rendered.warnings

    async def receive(self, body: Any) -> bytes:
        """The next bytes of the `stream` of a response; nothing at its end. Raises like `complete`."""
        return bytes(await self._receive(body.read(), None))

    def unreadable(self, error: ValueError) -> ProviderError:
        """The error of an answer that is not JSON."""
        return self._unusable(InvalidResponse, f"the answer is not JSON ({error})", None, ())

    async def list_models(self, timeout_s: float) -> list[str]:
        """The provider's models: a free health check. Raises like `complete`."""
        body = await self.send_json("GET", self.models_path, timeout_s=timeout_s)
        return [self._errors.mask_key(model) for model in self._models(body)]

    async def send_json(
        self, method: str, path: str, content: bytes | None = None, *, timeout_s: float, upload: Upload = None
    ) -> Json:
        """As `send`, and the JSON object of the answer."""
        response = await self.send(method, path, content, timeout_s=timeout_s, upload=upload)
        return self._json(response.content, None, ())[0]

    async def send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        *,
        timeout_s: float,
        upload: Upload = None,
        stream: bool = False,
    ) -> Any:
        """One exchange that calls no model, below the base URL: the raw response. Raises like `complete`.

        `content` is JSON, `upload` the fields and files of a form. With `stream` the `stream` of the response
        is a `Body`.
        """
        from .transport import timeout

        await self._ready(None)
        limit = timeout(timeout_s, self._connect_timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._send(method, path, content, upload, limit, stream)
        except TimeoutError as error:
            raise self._errors.error(TimedOut, f"no answer within {timeout_s:g} s", None) from error
        except Exception as error:  # as in `_exchange`
            raise self._failure(error, None) from error

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

    # -- the exchange

    @staticmethod
    def _lean(client: Any) -> Any:
        """An SDK's client that parses each address once."""
        client._prepare_url = lru_cache(maxsize=256)(client._prepare_url)
        return client

    async def _ready(self, request: CompletionRequest | None) -> None:
        if self._client is None:
            await self.warm_up()
        if self._closed:
            raise self._errors.error(Unreachable, "the adapter is closed", request, sent=False)

    def _limit_name(self, _request: CompletionRequest) -> str:
        """What the API calls the largest number of tokens of the answer; empty where it has none."""
        return "max_tokens"

    def _render(self, request: CompletionRequest, *, stream: bool = False) -> Rendered:
        """The request as it is sent: its caller's own body, or what it says in this API's form."""
        if request.native is None or not self._is_native(request):
            rendered = self._rendered(request)
        else:
            body = native_body(request.native, request, self._limit_name(request))
            rendered = Rendered(body, headers=native_headers(request.native))
        return rendered._replace(body=self._streamed(rendered.body, request)) if stream else rendered

    async def _exchange(
        self,
        timeout_s: float,
        request: CompletionRequest,
        rendered: Rendered,
        *,
        stream: bool = False,
    ) -> Any:
        """The raw response to the request."""
        from .transport import timeout

        limit = timeout(timeout_s, self._connect_timeout_s)
        try:
            return await self._post(request, rendered, limit, stream)
        except Exception as error:  # three packages may raise anything; none of it may end the pool
            raise self._failure(error, request) from error

    async def _post(self, request: CompletionRequest, rendered: Rendered, limit: Any, stream: bool) -> Any:
        """One call through the SDK. Raises anything; an error's `response` is the provider's answer.

        With `stream` the response is not read yet: its `stream` is the transport's `Body`.
        """
        from httpx2 import Response

        options = {
            **self.options,
            "timeout": limit,
            "idempotency_key": next(self._call_keys),
            "headers": rendered.headers,
        }
        streaming = {"stream": stream, "stream_cls": None}
        return await self._client.post(
            self._path(request), body=rendered.body, cast_to=Response, options=options, **streaming
        )

    def _path(self, request: CompletionRequest) -> str:
        """Where the request goes, below the base URL."""
        return self.path

    def _streamed(self, body: Json, request: CompletionRequest) -> Json:
        """The same request for a stream."""
        return {**body, "stream": True}

    async def _send(  # what `send` takes, and the limit
        self, method: str, path: str, content: bytes | None, upload: Upload, limit: Any, stream: bool
    ) -> Any:
        """An exchange through the SDK. Raises like `_post`."""
        from httpx2 import Response

        options: Json = {**self.options, "timeout": limit}
        if method == "GET":
            return await self._client.get(
                path, cast_to=Response, options=options, stream=stream, stream_cls=None
            )
        if method == "DELETE":
            return await self._client.delete(path, cast_to=Response, options=options)
        options["idempotency_key"] = next(self._call_keys)
        if upload is None:
            return await self._client.post(path, content=content, cast_to=Response, options=options)
        options["headers"] = {"Content-Type": "multipart/form-data"}
        fields, files = upload
        return await self._client.post(path, body=fields, files=files, cast_to=Response, options=options)

    def _models(self, body: Json) -> list[str]:
        """The names in a list of models."""
        return values.names(body.get("data"), "id")

    def _failure(self, error: Exception, request: CompletionRequest | None) -> ProviderError:
        response = getattr(error, "response", None)
        if response is None or response.status_code < 300:
            return self._unanswered(error, request)
        found = select_headers(response.headers.raw)
        return self._answered_error(error_in(response.content), response.status_code, found, request)

    def _unanswered(self, error: Exception, request: CompletionRequest | None) -> ProviderError:
        """By the transport's exception, else by the class of the SDK's."""
        from .transport import verdict_on

        verdict, said = verdict_on(error) or (by_class(error, self.classes), error)
        return self._errors.of_exception(verdict, said, request)

    async def _receive(self, awaited: Awaitable[_T], request: CompletionRequest | None) -> _T:
        """What is awaited of a body."""
        try:
            return await awaited
        except Exception as error:  # as in `_exchange`
            raise self._failure(error, request) from error

    def _broken(
        self,
        error: Exception,
        request: CompletionRequest,
        found: Mapping[str, str],
        limits: tuple[LimitReport, ...],
        *,
        at_end: bool,
    ) -> Exception:
        """What an error in the events of a stream means."""
        if isinstance(error, ErrorEvent):
            return self._answered_error(error.error, status_in(error.error), found, request)
        if isinstance(error, BrokenStream | EventTooLong):
            cut = at_end and isinstance(error, BrokenStream)
            message = "the stream was cut off within an event" if cut else str(error)
            return self._unusable(InvalidResponse, message, request, limits)
        return error
