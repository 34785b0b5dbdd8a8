"""`python -m benchmarks [NAME ...] [--quick] [--write] [--runs N]`: see README.md beside this file."""

from __future__ import annotations

import argparse
import importlib
import sys
import time

from .table import machine, write_into_readme

NAMES = {
    "limits": "throughput at the providers' limits, answers 429, lost tasks; peers beside it",
    "faults": "each provider failing in turn: answers, tail, calls to a dead provider, recovery",
    "slowness": "one provider silent, hanging, slow under load or answering 100 MB: gaps, memory",
    "recovery": "error mixes beside a retry script, times of recovery, rows that always fail",
    "mixes": "error mixes beside a retry script, in virtual time over many seeds",
    "night": "2,000 rows through a silence, a dead network and a spent quota; and what the run reports",
    "overhead": "CPU of the whole command `run` per row, beside the bare SDKs",
    "gateway": "what the gateway adds: latency, gaps between chunks, CPU; what a batch beside it pays",
    "agents": "agents of several turns at the limits, with run ids and without; LiteLLM's proxy beside it",
    "sharing": "a batch that fills the limits, and five gateway requests a second beside it",
    "soak": "100,000 requests, a tenth broken off, a tenth failing: memory, reservations, usage",
    "decision": "time of a decision, and a million tasks in virtual time",
    "store": "tasks per second through the store, claim time and pages by size",
    "batches": "half price: runs that may wait, through failing, expiring and endless batches and kills",
    "savings": "what a mixed file costs less: tiers, prompt cache, batches",
    "uptime": "each provider out 5 % of the time: tasks answered within a minute",
    "plan": "the cost and time that `plan` shows, beside those of the run",
    "web": "status requests per second beside a run, and how much they slow it down",
    "attack": "the pages' server under half-open connections, uploads and schema bombs, beside a run",
    "crash": "200,000 CSV rows, killed twice and interrupted once; a server and its pages, killed 40 times",
    "cluster": "workers on Ray: kills of leader and workers, the leader's CPU a task, makespan",
    "memory": "a run of 200,000 rows: peak memory and rows per second",
}


def main() -> int:
    """0 however the figures come out; an exception where a benchmark breaks."""
    listed = "\n".join(f"  {name:<10}{what}" for name, what in NAMES.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure the orchestrator against its targets.\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones (default: all)")
    parser.add_argument("--quick", action="store_true", help="small versions: does it work, roughly how well")
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    parser.add_argument(
        "--runs", type=int, metavar="N", help="medians of N (default: 5 of short ones, 1 of long)"
    )
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in NAMES]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    for name in options.names or NAMES:
        _run(name, options)
    return 0


def _run(name: str, options: argparse.Namespace) -> None:
    where, began = machine(), time.monotonic()
    print(f"== {name}: {NAMES[name]}", flush=True)
    tables = importlib.import_module(f"benchmarks.{name}").run(quick=options.quick, runs=options.runs)
    size = "small version, " if options.quick else ""
    took = f"Taken on: {where}; {size}{time.monotonic() - began:.0f} s."
    text = "\n\n".join([table.text() for table in tables] + [took])
    print(f"\n{text}\n", flush=True)
    if options.write:
        write_into_readme(name, text)


if __name__ == "__main__":
    sys.exit(main())
