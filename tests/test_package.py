"""The installed package: a wheel is built, installed into an environment of its own, and run there."""

from __future__ import annotations

import re
import tomllib
import urllib.request
from importlib.metadata import Distribution, PathDistribution
from pathlib import Path

from packaging.requirements import Requirement

from src.package import version

from .helpers import ROOT, read_rows
from .installed import run, site_packages, start
from .test_lock import wanted


def metadata(installed: Path) -> Distribution:
    [found] = site_packages(installed).glob("llm_agent_orchestrator-*.dist-info")
    return PathDistribution(found)


def test_nothing_of_the_checkout_can_be_imported(installed: Path, tmp_path: Path) -> None:
    code = (
        "import agent_orchestrator, importlib.util, sys; print(agent_orchestrator.__file__); "
        "print(importlib.util.find_spec('src'), importlib.util.find_spec('tests'))"
    )
    (tmp_path / "which.py").write_text(code)
    done = run(installed, "python which.py", tmp_path)
    assert done.out.splitlines() == [
        str(site_packages(installed) / "agent_orchestrator/__init__.py"),
        "None None",
    ]


def test_a_file_is_answered_by_the_simulator(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks.txt").write_text("Why is the sky blue?\nWhat is tea?\n")
    done = run(installed, "agent-orchestrator run tasks.txt -o out.jsonl", tmp_path)
    assert done.process.returncode == 0, done.err
    rows = read_rows(tmp_path / "out.jsonl")
    assert [row["status"] for row in rows] == ["succeeded"] * 2 and all(row["simulated"] for row in rows)


def test_the_examples_and_the_pages_come_with_it(installed: Path, tmp_path: Path) -> None:
    with start(installed, "agent-orchestrator --examples --pages", tmp_path) as server:
        server.wait_for("pages on http")
        found = re.search(r"pages on (http://\S+)", server.err + server.out)
        assert found is not None
        for path, text in (("/", "<!doctype html"), ("/static/style.css", "color")):
            with urllib.request.urlopen(found[1] + path) as answer:  # noqa: S310 - our own address
                assert text in answer.read().decode()
        assert "queued 60 tasks" in server.err
        server.interrupt()
        assert server.wait() == 0, server.err


def test_the_pages_are_a_command_too_and_name_the_one_that_serves(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise ImportError('of the current folder')")
    with start(installed, "agent-orchestrator-pages --state-dir here", tmp_path) as pages:
        pages.wait_for("pages on http")
        assert "start one with: agent-orchestrator --state-dir here\n" in pages.out
        pages.interrupt()
        assert pages.wait() == 0, pages.err


def test_the_version_is_that_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    done = run(installed, "agent-orchestrator --version", tmp_path)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert done.out == f"LLM agent orchestrator {declared}\n"
    assert metadata(installed).version == version() == declared


def test_it_needs_what_the_requirements_name(installed: Path) -> None:
    needed = {Requirement(line) for line in metadata(installed).requires or []}
    assert {each for each in needed if not each.marker} == set(wanted("runtime"))
    extras = {str(each) for each in needed if each.marker}
    assert extras == {
        f'{each}; extra == "{extra}"' for extra in ("postgresql", "parquet", "ray") for each in wanted(extra)
    }


def test_types_are_published_and_no_compiled_files(installed: Path) -> None:
    names = [str(file) for file in metadata(installed).files or []]
    assert "agent_orchestrator/py.typed" in names
    assert {"src", "tests"}.isdisjoint(name.split("/")[0] for name in names)


def test_the_wheel_holds_every_file_of_its_folders(installed: Path) -> None:
    package = site_packages(installed) / "agent_orchestrator"
    for name in ("src", "templates", "static", "examples"):
        inside = package if name == "src" else package / name
        for path in (ROOT / name).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (inside / path.relative_to(ROOT / name)).read_bytes() == path.read_bytes(), path
