"""Deferred work costs half, and no deadline is missed that live calls alone would have kept."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.routing.batch_choice import (
    CANCEL_S,
    MARGIN_S,
    POOL_SHARE,
    WORTH_ROWS,
    BatchTarget,
    Offer,
    Out,
    Submission,
    Waiting,
    choose,
)
from src.routing.refusals import NEVER
from src.routing.turnaround import ASSUMED, Turnaround

NOW = 1_800_000_000.0
HOUR_S, DAY_S = 3_600.0, 86_400.0
ROWS, SMALL, LARGE, POOL = 1, 2, 3, 1_000_000
OPENAI, CLAUDE = ("openai", "gpt"), ("anthropic", "claude")
QUICK = Turnaround(60.0, 420.0, 3_600.0, 10)


def target(key: tuple[str, str] = OPENAI, turnaround: Turnaround = QUICK, **room: float) -> BatchTarget:
    return BatchTarget(*key, turnaround, **room)


def waiting(rows: int = 1_000, within_s: float = DAY_S, **fields: object) -> Waiting:
    given = {
        "key": ROWS,
        "rows": rows,
        "deadline_at": NOW + within_s,
        "live_nanos": 1_000.0,
        "live_s": 0.01,
        "offers": (Offer(OPENAI, 500.0, 100.0),),
        **fields,
    }
    return Waiting(**given)  # type: ignore[arg-type]


def out(id: str = "b1", rows: int = 1_000, within_s: float = DAY_S, **fields: object) -> Out:
    given = {
        "rows": rows,
        "deadline_at": NOW + within_s,
        "live_s": 0.01,
        "submitted_at": NOW - 60.0,
        **fields,
    }
    return Out(id, **given)  # type: ignore[arg-type]


# ------------------------------------------------------------------ what goes where


def test_what_may_wait_goes_to_the_batch() -> None:
    choice = choose([waiting()], [], [target()], NOW)
    assert choice.submit == [Submission(ROWS, OPENAI, 1_000)]
    assert not choice.live
    assert not choice.held


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(waiting(deadline_at=NEVER), id="no deadline"),
        pytest.param(waiting(within_s=CANCEL_S + QUICK.p50_s), id="the median batch would be cancelled"),
        pytest.param(waiting(offers=()), id="no batch takes it"),
        pytest.param(waiting(offers=(Offer(CLAUDE, 500.0),)), id="the provider's batches are not configured"),
        pytest.param(waiting(offers=(Offer(OPENAI, 1_000.0),)), id="a live call costs no more"),
        pytest.param(waiting(within_s=-1.0), id="too late already"),
    ],
)
def test_what_may_not_wait_goes_live(group: Waiting) -> None:
    choice = choose([group], [], [target()], NOW)
    assert choice.live == {ROWS: group.rows}
    assert not choice.submit
    assert not choice.held


def test_only_as_much_is_deferred_as_live_calls_could_still_do() -> None:
    group = waiting(rows=1_000_000, within_s=HOUR_S)
    choice = choose([group], [], [target()], NOW)
    room_s = HOUR_S - MARGIN_S - CANCEL_S - QUICK.p50_s
    assert choice.submit == [Submission(ROWS, OPENAI, int(room_s * POOL_SHARE / group.live_s))]
    assert choice.live == {ROWS: 1_000_000 - choice.submit[0].rows}


def test_a_full_batch_leaves_the_rest_to_the_next_cheapest() -> None:
    offers = (Offer(OPENAI, 500.0, 100.0), Offer(CLAUDE, 700.0, 100.0))
    targets = [target(room_tokens=30_000.0), target(CLAUDE, room_rows=400)]
    choice = choose([waiting(offers=offers)], [], targets, NOW)
    assert choice.submit == [Submission(ROWS, OPENAI, 300), Submission(ROWS, CLAUDE, 400)]
    assert choice.held == {ROWS: 300}


def test_few_tasks_wait_for_more_of_them_while_some_may_come() -> None:
    group = waiting(rows=WORTH_ROWS - 1, more_until=NOW + 60.0)
    choice = choose([group], [], [target()], NOW)
    assert choice.held == {ROWS: WORTH_ROWS - 1}
    assert choice.next_at == NOW + 60.0
    later = choose([group], [], [target()], choice.next_at)
    assert later.submit == [Submission(ROWS, OPENAI, WORTH_ROWS - 1)]


def test_a_lane_with_room_for_few_tasks_waits_until_it_has_more() -> None:
    choice = choose([waiting()], [], [target(room_rows=WORTH_ROWS - 1)], NOW)
    assert choice.held == {ROWS: 1_000}


def test_the_largest_saving_is_deferred_first_where_not_all_may_be() -> None:
    small = waiting(rows=100_000, within_s=HOUR_S, key=SMALL)
    large = replace(small, key=LARGE, live_nanos=9_000.0)
    choice = choose([small, large], [], [target()], NOW)
    assert {each.key for each in choice.submit} == {LARGE, SMALL}
    assert choice.live.keys() == {SMALL}


# ------------------------------------------------------------------ back from a batch


def test_a_late_batch_is_cancelled_and_then_pulled_back() -> None:
    batch = out(within_s=HOUR_S)
    start_at = NOW + HOUR_S - MARGIN_S - batch.rows * batch.live_s / POOL_SHARE
    choice = choose([], [batch], [target()], NOW)
    assert not choice.cancel
    assert choice.next_at == pytest.approx(start_at - CANCEL_S)
    choice = choose([], [batch], [target()], choice.next_at)
    assert choice.cancel == ["b1"]
    assert not choice.pull
    choice = choose([], [replace(batch, is_cancelled=True)], [target()], choice.next_at)
    assert not choice.cancel
    assert choice.pull == ["b1"]


def test_of_two_batches_the_older_comes_back_first() -> None:
    batches = [out("young", submitted_at=NOW - 1.0), out("old", submitted_at=NOW - 9.0)]
    at = NOW + DAY_S - MARGIN_S - CANCEL_S - 2_000 * 0.01 / POOL_SHARE
    assert choose([], batches, [target()], at).cancel == ["old"]


def test_later_work_does_not_make_earlier_work_late() -> None:
    """The pool needs all the time there is for the batch, so nothing more is deferred before its deadline."""
    batch = out(rows=150_000, within_s=HOUR_S + CANCEL_S + MARGIN_S)
    group = waiting(within_s=HOUR_S + CANCEL_S + MARGIN_S)
    assert choose([group], [batch], [target()], NOW).submit
    batch = replace(batch, rows=180_000)
    choice = choose([group], [batch], [target()], NOW)
    assert not choice.submit
    assert choice.live == {ROWS: 1_000}


# ------------------------------------------------------------------ no deadline is missed


@dataclass
class World:
    """A pool that serves the earliest deadline first, and batches that may never end. Ticks at `next_at`."""

    groups: dict[int, Waiting]
    takes_s: list[float]  # by batch, in the order of submission; inf: it never ends
    targets: list[BatchTarget]
    now: float = NOW
    queued: Counter[int] = field(default_factory=Counter)  # not chosen yet, or held
    live_s: dict[int, float] = field(default_factory=dict)  # work in the pool
    out: dict[str, tuple[int, Out, float]] = field(default_factory=dict)  # with its end
    done_at: dict[int, float] = field(default_factory=dict)
    in_batches: int = 0

    def __post_init__(self) -> None:
        self.queued.update({key: group.rows for key, group in self.groups.items()})
        self.live_s = dict.fromkeys(self.groups, 0.0)

    def run(self) -> None:
        for _ in range(100_000):
            if not any(self.queued.values()) and not any(self.live_s.values()) and not self.out:
                return
            choice = choose(
                [replace(self.groups[key], rows=rows) for key, rows in self.queued.items() if rows]
                + [self._in_pool(key) for key, work_s in self.live_s.items() if work_s > 0],
                [batch for _, batch, _ in self.out.values()],
                self.targets,
                self.now,
            )
            for sent in choice.submit:
                self._submit(sent)
            for key, rows in choice.live.items():
                if key in self.groups:
                    self._go_live(key, rows)
            for id in choice.cancel:
                key, batch, end_at = self.out[id]
                end_at = min(end_at, self.now + CANCEL_S)
                self.out[id] = (key, replace(batch, is_cancelled=True), end_at)
            for id in choice.pull:
                key, batch, _ = self.out.pop(id)
                self.live_s[key] += batch.rows * batch.live_s
            self._advance(choice.next_at)
        raise AssertionError("it never ends")

    def _in_pool(self, key: int) -> Waiting:
        """The work of the pool, as tasks that no batch takes."""
        group = self.groups[key]
        rows = math.ceil(self.live_s[key] / group.live_s)
        return replace(group, key=POOL + key, rows=rows, offers=())

    def _submit(self, sent: Submission) -> None:
        group = self.groups[sent.key]
        self.queued[sent.key] -= sent.rows
        takes_s = self.takes_s[len(self.takes_s) and self.in_batches % len(self.takes_s)]
        self.in_batches += 1
        batch = Out(f"b{self.in_batches}", sent.rows, group.deadline_at, group.live_s, self.now)
        self.out[batch.id] = (sent.key, batch, self.now + takes_s)

    def _go_live(self, key: int, rows: int) -> None:
        self.queued[key] -= rows
        self.live_s[key] += rows * self.groups[key].live_s

    def _advance(self, next_at: float) -> None:
        """To the next moment at which something changes; the pool works meanwhile."""
        ends = [end_at for _, _, end_at in self.out.values()]
        busy_s = sum(self.live_s.values()) / POOL_SHARE
        then = min([next_at, *ends, *([self.now + busy_s] if busy_s else [])])
        assert then < NEVER, "nothing is left to wait for"
        self._work(then - self.now)
        self.now = then
        for id, (key, batch, end_at) in list(self.out.items()):
            if end_at <= self.now:
                del self.out[id]
                if batch.is_cancelled:  # at worst, none of its rows was done
                    self.live_s[key] += batch.rows * batch.live_s
                else:
                    self.done_at[key] = max(self.done_at.get(key, 0.0), self.now)

    def _work(self, seconds: float) -> None:
        at, left_s = self.now, seconds * POOL_SHARE
        for key in sorted(self.live_s, key=lambda key: self.groups[key].deadline_at):
            used_s = min(self.live_s[key], left_s)
            left_s -= used_s
            at += used_s / POOL_SHARE
            if used_s:
                self.live_s[key] = 0.0 if self.live_s[key] - used_s < 1e-6 else self.live_s[key] - used_s
                self.done_at[key] = max(self.done_at.get(key, 0.0), at)


def all_live_fits(groups: list[Waiting]) -> bool:
    """Whether the pool could serve all of it live in time, from now."""
    at = NOW
    for group in sorted(groups, key=lambda each: each.deadline_at):
        at += group.rows * group.live_s / POOL_SHARE
        if at > group.deadline_at - MARGIN_S:
            return False
    return True


groups = st.builds(
    lambda rows, within_s, live_s, share, offered: waiting(
        rows,
        within_s,
        live_s=live_s,
        offers=tuple(Offer(key, 1_000.0 * share, 100.0) for key in offered),
    ),
    st.integers(1, 20_000),
    st.floats(60.0, 2 * DAY_S),
    st.sampled_from([0.001, 0.01, 0.1, 1.0]),
    st.sampled_from([0.5, 0.9, 1.0]),
    st.sets(st.sampled_from([OPENAI, CLAUDE])),
)
turnarounds = st.lists(st.one_of(st.just(math.inf), st.floats(1.0, DAY_S)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(groups, min_size=1, max_size=6),
    turnarounds,
    st.sampled_from([math.inf, 5_000.0, 500.0]),
)
def test_no_deadline_is_missed_that_live_calls_would_have_kept(
    found: list[Waiting], takes_s: list[float], room: float
) -> None:
    found = [replace(group, key=n) for n, group in enumerate(found)]
    if not all_live_fits(found):
        return
    world = World(
        {group.key: group for group in found},
        takes_s,
        [target(room_rows=room), target(CLAUDE, ASSUMED, room_tokens=room * 100)],
    )
    world.run()
    for group in found:
        assert world.done_at[group.key] <= group.deadline_at


@given(st.lists(groups, max_size=6), st.lists(groups, max_size=4), st.floats(0.0, DAY_S))
def test_every_row_has_one_place(found: list[Waiting], gone: list[Waiting], age_s: float) -> None:
    found = [replace(group, key=n) for n, group in enumerate(found)]
    batches = [
        Out(f"b{n}", group.rows, group.deadline_at, group.live_s, NOW - age_s) for n, group in enumerate(gone)
    ]
    targets = [target(room_rows=7_000), target(CLAUDE, room_tokens=9_000.0)]
    choice = choose(found, batches, targets, NOW)
    submitted = Counter[int]()
    used = Counter[tuple[str, str]]()
    for sent in choice.submit:
        assert sent.rows > 0
        submitted[sent.key] += sent.rows
        used[sent.target] += sent.rows
    for group in found:
        rows = submitted[group.key] + choice.held.get(group.key, 0) + choice.live.get(group.key, 0)
        assert rows == group.rows
    assert used[OPENAI] <= 7_000
    assert used[CLAUDE] * 100 <= 9_000
    assert set(choice.pull) <= set(choice.cancel)
    assert choice.next_at > NOW
