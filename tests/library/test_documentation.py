"""The examples of `docs/python.md`, run with the installed package against the simulator."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from src.simulator.process import SimulatorProcess
from tests.helpers import ROOT, Script, live_environment
from tests.installed import COMMANDS, run

DOCUMENT = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES: dict[str, str] = dict(re.findall(r"```python\n# (\S+)\n(.*?)```", DOCUMENT, re.S))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Holds every example under its name."""
    for name, text in EXAMPLES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def env(simulator: SimulatorProcess) -> dict[str, str]:
    return live_environment(simulator.base_urls, only=["openai"])


def python(installed: Path, command: str, folder: Path, env: dict[str, str]) -> Script:
    done = run(installed, f"python -W error {command}", folder, env)
    assert done.process.returncode == 0, done.err
    assert done.err == ""
    return done


def test_every_example_is_run_here() -> None:
    tried = {"script.py", "pool.py", "resume.py", "notebook", "app.py", "test_prompts.py", "one_line.py"}
    assert set(EXAMPLES) == tried and DOCUMENT.count("```python") == len(tried)


def test_the_script_prints_each_result_in_order(installed: Path, folder: Path, env: dict[str, str]) -> None:
    first, *rest = python(installed, "script.py", folder, env).out.splitlines()
    assert re.fullmatch(r"succeeded gpt-\S+ [\d.e-]+ \d+", first) and len(rest) >= 3


def test_the_pool_answers_one_and_then_a_stream(installed: Path, folder: Path, env: dict[str, str]) -> None:
    lines = python(installed, "pool.py", folder, env).out.splitlines()
    assert sum(line.startswith("succeeded gpt-") for line in lines) == 20


def test_the_second_start_of_a_run_asks_nothing(
    installed: Path, folder: Path, env: dict[str, str], simulator: SimulatorProcess
) -> None:
    for _ in range(2):
        assert "10 of 10, $0.0" in python(installed, "resume.py", folder, env).out
        assert simulator.stats()["openai"]["calls"] == 10


def test_the_view_answers_a_request(installed: Path, folder: Path, env: dict[str, str]) -> None:
    (folder / "ask.py").write_text(
        "import json\nfrom app import app\n"
        "print(json.dumps(app.test_client().post('/ask', json={'question': 'Why?'}).get_json()))\n"
    )
    printed = json.loads(python(installed, "ask.py", folder, env).out)
    assert printed["answer"] and printed["model"].startswith("gpt-") and printed["cost_usd"] > 0


def test_the_test_passes_and_spends_nothing(
    installed: Path, folder: Path, env: dict[str, str], simulator: SimulatorProcess
) -> None:
    bare = {**env, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # those of this project take seconds to import
    assert "1 passed" in python(installed, "-m pytest -q test_prompts.py", folder, bare).out
    assert simulator.stats()["openai"]["calls"] == 0


def test_a_refused_key_is_one_line(installed: Path, folder: Path) -> None:
    with SimulatorProcess.start({"providers": {"openai": {"keys": ["the-right-one"]}}}) as simulator:
        done = run(installed, "python one_line.py", folder, live_environment(simulator.base_urls))
    assert done.process.returncode == 1
    assert done.err == "openai rejected OPENAI_API_KEY (401 invalid_api_key)\n"


# ------------------------------------------------------------------ the notebook


@pytest.fixture
def kernel(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a kernel that runs the installed package's Python."""
    kernels = tmp_path / "jupyter" / "kernels" / "installed"
    kernels.mkdir(parents=True)
    argv = [str(installed / COMMANDS / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (kernels / "kernel.json").write_text(
        json.dumps({"argv": argv, "display_name": "installed", "language": "python"})
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "jupyter"))
    yield "installed"


def execute(kernel: str, folder: Path, source: str) -> list[Any]:
    """The outputs of a notebook of one cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    client = NotebookClient(
        notebook,
        kernel_name=kernel,
        resources={"metadata": {"path": str(folder)}},
        allow_errors=True,
        timeout=60,
    )
    client.execute()
    outputs: list[Any] = notebook.cells[0].outputs
    return outputs


def test_the_notebook_uses_both_in_its_running_loop(
    kernel: str, folder: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    [output] = execute(kernel, folder, EXAMPLES["notebook"])
    assert output.text == "succeeded succeeded\n"


def test_a_refused_key_is_one_line_in_a_notebook(
    kernel: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with SimulatorProcess.start({"providers": {"openai": {"keys": ["the-right-one"]}}}) as simulator:
        for name, value in live_environment(simulator.base_urls, only=["openai"]).items():
            monkeypatch.setenv(name, value)
        [output] = execute(kernel, folder, EXAMPLES["notebook"])
    assert output.traceback == ["KeyRejected: openai rejected OPENAI_API_KEY (401 invalid_api_key)"]
