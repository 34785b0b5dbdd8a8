"""The prefetch window is bounded by what its tasks contain, not by their number alone."""

from __future__ import annotations

from src.messages import Image, Message, Text
from src.records import Task

from ..routing.build import START, Desk, make_task


def picture(name: str, size: int) -> Task:
    image = Image("image/png", "A" * size)
    return Task(id=name, batch="b", messages=(Message("user", (Text("What is it?"), image)),))


def test_images_count_in_what_a_task_contains() -> None:
    assert picture("a", 4_000).content_bytes == 4_000 + len("What is it?")
    assert make_task(chars=500).content_bytes == 500


def test_the_scheduler_knows_what_claimed_tasks_that_wait_contain() -> None:
    desk = Desk(proven=False, configured=("openai",))
    desk.offer(*(make_task(n, chars=100) for n in range(20)))
    desk.dispatch.offer(make_task("direct", chars=100), START, direct=True)
    assert desk.dispatch.claimed_waiting_bytes == 2_000
    placed = desk.go()
    claimed = sum(placement.task.id != "direct" for placement in placed)
    assert desk.dispatch.claimed_waiting_bytes == 2_000 - 100 * claimed
    waiting = desk.dispatch.waiting_tasks()
    for task in waiting:
        desk.dispatch.withdraw(task.batch, task.id)
        desk.dispatch.withdraw(task.batch, task.id)
    assert desk.dispatch.claimed_waiting_bytes == 0
