"""Submitting a task and waiting for its answer, across processes."""

from __future__ import annotations

from .stack import Stack

TRIES = 9
SOON_S = 0.1


def test_an_idle_pool_starts_the_call_within_100_ms(stack: Stack) -> None:
    """A quarter of several tries at least: other tests delay the rest, and nothing makes one quicker."""
    stack.call("/api/tasks", {"prompt": "Are you there?", "wait_s": 60})
    waited_s = []
    for number in range(TRIES):
        answer = stack.call("/api/tasks", {"prompt": f"Question {number}", "wait_s": 60})["task"]
        assert answer["status"] == "succeeded"
        waited_s.append(answer["timeline"][0]["started_at"] - answer["created_at"])
    assert min(waited_s) > 0
    assert sorted(waited_s)[TRIES // 4] < SOON_S, waited_s


def test_a_claimed_task_waits_until_its_call_is_in_flight(stack: Stack) -> None:
    """Both tasks are claimed, so the store has both as running."""
    stack.call("/api/providers/gemini/pause", {})
    stack.until_noticed()
    stack.simulator.patch("openai", {"latency": {"first_token_s": 5.0, "per_token_s": 0.0}})
    rows = [{"id": name, "prompt": "Why?", "providers": [name]} for name in ("gemini", "openai")]
    stack.call("/api/tasks", {"tasks": rows, "batch": "two"})
    wanted = {"gemini": ("running", "waiting"), "openai": ("running", "in_flight")}
    found: dict[str, tuple[str, str]] = {}
    while found != wanted:
        listed = stack.call("/api/tasks?batch=two")["tasks"]
        assert all(task["status"] in ("queued", "running") for task in listed), listed
        found = {task["id"]: (task["status"], task["state"]) for task in listed}
    for state, name in (("waiting", "gemini"), ("in_flight", "openai")):
        tasks = stack.call(f"/api/tasks?batch=two&status={state}")["tasks"]
        assert [task["id"] for task in tasks] == [name]
