"""Results as rows of JSON Lines, and the file they are appended to.

The store is the truth; the file is a copy of it that a user can read, so it may be cut, completed and even
deleted: a resumed run writes what is missing. A row is written in one piece and ends with a line feed, so
the only damage a crash can do is one torn last line, which is cut when the file is opened again.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Self

from ..errors import InputError, StoreError
from ..records import NANOS_PER_USD, Attempt, Candidate, Result, Usage

STDOUT = "-"
FIRST_KEY = b'{"id"'  # what every row of a results file begins with
CHUNK_BYTES = 1 << 16


def result_row(result: Result, *, simulated: bool) -> dict[str, Any]:
    """One result as a user reads it.

    `usage` and `cost_usd` are sums over all attempts; `cost_usd` is None where a price is unknown.
    `latency_s` runs from the first call to the end of the last, waits between them included.
    """
    task, final = result.task, result.final
    return {
        "id": task.id,
        "line": task.line,
        "status": str(result.status),
        "output": result.output,
        "finish_reason": str(result.finish_reason) or None,
        "truncated": result.truncated,
        "error": result.error or None,
        "warnings": list(result.warnings),
        "provider": final.provider if final else None,
        "model": final.model if final else None,
        "agent": final.agent if final else None,
        "task_type": task.task_type,
        "tier": result.tier or task.tier,
        "usage": usage_row(total_usage(result.attempts)),
        "cost_usd": usd(result.cost_nanos),
        "latency_s": latency_s(result),
        "attempts": [attempt_row(attempt) for attempt in result.attempts],
        "simulated": simulated,
        "metadata": dict(task.metadata),
    }


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """One call: where it went, why it went there, and what came of it. `started_at`: UTC epoch seconds."""
    return {
        "number": attempt.number,
        "provider": attempt.provider,
        "model": attempt.model,
        "agent": attempt.agent,
        "outcome": str(attempt.outcome),
        "choice": attempt.choice,
        "forced": attempt.forced,
        "started_at": _rounded(attempt.started_at, 3),
        "latency_s": _rounded(attempt.latency_s, 4),
        "status": attempt.status,
        "error_kind": attempt.error_kind or None,
        "error": attempt.error or None,
        "usage": usage_row(attempt.usage),
        "cost_usd": usd(attempt.cost_nanos),
        "reasons": [_reason_row(candidate) for candidate in attempt.reasons],
    }


def _reason_row(candidate: Candidate) -> dict[str, Any]:
    return {
        "provider": candidate.provider,
        "model": candidate.model,
        "score": _rounded(candidate.score, 6),
        "why": candidate.why or None,
    }


def usage_row(usage: Usage) -> dict[str, int]:
    return asdict(usage)


def total_usage(attempts: Iterable[Attempt]) -> Usage:
    """All tokens of a task, those of failed attempts too: what `cost_usd` pays for."""
    used = [attempt.usage for attempt in attempts]
    return Usage(
        input_tokens=sum(u.input_tokens for u in used),
        cache_read_tokens=sum(u.cache_read_tokens for u in used),
        cache_write_tokens=sum(u.cache_write_tokens for u in used),
        output_tokens=sum(u.output_tokens for u in used),
        reasoning_tokens=sum(u.reasoning_tokens for u in used),
    )


def latency_s(result: Result) -> float | None:
    """Seconds from the first call to the end of the last; None for a task that was never called."""
    if not result.attempts:
        return None
    first, last = result.attempts[0], result.attempts[-1]
    return _rounded(last.started_at + last.latency_s - first.started_at, 4)


def usd(nanos: int | None) -> float | None:
    return None if nanos is None else nanos / NANOS_PER_USD


def _rounded(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def encode_row(row: dict[str, Any]) -> bytes:
    """One line of UTF-8. What would break a reader that splits at every kind of line end is escaped."""
    text = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
    for separator in ("\x85", "\u2028", "\u2029"):
        if separator in text:
            text = text.replace(separator, f"\\u{ord(separator):04x}")
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair in a provider's answer: keep it, escaped
        return json.dumps(row, separators=(",", ":")).encode() + b"\n"


class ResultsFile:
    """Appends rows to a results file, or to standard output for `-`.

    Opening makes the file with permissions 0600, takes a lock that a second run runs into, and cuts a torn
    last line. Raises InputError for a file that is busy, can't be written or holds something else.
    """

    def __init__(self, path: Path | str, *, simulated: bool, fsync: bool = False) -> None:
        self.simulated = simulated
        self.written = 0  # rows appended by this object
        self._fsync = fsync
        self.path = None if str(path) == STDOUT else Path(path)
        self._file: BinaryIO = sys.stdout.buffer if self.path is None else _open_locked(self.path)
        self._end = 0  # bytes that are whole rows
        if self.path is not None:
            try:
                self._end = _mend(self._file, self.path)
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        return "standard output" if self.path is None else str(self.path)

    def ids(self) -> Iterator[str]:
        """The ids of the rows that are already there, one line in memory at a time."""
        for row in self.rows():
            yield str(row["id"])

    def rows(self) -> Iterator[dict[str, Any]]:
        """The rows that are there, oldest first. A line that is no row of ours is passed over."""
        if self.path is None:
            return
        with self.path.open("rb") as file:
            for line in file:
                row = _parse(line)
                if row is not None:
                    yield row

    def append(self, results: Iterable[Result]) -> None:
        """Write the rows of `results` at once. Raises StoreError; nothing half-written is left behind."""
        rows = [encode_row(result_row(result, simulated=self.simulated)) for result in results]
        try:
            self._write(b"".join(rows))
        except OSError as error:
            self._cut_back()
            raise StoreError(
                f"{self.name} cannot be written ({error.strerror or error}); "
                "the answers are stored: run the same command again to write them"
            ) from error
        self.written += len(rows)

    def close(self) -> None:
        """Flush and release the lock. Standard output stays open."""
        if self.path is not None:
            self._file.close()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # an unbuffered file may take less than it is given
            rest = rest[self._file.write(rest) :]
        self._file.flush()
        if self.path is not None:
            if self._fsync:
                os.fsync(self._file.fileno())
            self._end += len(data)

    def _cut_back(self) -> None:
        """After a write that failed half-way, so that the next one begins on a line of its own."""
        if self.path is not None:
            with suppress(OSError):  # what can't be cut now is cut when the file is opened again
                os.ftruncate(self._file.fileno(), self._end)


def holds_simulated(path: Path) -> bool | None:
    """Whether the rows of a results file came from the simulator; None where there is no row."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        row = _parse(file.readline())
    return None if row is None else bool(row.get("simulated"))


def _open_locked(path: Path) -> BinaryIO:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o600)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from error
    # Unbuffered: a write that fails must not come back with the next flush.
    file = os.fdopen(descriptor, "r+b", buffering=0)
    try:
        _lock(descriptor)
    except OSError as error:
        file.close()
        raise InputError(f"{path}: another run is writing to it") from error
    return file


def _lock(descriptor: int) -> None:
    """An advisory lock that ends with the process. Systems without flock go without one."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _mend(file: BinaryIO, path: Path) -> int:
    """Check that the file is one of results and cut its torn last line; its length in bytes."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    if size == 0:
        return 0
    file.seek(0)
    if not file.read(len(FIRST_KEY)).startswith(FIRST_KEY[:size]):
        raise InputError(f"{path}: exists and does not hold results; choose another output")
    whole = _end_of_last_line(file, size)
    if whole == size:
        return size
    file.seek(whole)
    if _parse(file.read(size - whole)) is None:
        os.ftruncate(file.fileno(), whole)
        return whole
    file.write(b"\n")  # a whole row whose line feed was lost
    return size + 1


def _end_of_last_line(file: BinaryIO, size: int) -> int:
    """The offset after the last line feed, found from the end so that a large file is not read."""
    end = size
    while end > 0:
        start = max(0, end - CHUNK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "id" in row and "status" in row else None
