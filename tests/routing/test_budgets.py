"""Budgets: what is admitted, what it is booked on, and that no order of events overruns one."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from src.config import load_settings
from src.errors import ConfigError, PermitError
from src.routing.cost.budgets import (
    BudgetAlert,
    BudgetGauge,
    BudgetRefusal,
    BudgetRule,
    Budgets,
    affordable_max_tokens,
    period_bounds,
    rules_from,
    usd_to_nanos,
)
from src.routing.cost.pricing import compile_price

NOON = datetime(2026, 11, 23, 12, tzinfo=ZoneInfo("UTC")).timestamp()
MIDNIGHT = NOON + 12 * 3600
DAY = BudgetRule("all", "", "day", 100)
PAYER = ("openai", "queue", "local")


def gauge(budgets: Budgets, now: float = NOON) -> BudgetGauge:
    return budgets.snapshot(now)[0]


def sums(budgets: Budgets, now: float = NOON) -> tuple[int, int, int]:
    found = gauge(budgets, now)
    return found.reserved_nanos, found.spent_nanos, found.uncertain_nanos


# ------------------------------------------------------------------ one call


def test_a_call_is_reserved_at_its_bound_and_booked_at_its_cost() -> None:
    budgets = Budgets([DAY])
    assert budgets.check(NOON, *PAYER, 60) is None
    token = budgets.reserve(NOON, *PAYER, 60)
    assert sums(budgets) == (60, 0, 0)
    assert budgets.headroom_nanos(NOON, *PAYER) == 40
    budgets.settle(token, 25)
    assert sums(budgets) == (0, 25, 0)
    assert budgets.headroom_nanos(NOON, *PAYER) == 75


def test_a_call_that_never_left_costs_nothing() -> None:
    budgets = Budgets([DAY])
    budgets.cancel(budgets.reserve(NOON, *PAYER, 60))
    assert sums(budgets) == (0, 0, 0)


def test_a_call_that_was_cut_off_counts_and_is_shown_apart() -> None:
    budgets = Budgets([DAY])
    budgets.settle(budgets.reserve(NOON, *PAYER, 60), uncertain=True)  # nothing is known: all of it
    budgets.settle(budgets.reserve(NOON, *PAYER, 30), 10, uncertain=True)
    assert sums(budgets) == (0, 0, 70)
    assert budgets.headroom_nanos(NOON, *PAYER) == 30


def test_a_cost_above_the_bound_counts_in_full_and_nothing_more_is_admitted() -> None:
    budgets = Budgets([DAY])
    budgets.settle(budgets.reserve(NOON, *PAYER, 100), 130)
    assert sums(budgets) == (0, 130, 0)
    assert budgets.headroom_nanos(NOON, *PAYER) == 0
    for nanos in (0, 1):
        refusal = budgets.check(NOON, *PAYER, nanos)
        assert refusal is not None
        assert refusal.reason == "exhausted"


def test_exactly_as_many_calls_pass_as_the_budget_holds() -> None:
    budgets = Budgets([DAY])
    passed = 0
    while budgets.check(NOON, *PAYER, 10) is None:
        budgets.reserve(NOON, *PAYER, 10)
        passed += 1
    assert passed == 10


ENDS = [
    pytest.param(lambda budgets, token: budgets.settle(token, 1), id="settle"),
    pytest.param(lambda budgets, token: budgets.settle(token, uncertain=True), id="uncertain"),
    pytest.param(lambda budgets, token: budgets.cancel(token), id="cancel"),
]


@pytest.mark.parametrize("rules", [(), (DAY,)], ids=["no budget", "a budget"])
@pytest.mark.parametrize("second", ENDS)
@pytest.mark.parametrize("first", ENDS)
def test_a_reservation_ends_once_and_a_second_end_changes_nothing(first, second, rules) -> None:  # type: ignore[no-untyped-def]
    budgets = Budgets(rules)
    token = budgets.reserve(NOON, *PAYER, 60)
    first(budgets, token)
    before = budgets.snapshot(NOON)
    with pytest.raises(PermitError):
        second(budgets, token)
    assert budgets.snapshot(NOON) == before


@pytest.mark.parametrize("end", ENDS)
def test_a_reservation_that_was_never_made_can_not_end(end) -> None:  # type: ignore[no-untyped-def]
    budgets = Budgets([DAY])
    with pytest.raises(PermitError):
        end(budgets, 7)
    assert sums(budgets) == (0, 0, 0)


@pytest.mark.parametrize("nanos", [None, -1, 101])
def test_what_check_refuses_can_not_be_reserved_either(nanos: int | None) -> None:
    budgets = Budgets([DAY, BudgetRule("provider", "openai", "day", 1_000)])
    with pytest.raises(PermitError):
        budgets.reserve(NOON, *PAYER, nanos)
    assert [g.reserved_nanos for g in budgets.snapshot(NOON)] == [0, 0]


def test_a_negative_cost_is_refused_and_the_reservation_stays() -> None:
    budgets = Budgets([DAY])
    token = budgets.reserve(NOON, *PAYER, 60)
    with pytest.raises(PermitError):
        budgets.settle(token, -1)
    assert sums(budgets) == (60, 0, 0)


# ------------------------------------------------------------------ which budgets apply


@pytest.mark.parametrize(
    ("scope", "name", "applies"),
    [
        ("all", "", True),
        ("provider", "openai", True),
        ("provider", "gemini", False),
        ("batch", "queue", True),
        ("batch", "openai", False),
        ("submitter", "local", True),
        ("submitter", "ann", False),
    ],
)
def test_a_budget_counts_the_calls_of_its_scope(scope, name, applies) -> None:  # type: ignore[no-untyped-def]
    budgets = Budgets([BudgetRule(scope, name, "total", 100)])
    assert (budgets.headroom_nanos(NOON, *PAYER) == 100) is applies
    assert (budgets.check(NOON, *PAYER, 101) is not None) is applies
    assert (budgets.check(NOON, *PAYER, None) is not None) is applies
    budgets.settle(budgets.reserve(NOON, *PAYER, 70 if applies else None), 50)
    assert gauge(budgets).spent_nanos == (50 if applies else 0)


def test_a_call_fits_all_its_budgets_or_none() -> None:
    budgets = Budgets(
        [DAY, BudgetRule("provider", "openai", "month", 30), BudgetRule("batch", "b", "total", 70)]
    )
    assert budgets.headroom_nanos(NOON, "openai", "b", "local") == 30
    assert budgets.headroom_nanos(NOON, "gemini", "b", "local") == 70
    assert budgets.headroom_nanos(NOON, "gemini", "queue", "local") == 100
    assert budgets.check(NOON, "openai", "b", "local", 31) is not None
    assert budgets.check(NOON, "gemini", "b", "local", 31) is None
    budgets.reserve(NOON, "gemini", "b", "local", 60)
    assert budgets.headroom_nanos(NOON, "openai", "b", "local") == 10
    assert budgets.headroom_nanos(NOON, "openai", "queue", "local") == 30


def test_without_a_budget_everything_passes_and_nothing_is_kept() -> None:
    budgets = Budgets([BudgetRule("all", "", "day", 0)])
    assert budgets.check(NOON, *PAYER, 10**18) is None
    assert budgets.check(NOON, *PAYER, None) is None
    assert budgets.headroom_nanos(NOON, *PAYER) is None
    budgets.settle(budgets.reserve(NOON, *PAYER, None))
    assert budgets.snapshot(NOON) == ()


# ------------------------------------------------------------------ why a call is refused


def test_an_unknown_price_is_refused_under_a_budget() -> None:
    refusal = Budgets([DAY]).check(NOON, *PAYER, None)
    assert refusal == BudgetRefusal(None, "unknown_price", DAY, 100, in_flight=False)
    assert str(refusal) == "budget overall per day: unknown price"


def test_a_call_that_fits_beside_nothing_in_flight_waits_for_a_settle() -> None:
    budgets = Budgets([DAY])
    token = budgets.reserve(NOON, *PAYER, 90)
    assert budgets.check(NOON, *PAYER, 20) == BudgetRefusal(None, "in_flight", DAY, 10, in_flight=True)
    budgets.settle(token, 40)
    assert budgets.check(NOON, *PAYER, 20) is None


def test_a_call_too_large_for_what_is_left_is_refused_with_the_headroom() -> None:
    budgets = Budgets([DAY])
    budgets.load(NOON, DAY, 70, 10)
    refusal = budgets.check(NOON, *PAYER, 50, minimum_nanos=15)
    assert refusal == BudgetRefusal(MIDNIGHT, "too_large", DAY, 20, in_flight=False)


def test_a_call_that_no_clamping_makes_fit_waits_for_the_reset_even_beside_calls_in_flight() -> None:
    budgets = Budgets([DAY])
    budgets.load(NOON, DAY, 70)
    budgets.reserve(NOON, *PAYER, 5)
    refusal = budgets.check(NOON, *PAYER, 50, minimum_nanos=31)
    assert refusal == BudgetRefusal(MIDNIGHT, "exhausted", DAY, 25, in_flight=False)


def test_of_several_exhausted_budgets_the_last_to_reset_is_named() -> None:
    total = BudgetRule("batch", "queue", "total", 10)
    month = BudgetRule("provider", "openai", "month", 10)
    refusal = Budgets([DAY, month]).check(NOON, *PAYER, 200, minimum_nanos=150)
    assert refusal is not None
    assert (refusal.rule, refusal.until) == (month, MIDNIGHT + 7 * 86_400)
    refusal = Budgets([total, DAY, month]).check(NOON, *PAYER, 200, minimum_nanos=150)
    assert refusal is not None
    assert (refusal.rule, refusal.until) == (total, None)  # a total never resets


def test_a_budget_with_calls_in_flight_is_waited_for_before_another_one_clamps() -> None:
    batch = BudgetRule("batch", "b", "total", 50)
    budgets = Budgets([batch, DAY])
    budgets.reserve(NOON, "openai", "queue", "local", 90)  # in flight, but of another batch
    refusal = budgets.check(NOON, "openai", "b", "local", 60, minimum_nanos=20)
    assert refusal == BudgetRefusal(None, "in_flight", DAY, 10, in_flight=True)


# ------------------------------------------------------------------ clamping


def test_a_defaulted_max_tokens_is_clamped_to_what_the_headroom_affords() -> None:
    price = compile_price("openai", "gpt-6-luna", NOON)
    assert price is not None
    headroom = price.upper_bound_nanos(2_000, 2, 700)
    assert affordable_max_tokens(price, 2_000, 2, headroom, 256) == 700
    assert affordable_max_tokens(price, 2_000, 2, headroom - 1, 256) == 699
    assert affordable_max_tokens(price, 2_000, 2, headroom, 701) is None
    assert affordable_max_tokens(price, 2_000, 2, 0, 1) is None


# ------------------------------------------------------------------ days, months and midnights


def local(zone: str, *when: int, fold: int = 0) -> float:
    return datetime(*when, tzinfo=ZoneInfo(zone), fold=fold).timestamp()  # type: ignore[misc,arg-type]


DAYS = [
    pytest.param("UTC", (2026, 11, 23), 24, id="plain"),
    pytest.param("Europe/Berlin", (2026, 3, 29), 23, id="spring"),
    pytest.param("Europe/Berlin", (2026, 10, 25), 25, id="autumn"),
    pytest.param("America/Los_Angeles", (2026, 11, 1), 25, id="autumn in the west"),
    pytest.param("Australia/Lord_Howe", (2026, 4, 5), 24.5, id="half an hour"),
    pytest.param("Asia/Kathmandu", (2026, 7, 1), 24, id="an odd offset"),
    pytest.param("America/Havana", (2026, 11, 1), 25, id="midnight comes twice"),
]


@pytest.mark.parametrize(("zone", "day", "hours"), DAYS)
def test_a_day_lasts_from_local_midnight_to_the_next(
    zone: str, day: tuple[int, int, int], hours: float
) -> None:
    start = local(zone, *day)
    for now in (start, start + 3_600, start + hours * 3_600 - 0.001):
        assert period_bounds("day", now, ZoneInfo(zone)) == (start, start + hours * 3_600)


def test_a_day_without_a_midnight_begins_when_the_clocks_skip_it() -> None:
    zone = ZoneInfo("Africa/Cairo")  # 2026-04-24 00:00 is 01:00 at once
    start = local("Africa/Cairo", 2026, 4, 24, 1)
    assert period_bounds("day", start, zone) == (start, start + 23 * 3_600)
    assert period_bounds("day", start - 1, zone) == (start - 24 * 3_600, start)


@pytest.mark.parametrize(
    ("zone", "now", "start", "end"),
    [
        pytest.param("UTC", (2026, 1, 31, 23), (2026, 1, 1), (2026, 2, 1), id="31 days"),
        pytest.param("UTC", (2026, 2, 28, 23), (2026, 2, 1), (2026, 3, 1), id="28 days"),
        pytest.param("UTC", (2028, 2, 29, 23), (2028, 2, 1), (2028, 3, 1), id="29 days"),
        pytest.param("UTC", (2026, 12, 31, 23), (2026, 12, 1), (2027, 1, 1), id="the end of a year"),
        pytest.param("UTC", (2026, 3, 1, 0), (2026, 3, 1), (2026, 4, 1), id="its first moment"),
        pytest.param(
            "Europe/Berlin", (2026, 3, 31, 23), (2026, 3, 1), (2026, 4, 1), id="clocks change in it"
        ),
        pytest.param(
            "America/Los_Angeles", (2026, 10, 31, 23), (2026, 10, 1), (2026, 11, 1), id="in the west"
        ),
    ],
)
def test_a_month_lasts_from_its_first_midnight_to_the_next_first(zone, now, start, end) -> None:  # type: ignore[no-untyped-def]
    bounds = period_bounds("month", local(zone, *now), ZoneInfo(zone))
    assert bounds == (local(zone, *start), local(zone, *end))


zones = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/Los_Angeles",
        "America/Havana",
        "Africa/Cairo",
        "Pacific/Apia",  # skipped a whole day in 2011
        "America/St_Johns",  # set its clocks back across midnight until 2011
        "America/Toronto",  # set them forward across midnight in 1919
        "Pacific/Kiritimati",
    ]
)
moments = st.floats(local("UTC", 1915, 1, 1), local("UTC", 2040, 1, 1))


@settings(max_examples=500, deadline=None)
@given(zone=zones, now=moments, period=st.sampled_from(["day", "month"]))
def test_periods_follow_each_other_without_gap_or_overlap(zone, now, period) -> None:  # type: ignore[no-untyped-def]
    info = ZoneInfo(zone)
    start, end = period_bounds(period, now, info)
    assert start <= now < end
    assert period_bounds(period, start, info) == (start, end)
    assert period_bounds(period, end, info)[0] == end


@pytest.mark.parametrize(
    ("zone", "around"),
    [
        ("America/Toronto", (1919, 3, 30)),
        ("America/St_Johns", (2006, 10, 29)),
        ("Pacific/Apia", (2011, 12, 30)),
    ],
)
def test_periods_stay_in_order_where_clocks_jump_across_midnight(
    zone: str, around: tuple[int, int, int]
) -> None:
    info, first = ZoneInfo(zone), datetime(*around, 12, tzinfo=ZoneInfo("UTC")) - timedelta(days=2)
    ends = []
    for minutes in range(0, 4 * 1_440, 7):
        now = (first + timedelta(minutes=minutes)).timestamp()
        start, end = period_bounds("day", now, info)
        assert start <= now < end
        ends.append(end)
    assert ends == sorted(ends)


def test_a_new_day_starts_with_a_full_budget_and_the_month_goes_on() -> None:
    month = BudgetRule("all", "", "month", 1_000)
    budgets = Budgets([DAY, month], "Europe/Berlin")
    evening = local("Europe/Berlin", 2026, 11, 23, 23, 59)
    budgets.settle(budgets.reserve(evening, *PAYER, 100), 90)
    refusal = budgets.check(evening, *PAYER, 20, minimum_nanos=20)
    assert refusal is not None
    assert refusal.until == local("Europe/Berlin", 2026, 11, 24)
    morning = refusal.until
    assert budgets.check(morning - 0.001, *PAYER, 20) is not None
    assert budgets.check(morning, *PAYER, 20) is None
    assert [g.spent_nanos for g in budgets.snapshot(morning)] == [0, 90]


def test_a_charge_belongs_to_the_day_of_its_reservation() -> None:
    budgets = Budgets([DAY, BudgetRule("all", "", "total", 1_000)])
    token = budgets.reserve(MIDNIGHT - 1, *PAYER, 60)
    assert [g.reserved_nanos for g in budgets.snapshot(MIDNIGHT)] == [0, 60]
    budgets.settle(token, 50)
    assert [g.spent_nanos for g in budgets.snapshot(MIDNIGHT + 1)] == [0, 50]
    assert budgets.headroom_nanos(MIDNIGHT + 1, *PAYER) == 100


def test_utc_needs_no_time_zone_data_and_an_unknown_zone_is_refused() -> None:
    assert Budgets([DAY], "utc").snapshot(NOON)[0].resets_at == MIDNIGHT
    for wrong in ("Europe/Berlyn", "", "/etc/passwd", "America"):
        with pytest.raises(ConfigError, match=r"budgets\.time_zone"):
            Budgets([DAY], wrong)


# ------------------------------------------------------------------ alerts


def spend(budgets: Budgets, nanos: int, now: float = NOON) -> list[int]:
    budgets.settle(budgets.reserve(now, *PAYER, nanos), nanos)
    return [alert.percent for alert in budgets.take_alerts()]


def test_each_share_is_alerted_once_per_period() -> None:
    budgets = Budgets([DAY])
    assert [spend(budgets, nanos) for nanos in (49, 1, 29, 1, 19, 1)] == [[], [50], [], [80], [], [100]]
    assert budgets.take_alerts() == []
    assert spend(budgets, 100, MIDNIGHT) == [50, 80, 100]


def test_an_alert_says_which_budget_and_how_it_stands() -> None:
    budgets = Budgets([DAY], alert_percent=(90, 10))
    budgets.settle(budgets.reserve(NOON, *PAYER, 30), 7)
    budgets.settle(budgets.reserve(NOON, *PAYER, 4), uncertain=True)
    assert budgets.take_alerts() == [BudgetAlert(DAY, 10, 7, 4, MIDNIGHT)]


def test_reservations_alone_raise_no_alert() -> None:
    budgets = Budgets([DAY])
    budgets.cancel(budgets.reserve(NOON, *PAYER, 100))
    assert budgets.take_alerts() == []


def test_a_batchs_cap_raises_no_alert() -> None:
    budgets = Budgets([BudgetRule("batch", "b", "total", 100), BudgetRule("all", "", "total", 200)])
    budgets.settle(budgets.reserve(NOON, "openai", "b", "local", 100), 100)
    assert [(a.rule.scope, a.percent) for a in budgets.take_alerts()] == [("all", 50)]


def test_what_was_alerted_before_a_restart_is_not_alerted_again() -> None:
    budgets = Budgets([DAY])
    budgets.load(NOON, DAY, 70, 12)
    assert budgets.take_alerts() == []
    assert spend(budgets, 10) == []
    assert spend(budgets, 8) == [100]


# ------------------------------------------------------------------ starting, changing, showing


def test_a_start_looks_up_each_period_and_goes_on_from_there() -> None:
    month, total = BudgetRule("provider", "openai", "month", 500), BudgetRule("batch", "queue", "total", 900)
    budgets = Budgets([DAY, month, total])
    openings = dict(budgets.openings(NOON))
    assert openings == {DAY: NOON - 12 * 3600, month: local("UTC", 2026, 11, 1), total: None}
    for number, budget in enumerate(openings, start=1):
        budgets.load(NOON, budget, number * 10, number)
    assert budgets.snapshot(NOON) == (
        BudgetGauge("all", "", "day", 100, 10, 0, 1, MIDNIGHT),
        BudgetGauge("provider", "openai", "month", 500, 20, 0, 2, local("UTC", 2026, 12, 1)),
        BudgetGauge("batch", "queue", "total", 900, 30, 0, 3, None),
    )


def test_only_a_sum_that_makes_sense_is_loaded() -> None:
    budgets = Budgets([DAY])
    for budget, spent in ((DAY, -1), (BudgetRule("all", "", "month", 5), 1)):
        with pytest.raises(PermitError):
            budgets.load(NOON, budget, spent)
    assert sums(budgets) == (0, 0, 0)


def test_a_budget_can_be_added_changed_and_ended_while_calls_are_in_flight() -> None:
    budgets = Budgets()
    early = budgets.reserve(NOON, *PAYER, 1_000)
    budgets.set_rule(DAY)
    token = budgets.reserve(NOON, *PAYER, 80)
    budgets.set_rule(BudgetRule("all", "", "day", 60))
    assert budgets.headroom_nanos(NOON, *PAYER) == 0
    budgets.settle(early, 900)  # began before there was a budget
    budgets.settle(token, 50)
    assert sums(budgets) == (0, 50, 0)
    assert budgets.headroom_nanos(NOON, *PAYER) == 10
    budgets.set_rule(BudgetRule("all", "", "day", 0))
    assert budgets.check(NOON, *PAYER, 10**12) is None
    assert repr(budgets) == "<Budgets 0 rules, 0 in flight>"


def test_a_raised_limit_is_alerted_at_its_own_shares() -> None:
    budgets = Budgets([DAY])
    assert spend(budgets, 90) == [50, 80]
    budgets.set_rule(BudgetRule("all", "", "day", 200))
    assert spend(budgets, 9) == []
    assert spend(budgets, 1) == [50]


# ------------------------------------------------------------------ from the configuration


def test_the_rules_come_from_the_configuration_and_0_is_no_budget(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        """
        [budgets]
        monthly_usd = 20.5
        [budgets.providers.openai]
        daily_usd = 0.1
        [budgets.submitters.ann]
        total_usd = 3
        """,
        encoding="utf-8",
    )
    rules = rules_from(load_settings(file, {}).budgets, {"run-7": 1.25, "free": 0.0})
    assert rules == (
        BudgetRule("all", "", "month", 20_500_000_000),
        BudgetRule("provider", "openai", "day", 100_000_000),
        BudgetRule("submitter", "ann", "total", 3_000_000_000),
        BudgetRule("batch", "run-7", "total", 1_250_000_000),
    )
    assert [str(r) for r in rules[:3]] == [
        "budget overall per month",
        "budget provider openai per day",
        "budget submitter ann in total",
    ]
    assert str(rules[3]) == "cap of batch run-7 (--max-cost or max_cost_usd)"
    run = BudgetRule("batch", "runs/ann/r1", "total", 1)
    assert str(run) == "cap of run ann/r1 (x-orchestrator-run-max-cost-usd)"
    assert rules_from(load_settings(None, {}).budgets) == ()


@pytest.mark.parametrize(
    ("usd", "nanos"), [(0.0, 0), (0.3, 300_000_000), (1e-15, 1), (12_345.678, 12_345_678_000_000)]
)
def test_dollars_become_nanos_as_they_were_written(usd: float, nanos: int) -> None:
    assert usd_to_nanos(usd) == nanos


# ------------------------------------------------------------------ any order of events


@dataclass
class Call:
    """One call as an honest bookkeeper would write it down."""

    at: float
    payer: tuple[str, str, str]
    bound: int
    state: str = "in flight"  # then spent, uncertain or cancelled
    cost: int = 0

    def concerns(self, budget: BudgetRule) -> bool:
        named = dict(zip(("provider", "batch", "submitter"), self.payer, strict=True))
        return budget.scope == "all" or named[budget.scope] == budget.name


RULES = (
    BudgetRule("all", "", "day", 1_000),
    BudgetRule("all", "", "month", 2_500),
    BudgetRule("provider", "openai", "day", 700),
    BudgetRule("batch", "b", "total", 1_500),
    BudgetRule("submitter", "ann", "month", 900),
)
payer = st.tuples(
    st.sampled_from(["openai", "gemini"]), st.sampled_from(["b", "queue"]), st.sampled_from(["ann", "bob"])
)
ZONE = ZoneInfo("Europe/Berlin")


class AnyOrderOfEvents(RuleBasedStateMachine):
    """Up to 64 calls in flight; settles, cancels, cut-offs, crashes and midnights in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = local("Europe/Berlin", 2026, 10, 23, 20)  # the clocks change, then the month
        self.budgets = Budgets(RULES, "Europe/Berlin")
        self.calls: list[Call] = []
        self.open: dict[int, Call] = {}
        self.ended: list[int] = []

    def counted(self, budget: BudgetRule, state: str) -> int:
        """Independent sum over the calls that belong to the budget's current period."""
        bounds = period_bounds(budget.period, self.now, ZONE)
        return sum(
            call.bound if state == "in flight" else call.cost
            for call in self.calls
            if call.state == state and bounds[0] <= call.at < bounds[1] and call.concerns(budget)
        )

    @precondition(lambda self: len(self.open) < 64)
    @rule(payer=payer, bound=st.integers(0, 400), burst=st.integers(1, 16))
    def place(self, payer: tuple[str, str, str], bound: int, burst: int) -> None:
        for _ in range(min(burst, 64 - len(self.open))):
            refusal = self.budgets.check(self.now, *payer, bound)
            headroom = self.budgets.headroom_nanos(self.now, *payer)
            assert headroom is not None
            assert (refusal is None) == (bound <= headroom)
            if refusal is not None:
                assert refusal.headroom_nanos == headroom
                assert refusal.in_flight == (refusal.reason == "in_flight")
                with pytest.raises(PermitError):
                    self.budgets.reserve(self.now, *payer, bound)
                return
            call = Call(self.now, payer, bound)
            self.calls.append(call)
            self.open[self.budgets.reserve(self.now, *payer, bound)] = call

    def take(self, data: st.DataObject) -> tuple[int, Call]:
        token = data.draw(st.sampled_from(sorted(self.open)))
        self.ended.append(token)
        return token, self.open.pop(token)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.floats(0, 1), uncertain=st.booleans())
    def answer(self, data: st.DataObject, share: float, uncertain: bool) -> None:
        token, call = self.take(data)
        call.state, call.cost = ("uncertain" if uncertain else "spent"), int(call.bound * share)
        self.budgets.settle(token, call.cost, uncertain=uncertain)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        token, call = self.take(data)
        call.state = "cancelled"
        self.budgets.cancel(token)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), again=st.sampled_from(["settle", "cancel"]))
    def end_twice(self, data: st.DataObject, again: str) -> None:
        with pytest.raises(PermitError):
            getattr(self.budgets, again)(data.draw(st.sampled_from(self.ended)))

    @rule(hours=st.floats(0.1, 60))
    def time_passes(self, hours: float) -> None:
        self.now += hours * 3_600

    @rule()
    def crash_and_start_again(self) -> None:
        for call in self.open.values():
            call.state, call.cost = "uncertain", call.bound
        self.open, self.ended = {}, []
        self.budgets = Budgets(RULES, "Europe/Berlin")
        for budget, _ in self.budgets.openings(self.now):
            self.budgets.load(
                self.now, budget, self.counted(budget, "spent"), self.counted(budget, "uncertain")
            )

    @invariant()
    def every_budget_holds_and_agrees_with_the_books(self) -> None:
        for budget, shown in zip(RULES, self.budgets.snapshot(self.now), strict=True):
            assert shown.reserved_nanos == self.counted(budget, "in flight")
            assert shown.spent_nanos == self.counted(budget, "spent")
            assert shown.uncertain_nanos == self.counted(budget, "uncertain")
            used = shown.reserved_nanos + shown.spent_nanos + shown.uncertain_nanos
            assert 0 <= used <= budget.limit_nanos


TestAnyOrderOfEvents = AnyOrderOfEvents.TestCase
TestAnyOrderOfEvents.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


@settings(deadline=None)
@given(rng=st.randoms(use_true_random=False), limit=st.integers(500, 20_000))
def test_64_calls_in_flight_never_pass_a_budget(rng: random.Random, limit: int) -> None:
    budgets = Budgets([BudgetRule("batch", "queue", "total", limit)])
    in_flight: list[tuple[int, int]] = []
    billed = most = 0
    for _ in range(400):
        while len(in_flight) < 64 and budgets.check(NOON, *PAYER, bound := rng.randint(1, 200)) is None:
            in_flight.append((budgets.reserve(NOON, *PAYER, bound), bound))
        most = max(most, len(in_flight))
        if not in_flight:
            break
        token, bound = in_flight.pop(rng.randrange(len(in_flight)))
        end = rng.choice(["answered", "answered", "cancelled", "timed out", "killed"])
        if end == "answered":
            billed += (cost := rng.randint(0, bound))
            budgets.settle(token, cost)
        elif end == "cancelled":
            budgets.cancel(token)
        elif end == "timed out":
            billed += bound  # the worst that the provider may charge
            budgets.settle(token, uncertain=True)
        else:
            billed += bound  # never settled: it stays reserved
        reserved, spent, uncertain = sums(budgets)
        assert reserved + spent + uncertain <= limit
    assert billed <= limit
    assert most == 64 or limit < 64 * 200


@settings(deadline=None)
@given(
    limit=st.integers(1, 10**12),
    shares=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=200),
)
def test_alerts_come_in_order_and_exactly_when_their_share_is_reached(
    limit: int, shares: list[tuple[int, int]]
) -> None:
    budgets, alerted, used = Budgets([BudgetRule("all", "", "total", limit)]), [], 0
    for bound_percent, cost_percent in shares:
        assume(cost_percent <= bound_percent)
        bound, cost = limit * bound_percent // 100, limit * cost_percent // 100
        if budgets.check(NOON, *PAYER, bound) is None:
            budgets.settle(budgets.reserve(NOON, *PAYER, bound), cost)
            used += cost
        alerted += [alert.percent for alert in budgets.take_alerts()]
        assert alerted == [percent for percent in (50, 80, 100) if used * 100 >= percent * limit]


@pytest.mark.parametrize(
    "order", [("spent",), ("uncertain",), ("spent", "uncertain"), ("uncertain", "spent")], ids="-".join
)
def test_spent_and_uncertain_count_alike_towards_an_alert(order: tuple[str, ...]) -> None:
    budgets = Budgets([DAY])
    for kind in order:
        budgets.settle(budgets.reserve(NOON, *PAYER, 100 // len(order)), uncertain=kind == "uncertain")
    assert [alert.percent for alert in budgets.take_alerts()] == [50, 80, 100]


# ------------------------------------------------------------------ reservations that outlive orchestrators


def test_a_reservation_is_settled_in_parts() -> None:
    budgets = Budgets([BudgetRule("all", "", "day", 1_000)])
    token = budgets.reserve(NOON, "openai", "b", "local", 900)
    budgets.settle_part(token, 300, 100)
    budgets.settle_part(token, 200)
    (gauge,) = budgets.snapshot(NOON)
    assert (gauge.reserved_nanos, gauge.spent_nanos) == (400, 300)
    budgets.cancel(token)
    (gauge,) = budgets.snapshot(NOON)
    assert (gauge.reserved_nanos, gauge.spent_nanos) == (0, 300)


@pytest.mark.parametrize(("part", "actual"), [(401, 0), (-1, 0), (100, -1)])
def test_a_part_that_is_not_reserved_changes_nothing(part: int, actual: int) -> None:
    budgets = Budgets([BudgetRule("all", "", "day", 1_000)])
    token = budgets.reserve(NOON, "openai", "b", "local", 400)
    before = budgets.snapshot(NOON)
    with pytest.raises(PermitError):
        budgets.settle_part(token, part, actual)
    assert budgets.snapshot(NOON) == before
    with pytest.raises(PermitError):
        budgets.settle_part(token + 1, 0, 0)


def test_an_earlier_reservation_is_held_whether_it_fits_or_not_in_its_own_period() -> None:
    budgets = Budgets([BudgetRule("all", "", "day", 1_000), BudgetRule("all", "", "total", 1_000)])
    budgets.hold(NOON, NOON - 86_400, "openai", "b", "local", 5_000)
    day, total = budgets.snapshot(NOON)
    assert (day.reserved_nanos, total.reserved_nanos) == (0, 5_000)
    refusal = budgets.check(NOON, "openai", "b", "local", 1)
    assert refusal is not None and (refusal.reason, refusal.rule.period) == ("in_flight", "total")
