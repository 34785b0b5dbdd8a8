"""How tests are spread over workers with `--dist loadscope`.

Tests that start processes mostly wait. They are handed out one by one, the longest first, so that none is
left with a long one at the end. The others, and those that share a fixture of their file, stay together by
file. Every third worker begins with the others: the cores compute while the rest of the workers waits.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

ROOT = Path(__file__).resolve().parent.parent
_STARTS = re.compile(r"\b(Script|run_script|SimulatorProcess|Stack|chromium|subprocess)\b")
_SHARES = re.compile(r'scope="module"')

LONGEST = ("tests/web/test_browser.py", "tests/test_acceptance.py")
_COMPUTES = 3  # every third: as many as there are cores, see WORKERS_PER_CORE of test_multi_provider.py


@cache
def starts_processes(file: str) -> bool:
    """Whether the tests of `file`, relative to the project, start processes."""
    return _STARTS.search((ROOT / file).read_text(encoding="utf-8")) is not None


@cache
def _shares_fixtures(file: str) -> bool:
    return _SHARES.search((ROOT / file).read_text(encoding="utf-8")) is not None


def processes_first(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _rank(_file(item.nodeid)))


def _rank(file: str) -> int:
    return LONGEST.index(file) - len(LONGEST) if file in LONGEST else int(not starts_processes(file))


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

    def _assign_work_unit(self, node: WorkerController) -> None:
        if int(node.gateway.id.removeprefix("gw")) % _COMPUTES == 0:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)
