"""The time left and the expected cost, including limits and daily resets."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from src.cli import views
from src.cli.confirm import Cap
from src.cli.console import Console
from src.cli.eta import expected_nanos, remaining_s
from src.cli.plan_text import as_json, short_lines
from src.cli.progress_counts import ProgressCounts
from src.cli.progress_text import limit_lines, models_line, progress_json, progress_line
from src.cli.views import make_view
from src.core.plans import CostLine, Plan
from src.core.store import CallSums, Summary, TaskSums
from src.messages import Message
from src.pacific import next_midnight_pacific
from src.records import (
    Attempt,
    LimitGauge,
    LimitSource,
    Outcome,
    PoolSnapshot,
    ProviderCondition,
    ProviderSnapshot,
    Result,
    Task,
    TaskStatus,
)

NOON = next_midnight_pacific(1_790_000_000.0) - 12 * 3600.0  # twelve hours before quotas come back
DAY_S = 86_400.0
MILLION = 1_000_000


def provider(name: str, **changes: Any) -> ProviderSnapshot:
    plain = ProviderSnapshot(
        name,
        ProviderCondition.HEALTHY,
        "",
        None,
        0.3,
        0.3,
        1.0,
        1.0,
        0.3,
        0.0,
        0.3,
        0.3,
        0.5,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    )
    return replace(plain, **changes)


def pool(*providers: ProviderSnapshot, at: float = NOON) -> PoolSnapshot:
    return PoolSnapshot(at, providers, (), 0, 0)


def daily(level: float, limit: float, *, refills: bool = False) -> LimitGauge:
    per_minute = limit / 1440 if refills else limit
    return LimitGauge("m", "requests per day", level, limit, per_minute, LimitSource.CONFIGURED, DAY_S)


def result(name: str) -> Result:
    attempt = Attempt(1, name, "m", "a", Outcome.OK, 0.0, 1.0, "weighted", (), cost_nanos=1_000_000)
    return Result(Task("t", "b", (Message("user", "Hi"),)), TaskStatus.SUCCEEDED, 1.0, (attempt,))


def after_a_minute(total: int, **per_second: int) -> ProgressCounts:
    """A run of which each provider has answered so many tasks a second for a minute, until noon."""
    progress = ProgressCounts({TaskStatus.QUEUED: total}, NOON - 60.0)
    progress.mark(NOON - 60.0)
    for second in range(1, 61):
        for name, count in per_second.items():
            progress.add([result(name)] * count)
        progress.mark(NOON - 60.0 + second)
    return progress


def plan(tasks: int, duration_s: float, nanos: int) -> Plan:
    line = CostLine("openai", "gpt-x", "standard", tasks, 0, 0, nanos, nanos, nanos)
    return Plan(NOON, tasks, duration_s, 2.0, (line,), (), {}, (), (), (), True)


def test_at_a_steady_rate_the_time_left_is_what_is_left_by_the_rate() -> None:
    progress = after_a_minute(1_200, openai=2, gemini=3)
    assert remaining_s(pool(provider("openai"), provider("gemini")), progress) == pytest.approx(
        900 / 5, rel=0.05
    )


def test_a_quota_that_will_run_out_moves_the_rest_past_midnight() -> None:
    progress = after_a_minute(700, gemini=5)
    short = provider("gemini", limits=(daily(100, 2_000),))
    assert remaining_s(pool(short), progress) == pytest.approx(12 * 3600 + (400 - 100) / 5, rel=0.01)


def test_a_file_for_many_days_takes_many_days() -> None:
    progress = after_a_minute(300 + 1_000 * 5, gemini=5)
    spent = provider("gemini", limits=(daily(0, 1_000),))
    assert remaining_s(pool(spent), progress) == pytest.approx(12 * 3600 + 4 * DAY_S + 1_000 / 5, rel=0.01)


def test_the_other_providers_continue_when_a_quota_is_spent() -> None:
    progress = after_a_minute(1_300, openai=2, gemini=3)
    spent = provider("gemini", limits=(daily(0, 1_000),))
    assert remaining_s(pool(provider("openai"), spent), progress) == pytest.approx(1_000 / 2, rel=0.05)


def test_a_quota_that_refills_continuously_continues_at_that_rate() -> None:
    progress = after_a_minute(600, openai=5)
    spent = provider("openai", limits=(daily(0, 14_400, refills=True),))
    assert remaining_s(pool(spent), progress) == pytest.approx(300 / (14_400 / DAY_S), rel=0.05)


def test_a_held_provider_resumes_at_the_rate_it_had() -> None:
    progress = after_a_minute(600, openai=5)
    held = provider("openai", state=ProviderCondition.EXHAUSTED, until=NOON + 3600.0)
    assert remaining_s(pool(held), progress) == pytest.approx(3600 + 300 / 5, rel=0.02)


def test_a_paused_provider_does_not_count() -> None:
    progress = after_a_minute(600, openai=5)
    assert remaining_s(pool(provider("openai", state=ProviderCondition.PAUSED)), progress) is None


def test_the_plan_stands_in_until_there_is_a_rate() -> None:
    progress = ProgressCounts({TaskStatus.QUEUED: 100}, NOON - 10.0)
    assert remaining_s(pool(provider("openai")), progress) is None and expected_nanos(progress) is None
    progress.plan = plan(100, 40.0, 5_000_000_000)
    assert remaining_s(pool(provider("openai")), progress) == pytest.approx(30.0)
    assert expected_nanos(progress) == 5_000_000_000
    assert "$0 of about $5.00" in progress_line(pool(provider("openai")), progress)


@pytest.mark.parametrize(
    ("defers", "words"),
    [(False, "starting (loading SDKs)"), (True, "waiting for batches at providers")],
)
def test_a_run_without_a_call_says_what_it_waits_for(defers: bool, words: str) -> None:
    progress = ProgressCounts({TaskStatus.QUEUED: 60}, NOON - 10.0)
    progress.defers = defers
    assert progress_line(pool(replace(provider("openai"), calls=0, in_flight=0)), progress).startswith(
        f"0 of 60 done, {words}"
    )


def test_a_resumed_run_says_which_figures_are_its_own() -> None:
    progress = ProgressCounts({TaskStatus.QUEUED: 60, TaskStatus.SUCCEEDED: 40}, NOON - 10.0)
    progress.plan = plan(60, 40.0, 5_000_000_000)
    line = progress_line(pool(provider("openai")), progress)
    assert line.startswith("40 of 100 done, ") and "$0 of about $5.00 in this run" in line
    assert models_line(progress).startswith("models in this run: ")
    progress.costs_by_provider = {}  # a server answers it, and its counts are those of the whole file
    assert "in this run" not in progress_line(pool(provider("openai")), progress) + models_line(progress)


def test_the_expected_cost_moves_from_the_plan_to_the_real_prices() -> None:
    progress = after_a_minute(6_000, openai=50)
    progress.plan = plan(6_000, 120.0, 6_000 * 2_000_000)  # twice what it turns out to be
    assert expected_nanos(progress) == pytest.approx(6_000 * 1_000_000, rel=0.02)


def test_a_cap_bounds_the_expected_cost_and_the_time_left() -> None:
    progress = after_a_minute(6_000, openai=50)  # 3,000 tasks at $0.001 are done
    assert expected_nanos(progress) == pytest.approx(6_000 * MILLION, rel=0.02)
    progress.cap_nanos = 4_000 * MILLION
    assert expected_nanos(progress) == 4_000 * MILLION
    assert remaining_s(pool(provider("openai")), progress) == pytest.approx(1_000 / 50, rel=0.05)
    progress.cap_nanos = 3_000 * MILLION
    assert remaining_s(pool(provider("openai")), progress) == 0.0


@pytest.mark.parametrize(
    ("left_usd", "tasks", "line"),
    [
        (20.0, 100, None),
        (2.5, 50, "plan: --max-cost pays for about 50 of 100 tasks, then the run stops"),
        (0.0, 0, "plan: --max-cost pays for about 0 of 100 tasks, then the run stops"),
    ],
)
def test_a_cap_bounds_the_plan(left_usd: float, tasks: int, line: str | None) -> None:
    whole = plan(100, 42.0, 5_000_000_000)
    affordable = Cap("b", 30.0, int(left_usd * 1e9)).affordable(whole)
    assert (affordable.tasks, affordable.duration_s) == (tasks, 2.0 + 40.0 * tasks / 100)
    lines = list(short_lines(whole, affordable, 0))
    assert lines[1] == "plan: about $5.00 (low $5.00, at most $5.00)"
    assert lines[2].startswith(f"plan:   gpt-x (openai, standard): {tasks} calls, ") is (tasks > 0)
    assert [text for text in lines if "--max-cost" in text] == ([] if line is None else [line])
    assert any("done at" in text for text in lines) is (tasks > 0)


def test_a_json_plan_has_null_for_an_unknown_price() -> None:
    line = CostLine("openai", "gpt-x", "standard", 10, 0, 0, 0, 0, 0, unpriced_calls=10)
    unknown = replace(plan(10, 20.0, 0), lines=(line,), unknown_prices=("gpt-x",))
    for part in (found := as_json(unknown, [], simulated=False), found["lines"][0]):
        assert (part["low_usd"], part["expected_usd"], part["highest_usd"]) == (None, None, None)
    known = as_json(plan(10, 20.0, 1_000_000), [], simulated=False)
    assert known["expected_usd"] == known["lines"][0]["expected_usd"] == 0.001


def test_limits_show_the_least_that_is_left_and_json_shows_all_of_them() -> None:
    gauges = (
        LimitGauge("a", "requests", 5.0, 10.0, 600.0, LimitSource.CONFIGURED),
        LimitGauge("b", "requests", 1.0, 10.0, 600.0, LimitSource.CONFIGURED),
        LimitGauge("a", "tokens", -50.0, 1_000.0, 1_000.0, LimitSource.LEARNED),
    )
    full = pool(provider("openai", limits=gauges), provider("gemini"))
    assert list(limit_lines(full)) == ["left of openai's limits: requests 10 %, tokens 0 %"]
    shown = progress_json(full, ProgressCounts({TaskStatus.QUEUED: 3}, NOON), simulated=False)
    assert [gauge["left"] for gauge in shown["providers"][0]["limits"]] == [0.5, 0.1, 0.0]


def test_beside_a_server_the_costs_by_provider_are_those_of_the_batch() -> None:
    served = pool(provider("openai", cost_nanos=9 * MILLION), provider("gemini", cost_nanos=5 * MILLION))
    progress = ProgressCounts({TaskStatus.QUEUED: 3}, NOON)
    own = progress_json(served, progress, simulated=False)
    assert [each["cost_usd"] for each in own["providers"]] == [0.009, 0.005]
    calls = CallSums(calls=1, ok=1, cost_nanos=2 * MILLION)
    progress.take_over(Summary({TaskStatus.QUEUED: 2}, {"openai": calls}, {}, {}, {}, calls, TaskSums()))
    followed = progress_json(served, progress, simulated=False)
    assert [each["cost_usd"] for each in followed["providers"]] == [0.002, 0.0]
    assert followed["cost_usd"] == 0.002


def test_each_json_line_says_that_the_run_is_simulated(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(views, "JSON_EVERY_S", 0.0)
    console = Console(as_json=True)
    console.note("before the settings are read")
    console.simulated = True
    console.note("a note")
    make_view(console, quiet=False).update(
        pool(provider("openai")), ProgressCounts({TaskStatus.QUEUED: 3}, NOON)
    )
    early, note, row = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert "simulated" not in early and note == {"note": "a note", "simulated": True}
    assert row["progress"]["simulated"] is True and row["progress"]["total"] == 3


def test_lines_for_a_log_are_printed_only_if_they_have_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "LINE_EVERY_S", 0.0)
    view, progress = make_view(Console(), quiet=False), ProgressCounts(None, NOON)
    for _ in range(3):
        view.update(pool(provider("openai")), progress)
    first = capsys.readouterr().err.splitlines()
    view.update(pool(provider("openai", in_flight=2)), progress)
    second = capsys.readouterr().err.splitlines()
    assert len(first) == len(second) == 1 and "in flight: none" in first[0]
    assert "in flight: openai 2" in second[0]
