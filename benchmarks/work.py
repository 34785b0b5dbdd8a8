"""What every client gets: tasks, the simulator's configuration, and the pool's settings."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from src.config import DEFAULTS_FILE, load_settings
from src.messages import Message
from src.records import Task
from src.simulator.answers import Author
from src.simulator.config import parse_provider
from src.simulator.openai_format import OpenAIFormat

Json = dict[str, Any]
PROVIDERS = ("anthropic", "openai", "gemini")
MODELS = {"anthropic": "claude-sonnet-5-5", "openai": "gpt-6.1-terra", "gemini": "gemini-3.8-flash"}
BATCH = "bench"
SEED = 7
STATE = Path(__file__).resolve().parent.parent / "state"  # where real databases lie: the same disk
_WORDS = ("river", "winter", "engine", "letter", "market", "garden", "signal", "window", "harbour", "paper")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The text of one task, the same for every client."""

    text: str
    max_tokens: int


def prompts(
    count: int, *, seed: int = SEED, median_chars: float = 1200.0, sigma: float = 0.8
) -> list[Prompt]:
    """Prompts of lognormal length, each different, with one of three max_tokens."""
    dice = random.Random(seed)
    found = []
    for number in range(count):
        length = min(24_000, max(60, int(dice.lognormvariate(math.log(median_chars), sigma))))
        words = [f"Task {number}:"]
        size = len(words[0])
        while size < length:
            words.append(dice.choice(_WORDS))
            size += len(words[-1]) + 1
        found.append(Prompt(" ".join(words)[:length], dice.choice((256, 512, 1024))))
    return found


def as_task(number: int, prompt: Prompt, batch: str = BATCH, providers: Sequence[str] = ()) -> Task:
    """For the pool: untyped, and of one tier, so that each provider serves all with one model."""
    return Task(
        id=f"t{number:07}", batch=batch, messages=(Message("user", prompt.text),), tier="standard",
        max_tokens=prompt.max_tokens, providers=tuple(providers),
    )  # fmt: skip


# ------------------------------------------------------------------ what the providers charge


def charges(
    inputs: Sequence[Prompt], dimensions: Mapping[str, Sequence[str]]
) -> list[dict[str, list[float]]]:
    """What each prompt costs in the buckets of each provider: the simulator's own count, by its rules.

    `dimensions` names the buckets: requests, input, output, and OpenAI's reserve (`tokens`).
    """
    api, config = OpenAIFormat(), {name: parse_provider(name, {}) for name in PROVIDERS}
    authors = {name: Author(SEED, name) for name in PROVIDERS}
    found = []
    for prompt in inputs:
        body = {
            "model": "any",
            "messages": [{"role": "user", "content": prompt.text}],
            "max_completion_tokens": prompt.max_tokens,
        }
        request = api.parse(body, "any", {})
        by_provider = {}
        for name, wanted in dimensions.items():
            read = authors[name].input_tokens(request, config[name])
            reply = authors[name].reply(request, authors[name].digest(request), read, config[name])
            counts = {
                "requests": 1,
                "requests_per_day": 1,
                "input_tokens": read,
                "output_tokens": reply.output_tokens,
                "tokens": max(prompt.max_tokens, math.ceil(request.chars / 4)) if name == "openai" else read,
            }
            by_provider[name] = [float(counts[each]) for each in wanted]
        found.append(by_provider)
    return found


# ------------------------------------------------------------------ simulator and settings


def simulator(
    providers: Mapping[str, Json] | None = None, *, latency_s: float = 0.3, jitter: float = 0.3
) -> Json:
    """The simulator's configuration: the same latency everywhere, and what `providers` add."""
    latency = {"first_token_s": latency_s, "per_token_s": 0.0, "jitter": jitter}
    rows = {name: {"latency": latency, **(providers or {}).get(name, {})} for name in PROVIDERS}
    return {"seed": SEED, "providers": rows}


def median_latency_s(latency_s: float = 0.3, jitter: float = 0.3) -> float:
    """The median of what the simulator draws: lognormal with mean `latency_s`."""
    return latency_s * math.exp(-(jitter**2) / 2)


def settings_with(change: Mapping[str, Any]) -> Any:
    """The default settings with `change` laid over them, validated."""
    defaults = load_settings(DEFAULTS_FILE, {})
    return type(defaults).model_validate(_laid_over(defaults.model_dump(), change))


def _laid_over(base: Mapping[str, Any], change: Mapping[str, Any]) -> Json:
    merged = dict(base)
    for key, value in change.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = _laid_over(old or {}, value) if both else value
    return merged


def limit_settings(limits: Mapping[str, Json]) -> Json:
    """Settings with these limits of each provider."""
    return {"providers": {name: {"limits": dict(own)} for name, own in limits.items()}}


NO_LIMITS = limit_settings({name: {"requests_per_minute": 60e6} for name in PROVIDERS})  # too wide to bind


def agents(calls_in_flight: int) -> list[Json]:
    """The default agents with this many slots together."""
    rows = load_settings(DEFAULTS_FILE, {}).model_dump()["agents"]
    share, rest = divmod(calls_in_flight, len(rows))
    return [{**row, "calls_in_flight": share + (i < rest)} for i, row in enumerate(rows)]


@contextmanager
def folder() -> Iterator[Path]:
    """A place for databases and files, removed afterwards."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    with TemporaryDirectory(prefix="bench-", dir=STATE) as name:
        yield Path(name)
