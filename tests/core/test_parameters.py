"""A request parameter reaches the model, or a warning names it; for each kind of model."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from src.agents.real_agent import RealAgent
from src.records import PARAMETERS

from ..routing.build import make_balancer, make_task, place, refused

GIVEN: dict[str, Any] = {
    "temperature": 0.2,
    "top_p": 0.9,
    "seed": 7,
    "stop": ("END",),
    "reasoning_effort": "low",
    "response_schema": {"type": "object"},
}
MODELS = ("claude-haiku-5-5", "claude-haiku-4-5", "gpt-6-luna", "gpt-4o", "gemini-4-argon")
CHOSEN = [names for n in (1, 2, len(GIVEN)) for names in itertools.combinations(GIVEN, n)]


def test_every_parameter_is_tried() -> None:
    assert set(GIVEN) == set(PARAMETERS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("names", CHOSEN, ids="+".join)
def test_each_parameter_is_sent_or_named_in_a_warning(model: str, names: tuple[str, ...]) -> None:
    balancer = make_balancer()
    given = {name: GIVEN[name] for name in names}
    placement = place(balancer, task=make_task(models=(model,), **given))
    settings = balancer.settings
    request = RealAgent("a", settings.agents[0], {}, settings).request_for(placement)
    for name in names:
        sent = getattr(request, name) == GIVEN[name]
        if name == "response_schema":
            sent = not request.parameters["schema_in_words"]
        assert sent != any(f"takes no {name}" in warning for warning in placement.warnings)


def test_claude_gets_one_of_temperature_and_top_p() -> None:
    task = make_task(models=("claude-haiku-4-5",), temperature=0.2, top_p=0.9)
    placement = place(make_balancer(), task=task)
    assert placement.warnings == ("claude-haiku-4-5 takes no top_p beside temperature: it was not sent",)


@pytest.mark.parametrize(
    ("model", "given", "sent"),
    [
        ("claude-haiku-4-5", 1.5, 1.0),
        ("claude-haiku-4-5", 1.0, 1.0),
        ("claude-haiku-5-5", 1.5, None),
        ("gpt-4o", 1.5, 1.5),
        ("gemini-4-argon", 2.0, 2.0),
    ],
)
def test_a_temperature_above_what_the_api_takes_is_lowered_with_a_warning(
    model: str, given: float, sent: float | None
) -> None:
    balancer = make_balancer()
    place(balancer, task=make_task(0, models=(model,), temperature=0.5))  # of another class of tasks
    placement = place(balancer, task=make_task(1, models=(model,), temperature=given))
    settings = balancer.settings
    request = RealAgent("a", settings.agents[0], {}, settings).request_for(placement)
    assert request.temperature == sent
    lowered = f"{model} takes no temperature above 1: 1 was sent"
    assert (lowered in placement.warnings) is (sent is not None and sent < given)


def test_with_strict_parameters_a_temperature_is_not_lowered() -> None:
    settings = make_balancer().settings.model_copy(update={"strict_params": True})
    balancer = make_balancer(settings)
    refusal = refused(balancer, task=make_task(models=("claude-haiku-4-5",), temperature=1.5))
    assert "takes no temperature above 1" in str(refusal.reasons)
