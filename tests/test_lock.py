"""make installs what the lists in requirements/ name: each version pinned, each file by its hash."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "requirements"
RENEW = "requirements and lock differ: run `make lock`"
PIN = re.compile(r"^([\w.-]+)(?:\[[\w,-]+\])?==(\S+)(?: ; .+)? \\$", re.M)


def wanted(name: str) -> list[Requirement]:
    lines = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    texts = [line.partition("#")[0].strip() for line in lines]
    return [Requirement(text) for text in texts if text and not text.startswith("-r")]


def locked(name: str) -> str:
    return (FOLDER / f"{name}.lock").read_text(encoding="utf-8")


def pins(name: str) -> dict[str, set[str]]:
    """The versions of each package: more than one where Pythons or platforms need different ones."""
    found: dict[str, set[str]] = {}
    for package, version in PIN.findall(locked(name)):
        found.setdefault(canonicalize_name(package), set()).add(version)
    return found


LEAST = {
    "runtime": 40,
    "test": 40,
    "dev": 40,
    "postgresql": 2,
    "parquet": 1,
    "ray": 10,
}  # packages
every_lock = pytest.mark.parametrize("name", LEAST)


@every_lock
def test_the_lock_satisfies_the_requirements(name: str) -> None:
    pinned = pins(name)
    required = wanted(name)
    assert required
    for requirement in required:
        versions = pinned.get(canonicalize_name(requirement.name), set())
        assert versions and all(requirement.specifier.contains(v) for v in versions), (
            f"{requirement} is locked as {versions or 'nothing'}; {RENEW}"
        )


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [("test", "runtime"), *(("dev", each) for each in ("test", "postgresql", "parquet"))],
)
def test_a_lock_holds_all_that_the_one_below_it_holds(larger: str, smaller: str) -> None:
    found, below = pins(larger), pins(smaller)
    assert {name: found.get(name) for name in below} == below, RENEW


def test_the_plain_requirements_name_the_program_and_its_tests() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    included = [line.split()[1] for line in lines if line.startswith("-r ")]
    assert included == ["requirements/runtime.txt", "requirements/test.txt"]
    required = {canonicalize_name(each.name) for name in ("runtime", "test") for each in wanted(name)}
    assert required >= {
        "flask", "anthropic", "openai", "google-generativeai", "python-dotenv", "pytest", "requests-mock",
    }  # fmt: skip


def test_what_is_for_tests_alone_is_not_installed_to_run() -> None:
    only_tests = {canonicalize_name(each.name) for each in wanted("test")}
    assert not only_tests & set(pins("runtime"))


@pytest.mark.parametrize("extra", ["postgresql", "parquet", "ray"])
def test_what_an_extra_shares_with_the_rest_is_the_same(extra: str) -> None:
    rest = pins("runtime")
    shared = {name: found for name, found in pins(extra).items() if name in rest}
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
