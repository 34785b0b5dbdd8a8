"""Batches of plain questions for each API, and how long they take in tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from .sdks import MODELS

TAKES_S = 100.0
EXACT = {"turnaround": {"median_s": TAKES_S, "p90_s": TAKES_S}}  # every batch takes just so long
DAY_S = 86_400.0


def chat(prompt: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": MODELS["openai"], "messages": messages, "max_completion_tokens": 50, **more}


def line(key: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A line of an input file of OpenAI."""
    return {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body, **more}


def jsonl(rows: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def questions(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [line(f"row-{i}", chat(f"Question {i}?")) for i in range(start, start + count)]


def message(key: str, prompt: str, **more: Any) -> dict[str, Any]:
    """A request of a batch of Anthropic."""
    messages = [{"role": "user", "content": prompt}]
    return {
        "custom_id": key,
        "params": {"model": MODELS["anthropic"], "max_tokens": 50, "messages": messages, **more},
    }


def messages(count: int, start: int = 0) -> list[Any]:
    return [message(f"row-{i}", f"Question {i}?") for i in range(start, start + count)]


def content(prompt: str, **more: Any) -> dict[str, Any]:
    """A request of Gemini."""
    return {"contents": [{"role": "user", "parts": [{"text": prompt}]}], **more}
