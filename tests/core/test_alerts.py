"""Alerts: a real webhook on loopback that answers, fails, hangs or is unreachable never delays a task."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from src.core.alerts import Alerter, AlertLimits, body_of
from src.errors import ConfigError
from src.records import Event

QUICK = AlertLimits(timeout_s=30.0, backoff_s=0.001)
PATH = "/services/T0SECRET/B0SECRET/x9SECRET"
EVENT = Event(
    1_795_420_800.0, "breaker_opened", "3 failures in a row", "openai", "t1", "alert", {"until_s": 30.0}
)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Hook:
    """A webhook: what it got, and how it answers (the last answer for good)."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    hold: asyncio.Event = field(default_factory=asyncio.Event)  # lets hanging answers go at the end

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.content_type == "application/json"
        self.bodies.append(await request.json())
        self.arrived.set()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await answer(request)

    async def hang(self, _: web.Request) -> web.StreamResponse:
        await self.hold.wait()
        return web.Response(text="late")


def says(status: int, text: str = "", **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text, headers=headers)

    return answer


OK = says(200, "ok")


@asynccontextmanager
async def served(*answers: Answer) -> AsyncIterator[Hook]:
    hook = Hook(answers=list(answers))
    app = web.Application()
    app.router.add_post(PATH, hook.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hook.url = f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"
    try:
        yield hook
    finally:
        hook.hold.set()
        await runner.cleanup()


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    async with served(OK) as running:
        yield running


@pytest.fixture
async def nowhere() -> str:
    """The address of a hook that has just gone."""
    async with served(OK) as gone:
        return gone.url


# ------------------------------------------------------------------ delivery


async def test_an_event_arrives_once_as_text_and_as_data(hook: Hook) -> None:
    alerter = Alerter(hook.url, limits=QUICK)
    alerter.send(EVENT)
    assert await alerter.close(30) == 0
    assert hook.bodies == [
        {
            "text": "[alert] breaker_opened openai: 3 failures in a row",
            "event": {
                "at": "2026-11-23T08:00:00+00:00",
                "kind": "breaker_opened",
                "level": "alert",
                "message": "3 failures in a row",
                "provider": "openai",
                "task_id": "t1",
                "fields": {"until_s": 30.0},
            },
        }
    ]
    assert alerter.delivered == 1


async def test_the_same_event_is_sent_once_and_another_one_again(hook: Hook) -> None:
    alerter = Alerter(hook.url, limits=QUICK)
    for event in (EVENT, replace(EVENT), replace(EVENT, at=EVENT.at + 60), EVENT):
        alerter.send(event)
    await alerter.close(30)
    assert len(hook.bodies) == 2


async def test_events_arrive_in_order(hook: Hook) -> None:
    alerter = Alerter(hook.url, limits=QUICK)
    for number in range(20):
        alerter.send(replace(EVENT, message=str(number)))
    await alerter.close(30)
    assert [body["event"]["message"] for body in hook.bodies] == [str(number) for number in range(20)]


FAILURES = [
    pytest.param(says(500), id="server error"),
    pytest.param(says(503, "down"), id="overloaded"),
    pytest.param(says(429, **{"Retry-After": "0"}), id="too fast"),
    pytest.param(says(429, **{"Retry-After": "soon"}), id="too fast, no number"),
]


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_webhook_that_fails_twice_gets_the_alert_at_the_third_try(failure: Answer) -> None:
    async with served(failure, failure, OK) as hook:
        alerter = Alerter(hook.url, limits=QUICK)
        alerter.send(EVENT)
        assert await alerter.close(30) == 0
    assert len(hook.bodies) == 3
    assert (alerter.delivered, alerter.failed) == (1, 0)


async def test_a_retry_after_is_obeyed_up_to_the_longest_wait() -> None:
    async with served(says(429, **{"Retry-After": "3600"}), OK) as hook:
        alerter = Alerter(hook.url, limits=replace(QUICK, backoff_max_s=0.01))
        alerter.send(EVENT)
        assert await alerter.close(30) == 0
    assert len(hook.bodies) == 2


async def test_after_three_failed_tries_the_next_alert_is_sent() -> None:
    async with served(says(500), says(500), says(500), OK) as hook:
        alerter = Alerter(hook.url, limits=QUICK)
        alerter.send(EVENT)
        alerter.send(replace(EVENT, message="the next"))
        assert await alerter.close(30) == 0
    assert [body["event"]["message"] for body in hook.bodies] == [EVENT.message] * 3 + ["the next"]
    assert (alerter.delivered, alerter.failed) == (1, 1)


@pytest.mark.parametrize("status", [301, 307, 400, 403, 404, 410])
async def test_a_final_answer_is_not_retried(status: int) -> None:
    async with served(says(status, "invalid_payload", Location="/elsewhere")) as hook:
        alerter = Alerter(hook.url, limits=QUICK)
        alerter.send(EVENT)
        assert await alerter.close(30) == 0
    assert len(hook.bodies) == 1
    assert alerter.failed == 1


async def test_an_accepted_alert_counts_as_delivered_without_the_body_of_the_answer() -> None:
    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        assert request.transport is not None
        request.transport.close()
        return response

    async with served(half) as hook:
        alerter = Alerter(hook.url, limits=QUICK)
        alerter.send(EVENT)
        assert await alerter.close(30) == 0
        assert (len(hook.bodies), alerter.delivered) == (1, 1)


# ------------------------------------------------------------------ never in the way


async def test_a_hanging_webhook_delays_neither_the_sender_nor_the_shutdown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served(OK) as hook:
        hook.answers = [hook.hang]
        alerter = Alerter(hook.url, limits=QUICK)
        alerter.send(EVENT)
        await asyncio.wait_for(hook.arrived.wait(), 60)
        alerter.send(replace(EVENT, message="behind it"))
        async with asyncio.timeout(60):
            assert await alerter.close(timeout_s=0.05) == 2
    assert "2 alerts left undelivered" in caplog.text
    assert repr(alerter) == "<Alerter closed, 2 waiting, 0 delivered, 0 failed, 0 dropped>"


async def test_a_hanging_webhook_is_given_up_after_its_timeout() -> None:
    async with served(OK) as hook:
        hook.answers = [hook.hang]
        alerter = Alerter(hook.url, limits=replace(QUICK, timeout_s=0.03))
        alerter.send(EVENT)
        assert await alerter.close(30) == 0
    assert (alerter.delivered, alerter.failed) == (0, 1)


async def test_an_unreachable_webhook_only_leaves_a_line_in_the_log(
    nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    alerter = Alerter(nowhere, limits=QUICK)
    alerter.send(EVENT)
    assert await alerter.close(30) == 0
    assert alerter.failed == 1
    assert "alert failed (breaker_opened): no connection (ClientConnectorError)" in caplog.text


async def test_a_full_queue_drops_the_newest_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with served(OK) as hook:
        hook.answers = [hook.hang]
        alerter = Alerter(hook.url, limits=replace(QUICK, queue=2))
        for number in range(5):  # the task that delivers has no turn in between
            alerter.send(replace(EVENT, message=str(number)))
        assert (alerter.accepted, alerter.dropped) == (2, 3)
        await asyncio.wait_for(hook.arrived.wait(), 60)
        alerter.send(replace(EVENT, message="4"))  # dropped before, so not yet sent
        assert alerter.accepted == 3
        await alerter.close(timeout_s=0.01)
    assert caplog.text.count("alert dropped") == 3


@pytest.mark.parametrize("url", [None, "", "  "])
async def test_without_a_url_nothing_happens(url: str | None) -> None:
    alerter = Alerter(url)
    alerter.send(EVENT)
    assert not alerter.enabled
    assert await alerter.close(30) == 0
    assert alerter.accepted == 0


async def test_a_closed_alerter_takes_no_event_and_can_be_closed_again(hook: Hook) -> None:
    alerter = Alerter(hook.url, limits=QUICK)
    alerter.send(EVENT)
    assert [await alerter.close(30), await alerter.close(30)] == [0, 0]
    alerter.send(replace(EVENT, message="too late"))
    assert alerter.accepted == len(hook.bodies) == 1


async def test_a_session_that_was_passed_in_stays_open(hook: Hook) -> None:
    async with aiohttp.ClientSession() as session:
        alerter = Alerter(hook.url, session=session, limits=QUICK)
        alerter.send(EVENT)
        await alerter.close(30)
        assert not session.closed
    assert len(hook.bodies) == 1


async def test_a_cancelled_close_leaves_nothing_open() -> None:
    async with served(OK) as hook:
        hook.answers = [hook.hang]
        alerter = Alerter(hook.url, limits=QUICK)
        alerter.send(EVENT)
        await asyncio.wait_for(hook.arrived.wait(), 60)
        ending = asyncio.create_task(alerter.close(60))
        await asyncio.sleep(0)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "alerts"]


# ------------------------------------------------------------------ the test alert


@pytest.mark.parametrize(
    ("answer", "ok", "report"),
    [
        pytest.param(OK, True, "200 ok", id="taken"),
        pytest.param(says(404, "no_service"), False, "404 no_service", id="refused"),
        pytest.param(says(500), False, "500", id="no words"),
        pytest.param(says(404, f"Cannot POST {PATH}"), False, "404 Cannot POST ***", id="names the path"),
    ],
)
async def test_a_test_alert_reports_the_hooks_answer(answer: Answer, ok: bool, report: str) -> None:
    async with served(answer) as hook:
        alerter = Alerter(hook.url, limits=QUICK)
        result = await alerter.send_test()
        await alerter.close(30)
    assert (result.ok, str(result)) == (ok, report)
    assert [body["event"]["kind"] for body in hook.bodies] == ["alert_test"]


async def test_a_test_alert_reports_why_there_was_no_answer(nowhere: str) -> None:
    alerter = Alerter(nowhere, limits=QUICK)
    result = await alerter.send_test()
    await alerter.close(30)
    assert (result.ok, str(result)) == (False, "no connection (ClientConnectorError)")
    assert "ALERT_WEBHOOK_URL" in str(await Alerter(None).send_test())


# ------------------------------------------------------------------ what must not leave, or be seen


def test_only_harmless_plain_fields_are_sent() -> None:
    fields = {
        "models": ["a"],
        "prompt": "tell me",
        "system_prompt": "you are",
        "api_key": "abc",
        "key": "abc",
        "x-api-key": "abc",
        "Authorization": "abc",
        "base_url": "https://u:p@host",
        "nested": {"prompt": "tell me"},
        "messages": "hi",
        "reason": "daily quota",
        "until_s": 3.5,
        "output_tokens": 12,
        "forced": True,
        "ratio": float("nan"),
        "nothing": None,
    }
    passed = body_of(replace(EVENT, fields=fields))["event"]["fields"]
    assert passed == {"reason": "daily quota", "until_s": 3.5, "output_tokens": 12, "forced": True}


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-abcDEF123456",
        "sk-ant-api03-abc_DEF-123",
        "sk-abc***********xyz",
        "gsk_abcdefgh12345678",
        "AIzaSyA-1234567890abcdef",
        "xoxb-1234567890-abcdef",
        "Bearer abcdefghijklmnop.q",
        "https://hooks.slack.com/services/T1/B1/x",
    ],
)
def test_everything_that_looks_like_a_key_is_masked(key: str) -> None:
    event = replace(EVENT, message=f"refused: {key}, sorry", fields={"reason": f"because of {key}"})
    assert key not in json.dumps(body_of(event))
    assert "sorry" in body_of(event)["text"]


def test_ordinary_words_are_not_masked() -> None:
    words = "risk-adjusted skeletons: basic authentication failed for task-12345678901 (sk-1)"
    assert body_of(replace(EVENT, message=words))["event"]["message"] == words


def test_long_texts_are_cut() -> None:
    body = body_of(replace(EVENT, message="x" * 5_000, fields={"reason": "y" * 5_000}))
    assert len(body["text"]) < 1_100
    assert len(body["event"]["fields"]["reason"]) == 200


def test_a_message_makes_no_mention_in_slack() -> None:
    text = body_of(replace(EVENT, message="<!channel> a <b> & c"))["text"]
    assert text.endswith("&lt;!channel&gt; a &lt;b&gt; &amp; c")


@pytest.mark.parametrize("last", [says(404, f"no hook at {PATH}"), says(500)])
async def test_the_address_of_the_webhook_appears_nowhere(
    last: Answer, nowhere: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("aiohttp.access").setLevel(logging.ERROR)  # the log of the webhook's server
    async with served(last) as hook:
        for url in (hook.url, nowhere):
            alerter = Alerter(url, limits=QUICK)
            alerter.send(EVENT)
            await alerter.close(30)
            assert "SECRET" not in repr(alerter)
    assert caplog.records
    assert not [record for record in caplog.records if "SECRET" in str(record.__dict__)]


@pytest.mark.parametrize(
    "url", ["hooks.example/SECRET", "ftp://host/SECRET", "http:///SECRET", "http://[SECRET"]
)
def test_an_invalid_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError, match="ALERT_WEBHOOK_URL") as caught:
        Alerter(url)
    shown = f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"
    assert "SECRET" not in shown
