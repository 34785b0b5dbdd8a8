"""One provider alone, over real HTTP: odd answers to single rows do not affect the others."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.helpers import live_environment, read_rows, run_script, write_rows

Json = dict[str, Any]
Said = tuple[int, Any]
MODELS = ["gpt-6-luna", "gpt-6.1-terra", "gpt-6.1-sol"]
LISTED: Said = (200, {"object": "list", "data": [{"id": name} for name in MODELS]})
BAD_KEY: Said = (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})
NOT_FOUND: Said = (404, {"error": {"message": "no such model", "code": "model_not_found"}})
PAGE: Said = (403, "<!DOCTYPE html><html><title>Just a moment...</title></html>")
TOO_LARGE: Said = (
    429,
    {
        "error": {
            "message": "Request too large on tokens per min (TPM): Limit 30000, Requested 48211.",
            "type": "tokens",
            "code": "rate_limit_exceeded",
        }
    },
)
FLAGGED: Said = (
    403,
    {"error": {"code": 403, "message": "input was flagged", "metadata": {"reasons": ["violence"]}}},
)
RESET: Said = (0, b"")  # no answer, and a connection that is reset
BROKEN_CHUNKS: Said = (
    0,
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
)
WELL: Said = (
    200,
    {
        "choices": [{"message": {"content": "Elbe."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 2, "total_tokens": 14},
    },
)


class Calls:
    """What the server was asked, and what it says: `says` gets the prompt and the number of the call."""

    def __init__(self, says: Callable[[str, int], Said], lists: Said) -> None:
        self.says, self.lists = says, lists
        self.prompts: list[str] = []
        self.models: list[str] = []
        self._lock = threading.Lock()

    def answer(self, body: Json) -> Said:
        with self._lock:
            prompt = body["messages"][-1]["content"]
            self.prompts.append(prompt)
            self.models.append(body["model"])
            return self.says(prompt, len(self.prompts))


@contextmanager
def serving(says: Callable[[str, int], Said], lists: Said = LISTED) -> Iterator[tuple[Calls, str]]:
    """A server of the OpenAI format on loopback, and its base URL."""
    calls = Calls(says, lists)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _send(self, said: Said) -> None:
            if isinstance(said[1], bytes):
                self._send_and_reset(said[1])
                return
            is_page = isinstance(said[1], str)
            content = said[1].encode() if is_page else json.dumps(said[1]).encode()
            self.send_response(said[0])
            self.send_header("Content-Type", "text/html" if is_page else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _send_and_reset(self, content: bytes) -> None:
            self.wfile.write(content)
            self.close_connection = True
            if not content:  # close() sends RST instead of FIN
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()

        def do_GET(self) -> None:
            self._send(calls.lists)

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(calls.answer(body))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield calls, f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()


def test_odd_answers_to_single_rows_do_not_affect_the_others(tmp_path: Path) -> None:
    """The first answers are a 401, a 404 and a 403 with a web page, which all pass; one row is too large for
    the limit, another is flagged.
    """

    def says(prompt: str, number: int) -> Said:
        if number <= 3:
            return (BAD_KEY, NOT_FOUND, PAGE)[number - 1]
        return TOO_LARGE if "large" in prompt else FLAGGED if "flagged" in prompt else WELL

    rows = [{"id": f"row{number}", "prompt": f"Name a river, {number}."} for number in range(12)]
    rows[5]["prompt"], rows[8]["prompt"] = "A large one.", "A flagged one."
    write_rows(tmp_path / "tasks.jsonl", rows)
    with serving(says) as (calls, url):
        done = run_script(
            "run", "tasks.jsonl", "-o", "out.jsonl", "--yes", cwd=tmp_path, timeout_s=120,
            env=live_environment({"openai": url}, only=["openai"]),
        )  # fmt: skip
    found = {row["id"]: row for row in read_rows(tmp_path / "out.jsonl")}
    assert len(found) == 12, done.err
    assert done.process.returncode == 1
    large, flagged = found.pop("row5"), found.pop("row8")
    assert large["status"] == "failed"
    assert "(48,211 tokens, limit 30,000)" in large["error"]
    assert calls.prompts.count("A large one.") <= 1 + 3, "once, but for those that pass"
    assert flagged["status"] == "refused"
    assert "input was flagged" in flagged["error"]
    assert {row["status"] for row in found.values()} == {"succeeded"}
    assert len(set(calls.models)) == 1, "no dearer model took over"
    assert len(calls.prompts) <= 12 + 3
    assert "Just a moment" not in done.err + json.dumps([*found.values(), large, flagged])


def test_rows_whose_connection_always_breaks_end_and_leave_the_others_alone(tmp_path: Path) -> None:
    rows = [{"id": f"row{number}", "prompt": f"Name a river, {number}."} for number in range(10)]
    faults = {"A bad one, 0.": RESET, "A bad one, 3.": RESET, "A bad one, 7.": BROKEN_CHUNKS}
    for prompt, number in zip(faults, (0, 3, 7), strict=True):
        rows[number]["prompt"] = prompt
    write_rows(tmp_path / "tasks.jsonl", rows)
    (tmp_path / "three.toml").write_text("[pool]\nmax_attempts = 3\n", encoding="utf-8")
    with serving(lambda prompt, _: faults.get(prompt, WELL)) as (calls, url):
        done = run_script(
            "--config", "three.toml", "run", "tasks.jsonl", "-o", "out.jsonl", "--yes",
            cwd=tmp_path, timeout_s=240, env=live_environment({"openai": url}, only=["openai"]),
        )  # fmt: skip
    found = {row["id"]: row["status"] for row in read_rows(tmp_path / "out.jsonl")}
    assert found == {
        f"row{number}": "failed" if number in (0, 3, 7) else "succeeded" for number in range(10)
    }, done.err
    assert done.process.returncode == 1
    answered = max(number for number, prompt in enumerate(calls.prompts) if prompt not in faults)
    assert len(calls.prompts) - answered > 3, "the others do not wait for their end"
    # A call costs no attempt while the network may be what broke it: until a health check is answered,
    # if no call beside it is.
    for prompt in faults:
        assert 3 <= calls.prompts.count(prompt) <= 3 * 3


def test_a_rejected_key_ends_the_run_within_seconds_and_is_named(tmp_path: Path) -> None:
    rows = [{"id": f"row{number}", "prompt": f"Name a river, {number}."} for number in range(12)]
    write_rows(tmp_path / "tasks.jsonl", rows)
    for lists in (BAD_KEY, LISTED):  # a list that is given without a key vouches for none
        began = time.monotonic()
        with serving(lambda *_: BAD_KEY, lists) as (calls, url):
            done = run_script(
                "run", "tasks.jsonl", "-o", "out.jsonl", "--yes", cwd=tmp_path, timeout_s=120,
                env=live_environment({"openai": url}, only=["openai"]),
            )  # fmt: skip
        assert done.process.returncode != 0
        assert "openai rejected OPENAI_API_KEY (401 invalid_api_key)" in done.err, done.err
        assert time.monotonic() - began < 60  # two or three seconds, where the machine is free
        assert 1 <= len(calls.prompts) <= 2 * 12
