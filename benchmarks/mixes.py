"""One provider that fails some calls at random, beside a retry script, in virtual time over many seeds.

`recovery` measures the same over HTTP, few times. Here the calls are those of the tests
(`tests/routing/test_error_mixes.py`), so that a change of a rule shows within seconds, and the worst seed.
"""

from __future__ import annotations

import statistics

from src.records import TaskStatus
from tests.routing.test_error_mixes import LATENCY_S, MIXES, ROWS, pool, script

from .table import Table, verdict

SEEDS, QUICK_SEEDS = 20, 5
AT_MOST, WORST = 1.5, 3.0  # times the script


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """A table with a row for each mix; `runs` seeds each."""
    seeds = range(runs or (QUICK_SEEDS if quick else SEEDS))
    table = Table(
        f"{ROWS} rows, one provider, virtual time, medians of {len(seeds)} seeds",
        ("errors", "target", "script", "this project", "ratio", "worst seed / median script",
         "not answered (script, this project)", "verdict"),
    )  # fmt: skip
    for name, (share_500, share_429, _) in MIXES.items():
        shares = (share_500, share_429)
        scripts = [script(shares, seed) for seed in seeds]
        worlds = [pool(shares, seed) for seed in seeds]
        script_s = statistics.median(each.took_s for each in scripts)
        took_s = [world.makespan_s for world in worlds]
        ratio, worst = statistics.median(took_s) / script_s, max(took_s) / script_s
        lost = sum(ROWS - world.statuses[TaskStatus.SUCCEEDED] for world in worlds)
        table.add(
            name, f"<= {AT_MOST:g}, worst <= {WORST:g}, 0 lost", f"{script_s:.1f} s",
            f"{statistics.median(took_s):.1f} s", f"{ratio:.2f}", f"{worst:.1f}",
            f"{sum(each.lost for each in scripts)}, {lost}",
            verdict(ratio <= AT_MOST, worst <= WORST, not lost),
        )  # fmt: skip
    table.notes.append(
        f"The script has 16 calls in flight and five retries with the waits of the openai SDK. An answer "
        f"takes {LATENCY_S:g} s, an error nothing. No limit is configured and none is stated."
    )
    return [table]
