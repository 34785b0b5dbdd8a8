"""What a plan says of batches: its ranges hold the cost and the finish of four runs in five."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pytest

from src.answer_choices import choice_schema
from src.cli.plan_text import as_json, plan_lines
from src.config import load_settings
from src.core.batching.foresee import BatchForecast, foresee
from src.core.batching.offers import Offered, Offers
from src.core.forecast import Forecast
from src.core.planning import make_plan
from src.core.plans import CostLine
from src.core.store import DeferredGroup
from src.core.virtual_pool import VirtualPool, assume_ample_limits
from src.formatting import money
from src.messages import Message
from src.records import Task, Usage
from src.routing.batch_choice import Waiting
from src.simulator.batches.settings import Turnaround
from tests.helpers import run_script, write_rows

NOW = 1_790_000_000.0
TYPES = ("general", "research", "analysis")
MODEL, ROWS, ANSWERS, TRIALS = ("gemini", "gemini-3.8-flash"), 120, 60, 150
SETTINGS = load_settings(environ={})


def foreseen(
    outputs: Sequence[int] = (), takes_s: Sequence[float] = (), types: Sequence[str] = TYPES
) -> tuple[BatchForecast, float]:
    """The forecast for `ROWS` tasks of each type, and what a token of output costs in a batch."""
    learned: dict[str, Any] = {each: {"outputs": list(outputs)} for each in types}
    balancer = VirtualPool(SETTINGS, ["gemini"], estimates={"gemini": learned}).balancer(NOW)
    tasks = [
        Task(f"{each}{n}", "b", (Message("user", "word " * 40),), task_type=each, deadline_at=NOW + 86_400.0,
             max_tokens=1_000, models=MODEL[1:])
        for each in types for n in range(ROWS)
    ]  # fmt: skip
    found = foresee(tasks, 1.0, Offers(balancer), lambda *_: takes_s, NOW)
    assert found is not None and found.tasks == ROWS * len(types)
    provider = balancer.by_name["gemini"]
    model = provider.model(MODEL[1], balancer.settings, NOW)
    price = balancer.registry.price_of(provider, model, NOW)
    assert price is not None
    return found, price.cost_nanos(Usage(output_tokens=1_000)) / 2_000


def test_the_range_of_costs_holds_the_cost_of_four_runs_in_five() -> None:
    inside, dice = 0, random.Random(3)

    def length() -> int:
        return round(dice.lognormvariate(math.log(150), 0.6))

    for _ in range(TRIALS):
        answers = [length() for _ in range(ANSWERS)]
        found, per_token = foreseen(answers, types=TYPES[:1])
        between = found.range_nanos(0)
        assert between is not None
        mean = sum(answers) / ANSWERS
        cost = found.batch_nanos + per_token * (sum(length() for _ in range(ROWS)) - ROWS * mean)
        inside += between[0] <= cost <= between[1]
    assert 0.72 <= inside / TRIALS <= 0.88


def test_the_range_of_finishes_holds_those_of_the_law_that_is_assumed_and_some_more() -> None:
    found, _ = foreseen()
    dice, takes = random.Random(4), Turnaround()
    ends = [max(takes.draw(dice.gauss(0.0, 1.0)) for _ in TYPES) for _ in range(2_000)]
    inside = sum(found.p10_s <= end <= found.p90_s for end in ends)
    assert found.is_assumed
    assert 0.82 <= inside / len(ends) <= 0.92, "a median that is only assumed may be another one"


def test_a_turnaround_that_was_seen_often_gives_a_narrower_range() -> None:
    assumed, _ = foreseen()
    normal, takes = NormalDist(), Turnaround()
    known, _ = foreseen(takes_s=[takes.draw(normal.inv_cdf((n + 0.5) / 50)) for n in range(50)])
    assert not known.is_assumed
    assert known.p90_s / known.p10_s < assumed.p90_s / assumed.p10_s


@pytest.mark.parametrize("answers", [0, 19])
def test_of_few_answers_no_range_of_costs_is_made(answers: int) -> None:
    found, _ = foreseen([150] * answers)
    assert found.range_nanos(1_000) is None and found.expected_nanos(0) > 0


def test_answers_of_one_length_leave_nothing_to_chance() -> None:
    found, _ = foreseen([150] * ANSWERS)
    assert found.range_nanos(0) == (found.batch_nanos, found.batch_nanos)


def test_the_plan_prints_both_ranges() -> None:
    found, _ = foreseen([100, 200] * ANSWERS)
    plan = make_plan([], VirtualPool(SETTINGS, ["gemini"]), Forecast({}), now=NOW)
    line = CostLine(*MODEL, "economy", calls=ROWS, expected_nanos=2 * found.batch_nanos)
    plan = replace(plan, tasks=ROWS, batches=found, lines=(line,))
    low, high = found.range_nanos(0) or (0, 0)
    assert 0 < low < found.batch_nanos < high
    text = "\n".join(plan_lines(plan, 0))
    assert f"about {money(found.batch_nanos)}, {money(low)} to {money(high)}, instead (360 at gemini" in text
    assert "all have ended after 4 min to 3 h, as assumed" in text
    written = as_json(plan, [], simulated=False)["batches"]
    assert written["p10_usd"] < written["expected_usd"] < written["p90_usd"]
    dear = replace(plan, lines=(replace(line, expected_nanos=found.batch_nanos),))
    text = "\n".join(plan_lines(dear, 0))
    assert "which is no less than live calls cost (360 at gemini" in text and "instead" not in text


@pytest.mark.parametrize(
    ("cached", "goes_to_batches"),
    [
        pytest.param({}, True, id="nothing is known of caches"),
        pytest.param({"cached_live": 0.95}, False, id="live calls read it from a cache"),
        pytest.param({"cached_live": 0.95, "cached_in_batches": 0.95}, True, id="batches do so too"),
        pytest.param({"cached_live": 0.3}, True, id="a small part is cached"),
    ],
)
def test_tasks_go_live_where_a_cached_prefix_makes_that_cheaper_than_half_the_price(
    cached: dict[str, float], goes_to_batches: bool
) -> None:
    learned: dict[str, Any] = {"general": {"outputs": [20] * ANSWERS, **cached}}
    balancer = VirtualPool(SETTINGS, ["gemini"], estimates={"gemini": learned}).balancer(NOW)
    messages = (Message("system", "rule " * 2_500), Message("user", "yes or no?"))
    tasks = [
        Task(f"t{n}", "b", messages, deadline_at=NOW + 86_400.0, max_tokens=20, models=MODEL[1:])
        for n in range(ROWS)
    ]
    found = foresee(tasks, 1.0, Offers(balancer), lambda *_: (), NOW)
    assert (found is not None) is goes_to_batches


def test_a_provider_with_few_answers_goes_by_those_of_the_others() -> None:
    few, many = {"general": {"outputs": [30] * 5}}, {"general": {"outputs": [30] * ANSWERS}}
    pool = VirtualPool(SETTINGS, ["gemini", "openai"], estimates={"gemini": few, "openai": many})
    balancer = pool.balancer(NOW)
    assert set(assume_ample_limits(balancer)) == {"gemini", "openai"}, "which forgets no answer"
    tasks = [
        Task(f"t{n}", "b", (Message("user", "why?"),), deadline_at=NOW + 86_400.0, max_tokens=4_000)
        for n in range(ROWS)
    ]
    found = foresee(tasks, 1.0, Offers(balancer), lambda *_: (), NOW)
    assert found is not None
    assert (found.models, found.cost_spread) == ({MODEL[1]: ROWS}, 0.0)


def offered(tasks: Sequence[Task], **estimates: Any) -> Waiting:
    """What the choice is offered for tasks that are alike."""
    seen: list[Waiting] = []
    pool = VirtualPool(SETTINGS, ["anthropic", "gemini", "openai"], estimates=estimates)

    class Seen(Offers):
        def of(self, group: DeferredGroup, like: Task, more_until: float, now: float) -> Offered:
            seen.append((found := super().of(group, like, more_until, now)).waiting)
            return found

    foresee(tasks, 1.0, Seen(pool.balancer(NOW)), lambda *_: (), NOW)
    (only,) = seen
    return only


def alike(**fields: Any) -> list[Task]:
    messages = (Message("user", "word " * 40),)
    return [
        Task(f"t{n}", "b", messages, deadline_at=NOW + 86_400.0, max_tokens=1_000, **fields)
        for n in range(ROWS)
    ]


def test_of_models_in_an_order_only_the_first_one_gets_a_batch() -> None:
    models = ("claude-sonnet-5-5", "gemini-3.8-flash")
    found = offered(alike(models=models))
    assert [offer.target for offer in found.offers] == [("anthropic", models[0])], (
        "though it is the dearer one"
    )
    assert found.offers[0].cost_nanos == pytest.approx(found.live_nanos / 2)


def test_a_batch_is_compared_with_live_calls_of_the_preferred_provider() -> None:
    preferring, found = offered(alike(task_type="research")), offered(alike(task_type="general"))
    assert SETTINGS.task_types["research"].prefer == "gemini" and not SETTINGS.task_types["general"].prefer
    at_gemini = next(offer for offer in preferring.offers if offer.target[0] == "gemini")
    assert preferring.live_nanos == pytest.approx(2 * at_gemini.cost_nanos) != pytest.approx(found.live_nanos)


def test_a_label_is_taken_to_be_short_in_batches_too() -> None:
    long, short = offered(alike()), offered(alike(response_schema=choice_schema(["yes", "no"])))
    assert short.live_nanos < long.live_nanos / 3


@pytest.mark.parametrize("more", [(), ("--choices", "yes,no"), ("--max-tokens", "3000")])
def test_a_plan_expects_the_same_answers_in_batches_as_live(tmp_path: Path, more: Sequence[str]) -> None:
    write_rows(tmp_path / "tasks.jsonl", [{"id": f"r{n}", "prompt": f"Question {n}?"} for n in range(ROWS)])
    env = {"GOOGLE_API_KEY": "test-key-of-gemini"}
    command = ("plan", "tasks.jsonl", "--within", "24h", "--model", MODEL[1], *more)
    plan = json.loads(run_script(*command, "--json", cwd=tmp_path, env=env).out)
    assert plan["batches"]["tasks"] == ROWS
    assert plan["batches"]["expected_usd"] == pytest.approx(plan["expected_usd"] / 2, rel=0.01)
