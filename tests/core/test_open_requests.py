"""When a request that may not wait is told to come again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from src.core.open_requests import OpenRequest, OpenRequests
from src.records import Placement, Task

from ..routing.build import START, make_task


def placed(task: Task, at: float) -> Placement:
    return Placement(1, task, "openai", "m", "g", "standard", "an agent", 100, "weighted", (), at, 60.0, 1)


@pytest.mark.parametrize(
    ("called_at_s", "waiting", "seconds"),
    [
        pytest.param([], 5, None, id="no call so far"),
        pytest.param([4.5], 5, 5.0, id="one call in the last second"),
        pytest.param([s / 10 for s in range(50)], 100, 10.0, id="ten calls a second"),
        pytest.param([s - 100 for s in range(50)], 100, None, id="all of them long ago"),
        pytest.param([-300.0, *(4 + s / 10 for s in range(10))], 20, 2.0, id="busy after a pause"),
    ],
)
async def test_what_waits_has_gone_at_the_rate_of_the_last_calls(
    called_at_s: Sequence[float], waiting: int, seconds: float | None
) -> None:
    requests = OpenRequests()
    for number in range(len(called_at_s) + waiting):
        answer = asyncio.get_running_loop().create_future()
        requests.open(OpenRequest(make_task(number), answer, START))
    for request, at_s in zip(requests.all_open(), called_at_s, strict=False):
        requests.called(request, placed(request.task, START + at_s), lambda: None)
    found = requests.drained_in_s(START + 5)
    assert found == (seconds if seconds is None else pytest.approx(seconds, rel=0.3))
