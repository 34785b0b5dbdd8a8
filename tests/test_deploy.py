"""What a container and systemd start is there: the image's files are enough, the units name real ones."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from src.config import load_settings
from src.workers.ray import RESOURCE
from tests.helpers import ROOT, child_environment, run_script
from tests.test_lock import pins

UNITS = sorted((ROOT / "deploy").glob("*.service"))


def copied() -> list[str]:
    """What the Dockerfile copies from the folder it is built in."""
    found: list[str] = []
    for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            found += line.split()[1:-1]
    return found


def test_the_image_gets_all_it_copies_and_no_more() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines, "nothing is sent to the builder but what is named"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == set(copied())
    assert all((ROOT / name).exists() for name in copied())


@pytest.mark.parametrize(
    ("script", "arguments", "output"),
    [
        ("real_agent_orchestrator.py", ["plan", "examples/tasks.jsonl"], "60 tasks"),
        ("real_agent_orchestrator.py", ["--version"], "LLM agent orchestrator "),
        ("web_server.py", ["--help"], "Serve the pages"),
    ],
)
def test_the_programs_run_from_the_files_of_the_image(
    tmp_path: Path, script: str, arguments: list[str], output: str
) -> None:
    app = tmp_path / "app"
    app.mkdir()
    for name in copied():
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, app / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (app / name).parent.mkdir(exist_ok=True)
            shutil.copy(source, app / name)
    environ = child_environment({"ORCHESTRATOR_STATE_DIR": str(tmp_path / "data")})
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, cwd=app, env=environ, capture_output=True, text=True)
    assert done.returncode == 0 and output in done.stdout, done.stderr


@pytest.mark.parametrize("unit", UNITS, ids=[unit.stem for unit in UNITS])
def test_a_unit_starts_a_real_script_without_rights(unit: Path) -> None:
    text = unit.read_text(encoding="utf-8")
    started = re.search(r"^ExecStart=\S+/\.venv/bin/python (\S+)", text, re.M)
    assert started is not None and (ROOT / started[1]).is_file()
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "UMask=0077"):
        assert line in text.splitlines()


def test_what_starts_without_a_terminal_agrees_to_answer_what_is_queued() -> None:
    starts = {
        "Dockerfile": 'CMD ["--yes"]',
        "deploy/compose.yaml": 'command: ["--quiet", "--yes"]',
        "deploy/llm-orchestrator.service": "real_agent_orchestrator.py --quiet --yes",
    }
    for place, start in starts.items():
        assert start in (ROOT / place).read_text(encoding="utf-8"), place


def test_both_units_keep_the_same_state_from_the_same_user() -> None:
    assert len(UNITS) == 2
    shared = ("User=", "StateDirectory=", "Environment=", "SystemCallFilter=", "Protect")
    kept = [
        [line for line in unit.read_text(encoding="utf-8").splitlines() if line.startswith(shared)]
        for unit in UNITS
    ]
    assert kept[0] == kept[1]


def test_the_pages_get_no_keys_of_providers() -> None:
    units = {unit.stem: unit.read_text(encoding="utf-8") for unit in UNITS}
    files = {name: set(re.findall(r"^EnvironmentFile=-(\S+)", text, re.M)) for name, text in units.items()}
    assert not files["llm-orchestrator"] & files["llm-orchestrator-web"]
    compose = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    shared, services = compose.split("services:")
    assert "env_file" not in shared
    web = services.split("\n  web:")[1]
    assert re.findall(r"env_file: (\S+)", web) == ["../.env.pages"]
    assert '"--live"' in web and "web_server.py --live" in units["llm-orchestrator-web"]


def test_the_image_has_the_driver_of_postgresql_when_it_is_requested() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    argument = re.search(r"^ARG (\w+)=$(.+?)^(?:ARG|FROM)", dockerfile, re.M | re.S)
    assert (
        argument is not None
        and f'-n "${argument[1]}"' in argument[2]
        and "-r requirements/postgresql.lock" in argument[2]
    )
    compose = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    assert f"{argument[1]}: ${{{argument[1]}:-}}" in compose
    for place in ("Dockerfile", "deploy/README.md", "src/core/store/engine.py"):
        assert f"--build-arg {argument[1]}=1" in (ROOT / place).read_text(encoding="utf-8"), place


def test_the_published_gateway_listens_for_others_and_asks_for_a_token(tmp_path: Path) -> None:
    compose = (ROOT / "deploy" / "compose.gateway.yaml").read_text(encoding="utf-8")
    mounted, place = re.findall(r"- \./(\S+):(/\S+):ro", compose)[0]
    assert f'"--config", "{place}"]' in compose and '"--quiet", "--yes"' in compose
    gateway = load_settings(ROOT / "deploy" / mounted, {}).gateway
    assert gateway.host == "0.0.0.0" and f'"127.0.0.1:{gateway.port}:{gateway.port}"' in compose
    config = str(ROOT / "deploy" / mounted)
    done = run_script("--config", config, "--gateway-port", "0", "--yes", cwd=tmp_path)
    assert done.process.returncode == 2 and "ORCHESTRATOR_TOKEN" in done.err


def test_the_cluster_s_files_are_what_the_scaling_page_tells() -> None:
    """Both offer the resource that the leader looks for, ask for the token, and have the locked Ray."""
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    compose = yaml.safe_load((ROOT / "deploy" / "compose.cluster.yaml").read_text(encoding="utf-8"))
    kuberay = yaml.safe_load_all((ROOT / "deploy" / "kuberay.yaml").read_text(encoding="utf-8"))
    cluster = next(each for each in kuberay if each["kind"] == "RayCluster")["spec"]
    services = compose["services"]
    offers = [word for word in services["worker"]["entrypoint"] if word.startswith("--resources=")]
    groups = [group["rayStartParams"]["resources"] for group in cluster["workerGroupSpecs"]]
    for text in (page, *offers, *groups):
        assert re.search(r'\\?"' + RESOURCE + r'\\?": \d', text), text
    nodes = [
        service for service in services.values() if "ray start" in " ".join(service.get("entrypoint", ()))
    ]
    assert len(nodes) == 4 and all(node["environment"]["RAY_AUTH_MODE"] == "token" for node in nodes)
    assert cluster["authOptions"]["mode"] == "token"
    assert pins("ray")["ray"] == {cluster["rayVersion"]}
    assert "RAY" in services["head"]["build"]["args"]
    for name in ("leader", "standby"):
        assert services[name]["command"][2:4] == ["--workers", "ray:auto"]
    assert "env_file" in services["web"] and services["web"]["env_file"] == "../.env.pages"
