"""The thread that indexes for the search: it starts, survives the store's outages, and ends."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from src.core import search_indexer
from src.core.search_indexer import SearchIndexer
from src.core.store import Store, TaskSelection
from src.errors import StoreError
from src.messages import Message
from src.records import Task

NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("IDLE_S", "RETRY_S"):
        monkeypatch.setattr(search_indexer, name, 0.01)
    with Store.open(tmp_path / "state.db", simulated=True) as opened:
        end_task(opened, "t0")
        yield opened


def end_task(store: Store, task_id: str) -> None:
    store.intake.add_tasks([Task(task_id, "b", (Message("user", "word"),))], now=NOW)
    store.admin.cancel("b", [task_id], now=NOW)


class Steps:
    """Lets a test wait for the steps of the indexer, and make some of them fail."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.idle = threading.Semaphore(0)
        self.failures = 0
        self._step = store.search.index_some
        monkeypatch.setattr(store.search, "index_some", self)

    def __call__(self) -> int:
        if self.failures:
            self.failures -= 1
            raise StoreError("disk I/O error")
        indexed = self._step()
        if not indexed:
            self.idle.release()
        return indexed

    def wait_until_idle(self) -> None:
        for _ in range(2):  # a step may have begun before the change
            assert self.idle.acquire(timeout=60)


def found(store: Store) -> list[str]:
    return [row.id for row in store.tasks.page(9, TaskSelection(search="word")).rows]


def test_it_indexes_what_has_ended_and_what_ends_later(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(store, monkeypatch)
    with SearchIndexer(store, wanted=True):
        steps.wait_until_idle()
        assert found(store) == ["t0"]
        end_task(store, "t1")
        while steps.idle.acquire(blocking=False):
            pass
        steps.wait_until_idle()
        assert found(store) == ["t1", "t0"]
    assert not [thread for thread in threading.enumerate() if thread.name == "search-index"]


def test_it_tries_again_after_an_outage(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps = Steps(store, monkeypatch)
    steps.failures = 2
    with caplog.at_level(logging.WARNING), SearchIndexer(store, wanted=True):
        steps.wait_until_idle()
    assert found(store) == ["t0"]
    assert [record.getMessage() for record in caplog.records] == ["search index not updated"] * 2


def test_it_removes_the_index_where_the_search_is_off(store: Store) -> None:
    store.search.prepare()
    store.search.index_some()
    indexer = SearchIndexer(store, wanted=False)
    with indexer:
        indexer._thread.join(60)
    assert found(store) == []
    assert not store.search.progress().is_ready


def test_it_says_so_where_sqlite_has_no_search(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    store.search._index._has_module = False
    indexer = SearchIndexer(store, wanted=True)
    with caplog.at_level(logging.WARNING), indexer:
        indexer._thread.join(60)
    assert [record.getMessage() for record in caplog.records] == [search_indexer.NO_MODULE]
