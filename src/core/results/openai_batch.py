"""Results as lines of OpenAI's Batch API, for programs that read those.

One file holds answers and errors. Fields that the format does not have are at the end of a row: `status`,
`provider`, `cost_usd`, `warnings`, `simulated`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...records import Result, TaskStatus, Usage
from ..intake.chat_writing import written_calls
from .jsonl import encode_row, pieces_of_lines, whole_lines
from .rows import usd

_FINISH = {"stop": "stop", "length": "length", "refused": "content_filter", "tool": "tool_calls"}
_CODES = {
    TaskStatus.FAILED: "task_failed",
    TaskStatus.REFUSED: "content_refused",
    TaskStatus.EXPIRED: "batch_expired",
    TaskStatus.CANCELLED: "batch_cancelled",
}


class BatchRows:
    """One line per result: `{"id", "custom_id", "response" or null, "error" or null, ...}`."""

    def head(self, *, simulated: bool) -> bytes:
        """Nothing: there is no header."""
        return b""

    def encode(self, result: Result, *, simulated: bool) -> bytes:
        """The row of a result, as one line."""
        return encode_row(batch_row(result, simulated=simulated))

    def whole_bytes(self, path: Path) -> int:
        """The length of the whole rows. Raises InputError for other files."""
        return whole_lines(path, _row_of)

    def pieces(self, path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
        """Each line with its row; None for a line that is not one."""
        return pieces_of_lines(path, _row_of)


def _row_of(line: Mapping[str, Any]) -> dict[str, Any] | None:
    """The row with the task's id as `id`, as in every form."""
    return {**line, "id": line["custom_id"]} if "custom_id" in line and "status" in line else None


def batch_row(result: Result, *, simulated: bool) -> dict[str, Any]:
    """The row of a result. Its ids are made of batch and task, so they stay the same."""
    task, by = result.task, result.answered_by
    mark = hashlib.blake2b(f"{task.batch}\0{task.id}".encode(), digest_size=12).hexdigest()
    answered = result.status is TaskStatus.SUCCEEDED
    error = None if answered else {"code": _CODES[result.status], "message": result.error}
    return {
        "id": f"batch_req_{mark}",
        "custom_id": task.id,
        "response": _response(result, mark) if answered else None,
        "error": error,
        "status": str(result.status),
        "provider": by.provider if by else None,
        "cost_usd": usd(result.cost_nanos),
        "warnings": list(result.warnings),
        "simulated": simulated,
    }


def _response(result: Result, mark: str) -> dict[str, Any]:
    by = result.answered_by
    message: dict[str, Any] = {"role": "assistant", "content": result.output, "refusal": None}
    if calls := written_calls(result.parts):
        message |= {"content": result.output or None, "tool_calls": calls}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _FINISH.get(str(result.finish_reason), "stop"),
    }
    body = {
        "id": f"chatcmpl-{mark}",
        "object": "chat.completion",
        "created": int(result.finished_at),
        "model": by.model if by else "",
        "choices": [choice],
        "usage": _usage(result.usage),
        "system_fingerprint": None,
    }
    return {"status_code": 200, "request_id": f"req_{mark}", "body": body}


def _usage(usage: Usage) -> dict[str, Any]:
    """Counted as OpenAI does: cached tokens are part of the prompt tokens."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
