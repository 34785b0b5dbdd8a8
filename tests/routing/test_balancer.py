"""One placement: which providers are eligible, which is selected and why, and what a settle changes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest

from src.errors import (
    PermitError,
)
from src.messages import Message
from src.records import Outcome, Placement, RefusalKind, Task
from src.routing.balancer import ProviderLoadBalancer
from src.routing.limits.token_bucket import COLD_S
from src.routing.outcomes import CallEnd
from src.settings import AgentConfig, TaskTypeConfig

from .build import (
    DOWN,
    MODELS,
    NAMES,
    START,
    WIDE,
    Desk,
    fill,
    make_balancer,
    make_settings,
    make_task,
    ok,
    open_breaker,
    pause,
    place,
    refused,
    seen,
    told_limits,
    why,
)

PREFERRED = [
    ("code_generation", "openai"),
    ("creative_writing", "anthropic"),
    ("research", "gemini"),
    ("analysis", "anthropic"),
]


# ------------------------------------------------------------------ level one: the preferred provider


@pytest.mark.parametrize(("kind", "name"), PREFERRED)
def test_a_task_type_goes_to_its_preferred_provider(kind: str, name: str) -> None:
    balancer = make_balancer()
    for _ in range(20):
        placement = place(balancer, task=make_task(kind=kind))
        assert (placement.provider, placement.choice) == (name, "preferred")


def test_preferences_can_be_switched_off() -> None:
    balancer = make_balancer(make_settings(limits=told_limits(), routing={"preferences": False}))
    found = Counter(place(balancer, task=make_task(kind="research")).provider for _ in range(20))
    assert set(found) == set(NAMES)


def test_a_preferred_provider_without_weight_is_not_preferred() -> None:
    balancer = make_balancer()
    balancer.set_weights({"gemini": 0.0}, START)
    for _ in range(10):
        placement = place(balancer, task=make_task(kind="research"))
        assert placement.provider != "gemini"
        assert placement.choice == "weighted"


def test_a_task_waits_for_its_preferred_provider_and_spills_after_two_seconds() -> None:
    desk = Desk()
    fill(desk.balancer, "gemini")
    desk.offer(make_task(1, "research"))
    assert desk.go() == []
    assert desk.wake == pytest.approx(START + 2.0)
    assert desk.go(1.9) == []
    placement = desk.one(0.1)
    assert placement.choice == "spilled"
    assert placement.provider in ("anthropic", "openai")
    assert why(placement.reasons, "gemini") == RefusalKind.CONCURRENCY_SHARE


def test_it_goes_to_its_preferred_provider_when_that_comes_free_before() -> None:
    desk = Desk()
    out = fill(desk.balancer, "gemini")
    desk.offer(make_task(1, "research"))
    assert desk.go() == []
    desk.ok(out[0], seconds=1.0)
    assert desk.one().choice == "preferred"


def paused(balancer: ProviderLoadBalancer) -> None:
    pause(balancer, "gemini")


def opened(balancer: ProviderLoadBalancer) -> None:
    open_breaker(balancer, "gemini")


def misconfigured(balancer: ProviderLoadBalancer) -> None:
    balancer.by_name["gemini"].key.rejection = "the key was refused"


def without_models(balancer: ProviderLoadBalancer) -> None:
    for model in WIDE.providers["gemini"].models.model_dump().values():
        balancer.by_name["gemini"].model(model, balancer.settings, START).is_out = True


def without_room(balancer: ProviderLoadBalancer) -> None:
    model = balancer.by_name["gemini"].model(MODELS["gemini"], balancer.settings, START)
    model.group.hold(START + 10.0, "429", START)


@pytest.mark.parametrize("trouble", [paused, opened, misconfigured, without_models, without_room])
def test_no_task_waits_for_a_preferred_provider_that_will_not_be_free_in_time(
    trouble: Callable[[ProviderLoadBalancer], None],
) -> None:
    balancer = make_balancer()
    trouble(balancer)
    placement = place(balancer, task=make_task(kind="research"))
    assert placement.provider != "gemini"
    assert placement.choice == "spilled"


def test_a_task_near_its_deadline_does_not_wait() -> None:
    balancer = make_balancer()
    fill(balancer, "gemini")
    refused(balancer, task=make_task(kind="research", deadline_at=START + 30.0))
    assert place(balancer, task=make_task(kind="research", deadline_at=START + 9.0)).choice == "spilled"


def test_a_preferred_provider_that_takes_not_all_parameters_is_not_waited_for() -> None:
    """With strict parameters it is no option at all: nothing will ever change that."""
    settings = make_settings(limits=told_limits(), strict_params=True)
    balancer = make_balancer(settings)
    placement = place(balancer, task=make_task(kind="analysis", temperature=0.5))
    assert placement.provider == "gemini"
    assert why(placement.reasons, "anthropic") == RefusalKind.PARAMETER_UNSUPPORTED


# ------------------------------------------------------------------ level two: by score


def test_untyped_tasks_take_turns_by_score() -> None:
    balancer = make_balancer()
    found = Counter(place(balancer).provider for _ in range(100))
    assert found == {"anthropic": 30, "openai": 40, "gemini": 30}


def test_a_provider_with_weight_0_serves_only_tasks_pinned_to_it() -> None:
    balancer = make_balancer()
    balancer.set_weights({"openai": 0.0}, START)
    found = Counter(place(balancer).provider for _ in range(50))
    assert set(found) == {"anthropic", "gemini"}
    assert why(place(balancer).reasons, "openai") == RefusalKind.ZERO_WEIGHT
    assert place(balancer, task=make_task(providers=("openai",))).provider == "openai"
    assert place(balancer, task=make_task(models=(MODELS["openai"],))).provider == "openai"


def test_pins_are_kept() -> None:
    balancer = make_balancer()
    for name in NAMES:
        for _ in range(5):
            pinned = place(balancer, task=make_task(kind="research", providers=(name,)))
            assert pinned.provider == name
            by_model = place(balancer, task=make_task(kind="research", models=(MODELS[name],)))
            assert (by_model.provider, by_model.model) == (name, MODELS[name])
    both = Counter(
        place(balancer, task=make_task(providers=("openai", "gemini"))).provider for _ in range(30)
    )
    assert set(both) == {"openai", "gemini"}


def test_of_several_pinned_models_of_one_provider_the_first_that_is_in_serves() -> None:
    balancer = make_balancer()
    task = make_task(models=("gpt-6.1-sol", "gpt-6-luna"))
    assert place(balancer, task=task).model == "gpt-6.1-sol"
    balancer.by_name["openai"].models["gpt-6.1-sol"].is_out = True
    assert place(balancer, task=task).model == "gpt-6-luna"


def test_a_pin_that_no_provider_serves_is_refused_with_its_reason() -> None:
    balancer = make_balancer()
    for task in (make_task(models=("llama-3",)), make_task(providers=("nobody",))):
        wait = refused(balancer, task=task)
        assert wait.until == math.inf
        assert all(candidate.kind for candidate in wait.reasons)
        assert {c.provider for c in wait.reasons} == set(NAMES)


@pytest.mark.parametrize(
    ("retired", "successor"),
    [
        ("gpt-4o-mini", "gpt-6-luna"),
        ("gpt-4", "gpt-6.1-terra"),
        ("claude-3-5-sonnet", "claude-sonnet-5-5"),
        ("claude-3-5-haiku-latest", "claude-haiku-5-5"),
        ("gemini-1.5-flash", "gemini-3.5-flash-lite"),
    ],
)
def test_a_retired_model_is_served_by_its_successor_with_a_warning(retired: str, successor: str) -> None:
    placement = place(make_balancer(), task=make_task(models=(retired,)))
    assert placement.model == successor
    assert len(placement.warnings) == 1
    assert retired in placement.warnings[0]
    assert successor in placement.warnings[0]


def test_an_unknown_type_is_served_as_general() -> None:
    balancer = make_balancer()
    found = Counter(place(balancer, task=make_task(kind="poetry slam")).provider for _ in range(100))
    assert found == {"anthropic": 30, "openai": 40, "gemini": 30}


def test_a_new_task_type_is_one_row_of_the_configuration() -> None:
    row = TaskTypeConfig(prefer="openai", tier="premium")
    balancer = make_balancer(make_settings(limits=told_limits(), task_types={"review": row}))
    placement = place(balancer, task=make_task(kind="review"))
    assert (placement.provider, placement.tier, placement.choice) == ("openai", "premium", "preferred")


def test_parameters_that_a_model_does_not_take_are_named() -> None:
    placement = place(make_balancer(), task=make_task(temperature=0.2, providers=("anthropic",)))
    assert placement.warnings == (f"{placement.model} takes no temperature: it was not sent",)


def test_a_prompt_goes_only_where_it_fits() -> None:
    settings = make_settings(
        limits=told_limits(),
        models={"gpt-6": {"context_window": 1_000}, "claude-sonnet-5": {"context_window": 1_000}},
    )
    balancer = make_balancer(settings)
    long = make_task(chars=20_000)
    for _ in range(5):
        assert place(balancer, task=long).provider == "gemini"
    wait = refused(balancer, task=make_task(chars=20_000, providers=("openai",)))
    assert wait.until == math.inf


@pytest.mark.parametrize(
    ("chars", "given", "expected"),
    [
        (400, None, 3_978),
        (9_032, None, 1_604),  # 2,258 tokens, a tenth on top and 8 for the message
        (13_000, None, 512),
        (15_000, None, 256),
        (22_000, None, 256),
        (9_032, 1_000, 1_000),
        (400, 2_048, 2_048),
    ],
)
def test_a_defaulted_max_tokens_is_what_the_window_leaves(
    chars: int, given: int | None, expected: int
) -> None:
    models = {"gpt-6": {"context_window": 4_096}}
    settings = make_settings(limits=told_limits(), models=models)
    task = make_task(chars=chars, max_tokens=given, tier="standard", providers=("openai",))
    assert place(make_balancer(settings), task=task).max_tokens == expected


@pytest.mark.parametrize(("chars", "given"), [(23_500, None), (13_000, 2_048), (400, 5_000)])
def test_what_fits_in_no_way_is_not_sent(chars: int, given: int | None) -> None:
    models = {"gpt-6": {"context_window": 4_096}}
    settings = make_settings(limits=told_limits(), models=models)
    task = make_task(chars=chars, max_tokens=given, tier="standard", providers=("openai",))
    assert refused(make_balancer(settings), task=task).until == math.inf


@pytest.mark.parametrize("weight", [0.5, 4.0])
def test_a_cost_weight_turns_tasks_to_the_cheaper_and_keeps_the_counts_exact(weight: float) -> None:
    settings = make_settings(limits=told_limits(), routing={"cost_weight": weight})
    balancer = make_balancer(settings)
    found = Counter(place(balancer).provider for _ in range(100))
    price = {
        name: balancer.by_name[name].models[MODELS[name]].price.upper_bound_nanos(0, 1, 100)  # type: ignore[union-attr]
        for name in NAMES
    }
    cheapest = min(price, key=lambda name: price[name])
    dearest = max(price, key=lambda name: price[name])
    plain = {"anthropic": 30, "openai": 40, "gemini": 30}
    assert found[cheapest] > plain[cheapest]
    assert found[dearest] < plain[dearest]


# ------------------------------------------------------------------ reasons


def test_every_candidate_has_its_line_in_the_reasons() -> None:
    balancer = make_balancer()
    pause(balancer, "gemini")
    placement = place(balancer)
    assert {c.provider for c in placement.reasons} == set(NAMES)
    for candidate in placement.reasons:
        assert candidate.score > 0
        assert (candidate.kind == RefusalKind.PAUSED) == (candidate.provider == "gemini")
        assert candidate.model == MODELS[candidate.provider]
    pinned = place(balancer, task=make_task(providers=("openai",)))
    assert why(pinned.reasons, "anthropic") == RefusalKind.PINNED_ELSEWHERE


def test_a_wait_has_an_end_and_a_reason_for_each_provider() -> None:
    limits = told_limits(requests_per_minute=60)
    balancer = make_balancer(make_settings(limits=limits))
    pause(balancer, "openai")
    place(balancer)
    place(balancer)
    wait = refused(balancer)
    assert wait.until is not None
    assert START + 1.0 <= wait.until <= START + 1.1 + COLD_S
    assert why(wait.reasons, "openai") == RefusalKind.PAUSED
    assert why(wait.reasons, "anthropic") == RefusalKind.RATE_LIMIT
    assert isinstance(balancer.place(make_task(), wait.until), Placement)


# ------------------------------------------------------------------ agents


@pytest.mark.parametrize(
    ("kind", "name", "agents"),
    [
        pytest.param("analysis", "anthropic", {"claude-analyst"}, id="home-and-speciality"),
        pytest.param("code_generation", "openai", {"gpt-engineer", "gpt-reviewer"}, id="two-of-them"),
        pytest.param("creative_writing", "gemini", {"claude-writer"}, id="speciality-away-from-home"),
        pytest.param("general", "anthropic", {"gpt-generalist", "gemini-scout"}, id="general"),
        pytest.param("research", "gemini", {"gemini-researcher", "gemini-scout"}, id="research"),
    ],
)
def test_the_agent_is_one_of_the_speciality_at_home_where_there_is_one(
    kind: str, name: str, agents: set[str]
) -> None:
    balancer = make_balancer()
    found = {place(balancer, task=make_task(kind=kind, providers=(name,))).agent for _ in range(16)}
    assert found == agents


def test_when_the_speciality_is_busy_any_agent_serves() -> None:
    balancer = make_balancer()
    found = Counter(
        place(balancer, task=make_task(kind="creative_writing", providers=("anthropic",))).agent
        for _ in range(40)
    )
    assert found["claude-writer"] == 16
    assert sum(found.values()) == 40
    assert max(found.values()) == 16


def test_a_task_goes_to_the_agent_that_it_names_and_first_to_its_home() -> None:
    balancer = make_balancer(make_settings(limits=told_limits(requests_per_minute=6_000)))
    named = [place(balancer, task=make_task(n, agent="gemini-scout")) for n in range(20)]
    assert {(p.agent, p.provider, p.choice) for p in named} == {("gemini-scout", "gemini", "preferred")}
    scout = balancer.agents["gemini-scout"]
    assert scout.in_flight == 20 > scout.slots, "slots of others are free"
    others = [place(balancer, task=make_task(f"other {n}", "research")) for n in range(20)]
    assert {p.agent for p in others}.isdisjoint({"gemini-scout"})


@pytest.mark.parametrize(
    ("named", "taken_by"),
    [
        ("twin", {"twin-1", "twin-2"}),
        ("twin-2", {"twin-2"}),
        ("agent", {"agent"}),
        ("gone", {"twin-1", "twin-2", "agent-7"}),
    ],
)
def test_a_name_stands_for_all_copies_of_an_agent(named: str, taken_by: set[str]) -> None:
    agents = [
        AgentConfig(name="twin", home="openai", calls_in_flight=4, count=2),
        AgentConfig(name="agent-7", home="openai", calls_in_flight=4),
        AgentConfig(name="agent", home="openai", calls_in_flight=1),
    ]
    balancer = make_balancer(make_settings(limits=told_limits(), agents=agents))
    assert {place(balancer, task=make_task(n, agent=named)).agent for n in range(6)} == taken_by


def test_seven_agents_two_of_claude_three_of_gpt_two_of_gemini() -> None:
    homes = Counter(agent.home for agent in make_balancer().agents.values())
    assert homes == {"anthropic": 2, "openai": 3, "gemini": 2}


def test_without_a_free_slot_a_task_waits_for_a_settle() -> None:
    agents = [AgentConfig(name="only", home="openai", calls_in_flight=2)]
    balancer = make_balancer(make_settings(limits=told_limits(), agents=agents))
    first, _ = place(balancer), place(balancer)
    assert refused(balancer).until is None
    ok(balancer, first, START)
    assert place(balancer)


# ------------------------------------------------------------------ permits


def test_a_permit_is_settled_exactly_once() -> None:
    balancer = make_balancer()
    placement = place(balancer)
    ok(balancer, placement, START + 1.0)
    before = seen(balancer)
    for number in (placement.permit, 0, 99):
        with pytest.raises(PermitError):
            balancer.settle(number, CallEnd(Outcome.FAILED, error=DOWN), START + 2.0)
        assert seen(balancer) == before


def test_a_refusal_changes_nothing() -> None:
    limits = told_limits(requests_per_minute=60)
    balancer = make_balancer(make_settings(limits=limits))
    for _ in range(3):
        place(balancer)
    balancer.by_name["openai"].breaker.tick(START)
    before = seen(balancer)
    for _ in range(3):
        refused(balancer)
    assert seen(balancer) == before


# ------------------------------------------------------------------ the snapshot


def test_a_snapshot_has_each_providers_state_and_share() -> None:
    balancer = make_balancer(configured=["openai", "gemini"])
    pause(balancer, "gemini")
    out = place(balancer)
    shown = {p.name: p for p in balancer.snapshot(START).providers}
    assert (shown["openai"].state, shown["openai"].in_flight, shown["openai"].share) == ("healthy", 1, 1.0)
    assert (shown["gemini"].state, shown["gemini"].share) == ("paused", 0.0)
    assert shown["anthropic"].state == "not_configured"
    ok(balancer, out, START + 1.0)
    openai = next(p for p in balancer.snapshot(START + 1.0).providers if p.name == "openai")
    assert (openai.calls, openai.succeeded, openai.prompt_tokens, openai.output_tokens) == (1, 1, 100, 50)


def test_the_first_message_of_a_task_may_be_long_and_not_ascii() -> None:
    task = Task("1", "queue", (Message("user", "ä" * 100),))
    assert (task.text_chars, task.prompt_bytes) == (100, 200)
    assert place(make_balancer(), task=task)
