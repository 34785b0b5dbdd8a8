"""What failures cost: error mixes beside a retry script, times of recovery, rows that always fail.

The providers are raw servers (`upstream.py`): their model list always answers, whatever their calls do, and
no header states a limit. Nothing is configured but their addresses.

    mixes      200 rows at one provider that fails some calls at random, beside the openai SDK's own retries
    outages    calls alone fail for a while; when does the provider answer tasks again?
    sequence   503 for a minute under a request every 4 s, three providers
    bad rows   six rows that always fail at the head of 106, beside the same file without them

The mixes are compared by time and run one by one. All others mostly wait, so they run side by side.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

from .child import ClientFailed, lost, makespan_s, run_client
from .child import median as middle
from .table import NOT_JUDGED, Table, verdict
from .upstream import EMPTY, RESET, Call, Fault, Rule, Upstream
from .work import PROVIDERS, Json, Prompt

ROWS, IN_FLIGHT = 200, 16
MIXES = {
    "5 % 500s": (0.05, 0.0),
    "10 % 500s": (0.10, 0.0),
    "20 % 429s, Retry-After 2": (0.0, 0.2),
    "both at 20 %": (0.2, 0.2),
}
AT_MOST = 1.5  # times the script
BACK_WITHIN_S = 10.0
FIRST_S = 3.0  # of traffic before a fault begins
RATE = 8.0  # tasks per second
BURST_S = 4.0  # calls of the first seconds open the breaker; those after it are counted
SIDE_BY_SIDE = 8
MARK = "always fails"


class Run(NamedTuple):
    """A client's report on some rows, and the calls as each provider saw them."""

    report: Json
    calls: Mapping[str, Sequence[Call]]


class Outage(NamedTuple):
    """Calls to `failing`, some of the `configured` providers, fail with `fault` for `span_s`."""

    name: str
    failing: Sequence[str]
    configured: Sequence[str]
    fault: Fault
    span_s: float


def run(*, quick: bool = False, runs: int | None = None) -> list[Table]:
    """Four tables: error mixes, outages, the sequence, bad rows."""
    mixes = _mixes(runs or (1 if quick else 3))
    with ThreadPoolExecutor(3) as threads:
        others = [threads.submit(_outages, quick), threads.submit(_sequence), threads.submit(_bad_rows)]
        return [mixes, *(table.result() for table in others)]


# ------------------------------------------------------------------ error mixes


def _dice(share_500: float, share_429: float, seed: int) -> Rule:
    dice, lock = random.Random(seed), threading.Lock()

    def rule(second: float, prompt: str) -> Fault | None:
        with lock:
            drawn = dice.random()
        if drawn < share_500:
            return Fault(500)
        return Fault(429, (("Retry-After", "2"),)) if drawn < share_500 + share_429 else None

    return rule


def _mixes(runs: int) -> Table:
    table = Table(
        f"{ROWS} rows, one provider (openai), beside a script with the SDK's retries set to five",
        ("errors", "target", "script", "this project", "ratio", "not answered (script, this project)",
         "verdict"),
    )  # fmt: skip
    for name, shares in MIXES.items():
        print(f"   {name} ...", flush=True)
        script, ours, unanswered = [], [], [0, 0]
        for seed in range(runs):
            plain = _run("benchmarks.retry_script", {"openai": _dice(*shares, seed)}, prompts(ROWS))
            pool = _run("benchmarks.pool", {"openai": _dice(*shares, seed)}, prompts(ROWS))
            script.append(makespan_s(plain.report))
            ours.append(makespan_s(pool.report))
            unanswered = [unanswered[0] + lost(plain.report), unanswered[1] + lost(pool.report)]
        ratio = middle(ours) / middle(script)
        table.add(
            name, f"<= {AT_MOST:g} x the script", f"{middle(script):.1f} s", f"{middle(ours):.1f} s",
            f"{ratio:.2f}", f"{unanswered[0]}, {unanswered[1]}", verdict(ratio <= AT_MOST),
        )  # fmt: skip
    table.notes.append(
        f"Medians of {runs}. {IN_FLIGHT} calls of the script in flight; an answer takes 0.3 s, an error "
        "nothing. No limit is configured and none is stated, so this project starts slowly."
    )
    return table


# ------------------------------------------------------------------ recovery


def _down(fault: Fault, from_s: float, to_s: float) -> Rule:
    return lambda second, prompt: fault if from_s <= second < to_s else None


def _outages(quick: bool) -> Table:
    table = Table(
        f"Calls alone fail for a while under {RATE:g} tasks per second; the model list answers",
        ("provider", "fault", "for", "target", "answers again after", "most calls in a minute while dead",
         "lost", "verdict"),
    )  # fmt: skip
    cases = _cases(quick)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        longest_first = sorted(cases, key=lambda case: -case.span_s)
        rows = {case: threads.submit(_one_outage, case) for case in longest_first}
        for case in cases:
            table.add(*rows[case].result())
    table.notes.append(
        f"Counted are calls that begin more than {BURST_S:g} s after the fault, requests of one token "
        "included: those before open the breaker. Of all three, the first that answers again."
    )
    return table


def _cases(quick: bool) -> list[Outage]:
    lengths_s = (1.5, 30.0) if quick else (1.5, 5.0, 30.0, 60.0)
    unavailable = Fault(503)
    cases = [
        Outage(f"{name} {word}", (name,), configured, unavailable, span_s)
        for name in (PROVIDERS[:1] if quick else PROVIDERS)
        for word, configured in (("of three", PROVIDERS), ("alone", (name,)))
        for span_s in lengths_s
    ]
    cases += [Outage("all three", PROVIDERS, PROVIDERS, unavailable, span_s) for span_s in (8.0, 30.0)]
    if not quick:
        others = (Fault(500), Fault(RESET), Fault(EMPTY))
        cases += [Outage("openai alone", ("openai",), ("openai",), fault, 5.0) for fault in others]
    return cases


def _one_outage(case: Outage) -> Sequence[object]:
    """A row of the table."""
    words = {RESET: "reset", EMPTY: "empty answers"}
    fault = words.get(case.fault.status, str(case.fault.status))
    print(f"   {case.name}, {fault}: {case.span_s:g} s ...", flush=True)
    end_s = FIRST_S + case.span_s
    rules = {n: _down(case.fault, FIRST_S, end_s) if n in case.failing else _well for n in case.configured}
    arrivals = [i / RATE for i in range(int(RATE * (end_s + 12.0)))]
    begin = (case.name, fault, f"{case.span_s:g} s", f"<= {BACK_WITHIN_S:g} s, <= 4 calls, 0 lost")
    try:
        found = _run("benchmarks.pool", rules, prompts(len(arrivals)), arrivals)
    except ClientFailed as failed:
        return *begin, "-", "-", str(failed)[:60], verdict(False)
    back_s = min(_first_answer_s(found.calls[n], end_s) for n in case.failing) - end_s
    dead = max(_in_a_minute(found.calls[n], FIRST_S + BURST_S, end_s) for n in case.failing)
    missing = lost(found.report)
    held = verdict(back_s <= BACK_WITHIN_S, dead <= 4, not missing)
    return *begin, f"{back_s:.1f} s", dead, missing, held


def _well(second: float, prompt: str) -> Fault | None:
    return None


def _first_answer_s(calls: Sequence[Call], from_s: float) -> float:
    return min((c.at_s for c in calls if c.status == 200 and c.at_s >= from_s), default=math.inf)


def _in_a_minute(calls: Sequence[Call], from_s: float, to_s: float) -> int:
    moments = [c.at_s for c in calls if c.status != 200 and from_s <= c.at_s < to_s]
    return max((sum(at <= other < at + 60.0 for other in moments) for at in moments), default=0)


def _sequence() -> Table:
    table = Table(
        "openai answers 503 for 60 s, a request every 4 s, three providers",
        ("client", "target", "calls to openai while dead", "answers again after", "lost", "verdict"),
    )
    print("   503 for a minute, a request every 4 s ...", flush=True)
    rules = {n: _down(Fault(503), 0.0, 60.0) if n == "openai" else _well for n in PROVIDERS}
    arrivals = [4.0 * i for i in range(16)] + [61.0 + 0.5 * i for i in range(24)]
    found = _run("benchmarks.pool", rules, prompts(len(arrivals)), arrivals)
    dead = sum(c.status != 200 for c in found.calls["openai"])
    back_s = _first_answer_s(found.calls["openai"], 60.0) - 60.0
    missing = lost(found.report)
    table.add(
        "this project", "<= 4 calls, back <= 10 s, 0 lost", dead, f"{back_s:.1f} s", missing,
        verdict(dead <= 4, back_s <= BACK_WITHIN_S, not missing),
    )  # fmt: skip
    return table


# ------------------------------------------------------------------ bad rows


def _bad_rows() -> Table:
    table = Table(
        "Six rows that get a 500 everywhere, at the head of 106, three healthy providers",
        ("file", "target", "the 100 good rows done after", "all done after", "good rows lost", "verdict"),
    )
    print("   six bad rows ...", flush=True)
    good = prompts(100)
    bad = [Prompt(f"{MARK} {number}", 256) for number in range(6)]
    rules: dict[str, Rule] = {n: lambda s, prompt: Fault(500) if MARK in prompt else None for n in PROVIDERS}
    without = _run("benchmarks.pool", rules, good)
    found = _run("benchmarks.pool", rules, [*bad, *good])
    for name, each in (("without them", without), ("with them", found)):
        answered = [at for at, _, ok in each.report["finished"] if ok]
        last = max(at for at, _, _ in each.report["finished"]) - each.report["first_call_at"]
        done = max(answered, default=math.nan) - each.report["first_call_at"]
        table.add(
            name, "within 30 s of it; all within 120 s" if each is found else "", f"{done:.1f} s",
            f"{last:.1f} s", 100 - len(answered),
            verdict(done <= makespan_s(without.report) + 30.0, last <= 120.0, len(answered) == 100)
            if each is found
            else NOT_JUDGED,
        )  # fmt: skip
    return table


# ------------------------------------------------------------------ one run


def prompts(count: int) -> list[Prompt]:
    return [Prompt(f"Row {number}: name three rivers.", 256) for number in range(count)]


def _run(
    client: str, rules: Mapping[str, Rule], inputs: Sequence[Prompt], arrivals: Sequence[float] | None = None
) -> Run:
    with ExitStack() as stack:
        servers = {name: stack.enter_context(Upstream(name, rule)) for name, rule in rules.items()}
        spec: Json = {
            "base_urls": {name: server.base_url for name, server in servers.items()},
            "control_urls": [server.origin for server in servers.values()],
            "settings": {},
            "in_flight": IN_FLIGHT,
        }
        if arrivals is not None:
            spec["arrivals_s"] = list(arrivals)
        limit_s = 240.0 + (arrivals[-1] if arrivals else 0.0)
        found = run_client(client, spec, inputs, timeout_s=limit_s)
        return Run(found, {name: list(server.calls) for name, server in servers.items()})
