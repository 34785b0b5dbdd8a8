"""Runs `lanes_client.py` as a process of its own, and what it found."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .child import ROOT, ClientFailed, environment, quantile
from .work import Json

CHAT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one lane found; see `lanes_client.py`."""

    count: int
    chunks: int
    failed: int
    problems: list[str]
    began_at: list[float]
    added_ms: list[float]
    waited_ms: list[float]
    gap_ms: list[float]

    def added(self, q: float) -> float:
        """A quantile of the milliseconds that were added."""
        return quantile(self.added_ms, q)

    def waited(self, q: float) -> float:
        """A quantile of the milliseconds that the gateway says it held requests back."""
        return quantile(self.waited_ms, q)

    def gap(self, q: float) -> float:
        """A quantile of the milliseconds that gaps between chunks were longer."""
        return quantile(self.gap_ms, q)


class Load:
    """Lanes that run from now on; `end` ends them, unless they last `seconds`. See `lanes_client.py`."""

    def __init__(self, lanes: Sequence[Json], seconds: float | None = None, warm_s: float = 0.0) -> None:
        self._seconds, spec = seconds, {"seconds": seconds, "warm_s": warm_s, "lanes": list(lanes)}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.lanes_client"], cwd=ROOT, text=True, env=environment(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(spec) + "\n")
        self._child.stdin.flush()

    def end(self) -> dict[str, Seen]:
        """What each lane found. Raises ClientFailed where the client broke."""
        try:
            output, errors = self._child.communicate(timeout=120 + (self._seconds or 0.0))
        finally:
            self._child.kill()
        if self._child.returncode:
            raise ClientFailed(f"the load broke: {errors[-2_000:]}")
        rows: dict[str, Any] = json.loads(output)["lanes"]
        return {name: Seen(**row) for name, row in rows.items()}


def measure(lanes: Sequence[Json], seconds: float, warm_s: float = 0.0) -> dict[str, Seen]:
    """Run lanes for so long."""
    return Load(lanes, seconds, warm_s).end()
