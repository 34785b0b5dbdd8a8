"""Several keys and endpoints of one provider: limits that they share or not, pins and preferences."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from src.errors import AuthFailed, RateLimited
from src.records import Placement, RefusalKind
from src.routing.balancer import ProviderLoadBalancer
from src.routing.connectivity import HealthCheckResult
from src.settings import AgentConfig, Settings, TaskTypeConfig

from .build import (
    MODELS,
    START,
    Desk,
    fail,
    health_check,
    make_balancer,
    make_settings,
    make_task,
    ok,
    place,
    refused,
    why,
)

KEYS = ("openai", "openai-b", "openai-c")
AGENTS = [AgentConfig(name="any", home="anthropic", calls_in_flight=2_000)]


def with_keys(limits: dict[str, Any], *, group: str = "", names: tuple[str, ...] = KEYS) -> Settings:
    """The default settings with further keys of OpenAI, each with these limits."""
    given = make_settings(agents=AGENTS)
    first = given.providers["openai"].model_dump() | {"limits": limits, "weight": 0.2, "limit_group": group}
    rows = {name: {**first, "family": "" if name == "openai" else "openai"} for name in names}
    others = {name: row.model_dump() for name, row in given.providers.items() if name != "openai"}
    return Settings.model_validate({**given.model_dump(), "providers": {**others, **rows}})


def balancer_of(given: Settings, names: tuple[str, ...] = KEYS) -> ProviderLoadBalancer:
    return make_balancer(given, configured=names)


def placed_until_refused(balancer: ProviderLoadBalancer, now: float, **fields: Any) -> list[Placement]:
    found = []
    while isinstance(placed := balancer.place(make_task(len(found), **fields), now), Placement):
        found.append(placed)
    return found


# ------------------------------------------------------------------ limits


LIMITS = st.one_of(
    st.fixed_dictionaries(
        {"requests_per_minute": st.integers(60, 3_000), "burst_s": st.sampled_from([1.0, 5.0])}
    ),
    st.fixed_dictionaries(
        {
            "requests_per_minute": st.just(600_000),
            "tokens_per_minute": st.integers(6_000, 120_000),
            "token_burst_s": st.sampled_from([5.0, 60.0]),
        }
    ),
)
TOKENS_OF_A_CALL = 100  # OpenAI charges max(max_tokens, characters / 4) on admission


def allowed_in(limits: dict[str, float], seconds: float) -> float:
    """The calls that one organisation's limits allow in any stretch of so many seconds."""
    requests = limits["requests_per_minute"] / 60.0
    by_requests = requests * limits.get("burst_s", 1.0) + requests * seconds
    if "tokens_per_minute" not in limits:
        return by_requests
    tokens = limits["tokens_per_minute"] / 60.0
    return min(by_requests, tokens * (limits["token_burst_s"] + seconds) / TOKENS_OF_A_CALL)


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    limits=LIMITS,
    steps=st.lists(
        st.tuples(st.floats(0.0, 4.0), st.integers(0, 40), st.booleans()), min_size=5, max_size=25
    ),
    pins=st.lists(st.sampled_from([(), *((name,) for name in KEYS)]), min_size=1, max_size=4),
)
def test_rows_of_one_group_never_exceed_its_limits_together(
    limits: dict[str, float], steps: list[tuple[float, int, bool]], pins: list[tuple[str, ...]]
) -> None:
    balancer = balancer_of(with_keys(limits, group="acme"))
    now, calls, out = START, list[float](), list[Placement]()
    for wait_s, wanted, settles in steps:
        now += wait_s
        for number in range(wanted):
            placed = balancer.place(make_task(number, providers=pins[number % len(pins)]), now)
            if isinstance(placed, Placement):
                calls.append(now)
                out.append(placed)
        while settles and out:
            ok(balancer, out.pop(), now)
    for first, began in enumerate(calls):
        for last in range(first, len(calls)):
            assert last - first + 1 <= allowed_in(limits, calls[last] - began) + 1.0


@hypothesis_settings(max_examples=30, deadline=None)
@given(limits=LIMITS, seconds=st.integers(5, 40))
def test_without_a_group_the_limits_add_up(limits: dict[str, float], seconds: int) -> None:
    def calls(group: str) -> int:
        balancer = balancer_of(with_keys(limits, group=group))
        count = 0
        for second in range(seconds):
            placed = placed_until_refused(balancer, START + second)
            count += len(placed)
            for each in placed:
                ok(balancer, each, START + second)
        return count

    together, apart = calls("acme"), calls("")
    assert together <= allowed_in(limits, seconds) + 1
    assert apart == pytest.approx(len(KEYS) * together, abs=2 * len(KEYS), rel=0.02)


def test_each_row_of_a_group_is_used_by_weight() -> None:
    balancer = balancer_of(with_keys({"requests_per_minute": 60_000}, group="acme"))
    names = [each.provider for each in placed_until_refused(balancer, START)[:300]]
    assert [names.count(name) for name in KEYS] == [100, 100, 100]


@pytest.mark.parametrize("group", ["acme", ""])
def test_a_429_of_one_key_holds_the_keys_of_its_organisation_and_no_other(group: str) -> None:
    balancer = balancer_of(with_keys({"requests_per_minute": 6_000}, group=group))
    placed = place(balancer, task=make_task(providers=("openai-b",)))
    fail(balancer, placed, RateLimited("slow", status=429, retry_after_s=30.0), START)
    others = [balancer.place(make_task(providers=(name,)), START + 1.0) for name in ("openai-b", "openai-c")]
    held = [not isinstance(each, Placement) for each in others]
    assert held == [True, group == "acme"]
    if group:
        reasons = refused(balancer, START + 1.0).reasons
        assert why(reasons, "openai-c") == RefusalKind.HELD_AFTER_429


def test_what_one_key_learns_the_others_of_its_group_know() -> None:
    balancer = balancer_of(with_keys({}, group="acme"))
    first = place(balancer)
    waits = refused(balancer)
    assert {each.kind for each in waits.reasons} == {RefusalKind.LIMITS_UNKNOWN}, "one probe for all of them"
    ok(balancer, first, START)
    groups = {id(provider.groups[MODELS["openai"]]) for provider in balancer.providers if provider.groups}
    assert len(groups) == 1


def test_groups_are_shared_by_model() -> None:
    given = with_keys({}, group="acme")
    balancer = balancer_of(given)
    for model in (MODELS["openai"], "gpt-6-luna"):
        found = {id(p.model(model, given, START).group) for p in balancer.providers}
        assert len(found) == 1, model


# ------------------------------------------------------------------ pins and preferences


def rows_used(given: Settings, **fields: Any) -> set[str]:
    balancer = make_balancer(given)
    return {place(balancer, task=make_task(n, **fields)).provider for n in range(60)}


WIDE = {"requests_per_minute": 6_000_000}


@pytest.mark.parametrize(
    ("fields", "rows"),
    [
        ({"models": (MODELS["openai"],)}, set(KEYS)),
        ({"models": ("gpt-6-nano",)}, set(KEYS)),  # no tier has it: the family of the inventor serves it
        ({"providers": ("openai",)}, set(KEYS)),
        ({"providers": ("openai-b",)}, {"openai-b"}),
        ({"providers": ("openai-b", "gemini")}, {"openai-b", "gemini"}),
        ({"models": (MODELS["openai"],), "providers": ("openai-c",)}, {"openai-c"}),
    ],
)
def test_a_pin_means_every_row_that_serves_it(fields: dict[str, Any], rows: set[str]) -> None:
    assert rows_used(with_keys(WIDE), **fields) == rows


def test_a_compatible_server_without_a_family_does_not_serve_the_inventors_models() -> None:
    given = with_keys(WIDE, names=("openai", "openai-b"))
    rows = {**given.providers, "local": given.providers["openai-b"].model_copy(update={"family": ""})}
    given = given.model_copy(update={"providers": rows})
    assert given.serves("openai-b", "gpt-6-nano") and not given.serves("local", "gpt-6-nano")


def preferring(given: Settings) -> Settings:
    kinds = {**given.task_types, "essay": TaskTypeConfig(prefer="openai", tier="standard")}
    return given.model_copy(update={"task_types": kinds})


def test_a_preference_for_a_provider_is_one_for_its_family() -> None:
    given = preferring(with_keys(WIDE))
    balancer = make_balancer(given)
    placed = [place(balancer, task=make_task(n, "essay")) for n in range(60)]
    assert {each.provider for each in placed} == set(KEYS)
    assert {each.choice for each in placed} == {"preferred"}


def test_the_preferred_family_is_waited_for_only_while_none_of_its_rows_is_free() -> None:
    given = preferring(with_keys({"requests_per_minute": 60, "burst_s": 1.0}))
    desk = Desk(given)
    desk.offer(*(make_task(n, "essay") for n in range(3)))
    assert sorted(each.provider for each in desk.go()) == sorted(KEYS)
    desk.offer(make_task(3, "essay"))
    assert desk.go() == [], "all three rows are at their limit: it waits for one of them"
    placements: list[Placement] = []
    while not placements:
        assert desk.wake is not None and desk.wake < START + 4.0
        placements = desk.go(desk.wake - desk.now)
    assert placements[0].provider in KEYS and placements[0].choice == "preferred"


def test_one_refused_key_leaves_the_work_to_the_others() -> None:
    balancer = balancer_of(with_keys(WIDE, group="acme"))
    placed = place(balancer, task=make_task(providers=("openai-b",)))
    fail(balancer, placed, AuthFailed("bad key", status=401, code="invalid_api_key"), START)
    health_check(balancer, "openai-b", HealthCheckResult.KEY_REFUSED, START + 0.1)
    assert balancer.by_name["openai-b"].key.rejection
    names = {place(balancer, START + 1.0, make_task(n)).provider for n in range(30)}
    assert names == {"openai", "openai-c"}
    assert balancer.retry_keys(START + 2.0) == ["openai-b"]
    assert place(balancer, START + 2.0, make_task(providers=("openai-b",))).provider == "openai-b"
