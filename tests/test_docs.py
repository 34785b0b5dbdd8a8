"""The documents know what there is: every flag, route and setting, and the commands that CI runs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from pydantic import BaseModel

from src.cli.app import cli
from src.config import DEFAULTS_FILE, load_settings
from src.core.store import Store
from src.setting_types import known_keys, section_in
from src.settings import Settings
from src.web import create_app
from src.web.context import AppContext
from tests.documents import EVERYTHING, PAGES, README

ROOT = Path(__file__).parent.parent
SUMMARY = (ROOT / "MULTI_PROVIDER_IMPLEMENTATION_SUMMARY.md").read_text(encoding="utf-8")


def commands() -> Iterator[tuple[str, click.Command]]:
    yield "", cli
    if isinstance(cli, click.Group):
        yield from cli.commands.items()


def test_every_command_and_flag_is_in_the_summary() -> None:
    for name, command in commands():
        assert f"`{name}" in SUMMARY, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                longest = max(parameter.opts, key=len)
                assert f"`{longest}`" in SUMMARY, f"{name} {longest}"


@pytest.mark.parametrize(
    "table",
    [
        "",
        "server",
        "pool",
        "routing",
        "breaker",
        "tiers",
        "caching",
        "budgets",
        "providers",
        "task_types",
        "models",
        "agents",
    ],
)
def test_every_setting_is_in_the_summary(table: str) -> None:
    keys = known_keys(Settings, (table,)) if table else list(Settings.model_fields)
    for key in keys:
        known = f"`{key}`" in SUMMARY or f"`[{key}]`" in SUMMARY or f"[{key}." in SUMMARY
        assert known or f"`[[{key}]]`" in SUMMARY, f"{table}.{key}"


def test_every_default_is_a_setting_that_the_summary_names() -> None:
    def names(table: dict[str, Any]) -> Iterator[str]:
        for key, value in table.items():
            if isinstance(value, dict):
                yield from names(value)
            elif not isinstance(value, list) or key != "agents":
                yield key

    defaults = tomllib.loads(DEFAULTS_FILE.read_text(encoding="utf-8"))
    tiers = {"economy", "standard", "premium"}
    missing = {key for key in names(defaults) if f"`{key}`" not in SUMMARY} - tiers
    assert not missing


def uncommented() -> str:
    """`orchestrator.toml` with the settings in its comments switched on."""
    text = DEFAULTS_FILE.read_text(encoding="utf-8")
    return re.sub(r"^# +(?=\[[\w.\"-]+\]|\w+ = )", "", text, flags=re.M)


def rows_of(row: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A row and all those in it."""
    yield row
    for field in row.model_fields.values():
        inner, _ = section_in(field.annotation)
        if inner is not None:
            yield from rows_of(inner)


def documented_in(table: dict[str, Any], row: type[BaseModel]) -> Iterator[tuple[type[BaseModel], str]]:
    """Each setting of a table, and of those in it, with the row that has it."""
    for key, value in table.items():
        yield row, key
        inner, many = section_in(row.model_fields[key].annotation)
        if inner is not None:
            one_by_one = value.values() if isinstance(value, dict) else value
            for each in one_by_one if many else [value]:
                yield from documented_in(each, inner)


def test_orchestrator_toml_holds_every_setting() -> None:
    documented = set(documented_in(tomllib.loads(uncommented()), Settings))
    every = {(row, name) for row in rows_of(Settings) for name in row.model_fields}
    assert {f"{row.__name__}.{name}" for row, name in every - documented} == set()


def test_what_orchestrator_toml_has_in_comments_is_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text(uncommented(), encoding="utf-8")
    loaded = load_settings(tmp_path / "all.toml", environ={})
    assert loaded.providers["openai"].limits.token_burst_s == 60.0
    assert (
        loaded.budgets.submitters and loaded.lookup_model("my-model").price and "ollama" in loaded.providers
    )


def test_every_route_is_in_the_summary(tmp_path: Path) -> None:
    with Store.open(tmp_path / "state.db", simulated=True) as store:
        app = create_app(AppContext(load_settings(environ={}), store, simulated=True, providers=set()))
        for rule in app.url_map.iter_rules():
            if rule.endpoint != "static":
                shown = re.sub(r"<(?:\w+(?:\([^)]*\))?:)?(\w+)>", r"<\1>", rule.rule)
                last = shown.rsplit("/", 1)[-1] or "/"
                assert shown in SUMMARY or f".../{last}" in SUMMARY, shown


def test_the_readme_is_short_and_names_the_two_commands_of_a_fresh_machine() -> None:
    assert "make run" in README and "make test" in README
    assert len(README.split()) <= 1_200


def test_the_documents_name_every_command() -> None:
    for name, _ in commands():
        if name:
            assert f"real_agent_orchestrator.py {name}" in EVERYTHING, name


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


DOCUMENTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    ROOT / "benchmarks/README.md",
    ROOT / "deploy/README.md",
]


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_between_documents_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        if target.startswith(("http://", "https://")):
            continue
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), link
        assert not anchor or anchor in anchors(there), link


def test_every_page_of_the_documents_is_linked_from_the_readme() -> None:
    assert [name for name in PAGES if f"](docs/{name})" not in README] == []


def test_the_page_on_failures_gives_the_breakers_times_of_the_settings() -> None:
    breaker = load_settings(environ={}).breaker
    first, most = f"{breaker.recovery_timeout_s:g} s", f"{breaker.recovery_timeout_max_s:g} s"
    assert f"gets no tasks for {first}, longer each time ({most} at most)" in PAGES["failures.md"]


def test_every_file_that_contributing_names_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/])((?:src|tests|templates|requirements|scripts)/[\w./]*\w)", text))
    named = {name for name in named if "NAME" not in name}
    assert len(named) > 20 and not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "MULTI_PROVIDER_IMPLEMENTATION_SUMMARY.md"])
def test_every_module_that_a_document_names_exists(document: str) -> None:
    folders = [ROOT / name for name in ("src", "tests", "benchmarks", "scripts")]
    known = {path.name for path in (*ROOT.glob("*.py"), *(p for f in folders for p in f.rglob("*.py")))}
    text = (ROOT / document).read_text(encoding="utf-8")
    named = set(re.findall(r"`(?:[\w/]+/)?([a-z]\w*\.py)`", text))
    assert named and named <= known, named - known


def test_ci_runs_what_the_readme_says() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make test" in ci and "make lint" in ci
