"""How tests are spread over workers with `--dist loadscope`.

Tests that start processes mostly wait. They are handed out first and one by one, so that all workers wait at
once and none is left with a long one at the end. The others, and those that share a fixture of their file,
stay together by file.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parent.parent
_STARTS = re.compile(r"\b(Script|run_script|SimulatorProcess|Stack|chromium|subprocess)\b")
_SHARES = re.compile(r'scope="module"')


@cache
def starts_processes(file: str) -> bool:
    """Whether the tests of `file`, relative to the project, start processes."""
    return _STARTS.search((ROOT / file).read_text(encoding="utf-8")) is not None


@cache
def _shares_fixtures(file: str) -> bool:
    return _SHARES.search((ROOT / file).read_text(encoding="utf-8")) is not None


def processes_first(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not starts_processes(_file(item.nodeid)))


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class Spreading(LoadScopeScheduling):
    """One test of a file that starts processes, else a whole file, at a time."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # it would begin with the files of many small tests

    def _split_scope(self, nodeid: str) -> str:
        file = _file(nodeid)
        return nodeid if starts_processes(file) and not _shares_fixtures(file) else file
