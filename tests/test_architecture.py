"""The architecture: imports run downwards only, and each package does what it is for.

    errors, records <- settings, config, routing, providers.base <- adapters, store <- agents, core <- scripts

`web` and the orchestrator meet in the store alone. The simulator is a product of its own. `routing/` is pure.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("real_agent_orchestrator", "web_server", "test_multi_provider")

PACKAGES = (
    "errors",
    "records",
    "settings",
    "config",
    "routing",
    "providers",
    "agents",
    "workers",
    "core",
    "simulator",
    "web",
)
_BELOW = (
    "src.access",
    "src.addresses",
    "src.control_characters",
    "src.durations",
    "src.errors",
    "src.fence",
    "src.formatting",
    "src.media_sizes",
    "src.messages",
    "src.message_json",
    "src.package",
    "src.records",
    "src.stream_events",
    "src.schema_patterns",
    "src.answer_choices",
    "src.answer_schema",
    "src.answer_text",
    "src.masking",
    "src.open_files",
    "src.pacific",
    "src.private",
    "src.refusal_text",
    "src.steady",
    "src.small_files",
    "src.storable",
    "src.tokens",
    "src.toml_text",
    "src.limit_rules",
    "src.model_catalogue",
    "src.setting_types",
    "src.settings",
    "src.config",
    "src.key_trust",
    "src.via",
)

# Room -> what it may import besides itself. The longest key that fits a module counts.
ARROWS: dict[str, tuple[str, ...]] = {
    "src.access": ("src.errors", "src.tokens"),
    "src.tokens": ("src.errors", "src.private", "src.records", "src.toml_text"),
    "src.toml_text": ("src.errors",),
    "src.addresses": (),
    "src.control_characters": (),
    "src.durations": (),
    "src.dependencies": (),
    "src.entry": ("src.dependencies",),
    "src.package": (),
    "src.stop_signals": (),
    "src.reloading": ("src.errors", "src.stop_signals"),
    "src.logging_setup": (
        "src.control_characters",
        "src.errors",
        "src.masking",
        "src.package",
        "src.private",
    ),
    "src.errors": (),
    "src.fence": (),
    "src.formatting": ("src.records",),
    "src.answer_choices": (),
    "src.media_sizes": ("src.messages",),
    "src.messages": (),
    "src.message_json": ("src.messages",),
    "src.records": ("src.answer_choices", "src.media_sizes", "src.messages"),
    "src.stream_events": ("src.messages", "src.records"),
    "src.refusal_text": ("src.records",),
    "src.answer_text": (),
    "src.schema_patterns": (),
    "src.answer_schema": ("src.answer_text", "src.errors", "src.schema_patterns"),
    "src.masking": (),
    "src.open_files": (),
    "src.pacific": (),
    "src.private": ("src.errors",),
    "src.steady": (),
    "src.small_files": (),
    "src.storable": (),
    "src.via": (),
    "src.limit_rules": (),
    # The table of provider APIs is a leaf: settings are validated against it. It imports no adapter.
    "src.providers.api_formats": (
        "src.limit_rules",
        "src.media_sizes",
        "src.providers.media_tokens",
        "src.providers.schemas",
    ),
    "src.providers.media_tokens": ("src.media_sizes",),
    "src.providers.schemas": (),
    "src.model_catalogue": ("src.providers.api_formats",),
    "src.setting_types": ("src.errors", "src.providers.api_formats"),
    "src.settings": ("src.errors", "src.model_catalogue", "src.providers.api_formats", "src.setting_types"),
    "src.config": (
        "src.addresses",
        "src.errors",
        "src.package",
        "src.private",
        "src.setting_types",
        "src.settings",
        "src.small_files",
        "src.toml_text",
    ),
    "src.key_trust": ("src.config", "src.errors", "src.private", "src.settings"),
    "src.routing": (
        "src.errors",
        "src.limit_rules",
        "src.media_sizes",
        "src.messages",
        "src.records",
        "src.refusal_text",
        "src.pacific",
        "src.setting_types",
        "src.settings",
    ),
    "src.providers.base": ("src.errors", "src.records", "src.stream_events"),
    "src.providers": _BELOW,
    "src.core.store": (
        "src.errors",
        "src.media_sizes",
        "src.messages",
        "src.message_json",
        "src.package",
        "src.private",
        "src.records",
        "src.storable",
    ),
    "src.agents": (*_BELOW, "src.routing", "src.providers"),
    "src.workers": (*_BELOW, "src.routing", "src.providers", "src.agents"),
    # The seam is a leaf: what carries its messages needs nothing else.
    "src.workers.port": (),
    "src.workers.standstill": (),
    "src.workers.plain": (
        "src.errors",
        "src.message_json",
        "src.messages",
        "src.records",
        "src.workers.port",
    ),
    "src.workers.worker": (
        "src.errors",
        "src.fence",
        "src.records",
        "src.steady",
        "src.workers.plain",
        "src.workers.port",
        "src.workers.standstill",
    ),
    "src.core": (*_BELOW, "src.routing", "src.providers", "src.agents", "src.workers"),
    "src.simulator": (),
    "src.gateway": (*_BELOW, "src.core", "src.routing"),
    "src.gateway.formats": (
        "src.errors",
        "src.formatting",
        "src.messages",
        "src.records",
        "src.storable",
        "src.stream_events",
    ),
    "src.web": (*_BELOW, "src.routing", "src.core"),
    "src.bootstrap": (*_BELOW, "src.core", "src.gateway", "src.simulator", "src.web", "src.workers"),
    "src.pages_server": (
        *_BELOW,
        "src.bootstrap",
        "src.core",
        "src.logging_setup",
        "src.reloading",
        "src.stop_signals",
        "src.web",
    ),
    "src.library": (*_BELOW, "src.bootstrap", "src.core"),
    "src.cli": (
        *_BELOW,
        "src.bootstrap",
        "src.core",
        "src.gateway",
        "src.logging_setup",
        "src.providers",
        "src.reloading",
        "src.routing",
        "src.stop_signals",
    ),
    **dict.fromkeys(SCRIPTS, ("src",)),
}

SDKS = ("anthropic", "openai", "google")
# Facts about APIs, without an SDK.
API_TABLE = ("src.providers.api_formats", "src.providers.media_tokens", "src.providers.schemas")

# All that routing/ imports from elsewhere: no clock, no I/O, no threads. `random` is for the type of what
# is passed in, `datetime` for the calendar, and of these two only what the tests below let through.
PURE = {
    "__future__", "bisect", "collections", "dataclasses", "datetime", "decimal", "enum", "functools",
    "hashlib", "heapq", "itertools", "math", "operator", "random", "typing", "zoneinfo",
    "genai_prices",
}  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the project by its dotted name."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path
    for name in SCRIPTS:
        yield name, ROOT / f"{name}.py"


MODULES = dict(modules())


@cache
def tree_of(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


@cache
def imports_of(name: str) -> frozenset[str]:
    """What a module imports anywhere in it, by dotted name: a module of this project, or its package."""
    package = name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
    return frozenset(found)


def within(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")


def layer_of(name: str) -> str:
    fitting = [layer for layer in ARROWS if within(name, layer)]
    assert fitting, f"{name} is in no layer that this test lists"
    return max(fitting, key=len)


def own_imports(name: str) -> frozenset[str]:
    return frozenset(each for each in imports_of(name) if within(each, "src"))


def in_layer(layer: str) -> list[str]:
    return [name for name in MODULES if within(name, layer)]


@pytest.mark.parametrize("name", [name for name in MODULES if name != "src"])
def test_imports_run_downwards_only(name: str) -> None:
    layer = layer_of(name)
    allowed = (*ARROWS[layer], layer)
    wrong = {each for each in own_imports(name) if not any(within(each, other) for other in allowed)}
    assert not wrong, f"{name} belongs to {layer}, which may import {', '.join(allowed)}"


def test_every_room_is_where_the_design_has_it() -> None:
    for layer in PACKAGES:
        assert in_layer(f"src.{layer}"), layer


def reached_from(layer: str) -> set[str]:
    """Every module of this project that a layer imports, however deep."""
    todo, seen = in_layer(layer), set()
    while todo:
        name = todo.pop()
        if name not in seen and name in MODULES:
            seen.add(name)
            todo += own_imports(name)
    return seen


@pytest.mark.parametrize(
    "forbidden", ["src.core.orchestrator", "src.providers", "src.agents", "src.simulator"]
)
def test_the_pages_and_the_orchestrator_meet_in_the_store_alone(forbidden: str) -> None:
    reached = [name for name in reached_from("src.web") if within(name, forbidden)]
    assert all(any(within(name, leaf) for leaf in API_TABLE) for name in reached)


@pytest.mark.parametrize("name", ["web_server", "src.pages_server", "src.bootstrap"])
def test_only_the_command_line_imports_the_command_line(name: str) -> None:
    todo, seen = [name], set()
    while todo:
        each = todo.pop()
        if each not in seen and each in MODULES:
            seen.add(each)
            todo += own_imports(each)
    assert not [each for each in seen if within(each, "src.cli")]


def test_the_store_and_what_it_needs_is_not_the_orchestrators() -> None:
    others = [name for name in reached_from("src.core.store") if within(name, "src.core")]
    assert all(within(name, "src.core.store") or name == "src.core" for name in others)


@pytest.mark.parametrize("name", [name for name in MODULES if not within(name, "src.providers")])
def test_only_the_adapters_import_an_sdk(name: str) -> None:
    assert not [each for each in imports_of(name) if each.split(".")[0] in SDKS]


@pytest.mark.parametrize("sdk", SDKS)
def test_each_sdk_stays_in_its_adapter_or_what_all_adapters_share(sdk: str) -> None:
    users = {name for name in MODULES if any(within(each, sdk) for each in imports_of(name))}
    assert users
    assert all(within(name, "src.providers") for name in users)


# ------------------------------------------------------------------ routing is pure


@pytest.mark.parametrize("name", in_layer("src.routing"))
def test_routing_imports_nothing_with_a_clock_or_a_door(name: str) -> None:
    foreign = {each.split(".")[0] for each in imports_of(name) - own_imports(name)}
    assert foreign <= PURE


@pytest.mark.parametrize("name", in_layer("src.routing"))
def test_routing_takes_chance_and_time_as_arguments(name: str) -> None:
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "random":
                assert node.attr == "Random", f"line {node.lineno}: random.{node.attr}"
            assert node.attr not in ("now", "utcnow", "today"), f"line {node.lineno}: .{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "random":
            assert [alias.name for alias in node.names] == ["Random"], f"line {node.lineno}"


@pytest.mark.parametrize("name", in_layer("src.routing"))
def test_routing_neither_opens_nor_prints_nor_waits(name: str) -> None:
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "print", "input", "eval", "exec", "__import__")
        assert not isinstance(node, ast.AsyncFunctionDef | ast.Await), "nothing here waits"


def test_a_generator_without_a_seed_would_be_noticed() -> None:
    for name in in_layer("src.routing"):
        for node in ast.walk(tree_of(name)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                made = isinstance(node.func.value, ast.Name) and node.func.value.id == "random"
                assert not made or node.args, f"{name} line {node.lineno}: Random() without a seed"


# ------------------------------------------------------------------ cycles and complexity


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions and under TYPE_CHECKING count too; a package may import its own modules."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for each in sorted(own_imports(name) & MODULES.keys()):
                if each != name and not within(name, each):
                    visit(each, [*path, name])
            done.add(name)

    for name in MODULES:
        visit(name, [])
    assert not found


MAX_COMPLEXITY, MAX_PARAMETERS = 12, 6
EXCEPTIONS = {
    "src.errors.ProviderError.__init__": "every parameter is an optional fact about the error, by keyword",
    "src.routing.balancer.ProviderLoadBalancer.__init__": "the parts that the composition root passes",
    "src.routing.limits.group.RateLimitGroup.settle": "one branch for each kind of bucket",
}
_BRANCHES = (
    ast.If, ast.For, ast.AsyncFor, ast.While, ast.IfExp, ast.ExceptHandler, ast.comprehension, ast.match_case,
    ast.Assert,
)  # fmt: skip


def functions(name: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    todo: list[tuple[str, ast.AST]] = [(name, tree_of(name))]
    while todo:
        path, node = todo.pop()
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path}.{inner.name}", inner
            is_scope = isinstance(inner, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            todo.append((f"{path}.{inner.name}" if is_scope else path, inner))


def complexity(function: ast.AST) -> int:
    """Branches and boolean operators, those of functions within included, and one."""
    total = 1
    for node in ast.walk(function):
        total += isinstance(node, _BRANCHES)
        total += len(node.ifs) if isinstance(node, ast.comprehension) else 0
        total += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
    return total


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [each.arg for each in function.args.posonlyargs + function.args.args + function.args.kwonlyargs]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def test_no_function_is_too_complex_or_takes_too_many_parameters() -> None:
    found = {
        path
        for name in MODULES
        if name != "test_multi_provider"  # a story, told in asserts
        for path, function in functions(name)
        if complexity(function) > MAX_COMPLEXITY or parameters(function) > MAX_PARAMETERS
    }
    assert found == set(EXCEPTIONS) and len(EXCEPTIONS) <= 5


# ------------------------------------------------------------------ no decision on the text of a message

# Names under which the text of a message travels. Adapters may read a provider's message, in one table each.
TEXTS = {"message", "reason", "hold_reason", "detail", "explanation", "why", "sentence"}
SEARCHES = {"startswith", "endswith", "find", "index", "count", "removeprefix", "partition", "split"}


def is_text(node: ast.AST) -> bool:
    """Whether an expression is a text by its name: `refusal.detail`, `reason`, `str(error)`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in TEXTS
        case ast.Call(func=ast.Name(id="str"), args=[ast.Name(id=name)]):
            return name in ("error", "exc", "failure")
    return False


def has_literal(node: ast.AST) -> bool:
    constants = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
    return any(isinstance(value, str) and value for value in constants)


def decisions_on_text(tree: ast.AST) -> list[int]:
    """The lines on which the text of a message is compared with a literal, or searched for one."""
    lines = []
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=others):
                found = any(map(is_text, [left, *others])) and any(map(has_literal, [left, *others]))
            case ast.Call(func=ast.Attribute(value=searched, attr=method), args=wanted):
                found = method in SEARCHES and is_text(searched) and any(map(has_literal, wanted))
            case _:
                continue
        if found:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "source",
    [
        'if refusal.detail == "breaker open": ...',
        'kind = 1 if reason.startswith("breaker open") else 2',
        'if "quota" in str(error): ...',
        'if hold_reason in ("quota", "budget"): ...',
    ],
)
def test_a_decision_on_text_is_noticed(source: str) -> None:
    assert decisions_on_text(ast.parse(source)) == [1]


@pytest.mark.parametrize(
    "source", ["if refusal.kind is Kind.OPEN: ...", "if detail: ...", 'if line.startswith("#"): ...']
)
def test_a_decision_on_values_is_none_on_text(source: str) -> None:
    assert decisions_on_text(ast.parse(source)) == []


@pytest.mark.parametrize(
    "name", [name for name in MODULES if within(name, "src") and not within(name, "src.providers")]
)
def test_no_decision_depends_on_the_text_of_a_message(name: str) -> None:
    assert decisions_on_text(tree_of(name)) == []
