"""The models' answers: text made from the seed and the prompt alone, so that a run can be repeated."""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import dataclass
from statistics import NormalDist

from .config import OutputTokens, ProviderConfig
from .examples import example
from .shapes import Ask, Reply, ToolCall
from .tools import chosen_calls, fitted

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
USUAL_THINKING_TOKENS = 100  # where a request asks for reasoning and the configuration does not say how much
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
        """The tokens of a prompt, by its characters, media and messages."""
        of_text = tokens_in(ask.chars, config.chars_per_token)
        return of_text + ask.extra_tokens + TOKENS_PER_MESSAGE * ask.messages

    def forget(self) -> None:
        """Empty the prompt cache."""
        self._cached.clear()

    def reply(
        self, ask: Ask, digest: int, input_tokens: int, config: ProviderConfig, cache: CacheUse = NO_CACHE
    ) -> Reply:
        """The whole answer, its usage included."""
        thinking = _thinking_tokens(ask, config)
        reply = Reply("", "length", input_tokens, 0, thinking, cache.read_tokens, cache.write_tokens)
        if thinking and ask.reasoning is not None and ask.reasoning.is_returned:
            reply.thinking = self._thoughts(digest, thinking, config) if ask.reasoning.is_shown else ""
        if thinking and ask.max_tokens is not None and ask.max_tokens <= thinking:
            reply.output_tokens = reply.thinking_tokens = ask.max_tokens
            return reply
        room = None if ask.max_tokens is None else int((ask.max_tokens - thinking) * config.chars_per_token)
        calls: tuple[ToolCall, ...] = ()
        if ask.tools is not None:
            calls = chosen_calls(ask.tools, ask.last, ask.calls_since, self._words(digest))
        if calls:
            self._call(ask, reply, calls, room)
        else:
            self._say(ask, reply, digest, config, room)
        chars = len(reply.text) + sum(len(call.text) for call in reply.calls)
        reply.output_tokens = thinking + max(1, tokens_in(chars, config.chars_per_token))
        return reply

    def _thoughts(self, digest: int, tokens: int, config: ProviderConfig) -> str:
        """Text of exactly so many tokens."""
        length = int(tokens * config.chars_per_token)
        start = self._starts[(digest >> 32) % (len(self._starts) // 2)]
        return (self._text[start : start + length] + self._text * (length // len(self._text)))[:length]

    def _call(self, ask: Ask, reply: Reply, calls: tuple[ToolCall, ...], room: int | None) -> None:
        if ask.talks_before_calls and ask.tools and not ask.tools.required:
            reply.text = f"I call {' and '.join(call.name for call in calls)}."[:room]
        reply.calls, all_fit = calls, True
        if room is not None:
            reply.calls, all_fit = fitted(calls, room - len(reply.text))
        reply.finish = "stop" if all_fit else "length"

    def _say(self, ask: Ask, reply: Reply, digest: int, config: ProviderConfig, room: int | None) -> None:
        text = self._whole_text(ask, digest, config)
        for stop in ask.stops:
            before, found, _ = text.partition(stop)
            if found and (room is None or len(before) <= room):
                reply.text, reply.finish, reply.stop_sequence = before, "stop_sequence", stop
                return
        if room is not None and len(text) > room:
            reply.text = text[:room]
        else:
            reply.text, reply.finish = text, "stop"

    def _whole_text(self, ask: Ask, digest: int, config: ProviderConfig) -> str:
        """The answer before a stop sequence or a token limit cuts it."""
        schema = ask.schema_in_words or ask.schema  # the words hold all of it, an API's form perhaps less
        if ask.wants_json or schema:
            instance = example(schema, self._words(digest)) if schema else {"answer": self._words(digest)}
            return json.dumps(instance, ensure_ascii=False)
        return ask.last if config.echo else self._prose(ask, digest, config)

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


def _thinking_tokens(ask: Ask, config: ProviderConfig) -> int:
    wanted = ask.reasoning
    if wanted is None:
        return config.thinking_tokens
    tokens = round((config.thinking_tokens or USUAL_THINKING_TOKENS) * wanted.factor)
    return tokens if wanted.most_tokens is None else min(tokens, wanted.most_tokens)


def _common_length(one: str, other: str) -> int:
    low, high = 0, min(len(one), len(other))
    while low < high:  # bisection: slices compare at the speed of memcmp
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
