"""Results as the rows of OpenAI's Batch API, for programs that read those.

One file holds answers and errors alike. What that format has no place for stands at the end of a row:
`status`, `provider`, `cost_usd`, `warnings`, `simulated`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ...records import Result, TaskStatus, Usage
from .jsonl import encode_row, pieces_of_lines, whole_lines
from .rows import total_usage, usd

_FINISH = {"stop": "stop", "length": "length", "refused": "content_filter", "tool": "tool_calls"}
_CODES = {
    TaskStatus.FAILED: "task_failed",
    TaskStatus.REFUSED: "content_refused",
    TaskStatus.EXPIRED: "batch_expired",
    TaskStatus.CANCELLED: "batch_cancelled",
}


class BatchRows:
    """`{"id", "custom_id", "response" or null, "error" or null, ...}`, a line each."""

    def head(self) -> bytes:
        return b""

    def encode(self, result: Result, *, simulated: bool) -> bytes:
        return encode_row(batch_row(result, simulated=simulated))

    def whole_bytes(self, path: Path) -> int:
        return whole_lines(path, _row_of)

    def pieces(self, path: Path) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
        return pieces_of_lines(path, _row_of)


def _row_of(line: Mapping[str, Any]) -> dict[str, Any] | None:
    """`id` is the task's, as in every form."""
    return {**line, "id": line["custom_id"]} if "custom_id" in line and "status" in line else None


def batch_row(result: Result, *, simulated: bool) -> dict[str, Any]:
    """One result. The ids are made of batch and task, so that the same row has the same ones again."""
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
    message = {"role": "assistant", "content": result.output, "refusal": None}
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
        "usage": _usage(total_usage(result.attempts)),
        "system_fingerprint": None,
    }
    return {"status_code": 200, "request_id": f"req_{mark}", "body": body}


def _usage(usage: Usage) -> dict[str, Any]:
    """As OpenAI counts: cached tokens are part of the prompt's."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }
