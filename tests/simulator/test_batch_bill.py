"""What batches cost: half of what the same calls cost live, each row once, and only sound answers."""

from __future__ import annotations

import asyncio
from typing import Any

import anthropic
import openai
import pytest

from src.simulator import SimulatorProcess

from .batches import DAY_S, EXACT, TAKES_S, jsonl, line, messages, questions
from .sdks import MODELS, ask

PRICES = {"input_tokens": 2e-6, "output_tokens": 1e-5}


def cost(table: dict[str, dict[str, float]], factor: float = 1.0) -> float:
    return factor * sum(row[name] * price for row in table.values() for name, price in PRICES.items())


def run_anthropic(sim: SimulatorProcess, requests: list[Any], seconds: float = TAKES_S) -> None:
    with anthropic.Anthropic(base_url=sim.base_urls["anthropic"], api_key="key", max_retries=0) as sdk:
        batch = sdk.messages.batches.create(requests=requests)
        sim.batch_clock(advance_s=seconds)
        sdk.messages.batches.retrieve(batch.id)


def run_openai(sim: SimulatorProcess, rows: list[Any]) -> None:
    with openai.OpenAI(base_url=sim.base_urls["openai"], api_key="key", max_retries=0) as sdk:
        stored = sdk.files.create(file=("in.jsonl", jsonl(rows)), purpose="batch")
        sdk.batches.create(input_file_id=stored.id, endpoint="/v1/chat/completions", completion_window="24h")
    sim.batch_clock(advance_s=TAKES_S)


@pytest.fixture(autouse=True)
def exact(sim: SimulatorProcess) -> None:
    sim.batch_clock(factor=0)
    for name in MODELS:
        sim.patch(name, {"batches": EXACT})


async def test_a_batch_costs_half_of_the_same_calls(sim: SimulatorProcess) -> None:
    prompts = [f"Question {i}?" for i in range(5)]
    await asyncio.gather(*(ask(sim, "anthropic", prompt=prompt) for prompt in prompts))
    await asyncio.to_thread(run_anthropic, sim, messages(5))
    stats = sim.stats()["anthropic"]
    live, batch = stats["answered"], stats["batches"]
    assert batch["billed"][MODELS["anthropic"]]["answers"] == 5
    assert cost(batch["billed"], batch["price_factor"]) == pytest.approx(0.5 * cost(live))
    assert batch["answered_duplicates"] == 5, "the same prompts were answered live"
    assert stats["answered_duplicates"] == 0
    assert stats["output_tokens"] == live[MODELS["anthropic"]]["output_tokens"], "live counters are apart"


def test_a_batch_is_billed_when_it_ends_without_anybody_looking(sim: SimulatorProcess) -> None:
    run_openai(sim, questions(4))
    assert sim.stats()["openai"]["batches"]["billed"][MODELS["openai"]]["answers"] == 4


def test_a_running_batch_is_not_billed_yet(sim: SimulatorProcess) -> None:
    run_anthropic(sim, messages(4), seconds=50)
    assert sim.stats()["anthropic"]["batches"]["billed"] == {}


def test_rows_with_errors_cost_nothing(sim: SimulatorProcess) -> None:
    sim.patch("openai", {"batches": {"row_faults": {"server_error": 0.5}}})
    run_openai(sim, questions(100))
    stats = sim.stats()["openai"]["batches"]
    assert stats["rows_by_end"]["succeeded"] == stats["billed"][MODELS["openai"]]["answers"]
    assert stats["rows_by_end"]["errored"] == stats["by_row_fault"]["server_error"] > 20


def test_bad_answers_cost_like_good_ones(sim: SimulatorProcess) -> None:
    sim.patch("openai", {"batches": {"row_faults": {"length": 1.0}}})
    run_openai(sim, questions(3))
    assert sim.stats()["openai"]["batches"]["billed"][MODELS["openai"]]["answers"] == 3


def test_a_row_that_is_sent_again_after_an_error_is_paid_once(sim: SimulatorProcess) -> None:
    sim.patch("openai", {"batches": {"row_faults": {"server_error": 1.0}}})
    run_openai(sim, questions(3))
    sim.patch("openai", {"batches": {"row_faults": None}})
    run_openai(sim, questions(3))
    stats = sim.stats()["openai"]["batches"]
    assert (stats["created"], stats["rows"], stats["repeated_keys"], stats["paid_twice"]) == (2, 6, 3, 0)


def test_a_row_that_is_answered_in_two_batches_is_paid_twice(sim: SimulatorProcess) -> None:
    run_openai(sim, questions(3))
    run_openai(sim, questions(3, start=1))
    stats = sim.stats()["openai"]["batches"]
    assert (stats["repeated_keys"], stats["paid_twice"], stats["answered_duplicates"]) == (2, 2, 2)


def test_a_row_that_two_providers_answer_is_paid_twice(sim: SimulatorProcess) -> None:
    run_openai(sim, questions(3))
    run_anthropic(sim, messages(3))
    assert sum(stats["batches"]["paid_twice"] for stats in sim.stats().values()) == 3


def test_expired_and_cancelled_rows_cost_nothing(sim: SimulatorProcess) -> None:
    sim.patch("anthropic", {"batches": {"expiring": 1.0}})
    run_anthropic(sim, messages(50), seconds=DAY_S)
    stats = sim.stats()["anthropic"]["batches"]
    ends = stats["rows_by_end"]
    assert ends["succeeded"] + ends["expired"] == 50 and ends["expired"] > 0
    assert stats["billed"][MODELS["anthropic"]]["answers"] == ends["succeeded"]


def test_a_row_reads_what_another_row_of_the_batch_has_cached(sim: SimulatorProcess) -> None:
    rows = messages(3)
    for row in rows:
        mark = {"cache_control": {"type": "ephemeral"}}
        row["params"]["system"] = [{"type": "text", "text": "Be brief. " * 600, **mark}]
    run_anthropic(sim, rows)
    billed = sim.stats()["anthropic"]["batches"]["billed"][MODELS["anthropic"]]
    assert billed["cached_tokens"] == 2 * 1_500
    assert billed["input_tokens"] > 3 * 1_500, "cached ones included"


def test_equal_runs_give_equal_batches(sim: SimulatorProcess) -> None:
    sim.patch("openai", {"batches": {"row_faults": {"server_error": 0.3}, "turnaround": None}})
    seen = []
    for _ in range(2):
        sim.reset()
        run_openai(sim, questions(50))
        sim.batch_clock(advance_s=DAY_S)
        seen.append(sim.stats()["openai"]["batches"])
    assert seen[0] == seen[1]


def test_a_repeated_id_in_a_file_that_fails_is_no_row(sim: SimulatorProcess) -> None:
    run_openai(sim, [line("a", {"model": "m"})] * 2)
    stats = sim.stats()["openai"]["batches"]
    assert (stats["created"], stats["rows"], stats["repeated_keys"]) == (1, 0, 0)
