"""What a model can't take is a fact of routing: such a task goes elsewhere, or nowhere with the reason."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from src.messages import Document, Image, Message, Text, Tool
from src.records import Native, RefusalKind, Task, Usage
from src.routing.call_size import extra_tokens
from src.routing.cost.budgets import Budgets, rules_from
from src.settings import BudgetSettings

from ..simulator.media import b64, gif, png
from .build import (
    MODELS,
    NAMES,
    START,
    answer,
    make_balancer,
    make_settings,
    make_task,
    ok,
    place,
    refused,
    told_limits,
    why,
)

GIF = Image("image/gif", b64(gif(40, 40)))
LARGE = Image("image/png", b64(png(1_600, 1_600)))


def shown(*parts: Image | Document, text: str = "what is it?", **fields: object) -> Task:
    task = make_task(**fields)  # type: ignore[arg-type]
    return Task(
        id=task.id,
        batch=task.batch,
        messages=(Message("user", (Text(text), *parts)),),
        max_tokens=task.max_tokens,
        tier="standard",
        providers=task.providers,
        tools=task.tools,
    )


def test_a_task_goes_where_its_image_is_taken() -> None:
    balancer = make_balancer()
    served = {place(balancer, task=shown(GIF)).provider for _ in range(40)}
    assert served == {"anthropic", "openai"}
    placement = place(balancer, task=shown(GIF))
    assert why(placement.reasons, "gemini") == RefusalKind.INPUT_UNSUPPORTED


def test_where_no_model_takes_it_the_reasons_name_what_and_where() -> None:
    wait = refused(make_balancer(), task=shown(GIF, providers=("gemini",)))
    assert wait.until == math.inf
    detail = next(c.detail for c in wait.reasons if c.provider == "gemini")
    assert detail == f"{MODELS['gemini']} takes no image/gif"


@pytest.mark.parametrize("lacks", ["images", "documents", "tools"])
def test_what_a_model_lacks_is_a_row_of_the_configuration(lacks: str) -> None:
    rows = {"gpt-6": {"lacks": (lacks,)}, "claude-sonnet-5": {"lacks": (lacks,)}}
    settings = make_settings(limits=told_limits(), models=rows)
    task = {
        "images": shown(LARGE),
        "documents": shown(Document("application/pdf", b64(b"%PDF-1.4"))),
        "tools": shown(tools=(Tool("look_up"),)),
    }[lacks]
    balancer = make_balancer(settings)
    assert {place(balancer, task=task).provider for _ in range(10)} == {"gemini"}
    assert {place(balancer).provider for _ in range(40)} == set(NAMES)


def test_images_count_against_limits_windows_and_budgets() -> None:
    balancer = make_balancer()
    for provider in balancer.providers:
        assert extra_tokens(shown(LARGE), provider) >= 1_000
        assert extra_tokens(make_task(), provider) == 0
    placement, plain = place(balancer, task=shown(LARGE)), place(balancer, task=shown())
    extra = extra_tokens(placement.task, balancer.by_name[placement.provider])
    assert balancer.registry.permits[placement.permit].reservation is not None
    assert placement.reserved_nanos - plain.reserved_nanos > extra  # a token costs more than a nano-dollar

    narrow = {"context_window": 2_000}
    small = make_settings(limits=told_limits(), models={"gpt-6": narrow, "claude-sonnet-5": narrow})
    filled = shown(LARGE, LARGE)
    assert {place(make_balancer(small), task=filled).provider for _ in range(5)} == {"gemini"}

    rules = rules_from(BudgetSettings(daily_usd=0.02, alert_percent=(50,), min_max_tokens=1))
    poor = make_balancer(budgets=Budgets(rules, "UTC", (50,)))
    place(poor, task=shown())
    assert refused(poor, task=shown(*[LARGE] * 20)).reasons[0].kind.startswith("budget_")


def test_embeddings_go_to_their_provider_and_teach_nothing_about_answers() -> None:
    asked = Native("embeddings", {"input": "x" * 400})
    task = replace(
        make_task(chars=400), models=("text-embedding-3-small",), providers=("openai",), max_tokens=1
    )
    balancer = make_balancer()
    refused(balancer, task=task)  # it writes no text
    placement = place(balancer, task=replace(task, native=asked))
    provider = balancer.by_name["openai"]
    assert (placement.provider, placement.model) == ("openai", "text-embedding-3-small")
    assert placement.reserved_nanos == (400 + 16) * 20
    before = provider.estimators.export(), provider.history.ok
    ok(balancer, placement, START + 1, usage=Usage(input_tokens=5_000))
    assert (provider.estimators.export(), provider.history.ok) == before


def test_only_text_teaches_tokens_per_character() -> None:
    balancer = make_balancer()
    for task, learns in ((shown(LARGE, text="x" * 400), False), (make_task(chars=400), True)):
        placement = place(balancer, task=task)
        before = balancer.by_name[placement.provider].estimators.of("general").tokens_per_char
        ok(balancer, placement, START + 1, usage=Usage(input_tokens=5_000, output_tokens=10))
        after = balancer.by_name[placement.provider].estimators.of("general").tokens_per_char
        assert (after != before) is learns
    assert answer(placement).usage is not None
