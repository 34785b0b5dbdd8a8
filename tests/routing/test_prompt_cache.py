"""Prefixes that tasks share: which calls write them to a cache, which read them, and which tasks wait."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from src.messages import Message
from src.records import Task, Usage
from src.routing.cost.prompt_cache import CACHE_S, KEPT, SHARED_BY, CacheLease, PromptCacheTracker
from src.settings import CachingSettings

from .build import START, WIDE, Desk, make_task, pause

LONG = "You label support mail by the rules below. " * 120  # 5,160 characters
OTHER = "You translate what you are given into plain words. " * 120
WROTE = Usage(input_tokens=20, cache_write_tokens=1_290, output_tokens=10)
READ = Usage(input_tokens=20, cache_read_tokens=1_290, output_tokens=10)
PLAIN = Usage(input_tokens=1_310, output_tokens=10)
MODEL = "claude-haiku-5-5"


def make_prefixes(**changes: Any) -> PromptCacheTracker:
    rows = {"enabled": True, "min_prefix_tokens": 1024, "cache_writer_wait_s": 4.0}
    return PromptCacheTracker(CachingSettings(**{**rows, **changes}))


def mail(number: int, *before: Message, system: str = LONG, **fields: Any) -> Task:
    messages = (Message("system", system), *before, Message("user", f"Mail {number}"))
    return Task(f"m{number}", "queue", messages, max_tokens=100, **fields)


def granted(
    prefixes: PromptCacheTracker, found: Any, provider: int = 0, how: str = "marks", now: float = 0.0
) -> CacheLease:
    lease = prefixes.grant(found, provider, MODEL, how, now)
    assert lease is not None
    return lease


# ---------------------------------------------------------------- which beginnings


def test_the_prefixes_are_the_system_prompt_and_all_but_the_last_message() -> None:
    shots = (Message("user", "Mail 0"), Message("assistant", "kind 3"))
    whole, system = make_prefixes().offered(mail(1, *shots))
    assert (whole.turns, system.turns) == (3, 1)
    assert make_prefixes().offered(mail(2)) == (system,)


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(mail(1, system="Be brief."), id="too short"),
        pytest.param(make_task(1, chars=9_000), id="nothing before the last message"),
        pytest.param(mail(1, Message("user", "a"), Message("system", "b")), id="system message further down"),
    ],
)
def test_a_prompt_without_a_long_prefix_has_none(task: Task) -> None:
    assert make_prefixes().offered(task) == ()


def test_another_schema_is_another_prefix() -> None:
    prefixes = make_prefixes()
    assert prefixes.offered(mail(1)) != prefixes.offered(mail(1, response_schema={"type": "object"}))


def test_switched_off_nothing_is_shared() -> None:
    assert make_prefixes(enabled=False).offered(mail(1)) == ()


def test_a_prefix_counts_from_the_third_task_that_has_it() -> None:
    prefixes = make_prefixes()
    for number in range(SHARED_BY - 1):
        found = prefixes.offered(mail(number))
        assert prefixes.grant(found, 0, MODEL, "marks", 0.0) is None
    assert granted(prefixes, prefixes.offered(mail(9))).writes


def test_the_longest_that_is_shared_counts() -> None:
    prefixes = make_prefixes()
    for number in range(SHARED_BY):
        own = Message("user", f"own {number}"), Message("assistant", "yes")
        found = prefixes.offered(mail(number, *own))
    assert granted(prefixes, found).prefix.turns == 1


# ---------------------------------------------------------------- writers and readers


def test_one_call_writes_and_those_after_its_answer_read() -> None:
    prefixes = make_prefixes()
    found = [prefixes.offered(mail(number)) for number in range(6)]
    first = granted(prefixes, found[0])
    beside = granted(prefixes, found[1])
    assert (first.marked, first.writes) == (True, True)
    assert (beside.marked, beside.writes) == (False, False)
    prefixes.settle(first, WROTE)
    after = granted(prefixes, found[2], now=2.0)
    assert (after.marked, after.writes) == (True, False)
    prefixes.settle(after, READ)
    last = 2.0 + CACHE_S
    assert granted(prefixes, found[3], now=last - 1.0).writes is False
    assert granted(prefixes, found[4], now=last).writes is True, "it was not read for five minutes"


def test_a_writer_that_fails_leaves_it_to_the_next() -> None:
    prefixes = make_prefixes()
    found = [prefixes.offered(mail(number)) for number in range(4)]
    prefixes.settle(granted(prefixes, found[0]), None)
    assert granted(prefixes, found[1]).writes


def test_a_model_that_does_not_cache_it_is_not_marked_again() -> None:
    prefixes = make_prefixes()
    found = [prefixes.offered(mail(number)) for number in range(4)]
    prefixes.settle(granted(prefixes, found[0]), PLAIN)
    assert not granted(prefixes, found[1]).marked
    assert granted(prefixes, found[2], provider=1).writes, "another provider may"


def test_where_nothing_is_marked_cached_tokens_show_that_it_is_warm() -> None:
    prefixes = make_prefixes()
    found = [prefixes.offered(mail(number)) for number in range(4)]
    lease = granted(prefixes, found[0], provider=2, how="")
    assert not lease.marked
    prefixes.settle(lease, PLAIN)
    assert prefixes.warm(lease.prefix, 1.0) == frozenset()
    prefixes.settle(granted(prefixes, found[1], provider=2, how=""), READ)
    assert prefixes.warm(lease.prefix, 1.0) == {2}


def test_a_prefix_that_was_never_used_is_forgotten_with_its_last_task() -> None:
    prefixes = make_prefixes()
    for found in [prefixes.offered(mail(number)) for number in range(5)]:
        prefixes.left(found)
    assert repr(prefixes) == "<PromptCacheTracker 0 known>"


# ---------------------------------------------------------------- in dispatch


def make_desk(**caching: Any) -> Desk:
    rows = {"enabled": True, "min_prefix_tokens": 1024, "cache_writer_wait_s": 4.0}
    return Desk(WIDE.model_copy(update={"caching": CachingSettings(**{**rows, **caching})}))


def test_tasks_wait_for_the_writer_and_then_go_where_it_went() -> None:
    desk = make_desk()
    for number in range(6):
        desk.offer(mail(number, providers=("anthropic", "openai")))
    desk.offer(make_task("plain"))
    placements = desk.go()
    assert sorted(p.task.id for p in placements) == ["m0", "plain"], "only one writes, the others wait"
    writer = next(p for p in placements if p.task.id == "m0")
    assert writer.cached_turns == 1
    desk.ok(writer, usage=WROTE)
    after = desk.go()
    assert {p.provider for p in after} == {writer.provider}
    assert {(p.cache_key, p.cached_turns) for p in after} == {(writer.cache_key, 1)}
    assert len(after) == 5


def test_no_task_waits_longer_than_the_cache_writer_wait() -> None:
    desk = make_desk()
    for number in range(6):
        desk.offer(mail(number, providers=("anthropic", "openai")))
    (writer,) = desk.go()
    assert desk.wake == pytest.approx(START + 4.0)
    desk.now = START + 4.0
    late = desk.go()
    assert len(late) == 5
    unmarked = [p for p in late if p.provider == writer.provider]
    assert all(not p.cached_turns and p.cache_key for p in unmarked)


def test_no_task_waits_for_a_writer_whose_cache_it_may_not_use() -> None:
    desk = make_desk()
    desk.offer(*[mail(number, providers=("anthropic",)) for number in range(3)])
    assert len(desk.go()) == 1
    desk.offer(mail(7, providers=("gemini", "openai")))
    assert [p.task.id for p in desk.go()] == ["m7"]


def test_those_that_wait_for_a_writer_are_woken_though_its_provider_is_held_meanwhile() -> None:
    desk = make_desk()
    desk.offer(*[mail(number, providers=("anthropic", "openai")) for number in range(4)])
    (writer,) = desk.go()
    for group in desk.provider(writer.provider).groups.values():
        group.hold(desk.now + 3.0, "429", desk.now)
    desk.dispatch.wake_all()
    assert desk.go() == []
    desk.ok(writer, 1.0, usage=WROTE)
    assert len(desk.go()) == 3, "the other serves them, or they know until when it is held"


def test_what_is_shared_no_more_since_one_was_withdrawn_is_not_waited_for() -> None:
    desk = make_desk()
    desk.offer(*[mail(number, providers=("anthropic",)) for number in range(SHARED_BY)])
    assert len(desk.go()) == 1
    desk.dispatch.withdraw("queue", f"m{SHARED_BY - 1}")
    assert len(desk.go()) == SHARED_BY - 2


def test_a_provider_that_has_it_is_left_when_it_can_not_serve() -> None:
    desk = make_desk()
    for number in range(6):
        desk.offer(mail(number, providers=("anthropic", "openai")))
    (writer,) = desk.go()
    desk.ok(writer, usage=WROTE)
    pause(desk.balancer, writer.provider)
    assert {p.provider for p in desk.go()} == {"anthropic", "openai"} - {writer.provider}


def test_tasks_that_share_nothing_keep_their_weights() -> None:
    def shares(with_mail: bool) -> Counter[str]:
        desk = make_desk()
        seen: Counter[str] = Counter()
        if with_mail:
            desk.offer(*(mail(-number) for number in range(1, SHARED_BY + 1)))
            desk.ok(desk.one(), usage=WROTE)
        for number in range(200):
            if with_mail:
                desk.offer(mail(number))
            desk.offer(make_task(number))
            for placement in desk.go():
                seen[placement.provider] += placement.task.id[0] != "m"
                assert placement.task.id[0] != "m" or placement.cached_turns
                desk.ok(placement, usage=READ if placement.cached_turns else None)
        return seen

    alone, beside = shares(False), shares(True)
    assert sum(beside.values()) == 200
    assert all(abs(alone[name] - beside[name]) <= 3 for name in alone), (alone, beside)


def test_of_prefixes_that_no_task_has_any_more_the_newest_are_kept() -> None:
    prefixes = make_prefixes()

    def used(number: int) -> Any:
        tasks = [mail(n, system=f"{number} {LONG}") for n in range(SHARED_BY)]
        found = [prefixes.offered(task) for task in tasks]
        prefixes.settle(granted(prefixes, found[0]), WROTE)
        for each in found:
            prefixes.left(each)
        return found[0]

    oldest = used(0)
    for number in range(1, KEPT + 1):
        newest = used(number)
    assert repr(prefixes) == f"<PromptCacheTracker {KEPT} known>"
    assert prefixes.shared(oldest, 1.0) is None
    assert prefixes.shared(newest, 1.0) is not None
