"""A task's state between its attempts."""

from __future__ import annotations

from dataclasses import dataclass

from ..messages import Message
from .cost.prompt_cache import Prefix
from .limits.attribution import SURELY_OWN, Evidence


@dataclass(slots=True)
class RetryState:
    """A task's earlier attempts, and how long it has waited. Providers are numbers, sets of them bits."""

    offered_at: float
    order: tuple[float, ...] = ()  # its place in the queue: smaller goes first
    attempt: int = 1
    given_up: tuple[int, float] | None = None  # (provider, seconds) of the silence that it was taken from
    failed: tuple[tuple[int, int], ...] = ()  # (provider, permit) of its first failure at each
    limited: tuple[tuple[Evidence, int], ...] = ()  # (model group's, permit) of its newest 429 at each
    own_429s: int = 0  # 429s that another call's answer shows to be its own: see `attribution.py`
    draws_429: int = 0  # 429s in all; with each it lets more other tasks go first
    tried: int = 0  # bits of the providers that failed it
    tried_until: float = 0.0  # until then they are not eligible again
    refused: int = 0  # bits of those that refused its content: they are never eligible again
    avoid: frozenset[str] = frozenset()  # models that can't serve it, and provider/model where one can't
    again: int = -1  # the provider that gets one more try at once
    max_tokens: int | None = None  # larger, after an answer without text
    turns: tuple[Message, ...] = ()  # an answer that does not match its schema, and what is wrong with it
    is_standard: bool = False  # a call with service tier flex has failed: it does without
    agent: str = ""  # that made its last call
    prefer: int = -1  # the provider that served the last turn of its run; -1: none
    prefixes: tuple[Prefix, ...] = ()  # prefixes of its prompt that others may share, the longest first

    @property
    def is_limited_alone(self) -> bool:
        """Whether the task, not the rate, causes its 429s."""
        return self.own_429s >= SURELY_OWN
