"""Rows in the order of the input: nothing is lost, also if the rewrite is killed or the disk is full."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from src.core.results import ResultsFile, form_of
from src.errors import InputError
from tests.helpers import ROOT

from .test_results import result

NAMES = [f"t{n}" for n in range(1_200)]  # more than are written at once
SHUFFLED = random.Random(7).sample(NAMES, len(NAMES))
FORMS = [("out.csv", None), ("out.tsv", None), ("out.jsonl", None), ("batch.jsonl", "openai-batch")]


def written(path: Path, fmt: str | None = None) -> ResultsFile:
    """A results file with rows that have line ends in their answers, in another order than `NAMES`."""
    file = ResultsFile(path, simulated=True, form=form_of(path.name, fmt))
    file.append(result(name, output=f'one\n"{name}"\r\n') for name in SHUFFLED)
    return file


@pytest.mark.parametrize(("name", "fmt"), FORMS)
def test_rows_get_the_order_of_the_input_unchanged(tmp_path: Path, name: str, fmt: str | None) -> None:
    path = tmp_path / name
    path.touch(0o640)
    form = form_of(name, fmt)
    with written(path, fmt) as file:
        pieces = {row["id"] if row else "": piece for piece, row in form.pieces(path)}
        wanted = ["never-run", *NAMES[:900], NAMES[3], "rejected"]
        assert file.arrange(iter(wanted))
        others = [each for each in SHUFFLED if each not in NAMES[:900]]
        assert list(file.ids()) == [*NAMES[:900], *others], "rows that the input lacks keep their order"
        assert {row["id"] if row else "": piece for piece, row in form.pieces(path)} == pieces
        inode = path.stat().st_ino
        assert not file.arrange(wanted) and path.stat().st_ino == inode, "a file in order is left as it is"
        file.append([result("later")])
        assert file.drop(["t0"]) == 1 and [*file.ids()][-1] == "later"
    assert path.stat().st_mode & 0o777 == 0o640 and [each.name for each in tmp_path.iterdir()] == [name]


def test_an_id_that_the_file_has_twice_stays_twice(tmp_path: Path) -> None:
    with ResultsFile(tmp_path / "out.csv", simulated=True) as file:
        file.append(result(name) for name in "abab")
        assert file.arrange("ba") and list(file.ids()) == ["b", "a", "a", "b"]


def test_there_is_nothing_to_arrange_in_an_empty_file_or_on_standard_output(tmp_path: Path) -> None:
    for name in (str(tmp_path / "out.csv"), "-"):
        with ResultsFile(name, simulated=True) as file:
            assert not file.arrange(NAMES)


CHILD = """
import resource, signal, sys
from src.core.results import ResultsFile
path, action = sys.argv[1:]
file = ResultsFile(path, simulated=True)
half = file.path.stat().st_size // 2
signal.signal(signal.SIGXFSZ, getattr(signal, action))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (half, half))
file.arrange(f"t{n}" for n in range(1_200))
"""


def arrange_to_half(path: Path, action: str) -> subprocess.CompletedProcess[str]:
    """Arrange the file in a process that may write half of its size; `action` is for the signal then."""
    command = [sys.executable, "-c", CHILD, str(path), action]
    return subprocess.run(command, cwd=ROOT, timeout=60, check=False, capture_output=True, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes")
@pytest.mark.parametrize("name", ["out.csv", "out.jsonl"])
def test_a_rewrite_that_is_killed_in_the_middle_leaves_the_file_as_it_was(tmp_path: Path, name: str) -> None:
    """The kernel kills the process when the new file reaches half of its size."""
    path, aside = tmp_path / name, tmp_path / f".{name}.new"
    written(path).close()
    before = path.read_bytes()
    child = arrange_to_half(path, "SIG_DFL")
    assert child.returncode < 0 and path.read_bytes() == before
    assert aside.stat().st_size == len(before) // 2, "it was in the middle"
    with ResultsFile(path, simulated=True) as file:
        assert file.arrange(NAMES) and list(file.ids()) == NAMES
    assert len(path.read_bytes()) == len(before) and not aside.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes")
def test_a_rewrite_without_space_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    written(path).close()
    before = path.read_bytes()
    child = arrange_to_half(path, "SIG_IGN")
    assert child.returncode == 1 and "out.csv cannot be rewritten (File too large)" in child.stderr
    assert path.read_bytes() == before and [each.name for each in tmp_path.iterdir()] == ["out.csv"]


def test_a_rewrite_that_fails_can_be_repeated(tmp_path: Path) -> None:
    path, aside = tmp_path / "out.csv", tmp_path / ".out.csv.new"
    with written(path) as file:
        aside.symlink_to("/dev/full")
        with pytest.raises(InputError, match="a device or a pipe"):
            file.arrange(NAMES)
        aside.unlink()
        assert file.arrange(NAMES) and list(file.ids()) == NAMES
