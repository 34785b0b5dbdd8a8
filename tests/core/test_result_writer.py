"""The result writer stores every result once, reports it after that, and loses none."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.core.result_writer import ResultWriter
from src.core.store import DirectRecord, Store, schema
from src.core.supervisor import Supervisor
from src.errors import StoreError
from src.records import Event, Outcome, Result, Task, TaskStatus
from tests.store.makers import (
    NOW,
    a_result,
    an_attempt,
    assert_sums_are_true,
    register,
    rows_of,
    tasks,
    with_claims,
)

from .pools import CountingThread, new_store
from .virtual_time import VirtualLoop, run_virtually

BATCH = "b"


class Desk:
    """A writer with claimed tasks; `log` holds in order what was reported as stored."""

    def __init__(self, store: Store, number: int) -> None:
        self.store, self.thread = store, CountingThread()
        self.claimed: list[Task] = with_claims(store, *tasks(number, BATCH))
        self.log: list[str] = []
        self.events: list[Event] = []
        supervisor = Supervisor(self.events.extend, lambda: NOW)
        self.writer = ResultWriter(store, self.thread, "me", self._stored, supervisor)

    def _stored(self, results: Sequence[Result]) -> None:
        for result in results:
            assert self.store.tasks.statuses(BATCH, [result.task.id])[result.task.id] is result.status
            self.log.append(result.task.id)

    def end(self, number: int, *, kept: bool = False) -> None:
        self.writer.add_result(a_result(self.claimed[number]), kept=kept)

    def end_direct(self, number: int) -> None:
        """A direct task has ended, which no orchestrator had claimed."""
        task = replace(tasks(1, BATCH)[0], id=f"direct-{number}")
        self.writer.add_direct(DirectRecord(a_result(task), keeps_content=False))

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.writer.run())

    @property
    def finished(self) -> int:
        return self.store.reports.task_counts(BATCH)[TaskStatus.SUCCEEDED]


@contextmanager
def locked(store: Store) -> Iterator[None]:
    """Another program holds the database for as long as the block lasts."""
    with closing(sqlite3.connect(store.place, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store that gives a locked database up soon."""
    new_store(tmp_path).close()
    with Store.open(f"sqlite:///{tmp_path / 'state.db'}?timeout=0.05", simulated=False) as opened:
        yield opened


async def ended(running: asyncio.Task[None], desk: Desk) -> None:
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    desk.thread.close()


# ------------------------------------------------------------------ examples


def test_results_that_come_together_share_a_commit_and_are_reported_after_it(store: Store) -> None:
    async def run(loop: VirtualLoop) -> Desk:
        desk = Desk(store, 50)
        running = desk.start()
        for number in range(50):
            desk.end(number)
        desk.writer.once_stored(lambda: desk.log.append("stored"))
        assert not desk.writer.idle and desk.writer.unstored == 50 and desk.log == []
        await desk.writer.flush()
        assert desk.writer.idle and desk.writer.unstored == 0
        await ended(running, desk)
        return desk

    desk = run_virtually(run)
    assert desk.log == [*[task.id for task in tasks(50)], "stored"]
    assert desk.finished == 50 and desk.thread.calls["finish"] == 1


@pytest.mark.parametrize(("kept", "commits"), [(True, 1), (False, 2)])
def test_answers_that_workers_keep_wait_longer_for_others(store: Store, kept: bool, commits: int) -> None:
    async def run(loop: VirtualLoop) -> Desk:
        desk = Desk(store, 2)
        running = desk.start()
        for number in range(2):
            desk.end(number, kept=kept)
            await asyncio.sleep(0.06)
        while not desk.writer.idle:
            await asyncio.sleep(0.01)
        await ended(running, desk)
        return desk

    desk = run_virtually(run)
    assert desk.finished == 2 and desk.thread.calls["finish"] == commits


def test_while_the_database_is_locked_nothing_is_lost_or_reported_and_the_writer_says_so(
    store: Store,
) -> None:
    async def run(loop: VirtualLoop) -> Desk:
        desk = Desk(store, 3)
        running = desk.start()
        with locked(store):
            desk.end(0)
            desk.end(1)
            while not desk.thread.refusal:
                await asyncio.sleep(0.1)
            desk.end(2)
            assert desk.writer.stalled and desk.writer.stall_is_news
            assert desk.writer.unstored_text.startswith("3 answers are not stored yet (")
            assert desk.writer.unwritten() == {(BATCH, task.id) for task in desk.claimed}
            assert desk.log == []
        await desk.writer.flush()
        assert not desk.writer.stalled and desk.writer.unstored_text == ""
        await ended(running, desk)
        return desk

    assert sorted(run_virtually(run).log) == [task.id for task in tasks(3)]


def test_a_result_whose_claim_was_lost_is_neither_stored_nor_reported(store: Store) -> None:
    async def run(loop: VirtualLoop) -> Desk:
        desk = Desk(store, 2)
        running = desk.start()
        store.queue.release("me", [desk.claimed[0]], now=NOW)
        desk.end(0)
        desk.end(1)
        await desk.writer.flush()
        await ended(running, desk)
        return desk

    desk = run_virtually(run)
    assert desk.log == [desk.claimed[1].id]
    assert store.reports.task_counts(BATCH)[TaskStatus.QUEUED] == 1


def test_a_writer_that_cannot_go_on_ends_and_flush_does_not_wait_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    async def run(loop: VirtualLoop) -> tuple[Desk, float]:
        desk = Desk(store, 1)
        monkeypatch.setattr(store.queue, "finish", broken)
        desk.end(0)
        running = asyncio.create_task(desk.writer.keep_running())
        await desk.writer.flush()
        with pytest.raises(StoreError, match="storing results failed 5 times in a row"):
            await running
        desk.thread.close()
        return desk, loop.elapsed_s

    desk, _ = run_virtually(run)
    assert [result.task.id for result in desk.writer.take_unwritten()] == [desk.claimed[0].id]
    assert desk.writer.unstored == 0 and desk.log == []


def test_direct_answers_share_a_commit_unless_something_else_is_due(store: Store) -> None:
    async def run(loop: VirtualLoop) -> None:
        desk = Desk(store, 1)
        running = desk.start()
        for number in range(8):  # 80 ms
            desk.end_direct(number)
            await asyncio.sleep(0.01)
        assert desk.log == []
        await asyncio.sleep(0.04)
        assert len(desk.log) == 8 and desk.thread.calls["record"] == 1

        desk.end_direct(8)
        desk.end(0)  # a claimed task's
        await asyncio.sleep(0.03)
        assert desk.log[8:] == [desk.claimed[0].id, "direct-8"]

        desk.end_direct(9)
        began_s = loop.elapsed_s
        await desk.writer.flush()
        assert desk.log[10:] == ["direct-9"] and loop.elapsed_s - began_s < 0.03
        await ended(running, desk)

    run_virtually(run)


def test_what_was_added_is_waited_for_while_more_keeps_coming(store: Store) -> None:
    async def run(loop: VirtualLoop) -> None:
        desk = Desk(store, 0)
        running = desk.start()
        desk.writer.add_events([Event(NOW, "a test", "an event")])

        async def keep_adding() -> None:
            for number in range(1_000):
                desk.end_direct(number)
                await asyncio.sleep(0.005)

        desk.end_direct(1_000)
        adding = asyncio.create_task(keep_adding())
        await desk.writer.settled()
        assert "direct-1000" in desk.log and not adding.done()
        adding.cancel()
        await ended(running, desk)

    run_virtually(run)


# ------------------------------------------------------------------ in any order

steps = st.lists(
    st.one_of(
        st.tuples(st.just("end"), st.integers(0, 11)),
        st.tuples(st.just("attempt"), st.integers(0, 11)),
        st.tuples(st.just("event"), st.just(0)),
        st.tuples(st.just("wait"), st.integers(0, 3)),
        st.tuples(st.just("restart"), st.integers(0, 3)),
    ),
    max_size=30,
)


class Story:
    """Results, attempts and events arrive while the writer is cancelled and started again at any await."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.open = dict.fromkeys(range(len(desk.claimed)), 1)  # the number of its next attempt
        self.attempts: Counter[str] = Counter()
        self.released = 0
        self.release_due = 0
        self.event_count = 0
        self._running = desk.start()

    async def play(self, steps: list[tuple[str, int]]) -> None:
        for step, number in steps:
            await getattr(self, f"_{step}")(number)
        await self.desk.writer.flush()
        await ended(self._running, self.desk)

    async def _end(self, number: int) -> None:
        if (attempt := self.open.pop(number, None)) is not None:
            task = self.desk.claimed[number]
            self.attempts[task.id] += 1
            earlier = [an_attempt(n, Outcome.FAILED, error_kind="ServerError") for n in range(1, attempt)]
            self.desk.writer.add_result(a_result(task, *earlier, an_attempt(attempt)))
            self._release_once_stored()

    async def _attempt(self, number: int) -> None:
        if number in self.open:
            task = self.desk.claimed[number]
            failed = an_attempt(self.open[number], Outcome.FAILED, error_kind="ServerError")
            self.open[number] += 1
            self.attempts[task.id] += 1
            self.desk.writer.add_attempt(task, failed)
            self._release_once_stored()

    def _release_once_stored(self) -> None:
        self.release_due += 1
        self.desk.writer.once_stored(self._count_release)

    def _count_release(self) -> None:
        self.released += 1

    async def _event(self, _: int) -> None:
        self.event_count += 1
        self.desk.writer.add_events([Event(NOW, "a test", f"event {self.event_count}")])

    async def _wait(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0.01)

    async def _restart(self, turns: int) -> None:
        """Cancel the writer so many turns of the loop later, and start it again."""
        for _ in range(turns):
            await asyncio.sleep(0)
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self._running = self.desk.start()


@settings(deadline=None, max_examples=30)
@given(steps=steps)
def test_everything_added_is_stored_once_and_reported_at_most_once_whenever_the_writer_restarts(
    steps: list[tuple[str, int]],
) -> None:
    with TemporaryDirectory() as folder, new_store(Path(folder)) as store:

        async def run(_: VirtualLoop) -> Story:
            story = Story(Desk(store, 12))
            await story.play(steps)
            return story

        story = run_virtually(run)
        ended = [task.id for n, task in enumerate(story.desk.claimed) if n not in story.open]
        reported = sorted(story.desk.log)
        assert len(set(reported)) == len(reported) and set(reported) <= set(ended)
        events = len(store.events.recent(100, kinds=["a test"]))
        if any(step == "restart" for step, _ in steps):  # a cancelled commit may be carried out unseen
            assert events >= story.event_count
        else:
            assert (reported, events) == (ended, story.event_count)
        stored_as = store.tasks.statuses(BATCH, ended)
        assert stored_as == dict.fromkeys(ended, TaskStatus.SUCCEEDED)
        stored = Counter(row.task_row for row in rows_of(store, schema.attempts))
        assert stored == {
            task.row: story.attempts[task.id] for task in story.desk.claimed if story.attempts[task.id]
        }
        assert story.released == story.release_due, "money is released once"
        assert_sums_are_true(store)
        register(store, "the next", now=NOW + 1)
        assert store.reports.task_counts(BATCH)[TaskStatus.QUEUED] == len(story.open)
