"""Orchestrators register and retire; settings and commands; events; learned state."""

from __future__ import annotations

from pathlib import Path

from src.core.store import PollResult, Registration, Store
from src.core.store.events import EventSelection
from src.records import (
    AgentSnapshot,
    ErrorCount,
    Event,
    LimitGauge,
    LimitSource,
    PoolSnapshot,
    ProviderCondition,
    ProviderSnapshot,
    TaskStatus,
    WaitingFor,
    WaitReason,
)

from .makers import NOW, a_result, a_task, an_attempt, ids, register, results_of, tasks, with_claims

# ---------------------------------------------------------------- orchestrators


def test_the_first_orchestrator_finds_nothing_to_recover(store: Store) -> None:
    assert register(store) == Registration()
    (row,) = store.orchestrators.newest()
    assert (row.incarnation, row.started_at, row.heartbeat_at, row.retired_at) == ("me", NOW, NOW, None)


def test_registering_again_changes_nothing(store: Store) -> None:
    """As where the connection was lost while it was committed."""
    register(store)
    store.intake.add_tasks(tasks(2), now=NOW)
    store.queue.claim("me", 2, now=NOW)
    assert register(store) == Registration()
    assert store.reports.task_counts()[TaskStatus.RUNNING] == 2
    assert len(store.orchestrators.newest()) == 1


def test_claims_of_the_dead_are_queued_again_and_their_reservations_booked(store: Store) -> None:
    with_claims(store, *tasks(3))
    store.orchestrators.heartbeat("me", now=NOW + 1, snapshot=None)
    store.orchestrators.reserve_cost(
        "me", {("openai", "b", "local", ""): 700, ("gemini", "b", "local", "w"): 77}
    )
    answer = register(store, "second", now=NOW + 60)
    assert answer == Registration(recovered=3, uncertain_nanos=777)
    again = store.queue.claim("second", 9, now=NOW)
    assert {task.claims for task in again} == {2}
    assert register(store, "third", now=NOW + 120).uncertain_nanos == 0
    booked = {row.key[0]: row.sums.uncertain_nanos for row in store.reports.usage(0, NOW + 300)}
    summary = store.reports.summary()
    assert summary.calls.uncertain_nanos == 777 and all(sums.calls for sums in summary.models.values())
    assert booked == {"openai": 700, "gemini": 77}


def test_a_heartbeat_of_a_retired_orchestrator_does_not_revive_it(store: Store) -> None:
    register(store)
    store.orchestrators.heartbeat("me", now=NOW + 1, snapshot=None)
    register(store, "second", now=NOW + 60)
    store.orchestrators.heartbeat("me", now=NOW + 61, snapshot=None)
    dead = store.orchestrators.newest()[1]
    assert (dead.heartbeat_at, dead.retired_at) == (NOW + 1, NOW + 60)


def test_a_task_that_kills_four_times_is_poison(store: Store) -> None:
    store.intake.add_tasks([a_task()], now=NOW)
    answers = []
    for i in range(5):
        answers.append(register(store, f"o{i}", now=NOW + 60 * i, max_claims=4))
        store.queue.claim(f"o{i}", 1, now=NOW + 60 * i)
    assert [(a.recovered, a.poisoned) for a in answers] == [(0, 0), (1, 0), (1, 0), (1, 0), (0, 1)]
    (stored,) = results_of(store)
    assert stored.result.status is TaskStatus.FAILED
    assert stored.result.error.startswith("poison: claimed 4 times")
    assert stored.result.finished_at == NOW + 240


def test_a_task_is_not_poison_if_its_orchestrators_finished_others(store: Store) -> None:
    """However often the process is killed by hand."""
    store.intake.add_tasks(tasks(12), now=NOW)
    for life in range(10):
        assert register(store, f"o{life}", now=NOW + 60 * life).poisoned == 0
        first, *_ = store.queue.claim(f"o{life}", 12, now=NOW)
        store.queue.finish(f"o{life}", [a_result(first)])
    assert store.reports.task_counts()[TaskStatus.SUCCEEDED] == 10


def test_a_poisoned_task_keeps_its_cost(store: Store) -> None:
    (task,) = with_claims(store, a_task())
    store.queue.record_attempts("me", [(task, an_attempt())])
    assert register(store, "second", now=NOW + 60, max_claims=1).poisoned == 1
    assert results_of(store)[0].result.cost_nanos == 1000


def test_a_clean_end_does_not_count_towards_poison(store: Store) -> None:
    store.intake.add_tasks([a_task()], now=NOW)
    for i in range(6):
        assert register(store, f"o{i}", max_claims=2) == Registration()
        store.queue.claim(f"o{i}", 1, now=NOW)
        assert store.orchestrators.retire(f"o{i}", now=NOW) == 1
    assert store.reports.task_counts()[TaskStatus.QUEUED] == 1


def test_a_retired_orchestrator_does_not_count_as_dead(store: Store) -> None:
    register(store)
    store.orchestrators.retire("me", now=NOW + 1)
    register(store, "second", now=NOW + 2)
    assert [row.retired_at for row in store.orchestrators.newest()] == [None, NOW + 1]


# ---------------------------------------------------------------- snapshots

SNAPSHOT = PoolSnapshot(
    at=NOW,
    providers=(
        ProviderSnapshot(
            name="openai",
            state=ProviderCondition.LIMITED,
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
            limits=(LimitGauge("gpt-x", "requests", 0.5, 2.0, 60.0, LimitSource.CONFIGURED),),
            errors=(ErrorCount("429 ü", 3, NOW),),
            models=("gpt-x",),
        ),
    ),
    agents=(AgentSnapshot("gpt-engineer", "openai", ("general",), 3, 16, 8),),
    waiting=4,
    in_flight=3,
    waiting_for=(WaitingFor(4, None, WaitReason("rate_limit", "openai", "tokens")),),
    oldest_waiting_at=NOW - 3,
)


def test_the_last_snapshot_is_read_as_records(store: Store) -> None:
    assert store.orchestrators.latest_snapshot() == (None, None)
    register(store)
    assert store.orchestrators.latest_snapshot()[0] is None
    store.orchestrators.heartbeat("me", now=NOW + 1, snapshot=SNAPSHOT)
    store.orchestrators.heartbeat("me", now=NOW + 2, snapshot=None)  # alive, nothing new to show
    snapshot, row = store.orchestrators.latest_snapshot()
    assert snapshot == SNAPSHOT
    assert row is not None
    assert row.heartbeat_at == NOW + 2


# ---------------------------------------------------------------- settings and commands


def test_settings_are_versioned_and_keep_their_history(store: Store) -> None:
    assert (store.controls.settings_version(), store.controls.current_settings()) == (0, {})
    first = store.controls.put_setting("weights", {"openai": 0.5}, who="alice", now=NOW)
    store.controls.put_setting("paused", ["gemini"], who="bob", now=NOW + 1)
    last = store.controls.put_setting("weights", {"openai": 1.0}, who="bob", now=NOW + 2)
    assert 0 < first < last == store.controls.settings_version()
    assert store.controls.current_settings() == {"weights": {"openai": 1.0}, "paused": ["gemini"]}
    newest, *_ = store.controls.settings_history(1)
    assert (newest.key, newest.value, newest.previous, newest.who) == (
        "weights",
        {"openai": 1.0},
        {"openai": 0.5},
        "bob",
    )
    assert [change.previous for change in store.controls.settings_history()] == [{"openai": 0.5}, None, None]


def test_a_setting_can_be_unset(store: Store) -> None:
    store.controls.put_setting("paused", ["gemini"], who="a", now=NOW)
    store.controls.put_setting("paused", None, who="a", now=NOW)
    assert store.controls.current_settings() == {}


def test_a_command_is_taken_once_and_keeps_its_outcome(store: Store) -> None:
    register(store)
    first = store.controls.add_command("pause", {"provider": "openai"}, who="alice", now=NOW)
    second = store.controls.add_command("cancel", {"ids": ["t1"]}, who="alice", now=NOW)
    taken = store.controls.take_commands("me", NOW + 1)
    assert [(c.id, c.kind, c.args, c.who) for c in taken] == [
        (first, "pause", {"provider": "openai"}, "alice"),
        (second, "cancel", {"ids": ["t1"]}, "alice"),
    ]
    assert store.controls.take_commands("me", NOW + 1) == []
    store.controls.finish_command(first, "paused", NOW + 2)
    done = store.controls.command(first)
    assert done is not None
    assert (done.outcome, done.finished_at) == ("paused", NOW + 2)
    assert store.controls.command(9999) is None


def test_commands_of_the_dead_are_open_again_unless_finished(store: Store) -> None:
    register(store)
    done = store.controls.add_command("pause", {}, who="a", now=NOW)
    left = store.controls.add_command("resume", {}, who="a", now=NOW)
    store.controls.take_commands("me", NOW)
    store.controls.finish_command(done, "", NOW)
    register(store, "second", now=NOW + 60)
    assert [c.id for c in store.controls.take_commands("second", NOW + 60)] == [left]


def test_a_poll_has_queued_tasks_settings_and_commands(store: Store) -> None:
    register(store)
    assert store.queue.poll() == PollResult(queued=0, settings_version=0, commands=0)
    store.intake.add_tasks([*tasks(2, "b"), *tasks(3, "c")], now=NOW)
    version = store.controls.put_setting("weights", {}, who="a", now=NOW)
    store.controls.add_command("pause", {}, who="a", now=NOW)
    assert store.queue.poll() == PollResult(queued=5, settings_version=version, commands=1)
    assert store.queue.poll("b").queued == 2
    store.controls.take_commands("me", NOW)
    store.queue.claim("me", 9, now=NOW)
    assert store.queue.poll() == PollResult(queued=0, settings_version=version, commands=0)


def test_a_watch_reports_writes_of_every_connection(store: Store) -> None:
    with store.watch() as watch:
        assert watch.changed()
        store.controls.add_command("pause", {}, who="a", now=NOW)
        assert watch.changed()


def test_a_watch_of_a_file_reports_nothing_without_writes(path: Path) -> None:
    with Store.open(path, simulated=True) as store, store.watch() as watch:
        assert watch.changed()
        store.queue.poll()
        assert not watch.changed()
        watch.close()
        assert watch.changed()  # in doubt: the query that follows says what is wrong


# ---------------------------------------------------------------- events and what is learned


def test_events_are_read_newest_first_or_from_a_number_on(store: Store) -> None:
    kinds = ["start", "alert", "offline", "alert"]
    store.events.add([Event(NOW + i, kind, f"n{i}", fields={"i": i}) for i, kind in enumerate(kinds)])
    assert [row.event.message for row in store.events.recent(limit=2)] == ["n3", "n2"]
    oldest = store.events.recent()[-1]
    assert oldest.event == Event(NOW, "start", "n0", fields={"i": 0})
    later = store.events.following(100, EventSelection(kind="alert"), oldest.id)
    assert [row.event.message for row in later] == ["n1", "n3"]
    store.events.add([])
    assert len(store.events.recent()) == 4


def test_learned_state_belongs_to_an_address_and_a_key(store: Store) -> None:
    assert store.learned_state.load("https://a", "f1") is None
    store.learned_state.save("https://a", "f1", {"rpm": 60}, NOW)
    store.learned_state.save("https://a", "f1", {"rpm": 90}, NOW + 1)
    store.learned_state.save("https://a", "f2", {"rpm": 5}, NOW)
    assert store.learned_state.load("https://a", "f1") == {"rpm": 90}
    assert store.learned_state.load("https://a", "f2") == {"rpm": 5}
    assert store.learned_state.load("https://b", "f1") is None


def test_claims_of_the_dead_return_in_their_old_order(store: Store) -> None:
    with_claims(store, *tasks(5))
    store.orchestrators.retire("me", now=NOW)
    register(store, "second")
    assert ids(store.queue.claim("second", 5, now=NOW)) == ids(tasks(5))
