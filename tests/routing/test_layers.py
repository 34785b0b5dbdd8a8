"""Routing has layers: a module imports from its own layer or from lower ones only, and in no cycle."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROUTING = Path(__file__).resolve().parents[2] / "src" / "routing"

# From the bottom up. A package stands for all of its modules.
LAYERS = (
    ("limits",),
    ("cost",),
    ("health",),
    ("refusals", "retry_state", "event_log", "turnaround"),
    ("state", "batch_choice"),
    ("routes", "scoreboard", "status"),
    ("registry",),
    ("canaries", "verification", "stalls", "call_size", "candidates"),
    ("connectivity", "eligibility", "snapshots"),
    ("allocation",),
    ("selection", "outcomes", "retry_policy"),
    ("grants",),
    ("balancer",),
    ("runs",),
    ("fair_share",),
    ("queue_groups",),
    ("queues", "deadlines"),
    ("scheduler",),
    ("simulation",),
)
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
MODULES = {
    ".".join(path.relative_to(ROUTING).with_suffix("").parts): path
    for path in sorted(ROUTING.rglob("*.py"))
    if path.name != "__init__.py"
}


def level_of(module: str) -> int:
    return LEVELS[module.split(".")[0]]


@cache
def imports_of(module: str) -> frozenset[str]:
    """The modules of routing that a module imports anywhere in it, under TYPE_CHECKING as well."""
    package = module.split(".")[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.level == 0 or node.level > len(package) + 1:
            continue
        base = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
        found |= {name for each in node.names for name in _names(base, each.name) if name in MODULES}
    return frozenset(found)


def _names(base: list[str], imported: str) -> tuple[str, str]:
    return ".".join(base), ".".join([*base, imported])


def test_every_module_has_its_layer() -> None:
    assert {module.split(".")[0] for module in MODULES} == set(LEVELS)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_its_own_layer_or_lower_ones(module: str) -> None:
    upwards = {each for each in imports_of(module) if level_of(each) > level_of(module)}
    assert not upwards


def test_no_modules_import_each_other_in_a_cycle() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for each in sorted(imports_of(module)):
                visit(each, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())
    assert sum(map(len, map(imports_of, MODULES))) > len(MODULES), "the imports were read"
