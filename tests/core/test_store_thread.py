"""Calls to a locked database are retried; the log says when that begins and ends."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from src.core.store import Store
from src.core.store_thread import StoreThread
from src.errors import StoreError, UnstorableError


class Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def heard() -> Iterator[Heard]:
    logger, handler = logging.getLogger("src.core.store_thread"), Heard()
    handler.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(f"sqlite:///{tmp_path / 'state.db'}?timeout=0.05", simulated=True) as opened:
        yield opened


@pytest.fixture
def thread() -> Iterator[StoreThread]:
    opened = StoreThread()
    yield opened
    opened.close()


def put(store: Store, key: str) -> int:
    return store.controls.put_setting(key, 1, who="test", now=0.0)


async def test_calls_wait_for_a_lock_whose_beginning_and_end_are_logged_once(
    tmp_path: Path, store: Store, thread: StoreThread, heard: Heard
) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.create_task(thread.insist(put, store, key)) for key in ("a", "b")]
        while not heard.lines:
            await asyncio.sleep(0.01)
        assert await thread.insist(store.controls.current_settings) == {}, "reading works all the while"
        await asyncio.sleep(0.2)
        assert heard.lines == ["database unavailable, retrying"]
        other.execute("COMMIT")
    await asyncio.gather(*waiting)
    assert store.controls.current_settings() == {"a": 1, "b": 1}
    assert len(heard.lines) == 2 and heard.lines[1].startswith("database available again, after ")


async def test_a_plain_call_fails_at_once_and_a_cancelled_one_gives_up(
    tmp_path: Path, store: Store, thread: StoreThread, heard: Heard
) -> None:
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            await thread(put, store, "a")
        waiting = asyncio.create_task(thread.insist(put, store, "a"))
        while not heard.lines:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        other.execute("COMMIT")
    await thread.insist(put, store, "b")
    assert store.controls.current_settings() == {"b": 1}
    assert heard.lines == ["database unavailable, retrying"]


async def test_a_value_that_is_refused_ends_an_outage_as_well(
    tmp_path: Path, store: Store, thread: StoreThread, heard: Heard
) -> None:
    no_text = "\ud800"  # half a surrogate pair
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.create_task(thread.insist(store.controls.put_setting, "a", 1, who=no_text, now=0.0))
        while not heard.lines:
            await asyncio.sleep(0.01)
        assert "locked" in thread.refusal
        other.execute("COMMIT")
    with pytest.raises(UnstorableError):
        await waiting
    assert thread.refusal == ""
    assert len(heard.lines) == 2 and heard.lines[1].startswith("database available again, after ")
