"""`scripts/setup.sh` finds a working Python, installs what has changed, and reports problems in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import ROOT

TOOLS = ("sh", "cat", "cksum", "mkdir", "rm", "cp", "echo")
GOOD = """#!/bin/sh
case "$*" in
    *"-m venv"*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
    *"-m pip"*) echo "pip $*" >>pip.log ;;
    --version) echo "Python 3.12.1" ;;
esac
"""
OLD = """#!/bin/sh
[ "$1" != --version ] || { echo "Python 3.9.2"; exit 0; }
exit 1
"""
BROKEN_SHIM = "#!/bin/sh\necho 'pyenv: version 3.14 is not installed' >&2\nexit 127\n"
WITHOUT_VENV = '#!/bin/sh\ncase "$*" in *ensurepip*) exit 1 ;; esac\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "setup.sh", tmp_path / "scripts")
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "runtime.txt").write_text("one\n")
    (tmp_path / "requirements" / "test.txt").write_text("-r runtime.txt\ntwo\n")
    (tmp_path / "requirements" / "dev.txt").write_text("-r test.txt\nthree\n")
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def put(project: Path, name: str, text: str) -> None:
    path = project / "bin" / name
    path.write_text(text)
    path.chmod(0o755)


def set_up(project: Path, packages: str = "runtime", **environ: str) -> tuple[int, str]:
    done = subprocess.run(
        [project / "bin" / "sh", "scripts/setup.sh", packages],
        cwd=project,
        env={"PATH": str(project / "bin"), **environ},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


def installs(project: Path) -> int:
    log = project / "pip.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_it_passes_over_shims_that_fail_and_pythons_that_are_too_old(project: Path) -> None:
    put(project, "python3.14", BROKEN_SHIM)
    put(project, "python3.13", OLD)
    put(project, "python3", GOOD)
    code, said = set_up(project)
    assert code == 0 and "building .venv with Python 3.12.1" in said
    assert installs(project) == 1


def test_it_installs_again_only_when_the_requirements_have_changed(project: Path) -> None:
    put(project, "python3", GOOD)
    set_up(project)
    os.utime(project / "requirements" / "runtime.txt", (1, 1))
    assert set_up(project) == (0, "") and installs(project) == 1
    (project / "requirements" / "runtime.txt").write_text("one\nmore\n")
    code, said = set_up(project)
    assert code == 0 and "building" not in said and installs(project) == 2


def test_a_lock_is_installed_by_its_hashes_and_again_when_it_has_changed(project: Path) -> None:
    put(project, "python3", GOOD)
    lock = project / "requirements" / "runtime.lock"
    lock.write_text("one==1 --hash=sha256:0\n")
    code, said = set_up(project)
    assert code == 0 and "installing requirements/runtime.lock" in said
    assert "--require-hashes -r requirements/runtime.lock" in (project / "pip.log").read_text()
    assert set_up(project) == (0, "") and installs(project) == 1
    lock.write_text("one==2 --hash=sha256:0\n")
    assert set_up(project)[0] == 0 and installs(project) == 2


@pytest.mark.parametrize(
    ("first", "then", "total"),
    [
        ("dev", "runtime", 1),
        ("dev", "test", 1),
        ("test", "runtime", 1),
        ("runtime", "test", 2),
        ("test", "dev", 2),
    ],
)
def test_a_set_includes_those_before_it(project: Path, first: str, then: str, total: int) -> None:
    put(project, "python3", GOOD)
    set_up(project, first)
    assert set_up(project, then)[0] == 0 and installs(project) == total


def test_an_environment_that_does_not_run_any_more_is_built_anew(project: Path) -> None:
    put(project, "python3", GOOD)
    set_up(project)
    (project / ".venv" / "bin" / "python").write_text(BROKEN_SHIM)
    code, said = set_up(project)
    assert code == 0 and "building a new one" in said and installs(project) == 2


@pytest.mark.parametrize(
    ("pythons", "environ", "line"),
    [
        ({}, {}, "Python 3.11 or newer is needed; found: none"),
        ({"python3": OLD}, {}, "Python 3.11 or newer is needed; found: Python 3.9.2"),
        ({"python3": WITHOUT_VENV}, {}, "python3 cannot build virtual environments"),
        ({"python3": GOOD, "mine": OLD}, {"PYTHON": "mine"}, "PYTHON=mine is not a Python 3.11 or newer"),
    ],
    ids=["none", "too old", "no ensurepip", "the wrong one named"],
)
def test_what_is_missing_is_one_line(
    project: Path, pythons: dict[str, str], environ: dict[str, str], line: str
) -> None:
    for name, text in pythons.items():
        put(project, name, text)
    code, said = set_up(project, **environ)
    assert code == 2 and line in said and said.count("\n") == 1
    assert not (project / ".venv").exists()
