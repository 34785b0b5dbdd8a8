"""A forecast uses recorded calls, from the specific to the general."""

from __future__ import annotations

from pathlib import Path

import pytest

from src.config import load_settings
from src.core.forecast import Forecast
from src.core.planning import make_plan
from src.core.store import Store
from src.core.virtual_pool import VirtualPool
from src.messages import Message
from src.records import Task, Usage
from tests.store.makers import NOW, a_result, an_attempt, with_claims

TEXT = "日本語の文章です。" * 40  # 360 characters, which many tokenizers count as nearly as many tokens


def short_tasks(count: int) -> list[Task]:
    return [Task(f"t{i}", "b", (Message("user", TEXT),), "research", max_tokens=500) for i in range(count)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Thirty answers of a provider that counts a token per character and answers with 100 tokens."""
    store = Store.open(tmp_path / "state.db", simulated=False)
    usage = Usage(input_tokens=len(TEXT) + 4, output_tokens=100)
    answer = an_attempt(provider="openai", usage=usage, latency_s=2.0)
    store.queue.finish("me", [a_result(task, answer) for task in with_claims(store, *short_tasks(30))])
    return store


def planned(store: Store, provider: str) -> tuple[int, int]:
    forecast = Forecast.from_store(store, NOW - 3600.0, NOW + 3600.0)
    settings = load_settings(environ={})
    plan = make_plan(short_tasks(10), VirtualPool(settings, [provider]), forecast, now=NOW)
    return plan.prompt_tokens, plan.output_tokens


def test_tokens_per_character_are_those_that_the_provider_counted(store: Store) -> None:
    with store:
        assert planned(store, "openai") == (10 * (len(TEXT) + 4), 10 * 100)


def test_for_a_provider_without_prompts_four_characters_are_a_token(store: Store) -> None:
    with store:
        prompt, output = planned(store, "gemini")
    assert prompt == 10 * (len(TEXT) // 4 + 4)
    assert output == 10 * 100, "the others' answers are the best guess there is"


def test_a_few_prompts_teach_nothing_yet(tmp_path: Path) -> None:
    with Store.open(tmp_path / "few.db", simulated=False) as store:
        few = with_claims(store, *short_tasks(3))
        store.queue.finish("me", [a_result(task) for task in few])
        assert len(store.reports.prompt_sizes()) == 3
        assert planned(store, "openai")[0] == 10 * (len(TEXT) // 4 + 4)
