"""Alerts: one POST to a webhook for each event of the level `alert`. Delivery never delays a task.

Rules

1. `send` puts the event into a bounded queue and returns. It never waits, raises nothing while the webhook is
   down, and drops the event, with a line in the log, when the queue is full.
2. One asyncio task delivers in order, one event at a time, with `tries` tries. The pause between them is
   `backoff_s`, doubled each time, or the Retry-After of the webhook, up to `backoff_max_s`. No connection, no
   answer in time, 429 and 5xx are retried. Any other answer but 2xx is final: the same body would be refused
   again. Redirects are not followed, since the body is meant for the configured address.
3. An event that was sent before (same time, kind, provider, task and message) is not sent again. A webhook
   that received an alert without confirming it gets it twice.
4. The body is what Slack's incoming webhooks take, `{"text": ...}`, with the same as data beside it:

       {"text": "[alert] breaker_opened openai: 3 failures in a row",
        "event": {"at": "2026-11-23T08:00:00+00:00", "kind": ..., "level": ..., "message": ...,
                  "provider": ..., "task_id": ..., "fields": {...}}}

   `text` also has the times of the fields (`until`), with their zone, since readers may be in any zone. Slack
   shows `text` and ignores the rest; other receivers read `event`.
5. Nothing confidential leaves: of the event's fields only short plain values pass, none with a name like
   content or a credential, and everything that looks like a key is masked. Texts are cut.
6. The URL is itself a secret. It is in no log line, no repr and no error; errors are named by their class.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp
from yarl import URL

from ..errors import ConfigError
from ..masking import MASK, without_keys
from ..records import Event
from .event_text import event_text

logger = logging.getLogger(__name__)
Keep = Callable[[str, Callable[[], Awaitable[None]]], Coroutine[Any, Any, None]]

_TEXT_CHARS = 1_000  # of a message, since a provider's error may quote whole prompts
_FIELD_CHARS = 200
_ANSWER_BYTES = 500  # of the webhook's answer, which is one word from Slack
_REMEMBERED = 2_000  # events that were sent
_CONFIDENTIAL_NAMES = re.compile(
    r"prompt|message|content|output|answer|text|system|secret|token$|password|authorization|header|cookie"
    r"|(?:^|[-_])key$|apikey|credential|url",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class AlertLimits:
    """Limits of the queue and of delivery. Seconds; `timeout_s` is for one whole try."""

    queue: int = 200
    tries: int = 3
    timeout_s: float = 10.0
    backoff_s: float = 1.0
    backoff_max_s: float = 30.0


@dataclass(frozen=True, slots=True)
class HookAnswer:
    """The webhook's answer to one try: its status and first words, or in `text` why there is none."""

    status: int | None
    text: str
    retry_after_s: float | None = None

    @property
    def ok(self) -> bool:
        """Whether the alert was accepted."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def worth_another_try(self) -> bool:
        """Whether the same alert may be accepted later."""
        return self.status is None or self.status == 429 or self.status >= 500

    def __str__(self) -> str:
        return self.text if self.status is None else f"{self.status} {self.text}".rstrip()


class Alerter:
    """Sends events to `url`; with None or an empty one it does nothing. For one event loop.

    `session`: used and left open; without one the alerter makes its own at the first alert, and `close`
    closes it. `keep` restarts the delivery where it fails, as `Supervisor.keep` does.

    Raises ConfigError for an invalid URL, without repeating it.
    """

    def __init__(
        self,
        url: str | None,
        *,
        session: aiohttp.ClientSession | None = None,
        limits: AlertLimits | None = None,
        keep: Keep | None = None,
    ) -> None:
        self._url = _checked(url) if url and url.strip() else None
        self._limits = limits or AlertLimits()
        self._session, self._owns_session = session, session is None
        self._keep = keep
        self._queue: asyncio.Queue[Event] = asyncio.Queue(self._limits.queue)
        self._sent: dict[tuple[object, ...], None] = {}  # in order of arrival
        self._worker: asyncio.Task[None] | None = None
        self._closed = False
        self.accepted = self.delivered = self.failed = self.dropped = 0

    def __repr__(self) -> str:
        state = "closed" if self._closed else "on" if self._url else "off"
        return (
            f"<Alerter {state}, {self.waiting} waiting, {self.delivered} delivered,"
            f" {self.failed} failed, {self.dropped} dropped>"
        )

    @property
    def enabled(self) -> bool:
        """Whether alerts are sent at all."""
        return self._url is not None and not self._closed

    @property
    def waiting(self) -> int:
        """Alerts that are neither delivered nor given up, the one on its way included."""
        return self.accepted - self.delivered - self.failed

    def send(self, event: Event) -> None:
        """Queue an event and return at once. Needs a running event loop."""
        if self._url is None or self._closed or _identity(event) in self._sent:
            return
        if self._worker is None or self._worker.done():
            job = partial(self._deliver_all, self._url)
            working = job() if self._keep is None else self._keep("alerts", job)
            self._worker = asyncio.get_running_loop().create_task(working, name="alerts")
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.dropped += 1
            self._log("dropped", event, "too many alerts are waiting")
        else:
            self.accepted += 1
            self._remember(event)

    def send_alerts(self, events: Iterable[Event]) -> None:
        """Queue the alerts among `events`."""
        for event in events:
            if event.level == "alert":
                self.send(event)

    async def send_test(self) -> HookAnswer:
        """Send one alert now, past the queue and without a retry. Returns the webhook's answer."""
        if self._url is None:
            return HookAnswer(None, "no webhook is set: put its address into ALERT_WEBHOOK_URL")
        now = datetime.now(UTC).timestamp()
        return await self._post(self._url, Event(now, "alert_test", "This is a test. Alerts arrive here."))

    async def close(self, timeout_s: float = 5.0) -> int:
        """Deliver for at most `timeout_s` more, then stop. Returns how many are left. Safe to call twice."""
        self._closed = True
        worker, self._worker = self._worker, None
        try:
            if worker is not None:
                await self._flush(worker, timeout_s)
        finally:
            if self._owns_session and self._session is not None:
                session, self._session = self._session, None
                await session.close()
        return self.waiting

    async def _flush(self, worker: asyncio.Task[None], timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._queue.join()
        except TimeoutError:
            logger.warning("%d alerts left undelivered", self.waiting, extra={"action": "alerts_left"})
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    # ------------------------------------------------------------ delivery

    async def _deliver_all(self, url: URL) -> None:
        while True:
            event = await self._queue.get()
            try:
                await self._deliver(url, event)
            except Exception:
                self.failed += 1
                raise  # `keep` reports it and restarts this
            finally:
                self._queue.task_done()

    async def _deliver(self, url: URL, event: Event) -> None:
        for number in range(1, self._limits.tries + 1):
            answer = await self._post(url, event)
            if answer.ok:
                self.delivered += 1
                return
            if number == self._limits.tries or not answer.worth_another_try:
                break
            await asyncio.sleep(self._backoff_s(number, answer.retry_after_s or 0.0))
        self.failed += 1
        self._log("failed", event, str(answer))

    def _backoff_s(self, number: int, asked_s: float) -> float:
        wanted_s = max(self._limits.backoff_s * 2.0 ** (number - 1), asked_s)
        return min(wanted_s, self._limits.backoff_max_s)

    async def _post(self, url: URL, event: Event) -> HookAnswer:
        """One try. Raises nothing, since the text of an error may contain the URL."""
        try:
            async with self._open_session().post(
                url,
                data=json.dumps(body_of(event)),
                headers={"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=self._limits.timeout_s),
                allow_redirects=False,
            ) as response:
                words = await _first_words(response)
                return HookAnswer(response.status, _without(url, words), _retry_after_s(response.headers))
        except TimeoutError:
            return HookAnswer(None, f"no answer within {self._limits.timeout_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return HookAnswer(None, f"no connection ({type(error).__name__})")

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(trust_env=True)  # a company's proxy, as for the providers
        return self._session

    def _remember(self, event: Event) -> None:
        self._sent[_identity(event)] = None
        if len(self._sent) > _REMEMBERED:
            del self._sent[next(iter(self._sent))]

    @staticmethod
    def _log(what: str, event: Event, why: str) -> None:
        fields = {"action": f"alert_{what}", "kind": event.kind, "provider": event.provider, "why": why}
        logger.warning("alert %s (%s): %s", what, event.kind, why, extra=fields)


def body_of(event: Event) -> dict[str, Any]:
    """The JSON of one alert: `text` for people, `event` for programs. Neither is confidential."""
    message = _clean(event.message, _TEXT_CHARS)
    subject = " ".join(word for word in (event.kind, event.provider) if word)
    text = event_text(replace(event, message=message), with_zone=True)
    return {
        "text": _for_slack(f"[{event.level}] {subject}: {text}"),
        "event": {
            "at": datetime.fromtimestamp(event.at, UTC).isoformat(timespec="seconds"),
            "kind": event.kind,
            "level": event.level,
            "message": message,
            "provider": event.provider,
            "task_id": event.task_id,
            "fields": _plain_fields(event.fields),
        },
    }


def _identity(event: Event) -> tuple[object, ...]:
    return event.at, event.kind, event.provider, event.task_id, event.message


def _plain_fields(fields: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    """The fields that may be sent: numbers, booleans and short masked texts with harmless names."""
    plain: dict[str, str | int | float | bool] = {}
    for name, value in fields.items():
        if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
            plain[name] = value
        elif isinstance(value, str) and not _CONFIDENTIAL_NAMES.search(name):
            plain[name] = _clean(value, _FIELD_CHARS)
    return plain


def _clean(text: str, most: int) -> str:
    masked = without_keys(text)
    return masked if len(masked) <= most else masked[: most - 1] + "…"


def _for_slack(text: str) -> str:
    """Escape `<...>`, which Slack reads as links and mentions: a provider's message must not make one."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


async def _first_words(response: aiohttp.ClientResponse) -> bytes:
    """The beginning of the body, or nothing where it does not arrive: the status has decided already."""
    try:
        return await response.content.read(_ANSWER_BYTES)
    except (TimeoutError, aiohttp.ClientError):
        return b""


def _without(url: URL, words: bytes) -> str:
    """The text without the webhook's address, which an error page may quote whole or as a path."""
    text = words.decode("utf-8", "replace").strip()
    for secret in (str(url), url.raw_path_qs, url.path_qs):
        if len(secret) > 1:
            text = text.replace(secret, MASK)
    return text


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _checked(url: str) -> URL:
    try:
        parsed = URL(url.strip())
    except ValueError:
        parsed = URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(
            "not a valid webhook address", where="ALERT_WEBHOOK_URL", allowed="http(s)://host/path"
        )
    return parsed
