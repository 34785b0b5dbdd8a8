"""The vocabulary: identifiers, tables and settings use standard terms, and no retired one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from src.core.store.schema import metadata
from src.settings import Settings

from .test_architecture import MODULES, tree_of, within

SOURCES = [name for name in MODULES if within(name, "src") and ".migrations." not in name]

# A word that no identifier, table or setting contains, and the field's word for it.
RETIRED_WORDS = {
    "told": "configured",
    "felt": "inferred",
    "scout": "probe",
    "shun": "avoid",
    "nobody": "none",
    "whoever": "-",
    "wishes": "preferences",
    "allotment": "allocation",
    "survey": "candidates",
    "soonest": "minimise_makespan",
    "spill": "preferred_wait",
    "sayings": "event_text",
    "doubts": "warnings",
    "outlook": "eta",
    "tally": "progress_counts",
    "wire": "api_format",
    "mending": "reconcile",
    "lanes": "task_streams",
}
# Whole names that were renamed.
RETIRED_NAMES = {
    "Chooser", "Settler", "Reach", "Memory", "Blocked", "Tried", "Family", "TaskClass", "Entry", "Lot",
    "Room", "ModelGroup", "SlowStart", "Prefixes", "Ticket", "Found", "Money", "Committer", "Steering",
    "Learned", "Turns", "Following", "Copies", "Part", "Speaker", "Places", "Door", "Site",
    "QuickAnswers", "ProviderRow", "ModelRow", "AgentRow", "House", "free_call", "take_lost",
    "claim_attempts", "window_tasks", "suspect_after_s", "hold_s", "refused_elsewhere",
    "max_share_of_slots", "covers", "outdated", "slow_start_rate",
}  # fmt: skip
RETIRED_MODULES = {
    "surveys", "choosing", "settling", "reach", "prefixes", "soonest", "allotment", "sayings", "words",
    "sentences", "mending", "again", "survey", "outlook", "tally", "follow", "turns",
    "following", "copies", "quick", "money", "committer", "steering", "learned", "door", "site",
}  # fmt: skip
RETIRED_TABLES = {"lanes", "covers", "leaders", "outdated", "counts"}
RETIRED_SETTINGS = {
    "attempts", "claim_attempts", "window_tasks", "drain_s", "spill_after_s", "suspect_after_s", "hold_s",
    "refused_elsewhere", "max_share_of_slots", "wire",
}  # fmt: skip


def identifiers(name: str) -> Iterator[tuple[int, str]]:
    """Every name that a module defines or binds, with its line."""
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr


def parts(identifier: str) -> set[str]:
    """`task_class` and `TaskClass` are made of task and class."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", identifier)}


@pytest.mark.parametrize("name", SOURCES)
def test_identifiers_use_the_terms_of_the_field(name: str) -> None:
    retired = sorted(
        {
            f"{line}: {identifier}"
            for line, identifier in identifiers(name)
            if identifier in RETIRED_NAMES or parts(identifier) & set(RETIRED_WORDS)
        }
    )
    assert retired == []


def test_modules_use_the_terms_of_the_field() -> None:
    assert [name for name in SOURCES if name.rpartition(".")[2] in RETIRED_MODULES] == []


def test_tables_use_the_terms_of_the_field() -> None:
    assert not RETIRED_TABLES & set(metadata.tables)
    for table in metadata.tables.values():
        for column in table.columns:
            assert not parts(column.name) & set(RETIRED_WORDS), f"{table.name}.{column.name}"


def settings_of(model: Any) -> Iterator[str]:
    """The names of all settings, of sections inside sections too."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        named = {name: field.annotation for name, field in model.model_fields.items()}
    elif isinstance(model, type) and is_dataclass(model):
        named = {field.name: field.type for field in fields(model)}
    else:
        for each in get_args(model):
            yield from settings_of(each)
        return
    for name, kind in named.items():
        yield name
        yield from settings_of(kind)


def test_settings_use_the_terms_of_the_field() -> None:
    names = set(settings_of(Settings))
    assert {"providers", "max_hold_s"} <= names, "the walk reaches the settings inside sections"
    assert not RETIRED_SETTINGS & names
    assert [name for name in names if parts(name) & set(RETIRED_WORDS)] == []
