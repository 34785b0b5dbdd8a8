"""Every write of an orchestrator demands its epoch, and a takeover comes before or after the write."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from src.core.store import Identity, PublishedGateway, Store
from src.errors import LeadershipLost
from src.records import Event, TaskStatus

from .makers import NOW, a_result, an_attempt, register, tasks


def identity(name: str) -> Identity:
    return Identity(name, 1, "here", 10.0)


def leading(store: Store, name: str = "me") -> Store:
    """The store as `name` writes through it, which leads and has claimed two of three tasks."""
    mine = store.fenced()
    mine.leadership.take(identity(name), seen=store.leadership.leader())
    register(mine, name)
    return mine


Write = Callable[[Store, Any], object]
WRITES: dict[str, Write] = {
    "register": lambda store, _: register(store, "me"),
    "heartbeat": lambda store, _: store.orchestrators.heartbeat("me", now=NOW, snapshot=None),
    "claim": lambda store, _: store.queue.claim("me", 1, now=NOW),
    "release": lambda store, task: store.queue.release("me", [task], now=NOW),
    "finish": lambda store, task: store.queue.finish("me", [a_result(task)]),
    "record_attempts": lambda store, task: store.queue.record_attempts("me", [(task, an_attempt())]),
    "reserve_cost": lambda store, _: store.orchestrators.reserve_cost(
        "me", {("openai", "b", "local", ""): 5}
    ),
    "settle_duplicates": lambda store, _: store.deduplication.settle(),
    "take_commands": lambda store, _: store.controls.take_commands("me", NOW),
    "finish_command": lambda store, _: store.controls.finish_command(1, "done", NOW),
    "add_events": lambda store, _: store.events.add([Event(NOW, "x", "y")]),
    "save_learned": lambda store, _: store.learned_state.save("https://a", "f", {}, NOW),
    "release_dead": lambda store, _: store.orchestrators.release_dead("me", NOW),
    "retire": lambda store, _: store.orchestrators.retire("me", now=NOW),
    "renew_lead": lambda store, _: store.leadership.renew(),
    "publish": lambda store, _: store.leadership.publish(PublishedGateway("http://127.0.0.1:1")),
}


def test_each_takeover_raises_the_epoch(store: Store) -> None:
    epochs = [
        store.fenced().leadership.take(identity(f"o{i}"), seen=store.leadership.leader()) for i in range(3)
    ]
    assert epochs == [1, 2, 3]
    leader = store.leadership.leader()
    assert (leader.epoch, leader.holder, leader.pid, leader.host) == (3, "o2", 1, "here")


@pytest.mark.parametrize("name", WRITES)
def test_the_leader_writes_and_its_predecessor_changes_nothing(store: Store, name: str) -> None:
    store.intake.add_tasks(tasks(3), now=NOW)
    store.controls.add_command("resume", {}, who="test", now=NOW)
    mine = leading(store)
    task, _ = mine.queue.claim("me", 2, now=NOW)
    WRITES[name](mine, task)
    before = store.reports.task_counts()
    store.fenced().leadership.take(identity("other"), seen=store.leadership.leader())
    with pytest.raises(LeadershipLost):
        WRITES[name](mine, task)
    assert store.reports.task_counts() == before


def test_an_orchestrator_that_does_not_lead_writes_nothing(store: Store) -> None:
    mine = store.fenced()
    with pytest.raises(LeadershipLost):
        register(mine)
    mine.leadership.take(identity("me"), seen=store.leadership.leader())
    mine.leadership.give_up()
    with pytest.raises(LeadershipLost):
        register(mine)
    leader = store.leadership.leader()
    assert (leader.holder, leader.alive, leader.epoch) == ("", False, 1)


def test_a_row_that_was_renewed_is_not_taken(store: Store) -> None:
    seen = store.leadership.leader()
    mine = leading(store)
    assert store.fenced().leadership.take(identity("other"), seen=seen) is None, "another one was faster"
    seen = store.leadership.leader()
    mine.leadership.renew()
    assert store.fenced().leadership.take(identity("other"), seen=seen) is None, "it is alive"
    assert store.leadership.leader().holder == "me"


def test_people_write_without_the_epoch(store: Store) -> None:
    leading(store)
    leading(store, "other")
    store.intake.add_tasks(tasks(2), now=NOW)
    store.admin.cancel("b", now=NOW)
    assert store.reports.task_counts("b")[TaskStatus.CANCELLED] == 2


def test_a_takeover_waits_for_a_write_that_has_begun_and_a_renewal_does_not(
    postgresql_url: str,
) -> None:
    """On SQLite there is one writer at a time anyway."""
    with Store.open(postgresql_url, simulated=True) as store:
        mine = leading(store)
        seen, taken = store.leadership.leader(), threading.Event()

        def take() -> None:
            store.fenced().leadership.take(identity("other"), seen=seen)
            taken.set()

        taking = threading.Thread(target=take)
        with mine.database.writing():
            taking.start()
            assert not taken.wait(0.3)
            assert store.leadership.leader().holder == "me"
        taking.join(60)
        assert store.leadership.leader().holder == "other"
        again = leading(store, "third")
        with again.database.writing():
            again.leadership.renew()
