"""Suggested weights: recorded traffic is replayed under known limits only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from src.config import load_settings
from src.core.store import Store
from src.core.suggestions import Candidate, suggest_weights
from src.core.virtual_pool import VirtualPool
from src.core.weight_changes import WeightChanges
from src.records import Usage
from src.settings import TIERS, Settings
from tests.store.makers import a_result, an_attempt, register, tasks

NAMES = ("anthropic", "openai", "gemini")
BEGAN = 1_800_000_000.0  # a full minute
LATENCY_S = 2.0
STANDARD = {name: load_settings(environ={}).providers[name].models.standard for name in NAMES}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A minute in which each of three providers has answered 300 times, each time after two seconds."""
    path: Path = tmp_path_factory.mktemp("recorded") / "state.db"
    with Store.open(path, simulated=False) as opened:
        opened.intake.add_tasks(tasks(900), now=BEGAN)
        register(opened, now=BEGAN)
        claimed = opened.queue.claim("me", 1000, now=BEGAN)
        opened.queue.finish(
            "me",
            [
                a_result(
                    task,
                    an_attempt(
                        provider=name, model=STANDARD[name], latency_s=LATENCY_S, started_at=BEGAN + 1
                    ),
                )
                for task, name in zip(claimed, NAMES * 300, strict=True)
            ],
        )
        yield opened


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("outputs", [(20, 400, 400), (400, 20, 400), (400, 400, 20)], ids=NAMES)
def test_by_price_is_the_cheapest_candidate(tmp_path: Path, tier: str, outputs: tuple[int, int, int]) -> None:
    settings = load_settings(environ={})
    models = {name: settings.resolve_model(settings.providers[name].models.of(tier))[0] for name in NAMES}
    lengths = dict(zip(NAMES, outputs, strict=True))
    with Store.open(tmp_path / "state.db", simulated=False) as store:
        store.intake.add_tasks(tasks(900, prompt="x" * 800), now=BEGAN)  # 200 tokens
        register(store, now=BEGAN)
        claimed = store.queue.claim("me", 1000, now=BEGAN)
        answered = [
            a_result(
                task,
                an_attempt(
                    provider=name,
                    model=models[name],
                    latency_s=1.0 + NAMES.index(name),
                    started_at=BEGAN + 1,
                    usage=Usage(200, output_tokens=lengths[name]),
                ),
            )
            for task, name in zip(claimed, NAMES * 300, strict=True)
        ]
        store.queue.finish("me", answered)
        found = candidates(store, {})
    by_price = found.pop("by price")
    assert by_price.cost_nanos <= 1.02 * min(each.cost_nanos for each in found.values())
    for name, weight in by_price.weights.items():
        assert weight >= min(each.weights[name] for each in found.values()) - 1e-9
    assert sum(by_price.weights.values()) == pytest.approx(1.0)


def settings_with(limits: Mapping[str, Mapping[str, float]]) -> Settings:
    table = load_settings(environ={}).model_dump()
    for name, own in limits.items():
        table["providers"][name]["limits"] = own
    return Settings.model_validate(table)


def candidates(store: Store, configured: Mapping[str, Any], learned: Any = None) -> dict[str, Candidate]:
    found = suggest_weights(
        store, VirtualPool(settings_with(configured), NAMES, learned or {}), now=BEGAN + 60.0, span_s=60.0
    )
    assert found is not None
    return {candidate.name: candidate for candidate in found.candidates}


def test_without_a_known_limit_a_replay_takes_as_long_as_the_calls_took(store: Store) -> None:
    for candidate in candidates(store, {}).values():
        assert candidate.answered == 900
        assert candidate.mean_s == pytest.approx(LATENCY_S, rel=0.05)


def test_a_learned_limit_holds_in_a_replay_like_a_configured_one(store: Store) -> None:
    learned = {"openai": {STANDARD["openai"]: {"requests": 60.0}}}
    configured = {"openai": {"requests_per_minute": 60.0}}
    for found in (candidates(store, {}, learned), candidates(store, configured)):
        assert found["equal"].calls["openai"] < 100
    assert candidates(store, {})["equal"].calls["openai"] == pytest.approx(300, abs=10)


def test_headroom_is_compared_only_where_every_limit_is_known(store: Store) -> None:
    configured = {"openai": {"requests_per_minute": 3_000.0}}
    assert "by headroom" not in candidates(store, configured)
    learned = {name: {STANDARD[name]: {"requests": 1_500.0}} for name in ("anthropic", "gemini")}
    assert "by headroom" not in candidates(store, configured, {"gemini": learned["gemini"]})
    weights = candidates(store, configured, learned)["by headroom"].weights
    assert weights == pytest.approx({"anthropic": 0.25, "openai": 0.5, "gemini": 0.25})


def test_weights_that_were_set_by_hand_are_a_candidate(store: Store) -> None:
    found = candidates(store, {})
    assert "in force" in found and "as configured" not in found, "they are the same"
    changes = WeightChanges(store, settings_with({}))
    changes.apply({"anthropic": 0.1, "openai": 0.1, "gemini": 0.8}, who="alice", now=BEGAN)
    found = candidates(store, {})["in force"]
    changes.undo(who="alice", now=BEGAN)
    assert found.weights == pytest.approx({"anthropic": 0.1, "openai": 0.1, "gemini": 0.8})
    assert found.calls["gemini"] > 600
