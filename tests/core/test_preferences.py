"""The share of answers from preferred providers, by the sums of answered calls."""

from __future__ import annotations

import pytest

from src.config import load_settings
from src.core.preferences import preference_shares
from src.core.store.sums import CallSums, UsageRow

SETTINGS = load_settings(environ={})


def row(task_type: str, provider: str, ok: int, failed: int = 0) -> UsageRow:
    return UsageRow((task_type, provider), CallSums(calls=ok + failed, ok=ok, failed=failed))


@pytest.mark.parametrize(
    ("rows", "held"),
    [
        pytest.param([], [], id="no answer yet"),
        pytest.param([row("research", "gemini", 0, 3)], [], id="failures alone"),
        pytest.param([row("general", "openai", 9)], [], id="a type without a preference"),
        pytest.param(
            [row("research", "gemini", 45, 9), row("research", "openai", 5)],
            [("research", "gemini", 50, 45)],
            id="failures do not count",
        ),
        pytest.param([row("research", "openai", 5)], [("research", "gemini", 5, 0)], id="none of them"),
    ],
)
def test_the_share_of_answers_from_preferred_providers(
    rows: list[UsageRow], held: list[tuple[str, str, int, int]]
) -> None:
    found = preference_shares(rows, SETTINGS)
    assert [(f.task_type, f.provider, f.answers, f.preferred_answers) for f in found] == held
    assert all(f.share == f.preferred_answers / f.answers for f in found)


def test_without_preferences_there_are_no_shares() -> None:
    off = SETTINGS.model_copy(update={"routing": SETTINGS.routing.model_copy(update={"preferences": False})})
    assert preference_shares([row("research", "openai", 5)], off) == []
