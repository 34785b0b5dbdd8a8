"""What make installs is what requirements.txt asks for: each version pinned, each file by its hash."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
RENEW = "requirements and lock differ: run `make lock`"
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)(?: ; .+)? \\$", re.M)


def wanted(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    texts = [line.partition("#")[0].strip() for line in lines]
    return [Requirement(text) for text in texts if text and not text.startswith("-r")]


def locked(name: str) -> str:
    return (ROOT / name).with_suffix(".lock").read_text(encoding="utf-8")


def pins(name: str) -> dict[str, set[str]]:
    """The versions of each package: more than one where Pythons or platforms need different ones."""
    found: dict[str, set[str]] = {}
    for package, version in PIN.findall(locked(name)):
        found.setdefault(canonicalize_name(package), set()).add(version)
    return found


LEAST = {"requirements.txt": 40, "requirements-dev.txt": 40, "requirements-postgresql.txt": 2}  # packages
every_lock = pytest.mark.parametrize("name", LEAST)


@every_lock
def test_the_lock_satisfies_the_requirements(name: str) -> None:
    pinned = pins(name)
    asked = wanted(name)
    assert asked
    for requirement in asked:
        versions = pinned.get(canonicalize_name(requirement.name), set())
        assert versions and all(requirement.specifier.contains(v) for v in versions), (
            f"{requirement} is locked as {versions or 'nothing'}; {RENEW}"
        )


def test_the_lock_of_the_tools_holds_all_that_the_other_holds() -> None:
    tools = pins("requirements-dev.txt")
    assert {name: tools.get(name) for name in pins("requirements.txt")} == pins("requirements.txt"), RENEW


def test_what_the_driver_of_postgresql_shares_with_the_rest_is_the_same() -> None:
    rest = pins("requirements.txt")
    shared = {name: found for name, found in pins("requirements-postgresql.txt").items() if name in rest}
    assert shared == {name: rest[name] for name in shared}, RENEW


@every_lock
def test_each_file_is_known_by_its_hash_and_no_place_is_named(name: str) -> None:
    text = locked(name)
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    packages = [line for line in lines if line and not line.startswith(" ")]
    assert len(packages) == len(PIN.findall(text)) >= LEAST[name], "every package is pinned to one version"
    for block in re.split(r"\n(?=[^\s#])", text.partition("make lock\n")[2]):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]
    assert "://" not in text and "index" not in text
