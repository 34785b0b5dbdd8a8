"""Batches that a provider does not take, does not know, or answers in part."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from src.core.store import Store
from src.simulator.process import SimulatorProcess
from tests.helpers import Script, live_environment, run_script, write_rows

from ..simulator.batches import messages
from .test_batching import ROWS, answered_once, batches_of, billed, rows, simulator_of, within

COMMAND = ("run", "tasks.jsonl", "-o", "out.jsonl", "--within", "24h", "--yes")


def calls(simulator: SimulatorProcess) -> int:
    return sum(each["calls"] for each in simulator.stats().values())


def with_faults(simulator: SimulatorProcess, provider: str, **faults: float) -> None:
    simulator.patch(provider, {"batches": {"faults": faults}})


@pytest.mark.parametrize("fault", ["create_forbidden", "upload_forbidden"])
def test_a_key_that_batches_refuse_is_told_once_and_all_rows_go_live(tmp_path: Path, fault: str) -> None:
    tasks = rows(120, providers=["openai"]) + [
        {**row, "id": f"r{120 + n}", "tier": "economy"}
        for n, row in enumerate(rows(120, providers=["openai"]))
    ]
    with SimulatorProcess.start(simulator_of()) as simulator:
        with_faults(simulator, "openai", **{fault: 1.0})
        done = within(tmp_path, tasks, "24h", simulator)
        assert done.process.returncode == 0, done.err
        answered_once(tmp_path)
        assert calls(simulator) == ROWS
    assert len({batch["model"] for batch in batches_of(tmp_path)}) == 2
    assert {batch["state"] for batch in batches_of(tmp_path)} == {"failed"}
    assert (
        done.err.count("warning: batch") == done.err.count("such tasks go into other batches, or live") == 1
    )


@pytest.mark.parametrize("fault", ["create_forbidden", "create_gone"])
def test_rows_that_one_provider_does_not_take_go_into_a_batch_of_another_one(
    tmp_path: Path, fault: str
) -> None:
    with SimulatorProcess.start(simulator_of()) as simulator:
        with_faults(simulator, "gemini", **{fault: 1.0})
        done = within(tmp_path, rows(), "24h", simulator)
        assert done.process.returncode == 0, done.err
        answered_once(tmp_path)
        assert (billed(simulator), calls(simulator)) == (ROWS, 0)
    assert [batch["state"] for batch in batches_of(tmp_path)] == ["failed", "collected"]


@pytest.mark.parametrize("api", ["anthropic", "openai"])
@pytest.mark.parametrize(("times", "again"), [(1, 0), (100, 60)], ids=["for a while", "for good"])
def test_results_that_lack_lines_are_read_again_before_the_rows_go_live(
    tmp_path: Path, api: str, times: int, again: int
) -> None:
    with SimulatorProcess.start(simulator_of()) as simulator:
        simulator.batch_fault(api, "results_cut", times=times)
        done = within(tmp_path, rows(120, providers=[api]), "24h", simulator)
        assert done.process.returncode == 0, done.err
        found = answered_once(tmp_path, 120)
        assert simulator.stats()[api]["batches"]["created"] == 1
        assert calls(simulator) == again
    assert ("its results lack 60 of 120 tasks" in done.err) == bool(again)
    uncertain = [row for row in found if row["attempts"][0]["outcome"] == "uncertain"]
    assert len(uncertain) == again, "they may have been billed"


@pytest.mark.parametrize(
    ("action", "unknown", "known"),
    [
        ("retrieve", {"faults": {"retrieve_gone": 1.0}}, {"faults": {"retrieve_gone": 0.0}}),
        ("list", {"listing_lag_s": 1e9}, {"listing_lag_s": 0.0}),
    ],
    ids=["created", "creation not answered"],
)
def test_a_batch_of_another_account_is_kept_for_its_key(
    tmp_path: Path, action: str, unknown: dict[str, Any], known: dict[str, Any]
) -> None:
    tasks: list[dict[str, Any]] = rows(120, providers=["openai"])
    with SimulatorProcess.start(simulator_of() | {"batch_clock_factor": 0}) as simulator:
        if action == "list":
            simulator.batch_fault("openai", "create_silence")
        write_rows(tmp_path / "tasks.jsonl", tasks)
        env = live_environment(simulator.base_urls)
        with Script(*COMMAND, cwd=tmp_path, env=env) as running:
            while not simulator.stats()["openai"]["batches"]["created"]:
                running.pause()
            running.kill()
        simulator.patch("openai", {"batches": unknown})
        requests = simulator.stats()["openai"]["batches"]["requests"]
        other = {**env, "OPENAI_API_KEY": "test-key-of-another-account"}
        with Script(*COMMAND, cwd=tmp_path, env=other) as running:
            running.wait_for(
                "120 tasks in 1 batch at openai can't be collected: the key or the address has changed"
            )
            while simulator.stats()["openai"]["batches"]["requests"][action] < requests.get(action, 0) + 2:
                running.pause()
            running.interrupt()
            running.wait()
        assert running.err.count("can't be collected") == 1
        simulator.patch("openai", {"batches": known})
        simulator.batch_clock(factor=600)
        done = run_script(*COMMAND, cwd=tmp_path, env=env)
        assert done.process.returncode == 0, done.err
        answered_once(tmp_path, 120)
        assert (simulator.stats()["openai"]["batches"]["created"], calls(simulator)) == (1, 0)


def of_another_program(simulator: SimulatorProcess, path: str, body: object = None) -> dict[str, Any]:
    """What Anthropic answers to a program that uses its batches too."""
    url = f"{simulator.base_urls['anthropic']}/v1/messages/batches{path}"
    headers = {"x-api-key": "of-another-program", "content-type": "application/json"}
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - a simulator of ours
        return dict(json.load(answer))


def test_a_running_batch_of_another_program_is_neither_taken_nor_cancelled(tmp_path: Path) -> None:
    """Anthropic shows what is in a batch when it has ended. A creation of ours was not answered."""
    first = rows(120, providers=["anthropic"])
    second = [{**row, "id": f"r{120 + n}", "tier": "economy"} for n, row in enumerate(first)]
    with SimulatorProcess.start(simulator_of() | {"batch_clock_factor": 0}) as simulator:
        theirs = of_another_program(simulator, "", {"requests": messages(120)})
        simulator.batch_fault("anthropic", "create_refused")
        write_rows(tmp_path / "tasks.jsonl", first + second)
        with Script(*COMMAND, cwd=tmp_path, env=live_environment(simulator.base_urls)) as running:
            running.wait_for("batch 1 at anthropic: its creation was not answered")
            while [each["state"] for each in batches_of(tmp_path)] != ["creating", "submitted"]:
                running.pause()
            with Store.open(tmp_path / "state" / "live.db", simulated=False) as store:
                name = store.reports.batches()[0].name
                store.admin.cancel(name, now=time.time())
            while simulator.stats()["anthropic"]["batches"]["requests"].get("cancel", 0) < 1:
                running.pause()
            running.interrupt()
            running.wait(60)
        shown = of_another_program(simulator, f"/{theirs['id']}")
        assert shown["cancel_initiated_at"] is None, "only the second one of ours is cancelled"
    assert running.err.count("its creation was not answered") == 1
