"""Handing in a task and waiting for its answer, from process to process."""

from __future__ import annotations

from statistics import median

from .stack import Stack

TRIES = 9
SOON_S = 0.1


def test_an_idle_pool_starts_the_call_within_100_ms(stack: Stack) -> None:
    """Of several tries the one in the middle: a machine that does other things too delays single ones."""
    stack.ask("/api/tasks", {"prompt": "Are you there?", "wait_s": 60})
    waited_s = []
    for number in range(TRIES):
        answer = stack.ask("/api/tasks", {"prompt": f"Question {number}", "wait_s": 60})["task"]
        assert answer["status"] == "succeeded"
        waited_s.append(answer["timeline"][0]["started_at"] - answer["created_at"])
    assert min(waited_s) > 0
    assert median(waited_s) < SOON_S, waited_s
