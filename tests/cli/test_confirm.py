"""Which queued tasks a server asks about, and at which cost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from src.cli.confirm import Cap, confirm_queue, confirm_run
from src.cli.console import Console
from src.cli.plan import plan_sample
from src.cli.preflight import Preflight
from src.cli.runner import keep_cap
from src.cli.session import Options, Session, prepare, session
from src.core.plans import TaskSample
from src.errors import InputError
from tests.helpers import clean_environment
from tests.store.makers import a_result, an_attempt, register, tasks

MILLION = 1_000_000


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A live state with a key, without a terminal."""
    import os

    environ = dict(os.environ)
    clean_environment(environ)
    monkeypatch.setattr(os, "environ", {**environ, "OPENAI_API_KEY": "test-key"})
    monkeypatch.chdir(tmp_path)
    setup = prepare(Options(state_dir=tmp_path / "state"))
    assert not setup.simulated
    with session(setup, Console()) as found:
        yield found


def queue(opened: Session, batch: str, number: int, *, cap_usd: float | None, spent_usd: float = 0.0) -> None:
    """A batch with this many queued tasks and one that was answered for `spent_usd`."""
    store, now = opened.store, opened.now()
    path = "" if batch == "queue" else f"{batch}.csv"
    store.intake.create_batch(batch, now=now, output_path=path)
    if spent_usd:
        store.intake.add_tasks(tasks(1, batch), now=now)
        (claimed,) = store.queue.claim("me", 1, now=now)
        attempt = an_attempt(started_at=now, cost_nanos=round(spent_usd * 1e9))
        store.queue.finish("me", [a_result(claimed, attempt)])
    new = [task for task in tasks(number + 1, batch) if task.id != "t0000"]
    store.intake.add_tasks(new, now=now)
    keep_cap(opened, batch, cap_usd)


def question(opened: Session) -> str:
    """What the user is asked; empty if there is no question."""
    try:
        confirm_queue(opened, yes=False)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("cap_usd", "spent_usd", "is_counted"),
    [(None, 0.5, True), (1.0, 0.5, True), (0.5, 0.5, False), (0.5, 0.6, False), (0.500000001, 0.5, False)],
    ids=["no cap", "some left", "spent", "overspent", "too little for a task"],
)
def test_tasks_whose_own_cap_is_spent_need_no_consent(
    opened: Session, cap_usd: float | None, spent_usd: float, is_counted: bool
) -> None:
    register(opened.store, now=opened.now())
    queue(opened, "capped", 20, cap_usd=cap_usd, spent_usd=spent_usd)
    assert ("20 tasks queued before this start: expected to cost $" in question(opened)) is is_counted
    queue(opened, "queue", 3, cap_usd=None)
    assert f"{23 if is_counted else 3} tasks queued before this start" in question(opened)


def test_a_cap_bounds_the_cost_in_the_question(opened: Session) -> None:
    register(opened.store, now=opened.now())
    queue(opened, "capped", 2_000, cap_usd=0.51, spent_usd=0.5)
    assert "expected to cost $0.0100, at most $0.0100" in question(opened)


def test_the_question_names_the_files_that_lack_rows(opened: Session) -> None:
    register(opened.store, now=opened.now())
    queue(opened, "answers", 20, cap_usd=1.0, spent_usd=0.5)
    queue(opened, "queue", 3, cap_usd=None)
    queue(opened, "other", 1, cap_usd=None)
    assert "; of them 1 is a row of other.csv, 20 are rows of answers.csv, and there" in question(opened)


def test_files_whose_cap_is_spent_are_not_named(opened: Session) -> None:
    register(opened.store, now=opened.now())
    queue(opened, "spent", 5, cap_usd=0.5, spent_usd=0.5)
    queue(opened, "queue", 3, cap_usd=None)
    assert question(opened).startswith("3 tasks queued") and "of them" not in question(opened)


def test_a_cap_that_leaves_room_for_few_calls_at_once_is_planned_so(opened: Session) -> None:
    sample = TaskSample()
    for task in tasks(200, "b", max_tokens=1_000):
        sample.add(task)
    whole = plan_sample(opened, sample)
    found = Preflight(sample)
    plans = [
        confirm_run(opened, found, yes=True, cap=Cap("b", 1.0, left), quiet=True)
        for left in (whole.highest_nanos, whole.expected_nanos // 2, 0)
    ]
    ample, half, none = (plan for plan in plans if plan is not None)
    assert (ample.tasks, ample.duration_s) == (200, pytest.approx(whole.duration_s))
    assert 50 < half.tasks < 110 and none.tasks == 0
    assert (half.duration_s - half.start_s) / half.tasks > 1.5 * (whole.duration_s - whole.start_s) / 200
