"""The commands and examples of the README and of docs/ work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from src.access import HOSTS
from src.cli.app import cli
from src.config import load_settings
from src.core.intake import ReadOptions, TaskContext, TaskFields, Template, make_task, read_tasks
from src.records import Task
from src.simulator.process import SimulatorProcess
from src.tokens import MANY_TOKENS, ONE_TOKEN, TOKENS_FILE
from tests.documents import EVERYTHING, PAGES, README, blocks
from tests.helpers import ROOT, child_environment, live_environment, run_script


def test_the_python_example_runs_as_it_stands(tmp_path: Path) -> None:
    (example,) = blocks("python", README)
    assert len(example.strip().splitlines()) <= 6
    environ = child_environment()
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), environ["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", example],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("succeeded") == 2 and "simulated" in done.stderr


def test_the_python_example_also_runs_if_the_cap_pays_for_nothing(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    (example,) = blocks("python", README)
    (tmp_path / "program.py").write_text(example.replace("max_cost_usd=0.50", "max_cost_usd=0.0000001"))
    env = {**live_environment(simulator.base_urls, only=["openai"]), "PYTHONPATH": str(ROOT)}
    done = run_script(script=tmp_path / "program.py", cwd=tmp_path, env=env)
    assert done.process.returncode == 0, done.err
    assert done.out.count("cancelled: cap of batch python-") == 2


def test_the_task_lines_are_tasks_and_every_key_is_documented() -> None:
    settings = load_settings(environ={})
    for line in blocks("json", PAGES["tasks.md"])[0].splitlines():
        make_task(json.loads(line), TaskContext("b", settings, 0.0))
    documented = set(re.findall(r"`(\w+)`", PAGES["tasks.md"]))
    assert set(TaskFields.model_fields) <= documented


def test_the_table_and_its_template_make_a_prompt_of_every_row() -> None:
    table, template = re.findall(r"run (examples/\S+) --prompt-file (\S+)", PAGES["tasks.md"])[0]
    options = ReadOptions(template=Template.read(ROOT / template))
    settings = load_settings(environ={})
    tasks = list(read_tasks(ROOT / table, TaskContext("b", settings, 0.0), options=options))
    assert len(tasks) == 8 and all(isinstance(task, Task) for task in tasks)


def test_the_configuration_examples_are_valid(tmp_path: Path) -> None:
    found = []
    for example in blocks("toml", PAGES["configuration.md"]):
        assert tomllib.loads(example)
        (tmp_path / "mine.toml").write_text(example)
        found.append(load_settings(tmp_path / "mine.toml", environ={}))
    settings = found[0]
    assert settings.providers["ollama"].api_format == "openai"
    assert settings.budgets.submitters["alice"].monthly_usd == 50.0


def commands() -> list[str]:
    lines = "\n".join(blocks("sh")).splitlines()
    return [line.partition("#")[0].strip() for line in lines if "real_agent_orchestrator.py" in line]


@pytest.mark.parametrize("line", commands())
def test_each_command_exists(line: str) -> None:
    words = line.split()[2:]
    assert not words or words[0].startswith("-") or words[0] in cli.commands


def test_every_command_and_make_target_is_documented() -> None:
    typed = "\n".join(blocks("sh"))
    assert {word for word in cli.commands if f"orchestrator.py {word}" not in typed} == set()
    targets = set(re.findall(r"`make (\w+)", EVERYTHING))
    assert targets - {"and"} <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))


def test_every_environment_variable_of_the_pages_is_documented() -> None:
    for text in (EVERYTHING, (ROOT / ".env.example").read_text(encoding="utf-8")):
        assert all(name in text for name in (ONE_TOKEN, MANY_TOKENS, TOKENS_FILE, HOSTS))


def test_every_environment_variable_of_the_example_file_is_read_somewhere() -> None:
    names = re.findall(r"^#? ?([A-Z_]{5,})=", (ROOT / ".env.example").read_text(), re.M)
    sources = [ROOT / "orchestrator.toml", *(ROOT / "src").rglob("*.py")]
    known = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    assert names and [name for name in names if name not in known] == []
