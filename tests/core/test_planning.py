"""Plans: cost and time of a file by provider and tier, and its bottlenecks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from src.answer_choices import choice_schema
from src.config import load_settings
from src.core.forecast import Forecast, Record
from src.core.planning import make_plan
from src.core.plans import Plan, TaskSample
from src.core.virtual_pool import VirtualPool
from src.messages import Message
from src.pacific import next_midnight_pacific
from src.providers.api_formats import API_FORMATS
from src.records import RefusalKind, Task
from src.refusal_text import wait_text
from src.routing.cost.budgets import BudgetRule
from src.settings import TIERS, Settings

NOW = 1_790_000_000.0
QUICK = Record(answers=100, success=1.0, latency_s=0.3, prompt_tokens=250.0, output_tokens=150.0)
EVERYWHERE = {("", "", ""): QUICK}


def settings_with(limits: Mapping[str, Mapping[str, float]]) -> Settings:
    table = load_settings(environ={}).model_dump()
    for name, own in limits.items():
        table["providers"][name]["limits"] = own
    return Settings.model_validate(table)


def some(count: int, **fields: Any) -> list[Task]:
    text = "word " * 200
    return [Task(f"t{i}", "b", (Message("user", text),), max_tokens=1000, **fields) for i in range(count)]


def planned(tasks: list[Task], limits: Mapping[str, Mapping[str, float]], records: Any = EVERYWHERE) -> Plan:
    return make_plan(tasks, VirtualPool(settings_with(limits), limits.keys()), Forecast(records), now=NOW)


def test_lines_add_up_and_low_is_below_expected_is_below_highest() -> None:
    plan = planned(some(100), {"anthropic": {}, "openai": {}, "gemini": {}})
    assert sum(line.calls for line in plan.lines) == plan.tasks == 100
    assert {line.provider for line in plan.lines} == set(plan.calls) == {"anthropic", "openai", "gemini"}
    for line in plan.lines:
        assert 0 < line.low_nanos < line.expected_nanos < line.highest_nanos
    assert plan.output_tokens == 150 * 100
    assert plan.unknown_limits == ("anthropic", "openai", "gemini")


@pytest.mark.parametrize(
    ("count", "max_tokens", "records", "is_wide", "suggested"),
    [
        (100, 4000, EVERYWHERE, True, 512),
        (100, 512, EVERYWHERE, False, None),
        (100, 80, EVERYWHERE, False, None),
        (100, 4000, {}, True, None),
        (1, 400, EVERYWHERE, False, None),
    ],
    ids=["far longer", "as suggested", "shorter", "no records", "below a cent"],
)
def test_a_limit_for_answers_is_suggested_only_where_it_lowers_the_cost(
    count: int, max_tokens: int, records: Any, is_wide: bool, suggested: int | None
) -> None:
    tasks = [replace(task, max_tokens=max_tokens) for task in some(count)]
    plan = planned(tasks, {"openai": {}}, records)
    assert plan.allowed_tokens == count * max_tokens
    assert (plan.is_wide, plan.usual_max_tokens) == (is_wide, suggested)


def test_a_configured_limit_is_the_bottleneck_and_determines_the_time() -> None:
    plan = planned(some(300), {"openai": {"requests_per_minute": 120, "burst_s": 1.0}})
    assert plan.start_s == API_FORMATS["openai"].warm_up_s
    assert plan.duration_s == pytest.approx(plan.start_s + 150, rel=0.02)
    assert [wait_text(span.reason) for span in plan.spans] == ["openai requests"]
    assert plan.spans[0].from_s < 5 and plan.spans[0].to_s > 145
    assert plan.unknown_limits == () and plan.from_records


def test_a_low_cap_leaves_room_for_few_calls_at_once_and_for_part_of_the_tasks() -> None:
    settings = settings_with({"openai": {"requests_per_minute": 60_000}})
    tasks = some(300, tier="standard")
    whole = make_plan(tasks, VirtualPool(settings, ["openai"]), Forecast(EVERYWHERE), now=NOW)

    def capped(nanos: int) -> Plan:
        pool = VirtualPool(settings, ["openai"], cap=BudgetRule("batch", "b", "total", nanos))
        return make_plan(tasks, pool, Forecast(EVERYWHERE), now=NOW)

    ample = capped(whole.highest_nanos)
    assert (ample.statuses, ample.duration_s) == (whole.statuses, pytest.approx(whole.duration_s))
    half = capped(whole.expected_nanos // 2)
    answered = sum(half.statuses.values())
    assert 120 < answered < 150 and half.expected_nanos <= whole.expected_nanos // 2
    per_task_s = (half.duration_s - half.start_s) / answered
    assert per_task_s > 2 * (whole.duration_s - whole.start_s) / 300
    assert half.bottlenecks[0][0].kind == RefusalKind.BUDGET_IN_USE


def test_answers_that_were_truncated_are_planned_as_long_as_allowed() -> None:
    pool = VirtualPool(settings_with({}), ["openai"])
    plan = make_plan(some(10), pool, Forecast(EVERYWHERE, long={"t0", "t1"}), now=NOW)
    assert plan.output_tokens == 8 * 150 + 2 * 1000


@pytest.mark.parametrize("records", [{}, EVERYWHERE], ids=["no records", "recorded"])
def test_choices_are_planned_and_reserved_as_short_answers(records: Any) -> None:
    schema = choice_schema(["yes", "no", "unsure"])
    tasks = [replace(task, max_tokens=None, tier="economy") for task in some(10)]
    labels = [replace(task, response_schema=schema) for task in tasks]
    free, labelled = (planned(each, {"anthropic": {}}, records) for each in (tasks, labels))
    longest = len('{"choice": "unsure"}')
    assert (free.allowed_tokens, labelled.allowed_tokens) == (10 * 1024, 10 * (256 + longest))
    assert labelled.highest_nanos < 0.7 * free.highest_nanos
    if not records:
        assert labelled.output_tokens < 10 * 30


def test_a_plan_neither_assumes_nor_awaits_prompt_caches() -> None:
    wide = {name: {"requests_per_minute": 60_000} for name in ("anthropic", "openai")}
    mail = (Message("system", "A rule. " * 1_000), Message("user", "Mail"))
    shared = planned([replace(task, messages=mail) for task in some(40)], wide)
    own = [Task(f"o{n}", "b", (Message("user", "A rule. " * 1_000),), max_tokens=1000) for n in range(40)]
    alone = planned(own, wide)
    assert shared.duration_s == pytest.approx(alone.duration_s, abs=0.2)


def test_where_every_slot_is_taken_no_limit_is_the_bottleneck() -> None:
    """Calls in flight grow first; from then on the tasks wait for slots."""
    slow = {("", "", ""): replace(QUICK, latency_s=10.0)}
    wide = {name: {"requests_per_minute": 60_000} for name in ("anthropic", "openai", "gemini")}
    plan = planned(some(3_000), wide, records=slow)
    assert plan.bottlenecks[0][0].kind == RefusalKind.SLOTS
    assert not any(what.kind == RefusalKind.RATE_LIMIT for what, _ in plan.bottlenecks)


def test_successive_bottlenecks_are_listed_in_the_order_of_time() -> None:
    limits = {"openai": {"requests_per_minute": 600.0, "tokens_per_minute": 100_000.0, "token_burst_s": 60.0}}
    plan = planned(some(400), limits)
    kinds = [wait_text(span.reason) for span in plan.spans]
    assert kinds == ["openai requests", "openai tokens"], plan.spans
    assert plan.spans[0].to_s == pytest.approx(plan.spans[1].from_s)


def test_a_daily_quota_that_runs_out_delays_the_end_past_midnight() -> None:
    plan = planned(some(15), {"gemini": {"requests_per_day": 10}})
    assert plan.done_at == pytest.approx(next_midnight_pacific(NOW) + plan.start_s, abs=60)
    assert wait_text(plan.spans[-1].reason) == "gemini requests per day"


def test_without_records_a_plan_says_so_and_assumes_typical_answers() -> None:
    plan = planned(some(20), {"openai": {"requests_per_minute": 6000}}, records={})
    assert not plan.from_records
    assert plan.output_tokens == pytest.approx(0.35 * plan.calls["openai"] * 1000, rel=0.8)


def test_the_plan_of_a_sample_scales_to_all_tasks() -> None:
    tasks = [replace(task, tier=TIERS[i % 3]) for i, task in enumerate(some(1600))]
    limits = {"openai": {"requests_per_minute": 600, "burst_s": 1.0}}
    whole = planned(tasks, limits)
    sample = TaskSample(at_most=500)
    for task in tasks:
        sample.add(task)
    assert len(sample.kept) <= 500 and sample.every == 4
    scaled = planned(sample.kept, limits).for_all(sample.count, sample.every)
    assert (scaled.tasks, scaled.sampled) == (1600, 4)
    assert scaled.expected_nanos == pytest.approx(whole.expected_nanos, rel=0.01)
    assert scaled.duration_s == pytest.approx(whole.duration_s, rel=0.05)
    assert scaled.spans[-1].to_s == pytest.approx(whole.spans[-1].to_s, rel=0.05)


def test_a_plan_without_tasks_takes_only_the_start() -> None:
    plan = planned([], {"openai": {}})
    assert (plan.tasks, plan.expected_nanos, plan.spans) == (0, 0, ())
    assert plan.duration_s == plan.start_s
