"""A table as it is printed and as it stands in README.md: figure, target beside it, verdict in words."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

README = Path(__file__).with_name("README.md")
REACHED, SHORT, NOT_JUDGED = "reached", "FALLS SHORT", ""
ADDITIONS = 10_000_000


@dataclass(slots=True)
class Table:
    """`rows` hold a cell per column; `notes` say how the figures came about."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *cells: object) -> None:
        self.rows.append([str(cell) for cell in cells])

    def text(self) -> str:
        """Markdown that reads well on a terminal too."""
        lines = [list(self.columns), *[list(row) for row in self.rows]]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.columns))]
        shown = [
            "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
            for line in lines
        ]
        shown.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
        return "\n".join([f"**{self.title}**", "", *shown, *["", *self.notes][: len(self.notes) + 1]])


def verdict(*holds: bool) -> str:
    """The word for whether every part of a target was reached."""
    return REACHED if all(holds) else SHORT


def machine() -> str:
    """What the figures were taken on."""
    cpu = platform.processor() or platform.machine()
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        cpu = next(
            line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")
        )
    except (OSError, StopIteration):
        pass  # not Linux
    cores = os.cpu_count() or 1
    load = f", load {os.getloadavg()[0]:.1f} before" if hasattr(os, "getloadavg") else ""
    python = f"Python {platform.python_version()}"
    today = datetime.now(UTC).date().isoformat()
    system = f"{platform.system()} {platform.release()}"
    return f"{cpu}, {cores} cores, {system}, {python}, speed {_loop_s():.2f} s, {today}{load}"


def _loop_s() -> float:
    """Processor time of ADDITIONS in a loop, the best of three: machines of one name differ."""
    times = []
    for _ in range(3):
        began, total = time.process_time(), 0
        for number in range(ADDITIONS):
            total += number
        times.append(time.process_time() - began)
    return min(times)


def write_into_readme(name: str, text: str) -> None:
    """Replace what stands between the markers of one benchmark. Raises ValueError where they are missing."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = README.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{README.name} has no markers {begin} and {end}")
    README.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
