"""The models' answers: text made from the seed and the prompt alone, so that a run can be repeated."""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from .config import OutputTokens, ProviderConfig
from .shapes import Ask, Json, Reply, ToolCall

_SENTENCES = (
    "The short version is that two of the three assumptions hold, and the third one can be tested cheaply.",
    "Start with the case that costs the most and leave the rare ones for later.",
    "A small table makes the comparison easier to follow than a paragraph would.",
    "Most of the difference comes from how the numbers were gathered, not from what they measure.",
    "If the first step fails, nothing after it needs to be undone.",
    "There are three reasons for this, and the least obvious one matters most.",
    "Keep the names close to the words people already use for these things.",
    "In practice the limit is reached in the evening hours and hardly ever before noon.",
    "The older approach still works for small inputs, and it is simpler to explain.",
    "One reader will want the figures, another only the conclusion, so give both.",
    "What looks like an exception is in fact the general rule seen from the side.",
    "It pays to write the test before deciding which of the two designs to keep.",
    "The harbour was quiet, and the lamps along the quay had only just been lit.",
    "Costs fall at first and then rise again once the queue grows longer than a minute.",
    "Ask who is affected, how often, and what they do about it today.",
    "A list of ten items is read to the fourth, so the order is part of the message.",
    "None of the sources disagrees about the date, though they differ on the place.",
    "Split the work by what changes together rather than by what looks alike.",
    "The effect is real but small, and it disappears when the sample is doubled.",
    "As a rule of thumb, leave a fifth of the capacity free for the unexpected.",
    "She folded the letter twice and put it back where she had found it.",
    "Measure it once on the real thing; an estimate here is seldom within a factor of two.",
    "The remaining risk is that nobody notices when the figures stop arriving.",
    "To sum up, the plan is sound, provided the second point is settled first.",
)
TOKENS_PER_MESSAGE = 4
MIN_CACHED_TOKENS = 1024  # shorter prefixes are not cached, at Anthropic as at OpenAI
CACHE_STEP_TOKENS = 128  # OpenAI caches in steps of this
_LENGTHS = 1024
_LONGEST_SENTENCE = max(len(sentence) for sentence in _SENTENCES) + 2
_MAX_REMEMBERED = 2048


def tokens_in(chars: int, chars_per_token: float) -> int:
    """Tokens of a text of that many characters, rounded up."""
    return math.ceil(chars / chars_per_token)


@dataclass(frozen=True, slots=True)
class CacheUse:
    """Input tokens read from and written to the prompt cache; it then remembers `prompt` under `key`."""

    read_tokens: int = 0
    write_tokens: int = 0
    key: str = ""
    prompt: str = ""


NO_CACHE = CacheUse()


class Author:
    """Writes the answers of one provider and remembers what its prompt cache holds."""

    def __init__(self, seed: int, name: str) -> None:
        self._key = str(seed).encode()[:64]
        writer = random.Random(f"text:{seed}:{name}")
        sentences = [writer.choice(_SENTENCES) for _ in range(900)]
        self._text = " ".join(sentences) + " "
        self._starts: list[int] = []
        at = 0
        for sentence in sentences:
            self._starts.append(at)
            at += len(sentence) + 1
        self._factors: tuple[float, ...] = ()
        self._sigma: float | None = None
        self._cached: dict[str, str] = {}

    def digest(self, ask: Ask) -> int:
        """64 bits that name the prompt under this seed."""
        return int.from_bytes(
            hashlib.blake2b(
                ask.prompt.encode("utf-8", "surrogatepass"), digest_size=8, key=self._key
            ).digest(),
            "big",
        )

    def input_tokens(self, ask: Ask, config: ProviderConfig) -> int:
        """The tokens of a prompt, by its characters and messages."""
        return tokens_in(ask.chars, config.chars_per_token) + TOKENS_PER_MESSAGE * ask.messages

    def forget(self) -> None:
        """Empty the prompt cache."""
        self._cached.clear()

    def reply(
        self, ask: Ask, digest: int, input_tokens: int, config: ProviderConfig, cache: CacheUse = NO_CACHE
    ) -> Reply:
        """The whole answer, its usage included."""
        thinking = config.thinking_tokens
        if thinking and ask.max_tokens is not None and ask.max_tokens <= thinking:
            spent = ask.max_tokens
            return Reply("", "length", input_tokens, spent, spent, cache.read_tokens, cache.write_tokens)
        text, finish, stop, calls = self._say(ask, digest, config, thinking)
        spent = thinking + max(1, tokens_in(len(text), config.chars_per_token))
        said = "" if calls else text
        reply = Reply(said, finish, input_tokens, spent, thinking, cache.read_tokens, cache.write_tokens)
        reply.stop_sequence, reply.calls = stop, calls
        return reply

    def _say(
        self, ask: Ask, digest: int, config: ProviderConfig, thinking: int
    ) -> tuple[str, str, str | None, tuple[ToolCall, ...]]:
        room = None if ask.max_tokens is None else int((ask.max_tokens - thinking) * config.chars_per_token)
        text, calls = self._whole_text(ask, digest, config)
        for stop in ask.stops:
            before, found, _ = text.partition(stop)
            if found and (room is None or len(before) <= room):
                return before, "stop_sequence", stop, ()
        if room is not None and len(text) > room:
            return text[:room], "length", None, ()
        return text, "stop", None, calls

    def _whole_text(self, ask: Ask, digest: int, config: ProviderConfig) -> tuple[str, tuple[ToolCall, ...]]:
        """The answer before a stop sequence or a token limit cuts it, and its calls of tools."""
        schema = ask.schema_in_words or ask.schema  # the words hold all of it, an API's form perhaps less
        if ask.wants_json or ask.tool or schema:
            instance = example(schema, self._words(digest)) if schema else {"answer": self._words(digest)}
            text = json.dumps(instance, ensure_ascii=False)
            if ask.tool and isinstance(instance, dict):
                return text, (ToolCall(ask.tool, instance),)
            return text, ()
        return (ask.last if config.echo else self._prose(ask, digest, config)), ()

    def _prose(self, ask: Ask, digest: int, config: ProviderConfig) -> str:
        length = int(self._length(digest, config.output_tokens) * config.chars_per_token)
        head = f"On “{' '.join(ask.last[:120].split()[:8])}”: "
        start = self._starts[(digest >> 16) % (len(self._starts) // 2)]
        room = max(1, length - len(head))
        body = self._text[start : start + room + _LONGEST_SENTENCE]
        while len(body) < room + _LONGEST_SENTENCE:  # longer than half the stock of sentences
            body += self._text[: room + _LONGEST_SENTENCE - len(body)]
        # the nearest end of a sentence, so that the mean length is the one that was asked for
        before, after = body.rfind(". ", 0, room) + 1, body.find(". ", room) + 1
        return head + body[: before if before and room - before < after - room else after]

    def _length(self, digest: int, shape: OutputTokens) -> float:
        if self._sigma != shape.sigma:
            self._sigma = shape.sigma
            normal = NormalDist(-(shape.sigma**2) / 2, shape.sigma) if shape.sigma else None
            quantiles = ((i + 0.5) / _LENGTHS for i in range(_LENGTHS))
            self._factors = tuple(math.exp(normal.inv_cdf(q)) if normal else 1.0 for q in quantiles)
        return max(1.0, shape.mean * self._factors[digest % _LENGTHS])

    def _words(self, digest: int) -> str:
        return _SENTENCES[digest % len(_SENTENCES)]

    def marked_cache(self, ask: Ask, config: ProviderConfig) -> CacheUse:
        """Anthropic, and OpenAI with marks: what is marked is written once and read from then on."""
        if ask.marked_prefix is None:
            return NO_CACHE
        prefix, chars = ask.marked_prefix
        tokens = tokens_in(chars, config.chars_per_token)
        if tokens < MIN_CACHED_TOKENS:
            return NO_CACHE
        key = f"{ask.model}\x1f{prefix}"
        if key in self._cached:
            return CacheUse(read_tokens=tokens)
        return CacheUse(write_tokens=tokens, key=key)

    def prefix_cache(self, ask: Ask, input_tokens: int, config: ProviderConfig) -> CacheUse:
        """OpenAI and Gemini, with `caching`: a long prefix seen before, in steps of 128 tokens."""
        total = input_tokens // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS
        if not config.caching or total < MIN_CACHED_TOKENS:
            return NO_CACHE
        key = f"{ask.model}\x1f{ask.prompt[: int(MIN_CACHED_TOKENS * config.chars_per_token)]}"
        read, before = 0, self._cached.get(key)
        if before is not None:
            same = int(_common_length(before, ask.prompt) / config.chars_per_token)
            read = min(total, same // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS)
        return CacheUse(read, total - read, key, ask.prompt)

    def remember(self, use: CacheUse) -> None:
        """Keep what a call that was admitted has written."""
        if not use.key:
            return
        if len(self._cached) >= _MAX_REMEMBERED:
            self._cached.pop(next(iter(self._cached)))
        self._cached[use.key] = use.prompt


def _common_length(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:  # bisection: slices compare at the speed of memcmp
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


_GEMINI_TYPES = {1: "string", 2: "number", 3: "integer", 4: "boolean", 5: "array", 6: "object"}
_MAX_DEPTH = 12


def example(schema: Json, words: str) -> Any:
    """A small valid instance of a JSON schema; $ref, anyOf and Gemini's numbered types included."""
    return _instance(schema, words, schema, 0)


def _instance(schema: Any, words: str, root: Json, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > _MAX_DEPTH:
        return None
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    inner = _resolve(schema["$ref"], root) if "$ref" in schema else _first_choice(schema)
    if inner is not None:
        return _instance(inner, words, root, depth + 1)
    kind = _kind(schema)
    if kind == "object":
        wanted = _wanted_properties(schema, all_of_them=depth < 4)
        return {name: _instance(each, words, root, depth + 1) for name, each in wanted.items()}
    if kind == "array":
        item = _instance(schema.get("items", {"type": "string"}), words, root, depth + 1)
        return [item] * max(1, int(schema.get("minItems") or 1))
    return _scalar(kind, schema, words)


def _wanted_properties(schema: Json, *, all_of_them: bool) -> Json:
    """The properties of an object that an example has: deep down only those it must have."""
    properties = schema.get("properties") or {}
    required = schema.get("required", ())
    return {name: each for name, each in properties.items() if all_of_them or name in required}


def _first_choice(schema: Json) -> Any:
    """The first schema of a union, None where there is none."""
    return next((schema[name][0] for name in ("anyOf", "oneOf", "allOf") if schema.get(name)), None)


def _kind(schema: Json) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if isinstance(kind, int):
        return _GEMINI_TYPES.get(kind, "string")
    if isinstance(kind, str):
        return kind.lower()
    return "object" if "properties" in schema else "string"


def _scalar(kind: str, schema: Json, words: str) -> Any:
    if kind in ("integer", "number"):
        value = schema.get("minimum", schema.get("exclusiveMinimum", 0) + ("exclusiveMinimum" in schema))
        return int(value) if kind == "integer" else float(value)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    shortest, longest = int(schema.get("minLength") or 0), schema.get("maxLength")
    text = words if len(words) >= shortest else words.ljust(shortest, ".")
    return text if longest is None else text[: int(longest)]


def _resolve(reference: str, root: Json) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            found = found.get(step) if isinstance(found, dict) else None
    return found
