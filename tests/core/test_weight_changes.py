"""Changes of the base weights in the store: what is in force, undone and redone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from src.config import load_settings
from src.core.store import Store
from src.core.weight_changes import WeightChanges, weights_text

CONFIGURED = {"anthropic": 0.3, "openai": 0.4, "gemini": 0.3}


@pytest.fixture
def changes(tmp_path: Path) -> Iterator[WeightChanges]:
    with Store.open(tmp_path / "state.db", simulated=True) as store:
        yield WeightChanges(store, load_settings(environ={}))


def test_a_change_leaves_providers_that_it_does_not_name_as_configured(changes: WeightChanges) -> None:
    changes.apply({"openai": 0.9, "anthropic": 0.1}, who="alice", now=1.0)
    assert changes.in_force() == {"anthropic": 0.1, "openai": 0.9, "gemini": 0.3}
    (event,) = changes.store.events.recent(9)
    assert event.event.message == "alice set the weights: openai 90.0 %, anthropic 10.0 %"


def test_undo_and_redo_are_each_one_transaction(changes: WeightChanges) -> None:
    """Between two transactions a kill would leave a step that counts as a change by hand."""
    changes.apply({"openai": 0.8}, who="alice", now=1.0)
    for step, openai in ((changes.undo, 0.4), (changes.redo, 0.8), (changes.undo, 0.4)):
        assert step(who="bob", now=2.0) is not None
        assert changes.in_force()["openai"] == openai
        last, before = changes.store.controls.settings_history(2)
        assert (last.key, before.key, last.version - before.version) == ("weight_steps", "weights", 1)
    assert changes.undo(who="bob", now=3.0) is None
    assert changes.in_force() == CONFIGURED


def test_a_step_of_an_earlier_version_is_understood(changes: WeightChanges) -> None:
    changes.apply({"openai": 0.8}, who="alice", now=1.0)
    changes.store.controls.put_setting("weights", None, who="alice", now=2.0)
    steps = {"at": 2, "done": [], "undone": [1]}
    changes.store.controls.put_setting("weight_steps", steps, who="alice", now=2.0)
    assert changes.undo(who="bob", now=3.0) is None
    assert changes.redo(who="bob", now=3.0) is not None
    assert changes.in_force()["openai"] == 0.8


def test_weights_without_a_sum_are_shown_as_they_are() -> None:
    assert weights_text({"openai": 0.0}) == "openai 0"
