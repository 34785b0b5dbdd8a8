"""Results and attempts without anything in them that a database could refuse."""

from __future__ import annotations

import math
from dataclasses import replace

from ..records import Attempt, Result, TaskStatus, Usage

LARGEST = 2**31 - 1  # of a number in the narrowest column
TEXT_CHARS = 10_000  # of a message: a refused value may be huge


def as_failed(result: Result, error: str) -> Result:
    """The result as a failed one that can be stored. Its cost stays."""
    return Result(
        result.task,
        TaskStatus.FAILED,
        result.finished_at,
        tuple(plain_attempt(each) for each in result.attempts),
        error=_plain(error),
        tier=_plain(result.tier),
    )


def plain_attempt(attempt: Attempt) -> Attempt:
    """The attempt with numbers in range and ASCII text. A cost out of range becomes unknown."""
    usage, cost = attempt.usage, attempt.cost_nanos
    return replace(
        attempt,
        provider=_plain(attempt.provider),
        model=_plain(attempt.model),
        agent=_plain(attempt.agent),
        choice=_plain(attempt.choice),
        error_kind=_plain(attempt.error_kind),
        usage=Usage(
            *(
                _bounded(n)
                for n in (
                    usage.input_tokens,
                    usage.cache_read_tokens,
                    usage.cache_write_tokens,
                    usage.output_tokens,
                    usage.reasoning_tokens,
                )
            )
        ),
        cost_nanos=cost if cost is not None and 0 <= cost < 2**53 else None,
        latency_s=attempt.latency_s if math.isfinite(attempt.latency_s) else 0.0,
        error=_plain(attempt.error),
        status=attempt.status if attempt.status is None else _bounded(attempt.status),
        max_tokens=_bounded(attempt.max_tokens),
        reasons=(),
    )


def _bounded(number: int) -> int:
    return min(max(int(number), 0), LARGEST)


def _plain(text: object) -> str:
    return str(text)[:TEXT_CHARS].encode("ascii", "replace").decode().replace("\0", "?")
