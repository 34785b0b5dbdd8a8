"""Each broken stream of the simulator, for each API of clients and providers: what a client sees, and when.

Every client is the API's own SDK. It sees the whole answer, or an exception: never a part that looks whole.
`python -m tests.gateway.test_broken_streams` prints the table.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from src.simulator.process import SimulatorProcess
from tests.helpers import live_environment

from .conftest import Served, started

PROVIDERS = ("openai", "anthropic", "gemini")
APIS = ("chat", "responses", "messages")
WHOLE = ("", "stream_bytes", "stream_slow_start", "stream_huge")
BROKEN = ("stream_cut", "stream_unterminated", "stream_error", "stream_stall", "malformed", "reset_midway")
ODD_ENDS = ("length", "content_filter", "no_stop_reason", "empty")
PROMPT: Any = [{"role": "user", "content": "Name three rivers and say where they are."}]
SLOW_S, STALL_S, WITHIN_S = 0.5, 1.0, 15.0
PROVIDER_TOML = """
[providers.{name}]
stall_timeout_s = {stall_s}
first_token_timeout_s = 20.0
"""
TOML = """
[pool]
max_attempts = 2
max_answer_mb = 64.0
[gateway]
daily_usd = "none"
[routing]
emergency_after_s = 0.1
[breaker]
consecutive_failures = 1000
min_calls = 1000
"""


@dataclass(frozen=True)
class Seen:
    """What a client saw of one stream. `first_s`: until its first text, None if there was none."""

    text: str
    end: str  # what the API says about the end of a whole answer; empty if it says nothing
    error: str  # the class of the exception, with its status; empty for none
    first_s: float | None
    ended_s: float

    @property
    def shown(self) -> str:
        """For the table."""
        first = "no text" if self.first_s is None else f"text after {self.first_s:.1f} s"
        end = self.error or f"whole ({self.end})"
        return f"{first}, {len(self.text):,} chars, {end} after {self.ended_s:.1f} s"


def _chat(url: str, model: str) -> Iterator[tuple[str, str]]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=60) as client:
        for chunk in client.chat.completions.create(model=model, messages=PROMPT, stream=True):
            for choice in chunk.choices:
                yield choice.delta.content or "", choice.finish_reason or ""


def _responses(url: str, model: str) -> Iterator[tuple[str, str]]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0, timeout=60) as client:
        for event in client.responses.create(model=model, input=PROMPT, stream=True):
            if event.type == "response.output_text.delta":
                yield event.delta, ""
            elif event.type in ("response.completed", "response.incomplete"):
                details = event.response.incomplete_details
                yield "", (details.reason if details else None) or event.type
            elif event.type in ("response.failed", "error"):
                raise RuntimeError(event.type)


def _messages(url: str, model: str) -> Iterator[tuple[str, str]]:
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0, timeout=60) as client:
        for event in client.messages.create(model=model, max_tokens=4_000, messages=PROMPT, stream=True):
            if event.type == "content_block_delta" and event.delta.type == "text_delta":
                yield event.delta.text, ""
            elif event.type == "message_delta":
                yield "", event.delta.stop_reason or ""


CLIENTS: dict[str, Callable[[str, str], Iterator[tuple[str, str]]]] = {
    "chat": _chat,
    "responses": _responses,
    "messages": _messages,
}


def look(url: str, api: str, provider: str) -> Seen:
    """Ask for a stream and tell what came."""
    began, first_s, texts, end, error = time.monotonic(), None, [], "", ""
    try:
        for text, reason in CLIENTS[api](url, f"{provider}/economy"):
            if text and first_s is None:
                first_s = time.monotonic() - began
            texts.append(text)
            end = reason or end
    except (openai.APIError, anthropic.APIError, RuntimeError) as raised:
        error = f"{type(raised).__name__} {getattr(raised, 'status_code', '')}".strip()
    return Seen("".join(texts), end, error, first_s, time.monotonic() - began)


@contextmanager
def broken(folder: Path) -> Iterator[tuple[Served, SimulatorProcess]]:
    """A gateway that gives up after a short silence, and keeps calling a provider that fails."""
    config = {"latency": {"first_token_s": 0.01, "per_token_s": 0.0}, "slow_start_s": SLOW_S}
    toml = TOML + "".join(PROVIDER_TOML.format(name=name, stall_s=STALL_S) for name in PROVIDERS)
    with (
        SimulatorProcess.start({"providers": dict.fromkeys(PROVIDERS, config)}) as simulator,
        started(folder, live_environment(simulator.base_urls), toml=toml) as served,
    ):
        yield served, simulator


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, SimulatorProcess]]:
    with broken(tmp_path_factory.mktemp("broken")) as found:
        yield found


def spoil(simulator: SimulatorProcess, fault: str) -> None:
    """All calls meet the fault; none for an empty name."""
    faults: Any = {fault: 1.0} if fault else {}
    for provider in PROVIDERS:
        simulator.patch(provider, {"faults": None})
        simulator.patch(provider, {"faults": faults})


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", BROKEN)
def test_no_broken_stream_passes_as_whole(
    pair: tuple[Served, SimulatorProcess], fault: str, api: str, provider: str
) -> None:
    served, simulator = pair
    spoil(simulator, fault)
    seen = look(served.url, api, provider)
    assert seen.error, seen
    # Nobody is told an end except where the provider has told it itself, and only its terminator is missing.
    assert not seen.end or fault == "stream_unterminated", seen
    assert seen.ended_s < WITHIN_S


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("api", APIS)
def test_slow_and_large_streams_are_whole(
    pair: tuple[Served, SimulatorProcess], api: str, provider: str
) -> None:
    served, simulator = pair
    found = {}
    for fault in WHOLE:
        spoil(simulator, fault)
        found[fault] = look(served.url, api, provider)
        assert found[fault].end and not found[fault].error, found[fault]
    assert found[""].text and found[""].text == found["stream_bytes"].text
    assert found[""].text == found["stream_slow_start"].text
    assert found["stream_slow_start"].ended_s > SLOW_S
    assert len(found["stream_huge"].text) >= 10_000_000


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", ODD_ENDS)
def test_an_answer_that_ends_early_says_so(
    pair: tuple[Served, SimulatorProcess], fault: str, api: str, provider: str
) -> None:
    served, simulator = pair
    spoil(simulator, fault)
    seen = look(served.url, api, provider)
    if fault == "empty" and not seen.error:  # the provider says itself that this is all
        assert not seen.text
        return
    cut = {"length", "max_tokens", "max_output_tokens", "content_filter", "refusal"}
    assert seen.error or seen.end in cut, seen


def _print_table() -> None:
    with tempfile.TemporaryDirectory() as folder, broken(Path(folder)) as (served, simulator):
        for fault in (*WHOLE, *BROKEN, *ODD_ENDS):
            spoil(simulator, fault)
            for api in APIS:
                for provider in PROVIDERS:
                    shown = look(served.url, api, provider).shown
                    sys.stdout.write(f"{fault or 'none':19} {api:9} {provider:9} {shown}\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    _print_table()
