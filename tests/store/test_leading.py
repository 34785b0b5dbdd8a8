"""The epoch: every write of an orchestrator demands its own, and a taking comes before it or after it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from src.core.store import Identity, Store
from src.errors import LeadershipLost
from src.records import Event, TaskStatus

from .makers import NOW, a_result, an_attempt, sign_on, tasks


def identity(name: str) -> Identity:
    return Identity(name, 1, "here", 10.0)


def leading(store: Store, name: str = "me") -> Store:
    """The store as `name` writes through it, which leads and has claimed two of three tasks."""
    mine = store.fenced()
    mine.take_lead(identity(name), seen=store.leader())
    sign_on(mine, name)
    return mine


Write = Callable[[Store, Any], object]
WRITES: dict[str, Write] = {
    "register": lambda store, _: sign_on(store, "me"),
    "heartbeat": lambda store, _: store.heartbeat("me", now=NOW, snapshot=None),
    "claim": lambda store, _: store.claim("me", 1, now=NOW),
    "release": lambda store, task: store.release("me", [task], now=NOW),
    "finish": lambda store, task: store.finish("me", [a_result(task)]),
    "record_attempts": lambda store, task: store.record_attempts("me", [(task, an_attempt())]),
    "reserve_cost": lambda store, _: store.reserve_cost("me", {("openai", "b", "local"): 5}),
    "settle_duplicates": lambda store, _: store.settle_duplicates(),
    "take_commands": lambda store, _: store.take_commands("me", NOW),
    "finish_command": lambda store, _: store.finish_command(1, "done", NOW),
    "add_events": lambda store, _: store.add_events([Event(NOW, "x", "y")]),
    "save_learned": lambda store, _: store.save_learned("https://a", "f", {}, NOW),
    "release_dead": lambda store, _: store.release_dead("me", NOW),
    "retire": lambda store, _: store.retire("me", now=NOW),
    "renew_lead": lambda store, _: store.renew_lead(),
}


def test_each_taking_raises_the_epoch(store: Store) -> None:
    epochs = [store.fenced().take_lead(identity(f"o{i}"), seen=store.leader()) for i in range(3)]
    assert epochs == [1, 2, 3]
    leader = store.leader()
    assert (leader.epoch, leader.holder, leader.pid, leader.host) == (3, "o2", 1, "here")


@pytest.mark.parametrize("name", WRITES)
def test_a_write_of_the_leader_goes_through_and_of_one_before_it_changes_nothing(
    store: Store, name: str
) -> None:
    store.add_tasks(tasks(3), now=NOW)
    store.add_command("resume", {}, who="test", now=NOW)
    mine = leading(store)
    task, _ = mine.claim("me", 2, now=NOW)
    WRITES[name](mine, task)
    before = store.pending()
    store.fenced().take_lead(identity("other"), seen=store.leader())
    with pytest.raises(LeadershipLost):
        WRITES[name](mine, task)
    assert store.pending() == before


def test_who_does_not_lead_yet_or_any_more_writes_nothing(store: Store) -> None:
    mine = store.fenced()
    with pytest.raises(LeadershipLost):
        sign_on(mine)
    mine.take_lead(identity("me"), seen=store.leader())
    mine.give_up_lead()
    with pytest.raises(LeadershipLost):
        sign_on(mine)
    leader = store.leader()
    assert (leader.holder, leader.alive, leader.epoch) == ("", False, 1)


def test_a_row_that_has_moved_is_not_taken(store: Store) -> None:
    seen = store.leader()
    mine = leading(store)
    assert store.fenced().take_lead(identity("other"), seen=seen) is None, "another one was faster"
    seen = store.leader()
    mine.renew_lead()
    assert store.fenced().take_lead(identity("other"), seen=seen) is None, "it is alive"
    assert store.leader().holder == "me"


def test_people_write_whoever_leads(store: Store) -> None:
    leading(store)
    leading(store, "other")
    store.add_tasks(tasks(2), now=NOW)
    store.cancel("b", now=NOW)
    assert store.pending("b")[TaskStatus.CANCELLED] == 2


def test_a_taking_waits_for_a_write_that_was_begun_and_a_renewal_does_not(
    postgresql_url: str,
) -> None:
    """On SQLite there is one writer at a time anyway."""
    with Store.open(postgresql_url, simulated=True) as store:
        mine = leading(store)
        seen, taken = store.leader(), threading.Event()

        def take() -> None:
            store.fenced().take_lead(identity("other"), seen=seen)
            taken.set()

        taking = threading.Thread(target=take)
        with mine._database.writing():
            taking.start()
            assert not taken.wait(0.3)
            assert store.leader().holder == "me"
        taking.join(10)
        assert store.leader().holder == "other"
        again = leading(store, "third")
        with again._database.writing():
            again.renew_lead()
