"""Orchestrators sign on and off; settings and commands; events; what is learned."""

from __future__ import annotations

from pathlib import Path

from src.core.store import News, Registration, Store
from src.records import (
    AgentSnapshot,
    Event,
    LimitGauge,
    PoolSnapshot,
    ProviderSnapshot,
    TaskStatus,
    WaitingFor,
    WaitReason,
)

from .makers import NOW, a_result, a_task, an_attempt, ids, sign_on, tasks, with_claims

# ---------------------------------------------------------------- orchestrators


def test_the_first_one_may_start(store: Store) -> None:
    assert sign_on(store) == Registration()
    (row,) = store.orchestrators()
    assert (row.incarnation, row.started_at, row.heartbeat_at, row.retired_at) == ("me", NOW, NOW, None)


def test_to_sign_on_again_changes_nothing(store: Store) -> None:
    """As where the connection was lost while it was committed."""
    sign_on(store)
    store.add_tasks(tasks(2), now=NOW)
    store.claim("me", 2, now=NOW)
    assert sign_on(store) == Registration()
    assert store.pending()[TaskStatus.RUNNING] == 2
    assert len(store.orchestrators()) == 1


def test_claims_of_the_dead_are_queued_again_and_their_reservations_told(store: Store) -> None:
    with_claims(store, *tasks(3))
    store.heartbeat("me", now=NOW + 1, snapshot=None)
    store.reserve_cost("me", {("openai", "b", "local"): 700, ("gemini", "b", "local"): 77})
    answer = sign_on(store, "second", now=NOW + 60)
    assert answer == Registration(recovered=3, uncertain_nanos=777)
    again = store.claim("second", 9, now=NOW)
    assert {task.claims for task in again} == {2}
    assert sign_on(store, "third", now=NOW + 120).uncertain_nanos == 0
    booked = {row.key[0]: row.sums.uncertain_nanos for row in store.usage(0, NOW + 300)}
    assert booked == {"openai": 700, "gemini": 77}


def test_a_heartbeat_of_the_dead_brings_nobody_back(store: Store) -> None:
    sign_on(store)
    store.heartbeat("me", now=NOW + 1, snapshot=None)
    sign_on(store, "second", now=NOW + 60)
    store.heartbeat("me", now=NOW + 61, snapshot=None)
    dead = store.orchestrators()[1]
    assert (dead.heartbeat_at, dead.retired_at) == (NOW + 1, NOW + 60)


def test_a_task_that_kills_four_times_is_poison(store: Store) -> None:
    store.add_tasks([a_task()], now=NOW)
    answers = []
    for i in range(5):
        answers.append(sign_on(store, f"o{i}", now=NOW + 60 * i, max_claims=4))
        store.claim(f"o{i}", 1, now=NOW + 60 * i)
    assert [(a.recovered, a.poisoned) for a in answers] == [(0, 0), (1, 0), (1, 0), (1, 0), (0, 1)]
    (stored,) = store.results("b")
    assert stored.result.status is TaskStatus.FAILED
    assert stored.result.error.startswith("poison: claimed 4 times")
    assert stored.result.finished_at == NOW + 240


def test_a_task_is_no_poison_where_others_were_finished_beside_it(store: Store) -> None:
    """However often the process is killed by hand."""
    store.add_tasks(tasks(12), now=NOW)
    for life in range(10):
        assert sign_on(store, f"o{life}", now=NOW + 60 * life).poisoned == 0
        first, *_ = store.claim(f"o{life}", 12, now=NOW)
        store.finish(f"o{life}", [a_result(first)])
    assert store.pending()[TaskStatus.SUCCEEDED] == 10


def test_what_a_poisoned_task_had_cost_stays(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    store.record_attempts("me", [(task, an_attempt())])
    assert sign_on(store, "second", now=NOW + 60, max_claims=1).poisoned == 1
    assert store.results("b")[0].result.cost_nanos == 1000


def test_a_drain_does_not_bring_a_task_nearer_to_poison(store: Store) -> None:
    store.add_tasks([a_task()], now=NOW)
    for i in range(6):
        assert sign_on(store, f"o{i}", max_claims=2) == Registration()
        store.claim(f"o{i}", 1, now=NOW)
        assert store.retire(f"o{i}", now=NOW) == 1
    assert store.pending()[TaskStatus.QUEUED] == 1


def test_who_has_signed_off_is_not_taken_for_dead(store: Store) -> None:
    sign_on(store)
    store.retire("me", now=NOW + 1)
    sign_on(store, "second", now=NOW + 2)
    assert [row.retired_at for row in store.orchestrators()] == [None, NOW + 1]


# ---------------------------------------------------------------- snapshots

SNAPSHOT = PoolSnapshot(
    at=NOW,
    providers=(
        ProviderSnapshot(
            name="openai",
            state="limited",
            reason="tokens",
            until=NOW + 5,
            weight=0.4,
            score=0.3,
            performance_multiplier=1.0,
            time_multiplier=0.75,
            share=0.5,
            error_rate=0.0,
            avg_response_s=None,
            p50_s=0.4,
            p95_s=1,
            in_flight=3,
            calls=9,
            succeeded=8,
            failed=0,
            neutral=1,
            prompt_tokens=100,
            output_tokens=200,
            cost_nanos=12,
            limits=(LimitGauge("gpt-x", "requests", 0.5, 2.0, 60.0, "told"),),
            last_errors=("429 ü",),
            models=("gpt-x",),
        ),
    ),
    agents=(AgentSnapshot("gpt-engineer", "openai", ("general",), 3, 16, 8),),
    waiting=4,
    in_flight=3,
    waiting_for=(WaitingFor(4, None, WaitReason("rate_limit", "openai", "tokens")),),
    oldest_waiting_at=NOW - 3,
)


def test_the_last_snapshot_comes_back_as_records(store: Store) -> None:
    assert store.latest_snapshot() == (None, None)
    sign_on(store)
    assert store.latest_snapshot()[0] is None
    store.heartbeat("me", now=NOW + 1, snapshot=SNAPSHOT)
    store.heartbeat("me", now=NOW + 2, snapshot=None)  # alive, nothing new to show
    snapshot, row = store.latest_snapshot()
    assert snapshot == SNAPSHOT
    assert row is not None
    assert row.heartbeat_at == NOW + 2


# ---------------------------------------------------------------- settings and commands


def test_settings_are_versioned_and_keep_their_history(store: Store) -> None:
    assert (store.settings_version(), store.current_settings()) == (0, {})
    first = store.put_setting("weights", {"openai": 0.5}, who="alice", now=NOW)
    store.put_setting("paused", ["gemini"], who="bob", now=NOW + 1)
    last = store.put_setting("weights", {"openai": 1.0}, who="bob", now=NOW + 2)
    assert 0 < first < last == store.settings_version()
    assert store.current_settings() == {"weights": {"openai": 1.0}, "paused": ["gemini"]}
    newest, *_ = store.settings_history(1)
    assert (newest.key, newest.value, newest.previous, newest.who) == (
        "weights",
        {"openai": 1.0},
        {"openai": 0.5},
        "bob",
    )
    assert [change.previous for change in store.settings_history()] == [{"openai": 0.5}, None, None]


def test_a_setting_can_be_unset(store: Store) -> None:
    store.put_setting("paused", ["gemini"], who="a", now=NOW)
    store.put_setting("paused", None, who="a", now=NOW)
    assert store.current_settings() == {}


def test_a_command_is_taken_once_and_its_outcome_told(store: Store) -> None:
    sign_on(store)
    first = store.add_command("pause", {"provider": "openai"}, who="alice", now=NOW)
    second = store.add_command("cancel", {"ids": ["t1"]}, who="alice", now=NOW)
    taken = store.take_commands("me", NOW + 1)
    assert [(c.id, c.kind, c.args, c.who) for c in taken] == [
        (first, "pause", {"provider": "openai"}, "alice"),
        (second, "cancel", {"ids": ["t1"]}, "alice"),
    ]
    assert store.take_commands("me", NOW + 1) == []
    store.finish_command(first, "paused", NOW + 2)
    done = store.command(first)
    assert done is not None
    assert (done.outcome, done.finished_at) == ("paused", NOW + 2)
    assert store.command(9999) is None


def test_commands_of_the_dead_are_open_again_unless_finished(store: Store) -> None:
    sign_on(store)
    done = store.add_command("pause", {}, who="a", now=NOW)
    left = store.add_command("resume", {}, who="a", now=NOW)
    store.take_commands("me", NOW)
    store.finish_command(done, "", NOW)
    sign_on(store, "second", now=NOW + 60)
    assert [c.id for c in store.take_commands("second", NOW + 60)] == [left]


def test_news_are_what_an_orchestrator_waits_for(store: Store) -> None:
    sign_on(store)
    assert store.news() == News(queued=0, settings_version=0, commands=0)
    store.add_tasks([*tasks(2, "b"), *tasks(3, "c")], now=NOW)
    version = store.put_setting("weights", {}, who="a", now=NOW)
    store.add_command("pause", {}, who="a", now=NOW)
    assert store.news() == News(queued=5, settings_version=version, commands=1)
    assert store.news("b").queued == 2
    store.take_commands("me", NOW)
    store.claim("me", 9, now=NOW)
    assert store.news() == News(queued=0, settings_version=version, commands=0)


def test_a_watch_tells_when_anybody_wrote(store: Store) -> None:
    with store.watch() as watch:
        assert watch.changed()
        store.add_command("pause", {}, who="a", now=NOW)
        assert watch.changed()


def test_a_watch_of_a_file_is_silent_while_nobody_writes(path: Path) -> None:
    with Store.open(path, simulated=True) as store, store.watch() as watch:
        assert watch.changed()
        store.news()
        assert not watch.changed()
        watch.close()
        assert watch.changed()  # in doubt: the query that follows says what is wrong


# ---------------------------------------------------------------- events and what is learned


def test_events_are_read_newest_first_or_from_where_one_was(store: Store) -> None:
    kinds = ["start", "alert", "offline", "alert"]
    store.add_events([Event(NOW + i, kind, f"n{i}", fields={"i": i}) for i, kind in enumerate(kinds)])
    assert [row.event.message for row in store.events(limit=2)] == ["n3", "n2"]
    oldest = store.events()[-1]
    assert oldest.event == Event(NOW, "start", "n0", fields={"i": 0})
    later = store.events(after_id=oldest.id, kinds=["alert"])
    assert [row.event.message for row in later] == ["n1", "n3"]
    store.add_events([])
    assert len(store.events()) == 4


def test_what_is_learned_belongs_to_an_address_and_a_key(store: Store) -> None:
    assert store.learned("https://a", "f1") is None
    store.save_learned("https://a", "f1", {"rpm": 60}, NOW)
    store.save_learned("https://a", "f1", {"rpm": 90}, NOW + 1)
    store.save_learned("https://a", "f2", {"rpm": 5}, NOW)
    assert store.learned("https://a", "f1") == {"rpm": 90}
    assert store.learned("https://a", "f2") == {"rpm": 5}
    assert store.learned("https://b", "f1") is None


def test_claims_are_back_in_the_queue_in_their_old_order(store: Store) -> None:
    with_claims(store, *tasks(5))
    store.retire("me", now=NOW)
    sign_on(store, "second")
    assert ids(store.claim("second", 5, now=NOW)) == ids(tasks(5))
