"""Which prefixes of prompts several tasks share, and where providers have them in their caches.

A prompt's prefix is its leading system messages, or everything before its last message. A provider that has
read it before charges a tenth for reading it again. Writing it into the cache costs a quarter more than
reading it once (Anthropic, and OpenAI from gpt-5.6 on), and no other call can read it before that call has
ended.

- Only a prefix of at least `min_prefix_tokens` (four characters a token) counts, and only if tasks in the
  pool share it: of a task's prefixes, the longest that SHARED_BY tasks have.
- One call per provider and model writes it. Meanwhile other calls there do not use the cache. A task that
  could also go elsewhere waits up to `cache_writer_wait_s` for the writer, since all later calls are then
  cheap.
- After the writer's answer, calls are marked to read it, until it was unused for CACHE_S.
- A marked call that neither wrote nor read shows that the model does not cache the prefix. It is not marked
  there again.
- If no marks are needed (Gemini, older GPT models), an answer with cached tokens shows where the prefix is
  warm.

`warm` and `written_by` serve the choice of a provider: a provider that has the prefix goes first.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from ...messages import Message, text_length, tool_length
from ...records import Task, Usage
from ...settings import CachingSettings
from ..limits.estimator import CHARS_PER_TOKEN

CACHE_S = 280.0  # Anthropic keeps it for 5 minutes since its last use; the rest is for the time on the way
SHARED_BY = 3  # one writes, two read: with fewer, a writer that fails costs more than it can save
KEPT = 10_000  # prefixes that no task has any more


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix of one task's prompt: its number of messages, and a digest that identifies it."""

    turns: int
    key: str


@dataclass(frozen=True, slots=True)
class CacheLease:
    """What a call does with a shared prefix; given back by `settle`."""

    prefix: Prefix
    spot: tuple[int, str]  # provider, model
    marked: bool
    placed_at: float
    writes: bool = False


@dataclass(slots=True)
class _Spot:
    """One prefix at one model of one provider."""

    warm_until: float = 0.0
    writing_since: float | None = None
    is_cached: bool = True


@dataclass(slots=True)
class _Shared:
    tasks: int = 0
    spots: dict[tuple[int, str], _Spot] = field(default_factory=dict)


class PromptCacheTracker:
    """The prefixes of all tasks. With `enabled` false nothing is shared. Times are UTC epoch seconds."""

    def __init__(self, settings: CachingSettings) -> None:
        self._settings = settings
        self._least_chars = settings.min_prefix_tokens * CHARS_PER_TOKEN
        self._known: dict[str, _Shared] = {}
        self._idle: dict[str, None] = {}  # prefixes that no task has any more, the oldest first

    def __repr__(self) -> str:
        return f"<PromptCacheTracker {len(self._known)} known>"

    # ------------------------------------------------------------------ tasks

    def offered(self, task: Task) -> tuple[Prefix, ...]:
        """A task comes in. Its prefixes that are long enough, the longest first."""
        if not self._settings.enabled or task.text_chars < self._least_chars:
            return ()
        found = beginnings(task, self._least_chars)
        for prefix in found:
            self._known.setdefault(prefix.key, _Shared()).tasks += 1
            self._idle.pop(prefix.key, None)
        return found

    def left(self, prefixes: Sequence[Prefix]) -> None:
        """A task has ended. The last KEPT prefixes that were used are kept: more tasks may come."""
        for prefix in prefixes:
            known = self._known[prefix.key]
            known.tasks -= 1
            if known.tasks > 0:
                continue
            if known.spots:
                self._idle[prefix.key] = None
            else:
                del self._known[prefix.key]
            if len(self._idle) > KEPT:
                oldest = next(iter(self._idle))
                del self._idle[oldest], self._known[oldest]

    def shared(self, prefixes: Sequence[Prefix], now: float) -> Prefix | None:
        """The longest of a task's prefixes that other tasks share, or that is warm at a provider."""
        for prefix in prefixes:
            known = self._known.get(prefix.key)
            if known is not None and (known.tasks >= SHARED_BY or _is_warm(known, now)):
                return prefix
        return None

    # ------------------------------------------------------------------ where to go

    def warm(self, prefix: Prefix, now: float) -> frozenset[int]:
        """The numbers of the providers that have the prefix in a cache."""
        spots = self._known[prefix.key].spots
        return frozenset(provider for (provider, _), spot in spots.items() if now < spot.warm_until)

    def written_by(self, prefix: Prefix, providers: AbstractSet[int], now: float) -> tuple[float, list[int]]:
        """Until when to wait for those of `providers` that are writing the prefix, and which; none: no
        need."""
        known = self._known[prefix.key]
        if _is_warm(known, now):
            return now, []
        since = {
            provider: spot.writing_since
            for (provider, _), spot in known.spots.items()
            if spot.writing_since is not None and provider in providers
        }
        until = min(since.values(), default=-math.inf) + self._settings.cache_writer_wait_s
        return (until, list(since)) if until > now else (now, [])

    # ------------------------------------------------------------------ calls

    def grant(
        self, prefixes: Sequence[Prefix], provider: int, model: str, how: str, now: float
    ) -> CacheLease | None:
        """What a call does with the task's shared prefix. `how` is the model's `prompt_cache`."""
        prefix = self.shared(prefixes, now) if prefixes else None
        if prefix is None:
            return None
        spots = self._known[prefix.key].spots
        spot = spots.setdefault((provider, model), _Spot())
        warm, writes = now < spot.warm_until, False
        if how == "marks" and not warm and spot.is_cached and spot.writing_since is None:
            spot.writing_since, writes = now, True
        marked = how == "marks" and (warm or writes)
        return CacheLease(prefix, (provider, model), marked, now, writes)

    def settle(self, lease: CacheLease, usage: Usage | None) -> None:
        """A call has ended; `usage` where it was answered."""
        known = self._known.get(lease.prefix.key)
        spot = known.spots.get(lease.spot) if known is not None else None
        if spot is None:
            return
        if lease.writes:
            spot.writing_since = None
        if usage is None:
            return
        if usage.cache_read_tokens or (lease.marked and usage.cache_write_tokens):
            spot.warm_until = max(spot.warm_until, lease.placed_at + CACHE_S)
        elif lease.writes:
            spot.is_cached = False
        elif lease.marked:
            spot.warm_until = 0.0  # expected in the cache, but not there


def beginnings(task: Task, least_chars: int) -> tuple[Prefix, ...]:
    """The beginnings of a task's prompt of at least `least_chars`, the longest first.

    Some APIs move a system message further down to the front, so such a prompt has none. What a task's
    answer must look like is part of what providers cache.
    """
    messages = task.messages
    system = next((n for n, m in enumerate(messages) if m.role != "system"), len(messages))
    if any(m.role == "system" for m in messages[system:]):
        return ()
    ends = sorted({len(messages) - 1, min(system, len(messages) - 1)}, reverse=True)
    of_tools = sum(map(tool_length, task.tools))  # they stand before the messages
    return tuple(
        Prefix(turns, _digest(messages[:turns], task))
        for turns in ends
        if turns > 0 and of_tools + sum(map(text_length, messages[:turns])) >= least_chars
    )


def _digest(messages: Sequence[Message], task: Task) -> str:
    digest = hashlib.blake2b(digest_size=12)
    shape = ("schema", repr(task.response_schema))
    tools = (("tools", repr(task.tools)),) if task.tools else ()
    for part in (*((m.role, _content(m)) for m in messages), shape, *tools):
        for text in part:
            digest.update(len(text).to_bytes(8, "big"))
            digest.update(text.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _content(message: Message) -> str:
    return message.content if isinstance(message.content, str) else repr(message.content)


def _is_warm(known: _Shared, now: float) -> bool:
    return any(now < spot.warm_until for spot in known.spots.values())
