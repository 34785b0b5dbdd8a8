"""How a task ended before it ran again stays with it."""

from __future__ import annotations

from src.core.store import EarlierEnd, Store
from src.records import TaskStatus

from .makers import NOW, a_result, a_task, an_attempt, with_claims


def ends(store: Store, task_id: str = "t0") -> tuple[EarlierEnd, ...]:
    detail = store.tasks.find("b", task_id)
    assert detail is not None
    return detail.earlier


def run_again(store: Store, output: str, at: float) -> None:
    assert store.admin.retry("b", ["t0"], now=at) == 1
    (task,) = store.queue.claim("me", 1, now=at)
    (again,) = store.queue.finish("me", [a_result(task, an_attempt(started_at=at), output=output)])
    assert again.output == output


def test_every_end_of_a_task_is_kept_with_its_answer(store: Store) -> None:
    (task,) = with_claims(store, a_task("t0"))
    failed = a_result(task, status=TaskStatus.FAILED, error="overloaded", output=None, truncated=True)
    store.queue.finish("me", [failed])
    assert ends(store) == ()
    store.admin.retry("b", ["t0"], now=NOW + 20)
    first = EarlierEnd(
        NOW + 10, TaskStatus.FAILED, "openai", "gpt-x", "gpt-engineer", "stop", True, "overloaded", None
    )
    assert ends(store) == (first,)
    (task,) = store.queue.claim("me", 1, now=NOW + 20)
    store.queue.finish("me", [a_result(task, an_attempt(started_at=NOW + 20), output="second")])
    assert ends(store) == (first,)


def test_ends_stay_until_they_are_purged(store: Store) -> None:
    (task,) = with_claims(store, a_task("t0"))
    store.queue.finish("me", [a_result(task, output="first")])
    store.admin.retry("b", ["t0"], now=NOW + 20)
    assert [end.output for end in ends(store)] == ["first"]
    assert store.contents.purge(NOW + 5) == 0
    assert [end.output for end in ends(store)] == ["first"]
    assert store.contents.purge(NOW + 15) == 0, "the task itself is open"
    store.contents.purge_events(NOW + 15)
    assert ends(store) == ()


def test_purging_a_task_purges_its_ends(store: Store) -> None:
    (task,) = with_claims(store, a_task("t0"))
    store.queue.finish("me", [a_result(task, output="first")])
    run_again(store, "second", NOW + 5)
    assert store.contents.purge(NOW + 11) == 1
    assert ends(store) == ()


def test_other_content_has_no_earlier_end(store: Store) -> None:
    (task,) = with_claims(store, a_task("t0"))
    store.queue.finish("me", [a_result(task, output="first")])
    run_again(store, "second", NOW + 5)
    store.intake.add_tasks([a_task("t0", prompt="other")], now=NOW + 20, rerun_changed=True)
    assert ends(store) == ()
