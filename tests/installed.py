"""An environment of its own that has the package installed from a wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest

from src.core.store.lock import HostLock

from .helpers import ROOT, Script, child_environment

COMMANDS = Path("Scripts" if sys.platform == "win32" else "bin")


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an environment that has the wheel, and borrows the packages that it needs from here.

    The workers of one run share it: the first that needs it builds it.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "installed"
    lock, done = HostLock(folder.with_suffix(".lock")), folder / "done"
    while not lock.acquire():
        time.sleep(0.1)
    if not done.exists():
        build(folder)
        done.touch()
    lock.release()
    return folder


def build(folder: Path) -> None:
    folder.mkdir()
    environ = child_environment()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, env=environ, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / COMMANDS / "python"), "install"]
    options = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, str(wheel)], cwd=folder, env=environ, check=True, capture_output=True)
    borrowed = Path(pytest.__file__).parents[1]
    (site_packages(folder) / "borrowed.pth").write_text(f"{borrowed}\n", encoding="utf-8")


def site_packages(installed: Path) -> Path:
    [found] = installed.rglob("site-packages")
    return found


def start(installed: Path, command: str, folder: Path, env: Mapping[str, str] | None = None) -> Script:
    """Run one of its commands in `folder`, with the environment's own Python."""
    return Script(
        cwd=folder, command=f"exec '{installed / COMMANDS}'/{command}", env={"PORT": "0", **(env or {})}
    )


def run(installed: Path, command: str, folder: Path, env: Mapping[str, str] | None = None) -> Script:
    with start(installed, command, folder, env) as script:
        script.wait()
        return script
