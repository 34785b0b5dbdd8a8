"""A file with an image, tools and a tool's result runs from the command line to each real API and back."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from src.simulator.process import SimulatorProcess
from tests.conversations import PIXEL
from tests.helpers import live_environment, read_rows, run_script, write_rows

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PDF = base64.b64encode(b"%PDF-1.4\n1 0 obj << /Type /Page >> endobj\n%%EOF").decode()
LOOK = {
    "id": "look",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is on these?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {
                    "type": "file",
                    "file": {"file_data": f"data:application/pdf;base64,{PDF}", "filename": "a.pdf"},
                },
            ],
        }
    ],
}
ASK = {"id": "ask", "prompt": 'call weather {"city": "Oslo"}', "tools": [WEATHER], "reasoning_effort": "low"}


@pytest.mark.parametrize("provider", ["openai", "anthropic", "gemini"])
def test_a_conversation_goes_out_and_comes_back(
    tmp_path: Path, simulator: SimulatorProcess, provider: str
) -> None:
    env = live_environment(simulator.base_urls, only=[provider])
    write_rows(tmp_path / "first.jsonl", [LOOK, ASK])
    done = run_script("run", "first.jsonl", "-o", "first.out.jsonl", "--yes", cwd=tmp_path, env=env)
    assert done.process.returncode == 0, done.out + done.err
    rows = {row["id"]: row for row in read_rows(tmp_path / "first.out.jsonl")}
    assert rows["look"]["output"]
    assert "tool_calls" not in rows["look"]
    (call,) = rows["ask"]["tool_calls"]
    assert rows["ask"]["finish_reason"] == "tool"
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == (
        "weather",
        {"city": "Oslo"},
    )

    again = {
        "id": "again",
        "messages": [
            {"role": "user", "content": ASK["prompt"]},
            {"role": "assistant", "content": rows["ask"]["output"] or None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": "Rain"},
        ],
        "tools": [WEATHER],
    }
    write_rows(tmp_path / "second.jsonl", [again])
    done = run_script("run", "second.jsonl", "-o", "second.out.jsonl", "--yes", cwd=tmp_path, env=env)
    assert done.process.returncode == 0, done.out + done.err
    (row,) = read_rows(tmp_path / "second.out.jsonl")
    assert row["output"]
    assert "tool_calls" not in row
