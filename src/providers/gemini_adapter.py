"""Gemini over google-generativeai, its REST transport, and threads: its async calls do not work over REST.

The package is configured for a whole process. Here each adapter has a service client of its own instead, so
that two providers of this API format, or two base URLs, do not overwrite each other's.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any
from urllib.parse import urlsplit

from ..config import ProviderAccess
from ..errors import (
    ContentRefused,
    InvalidResponse,
    ProviderError,
    QuotaExhausted,
    TimedOut,
    Unreachable,
    UnusableAnswer,
)
from ..pacific import next_midnight_pacific
from ..records import Completion, CompletionRequest, FinishReason
from . import values
from .base import LateUsageCallback
from .error_bodies import error_beside, error_in, status_in
from .error_classes import ErrorAnswer
from .failures import ErrorFactory
from .gemini_reading import (
    BLOCK_NUMBERS,
    CODES,
    FINISH,
    FINISH_NUMBERS,
    answer_text,
    enum_name,
    other_content,
    reported_usage,
    token_quota,
    verdict_on,
)
from .headers import answered_at, google_details
from .network import GRACE_S, NO_KEY, REDIRECTS_FOLLOWED, is_loopback
from .prompts import Json, apply_schema, system_apart, why_unusable
from .threads import DaemonPool, run_in_thread
from .usage import NO_REASON, NOTHING, Reported, is_whole, of_answer, of_error

_HEALTH_THREADS = 2  # of their own: a health call must not wait behind the calls that hang

_ANSWER_KEYS = ("candidates", "promptFeedback")


class GeminiAdapter:
    """Gemini, or a server that speaks its format.

    Each call takes a thread. A task that is cancelled moves on at once; its thread goes on until the exchange
    ends, and then reports what it has used to `on_late_usage`, on the event loop.
    """

    def __init__(
        self,
        access: ProviderAccess,
        slots: int,
        max_bytes: int,
        on_late_usage: LateUsageCallback | None = None,
    ) -> None:
        self.name = access.name
        self._base_url = access.base_url
        self._key = access.key.get_secret_value()
        self._slots, self._max_bytes = slots, max_bytes
        self._connect_timeout_s = access.config.connect_timeout_s
        self._schema_form = access.config.api.schema_form
        self._on_late_usage = on_late_usage
        self._errors = ErrorFactory(access.name, self._key)
        # Twice as many as calls: cancelled calls keep their threads until their own time limit.
        self._calls = DaemonPool(2 * slots, f"{access.name}-call")
        self._health = DaemonPool(_HEALTH_THREADS, f"{access.name}-health")
        self._clients: tuple[Any, Any] | None = None  # for generating, for listing models
        self._last = threading.local()  # the last response of the thread
        self._building = asyncio.Lock()
        self._closed = False

    async def warm_up(self) -> None:
        """Import the package and build the clients, in a thread of its own: it takes a second or two."""
        async with self._building:
            if self._clients is None and not self._closed:
                self._clients = await run_in_thread(self._build, f"{self.name}-warm-up")

    async def complete(self, request: CompletionRequest) -> Completion:
        """One exchange. Raises a `ProviderError` subclass for everything that is not a usable answer."""
        generating, _ = await self._ready(request)
        future = self._calls.submit(functools.partial(self._generate, generating, request))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            loop = asyncio.get_running_loop()
            future.add_done_callback(functools.partial(self._report_late_usage, loop, request))
            raise

    async def list_models(self, timeout_s: float) -> list[str]:
        """The provider's models: a free health check. Raises like `complete`."""
        _, listing = await self._ready(None)
        future = self._health.submit(functools.partial(self._list, listing, timeout_s))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise self._errors.error(TimedOut, f"no models within {timeout_s:g} s", None) from error

    async def close(self) -> None:
        """Close all connections that are free. Safe to call twice; waits for no thread."""
        self._closed = True
        self._calls.close()
        self._health.close()
        async with self._building:  # a client that is being built is closed too
            clients, self._clients = self._clients, None
        for client in clients or ():
            client.transport.close()

    # -- on the event loop

    async def _ready(self, request: CompletionRequest | None) -> tuple[Any, Any]:
        if self._clients is None:
            await self.warm_up()
        if self._clients is None or self._closed:
            raise self._errors.error(Unreachable, "the adapter is closed", request, sent=False)
        return self._clients

    def _report_late_usage(
        self, loop: asyncio.AbstractEventLoop, request: CompletionRequest, future: Future[Completion]
    ) -> None:
        if self._on_late_usage is None or future.cancelled():
            return
        error = future.exception()
        usage = getattr(error, "usage", None) if error else future.result().usage
        if usage is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._on_late_usage, request, usage)

    # -- in a thread

    def _build(self) -> tuple[Any, Any]:
        _import_quietly()
        from google.ai.generativelanguage import GenerativeServiceClient, ModelServiceClient

        options = {"api_key": self._key or NO_KEY, "api_endpoint": self._base_url}
        clients = tuple(
            cls(transport="rest", client_options=options)
            for cls in (GenerativeServiceClient, ModelServiceClient)
        )
        for client in clients:
            self._set_up(client.transport._session)
        return clients[0], clients[1]

    def _set_up(self, session: Any) -> None:
        """The transport's `requests` session: as many connections as threads, one exchange a call."""
        from http.cookiejar import DefaultCookiePolicy

        from requests.utils import get_environ_proxies

        from .requests_transport import BoundedAdapter

        # By default a session reads the environment and ~/.netrc for each request, a quarter of its cost.
        session.trust_env = False
        if not is_loopback(self._base_url):
            session.proxies = get_environ_proxies(self._base_url)
            session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        adapter = BoundedAdapter(self._slots, self._max_bytes, self._remember)
        session.mount(f"{urlsplit(self._base_url).scheme}://", adapter)
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.max_redirects = REDIRECTS_FOLLOWED
        session._max_refresh_attempts = 0  # a 401 would be sent twice more, with the same key

    def _remember(self, response: Any, body: bytes) -> None:
        self._last.response, self._last.body = response, body

    def _options(self, timeout_s: float) -> Json:
        """One attempt, with a limit for connecting and one for silence.

        The package does not know a pair as a timeout; a decorator passes it to `requests` unchanged.
        """
        limits = (self._connect_timeout_s, timeout_s)
        return {"retry": None, "timeout": lambda call: functools.partial(call, timeout=limits)}

    def _generate(self, client: Any, request: CompletionRequest) -> Completion:
        model, contents, config = self._prepared(request)
        model._client = client  # else it takes the one of the process, with a key of the environment
        options = self._options(request.timeout_s + GRACE_S)
        self._last.response = None
        with self._translated(request):
            model.generate_content(contents, generation_config=config, request_options=options)
        body, warnings = self._json(request)
        return self._errors.without_key_in(self._completion(body, request, warnings))

    def _list(self, client: Any, timeout_s: float) -> list[str]:
        self._last.response = None
        with self._translated(None):
            client.list_models(request={"page_size": 1000}, **self._options(timeout_s))
        body, _ = self._json(None)
        listed = map(self._errors.mask_key, values.names(body.get("models"), "name"))
        return [name.removeprefix("models/") for name in listed]

    def _json(self, request: CompletionRequest | None) -> tuple[Json, tuple[str, ...]]:
        status = self._last.response.status_code
        if status >= 300:  # a redirect to nowhere, which the package takes
            raise self._answered_error(error_in(self._last.body), status, request)
        try:
            body, warnings = values.read_json(self._last.body)
        except values.NotJson as error:
            raise self._unusable(InvalidResponse, f"the answer is not JSON ({error})", request) from error
        if not isinstance(body, dict):
            raise self._unusable(InvalidResponse, "the answer is not a JSON object", request)
        return body, warnings

    @contextlib.contextmanager
    def _translated(self, request: CompletionRequest | None) -> Iterator[None]:
        """Turns what the package raises into a `ProviderError`."""
        try:
            yield
        except Exception as error:  # four packages may raise anything; none of it may end the pool
            raise self._failure(error, request) from error

    def _prepared(self, request: CompletionRequest) -> tuple[Any, list[Json], Json]:
        """The model object, the contents, and the generation config."""
        from google.generativeai import GenerativeModel

        messages, schema = apply_schema(request, self._schema_form)
        config: Json = {"max_output_tokens": request.max_tokens}
        if request.response_schema is not None and not request.parameters.get("schema_in_words"):
            config["response_mime_type"] = "application/json"  # every model can be held to JSON
        if schema is not None:
            config["response_schema"] = schema
        system, turns = system_apart(messages)
        if request.temperature is not None:
            config["temperature"] = request.temperature
        if request.top_p is not None:
            config["top_p"] = request.top_p
        if request.stop:
            config["stop_sequences"] = list(request.stop)
        model = GenerativeModel(request.model, system_instruction=system or None)
        roles = {"assistant": "model"}
        contents = [{"role": roles.get(t.role, t.role), "parts": [{"text": t.content}]} for t in turns]
        return model, contents, config

    def _failure(self, error: Exception, request: CompletionRequest | None) -> ProviderError:
        response = getattr(error, "response", None)
        response = self._last.response if response is None else response
        if response is None or response.status_code < 300:
            status = None if response is None else response.status_code
            return self._errors.of_exception(verdict_on(error), error, request, status)
        return self._answered_error(error_in(self._last.body), response.status_code, request)

    def _answered_error(self, error: Json, status: int, request: CompletionRequest | None) -> ProviderError:
        """The error that the provider answered with; `error` is as `error_in` reads it."""
        response = self._last.response
        headers = {name.lower(): values.text(value) for name, value in response.headers.items()}
        reasons, quotas, delay_s = google_details(error.get("details"))
        now = time.time()
        answered = answered_at(headers, now)
        daily = next((quota for quota in quotas if "PerDay" in quota), "")
        answer = ErrorAnswer(
            status,
            (*reasons, daily, values.text(error.get("status"))),
            error["message"] or values.text(response.reason),
            headers,
            retry_after_s=delay_s,
            resets_at=now + next_midnight_pacific(answered) - answered if daily else None,
            from_api=not error["is_page"],
            flagged=error["is_flagged"],
            token_limit=token_quota(error.get("details")),
        )
        codes = {**CODES, daily: QuotaExhausted} if daily else CODES
        return self._errors.of_answer(answer, codes, request, now)

    def _completion(self, body: Json, request: CompletionRequest, warnings: tuple[str, ...]) -> Completion:
        if error := error_beside(body, _ANSWER_KEYS):
            raise self._answered_error(error, status_in(error), request)
        used = reported_usage(body.get("usageMetadata"))
        reason = enum_name(values.mapping(body.get("promptFeedback")).get("blockReason"), BLOCK_NUMBERS)
        if reason and reason != BLOCK_NUMBERS[0]:
            raise self._unusable(ContentRefused, f"refused the prompt ({reason})", request, used, reason)
        candidates = values.sequence(body.get("candidates"))
        if not candidates:
            raise self._unusable(InvalidResponse, "the answer has no candidate", request, used)
        candidate = values.mapping(candidates[0])
        parts = values.mapping(candidate.get("content")).get("parts")
        text = answer_text(parts)
        reason = enum_name(candidate.get("finishReason"), FINISH_NUMBERS)
        finish = FINISH.get(reason.upper(), UnusableAnswer)
        if finish is None and is_whole(used, request, text):
            finish, warnings = FinishReason.OTHER, (*warnings, NO_REASON)
        if unusable := why_unusable(text, finish, reason, other_content(parts)):
            raise self._unusable(*unusable, request, used, reason)
        usage, estimated = of_answer(used, request, text)
        model = values.text(body.get("modelVersion")) or request.model
        ident = values.text(body.get("responseId"))
        end = finish if isinstance(finish, FinishReason) else FinishReason.OTHER
        return Completion(text, end, usage, model, (), estimated + warnings, ident)

    def _unusable(
        self,
        cls: type[ProviderError],
        message: str,
        request: CompletionRequest | None,
        used: Reported = NOTHING,
        code: str = "",
    ) -> ProviderError:
        usage = of_error(used, request) if request else None
        return self._errors.error(cls, message, request, status=200, code=code, usage=usage)


def _import_quietly() -> None:
    """Import the package without its deprecation notice and the one of its dependencies.

    The filters are for these messages only, and stay: switching all warnings off around the import would hide
    those of other threads.
    """
    for message in (r"\s*All support for the `google\.generativeai`", r"You are using a Python version"):
        warnings.filterwarnings("ignore", message=message, category=FutureWarning)
    import google.generativeai  # noqa: F401
