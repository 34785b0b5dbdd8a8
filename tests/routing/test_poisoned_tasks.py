"""Tasks that always fail among tasks that do not, in virtual time: the others are answered all the same."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from src.records import TaskStatus
from src.routing.limits.group import Need
from src.settings import AgentConfig

from .build import NAMES, START, WIDE, make_settings, make_task, told_limits
from .servers import Server
from .virtual import Fault, Provider, World

LONGEST_S = WIDE.breaker.recovery_timeout_max_s * (1.0 + WIDE.breaker.jitter)
GOOD_AFTER_S = 30.0
FAILING = ("down", "busy", "empty", "reset")
HELD_S = {"limited": 2.0, "limited for 20 s": 20.0}  # what a row's first 429 may cost the others
PACE_S = 20.0  # and what it may cost them more where no limit is known, so that it slows down the pace


def a_file(
    rows: int,
    bad: set[int],
    kind: str,
    providers: int,
    slots: int,
    *,
    configured: bool,
    seed: int,
    **options: bool,
) -> World:
    names = NAMES[:providers]
    settings = make_settings(
        limits=told_limits() if configured else None,
        agents=[AgentConfig(name="one", home=names[0], calls_in_flight=slots)],
        providers={name: {"timeout_s": 10.0} for name in NAMES},
    )
    poisoned = {str(number): kind for number in bad}
    world = World(settings, seed=seed, configured=list(names), poisoned=poisoned, **options)
    world.offer(0.0, *[make_task(number) for number in range(rows)])
    return world


def ends_s(world: World) -> dict[str, float]:
    return {r.task.id: at - START for r, at in zip(world.results, world.finished_at, strict=True)}


@st.composite
def poisoned_files(draw: st.DrawFn) -> tuple[int, set[int]]:
    """(tasks, the bad ones among them): at most half, anywhere, at the head more often than not."""
    rows = draw(st.integers(2, 60))
    count = draw(st.integers(1, rows // 2))
    at_head = draw(st.booleans())
    anywhere = st.sets(st.integers(0, rows - 1), min_size=count, max_size=count)
    return rows, set(range(count)) if at_head else draw(anywhere)


@hypothesis_settings(deadline=None, max_examples=60)
@given(
    file=poisoned_files(),
    kind=st.sampled_from(FAILING),
    providers=st.integers(1, 3),
    slots=st.sampled_from([2, 7, 112]),
    configured=st.booleans(),
    canaries=st.booleans(),
    seed=st.integers(0, 999),
)
def test_good_tasks_wait_half_a_minute_and_a_timer_for_each_failed_probe_at_most(
    file: tuple[int, set[int]],
    kind: str,
    providers: int,
    slots: int,
    configured: bool,
    canaries: bool,
    seed: int,
) -> None:
    rows, bad = file
    without = a_file(
        rows, set(), kind, providers, slots, configured=configured, seed=seed, canaries=canaries
    ).run()
    world = a_file(rows, bad, kind, providers, slots, configured=configured, seed=seed, canaries=canaries)
    world.run(3_600.0 if canaries else 36_000.0)
    assert len(world.results) == rows
    alone = ends_s(without)
    failed_probes = [c.back_s for c in world.calls if c.choice == "probe" and c.outcome != "ok"]
    for result in world.results:
        row = result.task.id
        if int(row) in bad:
            assert result.status is TaskStatus.FAILED
            # A reset counts once the network has been heard of again, which may be after the next calls.
            heard = [START + c.back_s for c in world.calls if c.outcome != "Unreachable"]
            newest = max((at for at in heard if at <= result.finished_at), default=START)
            unheard = sum(a.started_at + a.latency_s >= newest for a in result.attempts)
            assert len(result.attempts) <= 6 + (unheard if kind == "reset" else 0), result.error
        else:
            assert result.status is TaskStatus.SUCCEEDED
            at_s = ends_s(world)[row]
            probes = sum(back_s <= at_s for back_s in failed_probes)
            assert at_s <= alone[row] + GOOD_AFTER_S + probes * LONGEST_S


def test_six_bad_tasks_at_the_head_of_a_file_hold_the_others_up_for_a_few_seconds() -> None:
    for configured in (True, False):
        without = a_file(106, set(), "down", 3, 112, configured=configured, seed=1).run()
        world = a_file(106, set(range(6)), "down", 3, 112, configured=configured, seed=1).run()
        good = [at for row, at in ends_s(world).items() if int(row) >= 6]
        assert len(good) == 100
        assert max(good) <= max(ends_s(without).values()) + (1.0 if configured else 6.5)
        assert max(ends_s(world).values()) <= 120.0


@pytest.mark.parametrize("kind", FAILING)
@pytest.mark.parametrize("configured", [True, False])
def test_four_bad_tasks_at_one_provider(kind: str, configured: bool) -> None:
    world = a_file(104, set(range(4)), kind, 1, 112, configured=configured, seed=2).run()
    ends = ends_s(world)
    assert max(at for row, at in ends.items() if int(row) >= 4) <= 20.0
    assert max(ends.values()) <= 120.0
    assert world.statuses == {TaskStatus.SUCCEEDED: 100, TaskStatus.FAILED: 4}


def test_two_tasks_that_are_never_answered() -> None:
    world = a_file(60, {0, 1}, "silent", 1, 112, configured=True, seed=2).run()
    ends = ends_s(world)
    assert max(at for row, at in ends.items() if int(row) >= 2) <= 5.0
    assert max(ends.values()) <= 120.0
    assert world.statuses == {TaskStatus.SUCCEEDED: 58, TaskStatus.FAILED: 2}
    assert all("TimedOut" in r.error for r in world.results if r.status is TaskStatus.FAILED)


@hypothesis_settings(deadline=None, max_examples=25)
@given(
    file=poisoned_files(),
    kind=st.sampled_from(sorted(HELD_S)),
    providers=st.integers(1, 3),
    slots=st.sampled_from([2, 7, 112]),
    configured=st.booleans(),
    seed=st.integers(0, 999),
)
def test_rows_that_always_draw_a_429_hold_the_others_up_once_each_and_end_within_their_attempts(
    file: tuple[int, set[int]], kind: str, providers: int, slots: int, configured: bool, seed: int
) -> None:
    rows, bad = file
    alone = ends_s(a_file(rows, set(), kind, providers, slots, configured=configured, seed=seed).run())
    world = a_file(rows, bad, kind, providers, slots, configured=configured, seed=seed).run(36_000.0)
    assert len(world.results) == rows
    each_s = HELD_S[kind] + (0.0 if configured else PACE_S)
    ends = ends_s(world)
    for result in world.results:
        at_s = ends[result.task.id]
        if int(result.task.id) in bad:
            assert result.status is TaskStatus.FAILED
            assert len(result.attempts) <= 25
            assert at_s <= (1_000.0 if configured else 1_800.0)
            assert "429 while other calls were answered" in result.error
        else:
            assert result.status is TaskStatus.SUCCEEDED
            assert at_s <= alone[result.task.id] + GOOD_AFTER_S + len(bad) * each_s


@pytest.mark.parametrize("kind", sorted(HELD_S))
@pytest.mark.parametrize("providers", [1, 3])
@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("bad", [1, 3, 10])
def test_rows_at_the_head_that_always_draw_a_429(
    bad: int, configured: bool, providers: int, kind: str
) -> None:
    world = a_file(106, set(range(bad)), kind, providers, 112, configured=configured, seed=2).run()
    ends = ends_s(world)
    assert world.statuses == {TaskStatus.SUCCEEDED: 106 - bad, TaskStatus.FAILED: bad}
    at_most_s = {"limited": (12.0, 40.0), "limited for 20 s": (50.0, 130.0)}[kind][not configured]
    assert max(at for row, at in ends.items() if int(row) >= bad) <= at_most_s
    assert max(ends.values()) <= 420.0


def test_without_canaries_a_task_that_is_left_alone_with_its_429s_ends_with_its_calls() -> None:
    world = a_file(2, {0}, "limited", 1, 112, configured=True, seed=2, canaries=False).run(36_000.0)
    assert world.statuses == {TaskStatus.SUCCEEDED: 1, TaskStatus.FAILED: 1}
    assert [len(r.attempts) for r in world.results if r.status is TaskStatus.FAILED] == [50]


class Crowded(Server):
    """A limit of which other programs use up so much that calls are refused by chance."""

    share = 0.0
    dice = random.Random(0)

    def arrive(self, need: Need, sent_input: int, now: float) -> bool:
        if self.dice.random() >= self.share:
            self.admitted += 1
            return True
        self.denied += 1
        return False


@pytest.mark.parametrize("retry_after_s", [None, 2.0])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8])
def test_answers_429_that_others_cause_are_no_tasks_own(share: float, retry_after_s: float | None) -> None:
    for seed in range(2):
        server = Crowded("openai", START)
        server.share, server.dice = share, random.Random(seed)
        world = World(
            make_settings(),
            {"openai": Provider(server=server, retry_after_s=retry_after_s)},
            configured=["openai"], seed=seed,
        )  # fmt: skip
        world.offer(0.0, *[make_task(number) for number in range(100)])
        world.run(36_000.0)
        assert world.statuses == {TaskStatus.SUCCEEDED: 100}


@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize("per_minute", [30.0, 120.0, 600.0])
def test_a_limit_that_tasks_reach_is_kept_although_some_tasks_always_draw_a_429(
    per_minute: float, configured: bool
) -> None:
    """Tasks that end show that their own 429s are no limit; the limit itself goes on."""
    refused = []
    for bad in ({}, {str(number): "limited" for number in (3, 30, 60)}):
        server = Server("openai", START, requests=per_minute)
        limits = {"openai": {"requests_per_minute": per_minute}} if configured else None
        world = World(
            make_settings(limits=limits), {"openai": Provider(server=server)}, configured=["openai"],
            poisoned=bad,
        )  # fmt: skip
        world.offer(0.0, *[make_task(number) for number in range(200)])
        world.run(36_000.0)
        assert world.statuses[TaskStatus.SUCCEEDED] == 200 - len(bad)
        assert world.makespan_s <= 200 / per_minute * 60.0 * 1.3 + 330.0
        refused.append(server.denied)
    assert refused[1] <= refused[0] + 6


def test_one_bad_task_alone_ends_within_two_minutes() -> None:
    for kind in FAILING:
        world = a_file(1, {0}, kind, 1, 112, configured=True, seed=3).run()
        assert world.statuses == {TaskStatus.FAILED: 1}
        assert world.makespan_s <= 120.0


def test_a_canary_that_is_answered_closes_the_breaker_and_blames_the_tasks_that_failed() -> None:
    world = a_file(8, set(range(8)), "down", 1, 112, configured=True, seed=4).run()
    assert [c.outcome for c in world.canaries] == ["ok"]
    assert world.statuses == {TaskStatus.FAILED: 8}
    assert world.balancer.by_name["anthropic"].breaker.opened_count == 1
    assert "canary" in [event.kind for event in world.balancer.take_events()]


@pytest.mark.parametrize("kind", FAILING)
@pytest.mark.parametrize("name", NAMES)
def test_a_provider_whose_calls_alone_fail_gets_at_most_four_of_fifteen_tasks(kind: str, name: str) -> None:
    for shift in range(4):
        fault = Fault(kind, 0.0, 1e9, shows=False)
        world = World(make_settings(limits=told_limits()), {name: Provider(faults=[fault])}, seed=shift)
        world.spread([make_task(number + shift) for number in range(15)], per_s=0.25)
        world.run(60.0)
        canaries = [c for c in world.canaries if c.provider == name]
        assert len(world.calls_to(name)) + len(canaries) <= 4
        assert world.statuses == {TaskStatus.SUCCEEDED: 15}


@pytest.mark.parametrize("kind", FAILING)
@pytest.mark.parametrize("providers", [1, 3])
@pytest.mark.parametrize("end_s", [1.5, 5.0, 8.0, 30.0, 60.0])
def test_calls_that_fail_while_the_model_list_answers_are_over_within_ten_seconds(
    end_s: float, providers: int, kind: str
) -> None:
    fault = Fault(kind, 5.0, 5.0 + end_s, shows=False)
    world = World(
        make_settings(limits=told_limits()), {"anthropic": Provider(faults=[fault])},
        configured=list(NAMES[:providers]),
    )  # fmt: skip
    world.spread([make_task(number) for number in range(int(4 * (end_s + 25.0)))], per_s=4.0)
    world.run()
    assert set(world.statuses) == {TaskStatus.SUCCEEDED}
    calls = [*world.calls_to("anthropic"), *(c for c in world.canaries if c.provider == "anthropic")]
    assert min(c.at_s for c in calls if c.at_s >= 5.0 + end_s and c.outcome == "ok") <= 15.0 + end_s
    # Those that opened the breaker are one observation; the calls after that are counted.
    dead = sorted(c.at_s for c in calls if c.at_s >= 9.0 and c.outcome != "ok")
    assert all(later - first >= 55.0 for first, later in zip(dead, dead[4:], strict=False))


@pytest.mark.parametrize(
    ("at_most_s", "lengths_s"),
    [
        (10.0, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 30.0, 60.0)),
        (21.5, (12.0, 14.0, 16.0, 18.0, 20.0, 22.0, 25.0, 28.0)),
        (16.5, (33.0, 40.0, 50.0, 65.0, 80.0, 100.0, 150.0, 300.0)),
    ],
)
def test_how_soon_a_provider_is_back_after_outages_of_any_length(
    at_most_s: float, lengths_s: tuple[float, ...]
) -> None:
    """The health check answers all the while, so that only calls show the fault."""
    for end_s, seed in itertools.product(lengths_s, (1, 2, 3)):
        fault = Fault("down", 5.0, 5.0 + end_s, shows=False)
        world = World(
            make_settings(limits=told_limits()), {"openai": Provider(faults=[fault])}, configured=["openai"],
            seed=seed,
        )  # fmt: skip
        world.spread([make_task(number) for number in range(int(4 * (end_s + 30.0)))], per_s=4.0)
        world.run()
        calls = [*world.calls, *world.canaries]
        assert min(c.at_s for c in calls if c.at_s >= 5.0 + end_s and c.outcome == "ok") <= (
            5.0 + end_s + at_most_s
        )
        dead = sorted(c.at_s for c in calls if c.at_s >= 7.0 and c.outcome != "ok")
        assert all(fifth - first >= 60.0 for first, fifth in zip(dead, dead[4:], strict=False))


@pytest.mark.parametrize("kind", FAILING)
@pytest.mark.parametrize("end_s", [8.0, 30.0])
def test_all_three_failing_are_back_within_ten_seconds(end_s: float, kind: str) -> None:
    faults = {name: Provider(faults=[Fault(kind, 5.0, 5.0 + end_s, shows=False)]) for name in NAMES}
    world = World(make_settings(limits=told_limits()), faults)
    world.offer(4.0, *[make_task(number) for number in range(600)])
    world.spread([make_task(f"more {number}") for number in range(100)], per_s=2.0)
    world.run()
    assert set(world.statuses) == {TaskStatus.SUCCEEDED}
    assert min(c.at_s for c in world.calls if c.at_s >= 5.0 + end_s and c.outcome == "ok") <= 15.0 + end_s
