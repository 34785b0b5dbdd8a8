"""What a call will need, learned from what calls needed.

Tokens per character are learned per provider and task type, output tokens as the 90th percentile of
the newest answers of a task type. Until there is enough to learn from, 4 characters are a token (what
OpenAI charges on admission) and a call is taken to use all of its max_tokens.
"""

from __future__ import annotations

from collections import deque

from ..records import Usage

CHARS_PER_TOKEN = 4  # what OpenAI counts on admission
TOKENS_PER_MESSAGE = 8  # role, separators
SAFETY = 1.1  # an estimate that is short by this much still does not overrun a limit
_ENOUGH = 20
_KEEP = 128
_WEIGHT = 0.1  # of the newest observation


class Estimator:
    """One (provider, task type)."""

    __slots__ = ("_new", "_outputs", "_p90", "tokens_per_char")

    def __init__(self) -> None:
        self.tokens_per_char = 1.0 / CHARS_PER_TOKEN
        self._outputs: deque[int] = deque(maxlen=_KEEP)
        self._p90: int | None = None
        self._new = 0

    def input_tokens(self, chars: int, messages: int) -> int:
        """Expected input tokens of a prompt, on the safe side."""
        return int(chars * self.tokens_per_char * SAFETY) + TOKENS_PER_MESSAGE * messages

    def output_tokens(self, max_tokens: int) -> int:
        """What to reserve for the answer where the provider counts real output."""
        return max_tokens if self._p90 is None or self._p90 > max_tokens else self._p90

    def observe(self, chars: int, messages: int, usage: Usage) -> None:
        """Learn from one answered call."""
        text_tokens = usage.prompt_tokens - TOKENS_PER_MESSAGE * messages
        if chars >= 40 and text_tokens > 0:
            self.tokens_per_char += _WEIGHT * (text_tokens / chars - self.tokens_per_char)
        self._outputs.append(usage.output_tokens)
        self._new += 1
        if len(self._outputs) >= _ENOUGH and (self._p90 is None or self._new >= 16):
            ordered = sorted(self._outputs)
            self._p90 = ordered[int(0.9 * (len(ordered) - 1))]
            self._new = 0
