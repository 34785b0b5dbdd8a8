"""A worker keeps what it promises in `port.py`, whatever messages come and when."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from src.errors import RateLimited, TimedOut
from src.messages import Message
from src.records import Completion, CompletionRequest, FinishReason, Usage
from src.workers.plain import decode_completion, decode_error, encode_request
from src.workers.port import PROTOCOL, Attach, CallMessage, Give, Inventory, Take, Taken
from src.workers.worker import MOST_OUTCOMES, Worker

DESCRIPTION: Any = {
    "name": "w1", "host": "h", "pid": 1, "version": "1", "configuration": "c", "fingerprints": {},
}  # fmt: skip


class Provider:
    """Answers each prompt with itself when its gate opens; `refuse` raises, `break` breaks."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.called: list[str] = []

    async def __call__(self, provider: str, request: CompletionRequest) -> Completion:
        prompt = request.messages[0].text
        self.called.append(prompt)
        await self.gate.wait()
        if prompt.startswith("silence"):
            await asyncio.sleep(0.3)
            raise TimedOut("no answer", provider=provider)
        if prompt == "refuse":
            raise RateLimited("slow down", provider=provider, retry_after_s=3.0)
        if prompt == "break":
            raise ZeroDivisionError
        return Completion(f"re: {prompt}", FinishReason.STOP, Usage(1, 0, 0, 2, 0), request.model)


class Leader:
    """A leader of one worker, which sends what the tests tell it to."""

    def __init__(self, worker: Worker, epoch: int = 1, lease_left_s: float = math.inf) -> None:
        self.worker, self.epoch, self.lease_left_s = worker, epoch, lease_left_s
        self.session, self.stamp, self.protocol = "", 0.0, PROTOCOL

    def header(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol, "epoch": self.epoch, "session": self.session,
            "stamp": self.stamp, "lease_left_s": self.lease_left_s,
        }  # fmt: skip

    async def attach(self) -> Inventory:
        message: Attach = {**self.header(), "leader": "a leader"}  # type: ignore[typeddict-item]
        found = await self.worker.attach(message)
        self.session, self.stamp = found["session"], found["clock"]
        return found

    async def give(self, *prompts: str, cancel: tuple[str, ...] = ()) -> str:
        calls = [call(prompt) for prompt in prompts]
        message: Give = {**self.header(), "calls": calls, "cancel": list(cancel)}  # type: ignore[typeddict-item]
        return (await self.worker.give(message))["refused"]

    async def take(self, *acknowledged: str, wait_s: float = 5.0) -> Taken:
        message: Take = {
            **self.header(),
            "acknowledged": list(acknowledged),
            "wait_s": wait_s,
            "linger_s": 0.0,
        }  # type: ignore[typeddict-item]
        return await self.worker.take(message)

    async def take_keys(self, *acknowledged: str, wait_s: float = 5.0) -> list[str]:
        return [each["key"] for each in (await self.take(*acknowledged, wait_s=wait_s))["outcomes"]]


def call(prompt: str) -> CallMessage:
    """Its key is its prompt."""
    request = CompletionRequest("m", (Message("user", prompt),), 10)
    return {
        "key": prompt, "provider": "openai", "model": "m", "agent": "a",
        "request": encode_request(request), "facts": {"row": 7},
    }  # fmt: skip


Story = Callable[[Worker, Provider], Awaitable[None]]


def tell(story: Story) -> None:
    async def run() -> None:
        provider = Provider()
        worker = Worker(DESCRIPTION, provider)
        try:
            await story(worker, provider)
        finally:
            await worker.stop()

    asyncio.run(run())


def test_an_outcome_is_an_answer_an_error_or_our_own_mistake() -> None:
    async def story(worker: Worker, _: Provider) -> None:
        leader = Leader(worker)
        await leader.attach()
        await leader.give("a", "refuse", "break")
        found = {each["key"]: each for each in (await leader.take())["outcomes"]}
        answer, refusal, mistake = found["a"], found["refuse"], found["break"]
        assert answer["completion"] is not None and decode_completion(answer["completion"]).text == "re: a"
        assert refusal["error"] is not None and mistake["error"] is not None
        error = decode_error(refusal["error"], 0.0)
        assert isinstance(error, RateLimited) and error.retry_after_s == 3.0
        assert mistake["error"]["kind"] == "InternalError"
        assert [each["status"] for each in (answer, refusal, mistake)] == ["answered", "failed", "failed"]

    tell(story)


def test_a_call_that_is_given_twice_is_made_once_even_after_it_was_forgotten() -> None:
    async def story(worker: Worker, provider: Provider) -> None:
        leader = Leader(worker)
        await leader.attach()
        await leader.give("a")
        await leader.give("a")
        assert await leader.take_keys() == ["a"]
        await leader.give("a")
        assert await leader.take_keys("a", wait_s=0.0) == []
        await leader.give("a")
        assert await leader.take_keys(wait_s=0.0) == []
        assert provider.called == ["a"]

    tell(story)


def test_an_outcome_is_kept_until_it_is_acknowledged() -> None:
    async def story(worker: Worker, _: Provider) -> None:
        leader = Leader(worker)
        await leader.attach()
        await leader.give("a", "b")
        assert await leader.take_keys() == ["a", "b"]
        assert await leader.take_keys("b", wait_s=0.0) == []  # sent once per attach
        found = await leader.attach()
        assert [(each["key"], each["ended"]) for each in found["calls"]] == [("a", True)]
        assert await leader.take_keys() == ["a"]
        await leader.take("a", wait_s=0.0)
        assert (await leader.attach())["calls"] == []

    tell(story)


def test_the_next_leader_adopts_what_runs_and_what_has_ended() -> None:
    async def story(worker: Worker, provider: Provider) -> None:
        first, second = Leader(worker, epoch=1), Leader(worker, epoch=2)
        await first.attach()
        await first.give("ended")
        await first.take()
        provider.gate.clear()
        await first.give("running")
        found = await second.attach()
        assert [(each["key"], each["ended"], each["facts"]) for each in found["calls"]] == [
            ("ended", True, {"row": 7}),
            ("running", False, {"row": 7}),
        ]
        provider.gate.set()
        taken = await second.take_keys()
        taken += await second.take_keys(wait_s=0.2)
        assert taken == ["ended", "running"]
        assert provider.called == ["ended", "running"]

    tell(story)


def test_a_lower_epoch_is_refused_and_changes_nothing() -> None:
    async def story(worker: Worker, provider: Provider) -> None:
        old, new = Leader(worker, epoch=1), Leader(worker, epoch=2)
        await old.attach()
        waiting = asyncio.create_task(old.take())
        await asyncio.sleep(0)
        await new.attach()
        assert (await waiting)["refused"] == "epoch"  # at once, not when its wait ends
        await new.give("a")
        assert await old.give("b", cancel=("a",)) == "epoch"
        assert (await old.take("a"))["refused"] == "epoch"
        assert (await old.attach())["refused"] == "epoch"
        assert await new.take_keys() == ["a"]
        assert provider.called == ["a"]

    tell(story)


def test_another_life_of_a_worker_takes_no_calls_for_its_last_one() -> None:
    async def story(worker: Worker, provider: Provider) -> None:
        leader = Leader(worker)
        await leader.attach()
        leader.worker = Worker(DESCRIPTION, provider)
        assert await leader.give("a") == "session"
        assert (await leader.take())["refused"] == "session"
        await leader.attach()
        assert await leader.give("a") == ""

    tell(story)


@pytest.mark.parametrize("message", ["attach", "give", "take"])
def test_another_protocol_is_refused(message: str) -> None:
    async def story(worker: Worker, _: Provider) -> None:
        leader = Leader(worker)
        await leader.attach()
        leader.protocol = PROTOCOL + 1
        found = await getattr(leader, message)()
        assert (found if isinstance(found, str) else found["refused"]) == "protocol"

    tell(story)


def test_a_call_that_comes_after_the_lease_is_not_started() -> None:
    """However long its message was on the way: the lease is told in the worker's own clock."""

    async def story(worker: Worker, provider: Provider) -> None:
        leader = Leader(worker, lease_left_s=8.0)
        await leader.attach()
        leader.stamp -= 8.0  # the worker was stopped for so long after the last reply
        await leader.give("late")
        found = (await leader.take())["outcomes"][0]
        assert (found["status"], provider.called) == ("not_started", [])
        leader.stamp = (await leader.take(wait_s=0.0))["clock"]
        await leader.give("in time")
        assert (await leader.take())["outcomes"][0]["status"] == "answered"

    tell(story)


def test_a_call_that_is_cancelled_is_cut_off_and_one_that_has_ended_is_not() -> None:
    async def story(worker: Worker, provider: Provider) -> None:
        leader = Leader(worker)
        await leader.attach()
        await leader.give("ended")
        await leader.take()
        provider.gate.clear()
        await leader.give("running")
        await leader.give("given", cancel=("ended", "running", "given", "unknown"))
        found = await leader.take()
        assert [(each["key"], each["status"]) for each in found["outcomes"]] == [
            ("running", "cut_off"),
            ("given", "cut_off"),
        ]

    tell(story)


def test_a_time_limit_counts_for_the_provider_only_while_the_worker_runs() -> None:
    async def story(worker: Worker, _: Provider) -> None:
        leader = Leader(worker)
        await leader.attach()
        await leader.give("silence")
        [found] = (await leader.take())["outcomes"]
        assert found["error"] and decode_error(found["error"], 0.0).kind == "TimedOut"
        await leader.take("silence", wait_s=0.0)
        await leader.give("silence, stopped")
        await asyncio.sleep(0)
        time.sleep(1.5)  # as a process that is stopped
        assert [each["status"] for each in (await leader.take())["outcomes"]] == ["cut_off"]

    tell(story)


def test_a_call_that_is_acknowledged_while_it_runs_is_cut_off_and_forgotten() -> None:
    """Its leader has given up waiting for it."""

    async def story(worker: Worker, provider: Provider) -> None:
        leader = Leader(worker)
        await leader.attach()
        provider.gate.clear()
        await leader.give("a")
        await leader.take("a", wait_s=0.05)
        assert (await leader.attach())["calls"] == []
        assert worker.in_flight == 0

    tell(story)


def test_a_take_whose_leader_has_attached_again_takes_nothing_with_it() -> None:
    async def story(worker: Worker, provider: Provider) -> None:
        leader = Leader(worker)
        await leader.attach()
        provider.gate.clear()
        await leader.give("a")
        lost = asyncio.create_task(leader.take())
        await asyncio.sleep(0)
        earlier, leader.session = leader.session, (await leader.attach())["session"]
        provider.gate.set()
        assert (await lost)["outcomes"] == []
        assert await leader.take_keys() == ["a"]
        leader.session = earlier
        assert await leader.give("b") == "session"  # a message that was long on the way

    tell(story)


def test_a_reply_brings_so_many_outcomes_at_most_and_the_rest_follows() -> None:
    async def story(worker: Worker, _: Provider) -> None:
        leader = Leader(worker)
        await leader.attach()
        keys = [f"k{n}" for n in range(MOST_OUTCOMES + 5)]
        await leader.give(*keys)
        while worker.in_flight:
            await asyncio.sleep(0)
        assert await leader.take_keys() + await leader.take_keys() == keys

    tell(story)


def test_a_worker_that_drains_ends_its_calls_and_starts_none() -> None:
    async def story(worker: Worker, provider: Provider) -> None:
        leader = Leader(worker)
        await leader.attach()
        provider.gate.clear()
        await leader.give("running")
        taking = asyncio.create_task(leader.take())
        await asyncio.sleep(0)
        worker.drain()
        assert (await taking)["draining"]  # it is told at once
        await leader.give("late")
        provider.gate.set()
        statuses = {each["key"]: each["status"] for each in (await leader.take())["outcomes"]}
        statuses |= {each["key"]: each["status"] for each in (await leader.take(wait_s=0.1))["outcomes"]}
        assert statuses == {"running": "answered", "late": "not_started"}

    tell(story)
