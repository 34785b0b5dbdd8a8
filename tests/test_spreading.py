"""Which tests a run begins with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from .helpers import ROOT
from .spreading import LONGEST, processes_first


def test_the_longest_come_first_and_then_what_starts_processes() -> None:
    assert all((ROOT / file).is_file() for file in LONGEST)
    files = ("tests/routing/test_budgets.py", "tests/cli/test_run.py", *reversed(LONGEST))
    items: list[Any] = [SimpleNamespace(nodeid=f"{file}::test_it") for file in files]
    processes_first(items)
    order = [item.nodeid.partition("::")[0] for item in items]
    assert order == [*LONGEST, "tests/cli/test_run.py", "tests/routing/test_budgets.py"]
