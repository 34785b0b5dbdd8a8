"""The totals of a run: what was spent, and what it would have been on the baseline model."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from io import StringIO

import pytest
from rich.console import Console

from src.cli.progress_counts import ProgressCounts
from src.cli.summary import (
    SPARE_COLUMNS,
    Totals,
    fitting,
    how_to_continue,
    model_table,
    print_summary,
    summary_json,
    total_lines,
)
from src.core.store import BatchExtras, CallSums, Summary, TaskSums
from src.records import NANOS_PER_USD, TaskStatus
from src.routing.cost.budgets import BudgetRule

USD = NANOS_PER_USD
MODELS = [
    ("anthropic", "claude-sonnet-5-5"),
    ("gemini", "gemini-3.5-flash-lite"),
    ("openai", "gpt-6.1-terra"),
]
COUNTS = {TaskStatus.SUCCEEDED: 110, TaskStatus.FAILED: 2}
TIERS = {
    "economy": TaskSums(tasks=100, succeeded=100, cost_nanos=1 * USD, baseline_nanos=5 * USD),
    "premium": TaskSums(tasks=10, succeeded=10, cost_nanos=9 * USD, baseline_nanos=8 * USD),
    "auto": TaskSums(tasks=2, cost_nanos=1 * USD),
}
ALL = TaskSums(tasks=112, succeeded=110, cost_nanos=11 * USD, baseline_nanos=13 * USD)
SUMMARY = Summary(COUNTS, {}, {}, {}, TIERS, CallSums(calls=120, ok=110, cost_nanos=11 * USD), ALL)


def totals(summary: Summary) -> Totals:
    return Totals(summary, ProgressCounts(COUNTS, 0.0), "gpt-big", elapsed_s=60.0, simulated=False)


def text_of(summary: Summary) -> str:
    return "\n".join(total_lines(totals(summary)))


def test_savings_come_with_their_split_by_tier() -> None:
    text = text_of(SUMMARY)
    assert "15 % less than the $13.00 these tokens would cost on gpt-big" in text
    assert (
        "by tier: premium $9.00 instead of $8.00 (12 % more, 10 tasks);"
        " economy $1.00 instead of $5.00 (80 % less, 100 tasks);"
        " not answered $1.00 instead of $0 (2 tasks)"
    ) in text
    found = summary_json(totals(SUMMARY))
    assert found["saved_usd"] == 2.0
    assert found["tiers"]["economy"] == {"tasks": 100, "cost_usd": 1.0, "baseline_usd": 5.0}
    assert sum(tier["baseline_usd"] - tier["cost_usd"] for tier in found["tiers"].values()) == 2.0


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (BatchExtras(), ""),
        (BatchExtras(20_000_000), "$0.0200 of it paid late, for answers of batches"),
        (
            BatchExtras(0, {"gemini": 1, "openai": 2}, 50_000_000),
            "3 batches at gemini and openai are still being cancelled: up to $0.0500 may still be booked",
        ),
    ],
    ids=["nothing", "paid late", "left open"],
)
def test_what_batches_at_providers_add_is_told_in_dollars(found: BatchExtras, words: str) -> None:
    these = replace(totals(SUMMARY), batches=found)
    text = "\n".join(total_lines(these))
    assert (words or "$11.00") in text and ("batches" in text) is bool(words)
    written = summary_json(these)["batches"]
    assert written["paid_late_usd"] == found.late_nanos / 1e9
    assert (written["open"], written["reserved_usd"]) == (dict(found.open), found.reserved_nanos / 1e9)


def test_a_run_that_ends_early_names_the_batches_that_go_on() -> None:
    found = BatchExtras(0, {"gemini": 1, "openai": 2}, 50_000_000)
    left = ProgressCounts({**COUNTS, TaskStatus.BATCHED: 300}, 0.0)
    text = "\n".join(total_lines(replace(totals(SUMMARY), batches=found, progress=left)))
    assert "3 batches at gemini and openai go on there, for up to $0.0500; a later run collects" in text
    assert "cancelled" not in text


def test_savings_come_with_what_saved_them() -> None:
    assert "by the choice of models" not in text_of(SUMMARY), "there is nothing else"
    calls = replace(SUMMARY.calls, discount_nanos=3 * USD // 2, cache_saved_nanos=-USD // 4)
    summary = replace(SUMMARY, calls=calls)
    text = "saved $0.7500 by the choice of models, $1.50 at half price, -$0.2500 by prompt caches"
    assert text in text_of(summary)
    parts = summary_json(totals(summary))["saved_parts"]
    assert parts == {"models_usd": 0.75, "half_price_usd": 1.5, "cache_usd": -0.25}
    assert sum(parts.values()) == summary_json(totals(summary))["saved_usd"]


def test_savings_do_not_count_uncertain_calls_as_money_spent() -> None:
    calls = replace(SUMMARY.calls, cost_nanos=1 * USD, uncertain_nanos=10 * USD)
    text = text_of(replace(SUMMARY, calls=calls))
    assert "cost: $1.00, and up to $10.00 for calls that were cut off and may be billed" in text
    assert "92 % less (or 15 % less, if those calls are billed) than the $13.00 these tokens would" in text
    assert "by tier, if those calls are billed: " in text


def test_calls_without_a_finished_task_are_added_to_the_cost() -> None:
    """Calls of killed processes and of unfinished tasks are in no task's cost."""
    calls = replace(SUMMARY.calls, cost_nanos=11 * USD, uncertain_nanos=7 * USD)
    text = text_of(replace(SUMMARY, calls=calls))
    assert "cost: $11.00, and up to $7.00 for calls that were cut off and may be billed" in text
    assert "15 % less (or 38 % more, if those calls are billed) than the $13.00 these tokens would" in text
    assert "by tier: " in text, "which holds none of them"


@pytest.mark.parametrize("width", [60, 72, 80, 100, 140])
def test_the_model_table_fits_the_terminal(width: int) -> None:
    sums = replace(SUMMARY.calls, calls=1_234_567, ok=1_234_567, input_tokens=98_765_432)
    sums = replace(sums, output_tokens=98_765_432, cost_nanos=12_345 * USD)
    summary = replace(SUMMARY, calls=sums, models=dict.fromkeys(MODELS, sums))
    screen = Console(width=width, file=StringIO(), highlight=False)
    screen.print(fitting(screen, partial(model_table, summary), SPARE_COLUMNS))
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == 6 and all(len(line) <= width for line in lines)
    assert "…" not in "".join(lines)
    for line in lines[2:]:
        assert "1,234,567" in line.split() and line.rstrip().endswith("$12,345.00")


def test_an_incomplete_run_says_how_to_continue() -> None:
    assert how_to_continue(SUMMARY, None) == "run the same command again to continue"
    cap = BudgetRule("batch", "/data/out.jsonl", "total", 11_500_000_000)
    assert how_to_continue(SUMMARY, cap) == (
        "$11.00 spent on this file in all; rerun with a higher --max-cost"
    )
    total = BudgetRule("all", "", "total", 11 * USD)
    assert how_to_continue(SUMMARY, total) == ("raise budget overall in total in [budgets] to continue")


def test_the_closing_line_counts_rejected_lines() -> None:
    found = totals(SUMMARY)
    found.progress.rejected = 3
    assert next(total_lines(found)).startswith("110 of 112 tasks answered, 3 rejected; this run took")
    assert summary_json(found)["rejected"] == 3


def test_empty_tables_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    def printed(summary: Summary, *, quiet: bool = False) -> str:
        print_summary(totals(summary), quiet=quiet, stderr=False)
        return capsys.readouterr().out

    called = replace(SUMMARY, models={("openai", "gpt-x"): SUMMARY.calls}, agents={"gpt-engineer": ALL})
    assert "models" in printed(called) and "agents" in printed(called)
    for text in (printed(SUMMARY), printed(called, quiet=True)):
        assert "providers" not in text and "agents" not in text
        assert text.startswith("110 of 112 tasks answered")


@pytest.mark.parametrize("are_home", [True, False])
def test_agents_are_listed_only_if_all_their_providers_are_configured(
    capsys: pytest.CaptureFixture[str], are_home: bool
) -> None:
    called = replace(SUMMARY, models={("openai", "gpt-x"): SUMMARY.calls}, agents={"gemini-scout": ALL})
    print_summary(replace(totals(called), agents_are_home=are_home), quiet=False, stderr=False)
    assert ("gemini-scout" in capsys.readouterr().out) is are_home


def test_a_resumed_run_says_what_it_cost_itself() -> None:
    found = totals(SUMMARY)
    assert "in this run" not in "\n".join(total_lines(found))
    found.progress.nanos_before = 9 * USD
    assert "cost: $11.00, $2.00 of it in this run; 15 % less" in "\n".join(total_lines(found))


def test_an_unknown_price_hides_savings() -> None:
    for unknown in (
        replace(ALL, unknown_baseline_tasks=1),
        replace(ALL, unknown_cost_tasks=1),
        replace(ALL, baseline_nanos=0),
    ):
        summary = replace(SUMMARY, tasks=unknown)
        assert "these tokens" not in text_of(summary) and "by tier" not in text_of(summary)
        found = summary_json(totals(summary))
        assert (found["saved_usd"], found["saved_parts"], found["tiers"]) == (None, None, {})
