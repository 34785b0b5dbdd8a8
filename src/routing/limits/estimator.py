"""What a call will need, learned from earlier calls.

Tokens per character are learned per provider and task type. Of the output the 90th percentile of the newest
answers is reserved: of this provider once there are enough of them, until then of all providers together, and
before that all of max_tokens. Plans use means, since what was reserved beyond them comes back.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from typing import Any

from ...records import Usage
from .group import Need

CHARS_PER_TOKEN = 4  # what OpenAI counts on admission, and the estimate until more is known
TOKENS_PER_MESSAGE = 8  # role, separators
SAFETY = 1.1  # an estimate that is too low by this much overruns no limit
USUAL_OUTPUT = 0.35  # of max_tokens, on average, while nothing is known
USUAL_REASONING = 0.05  # of max_tokens, before one of several labels
_ENOUGH = 20
_KEEP = 128
_REFRESH = 16
_WEIGHT = 0.1  # of the newest observation


def usual_output(max_tokens: int, choice_bytes: int) -> float:
    """Tokens of an answer on average while nothing is known. `choice_bytes`: the longest label; 0: any text.

    A label is short, and reasoning may come before it.
    """
    if choice_bytes:
        return min(max_tokens, choice_bytes / CHARS_PER_TOKEN + USUAL_REASONING * max_tokens)
    return USUAL_OUTPUT * max_tokens


class Outputs:
    """The lengths of the newest answers to tasks of one type, in tokens."""

    __slots__ = ("_lengths", "_means", "_new", "p90")

    def __init__(self) -> None:
        self._lengths: deque[int] = deque(maxlen=_KEEP)
        self._means: dict[int, float] = {}  # by max_tokens
        self._new = 0
        self.p90: int | None = None  # None: too few answers

    def observe(self, tokens: int) -> None:
        """Learn from one answer."""
        self._lengths.append(tokens)
        self._new += 1
        if (self.p90 is None or self._new >= _REFRESH) and len(self._lengths) >= _ENOUGH:
            self._refresh()

    @property
    def newest(self) -> list[int]:
        """The newest lengths, the oldest of them first."""
        return list(self._lengths)

    def _refresh(self) -> None:
        ordered = sorted(self._lengths)
        self.p90 = ordered[int(0.9 * (len(ordered) - 1))]
        self._means.clear()
        self._new = 0

    def spread(self, max_tokens: int) -> tuple[float, int]:
        """The standard deviation of lengths of answers cut off at `max_tokens`, and how many there are."""
        cut = [min(each, max_tokens) for each in self._lengths]
        mean = sum(cut) / len(cut)
        return math.sqrt(sum((each - mean) ** 2 for each in cut) / len(cut)), len(cut)

    def mean(self, max_tokens: int) -> float:
        """The mean length of answers cut off at `max_tokens`, in tokens."""
        found = self._means.get(max_tokens)
        if found is None:
            cut = [min(each, max_tokens) for each in self._lengths]
            found = self._means[max_tokens] = sum(cut) / len(cut)
        return found


class Estimator:
    """The estimator of one (provider, task type). `of_all`: answers of all providers to tasks of that
    type."""

    __slots__ = ("_of_all", "_own", "cached_in_batches", "cached_live", "tokens_per_char")

    def __init__(self, of_all: Outputs) -> None:
        self.tokens_per_char = 1.0 / CHARS_PER_TOKEN
        self.cached_live = self.cached_in_batches = 0.0  # shares of prompts that are read from a cache
        self._own, self._of_all = Outputs(), of_all

    def need(self, chars: float, messages: int, max_tokens: int, extra_tokens: int = 0) -> Need:
        """The tokens to reserve for a call, on the safe side. `extra_tokens`: of images and documents."""
        return Need(
            int(chars * self.tokens_per_char * SAFETY) + TOKENS_PER_MESSAGE * messages + extra_tokens,
            self.output_tokens(max_tokens),
            max(max_tokens, self.counted_tokens(chars) + extra_tokens),
        )

    def mean_input(self, chars: float, messages: int) -> float:
        """Input tokens on average."""
        return chars * self.tokens_per_char + TOKENS_PER_MESSAGE * messages

    @staticmethod
    def counted_tokens(chars: float) -> int:
        """The prompt tokens that OpenAI counts on admission, whatever they really are."""
        return math.ceil(chars / CHARS_PER_TOKEN)

    def output_tokens(self, max_tokens: int) -> int:
        """The tokens to reserve for the answer where the provider counts real output."""
        p90 = self._own.p90 or self._of_all.p90
        return max_tokens if p90 is None or p90 > max_tokens else p90

    def mean_output(self, max_tokens: int, choice_bytes: int = 0) -> float:
        """Tokens of an answer on average. `choice_bytes` as in `usual_output`."""
        known = self._known
        return usual_output(max_tokens, choice_bytes) if known is None else known.mean(max_tokens)

    def output_spread(self, max_tokens: int) -> tuple[float, int] | None:
        """What `Outputs.spread` says of the answers that `mean_output` rests on; None without any."""
        known = self._known
        return None if known is None else known.spread(max_tokens)

    @property
    def _known(self) -> Outputs | None:
        """The answers that means are taken of; None: too few."""
        known = self._own if self._own.p90 is not None else self._of_all
        return None if known.p90 is None else known

    def observe(self, chars: int, messages: int, usage: Usage, *, in_batch: bool) -> None:
        """Learn from one answered call. `chars` 0: nothing about prompts, since its tokens are no text's."""
        text_tokens = usage.prompt_tokens - TOKENS_PER_MESSAGE * messages
        if chars >= 40 and text_tokens > 0:
            self.tokens_per_char += _WEIGHT * (text_tokens / chars - self.tokens_per_char)
        self._own.observe(usage.output_tokens)
        self._of_all.observe(usage.output_tokens)
        share = usage.cache_read_tokens / (usage.prompt_tokens or 1)
        if in_batch:
            self.cached_in_batches += _WEIGHT * (share - self.cached_in_batches)
        else:
            self.cached_live += _WEIGHT * (share - self.cached_live)

    def export(self) -> dict[str, Any]:
        """What is worth knowing after a restart."""
        return {
            "tokens_per_char": round(self.tokens_per_char, 6),
            "cached_live": round(self.cached_live, 4),
            "cached_in_batches": round(self.cached_in_batches, 4),
            "outputs": self._own.newest,
        }

    def restore(self, known: Mapping[str, Any]) -> None:
        """Take over an `export`."""
        self.tokens_per_char = float(known.get("tokens_per_char", self.tokens_per_char))
        self.cached_live = float(known.get("cached_live", 0.0))
        self.cached_in_batches = float(known.get("cached_in_batches", 0.0))
        for tokens in known.get("outputs", ()):
            self._own.observe(int(tokens))
            self._of_all.observe(int(tokens))


class Estimators:
    """The estimators of one provider, by task type."""

    __slots__ = ("_by_type", "_outputs", "known", "most_tokens_per_char")

    def __init__(self, outputs: dict[str, Outputs]) -> None:
        self._by_type: dict[str, Estimator] = {}
        self._outputs = outputs  # by task type, of all providers together
        self.most_tokens_per_char = 1.0 / CHARS_PER_TOKEN  # of any task type, ever

    def of(self, task_type: str) -> Estimator:
        """The estimator of a task type, made at its first use."""
        found = self._by_type.get(task_type)
        if found is None:
            found = self._by_type[task_type] = Estimator(self._outputs.setdefault(task_type, Outputs()))
        return found

    def restore(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        """Take over the `export` of an earlier run, before the first call.

        All of it at once: other providers with few answers of their own go by these too.
        """
        for task_type, own in known.items():
            estimator = self.of(task_type)
            estimator.restore(own)
            self._note_most(estimator)

    def observe(
        self, task_type: str, chars: int, messages: int, usage: Usage, *, in_batch: bool = False
    ) -> None:
        """Learn from one answered call."""
        estimator = self.of(task_type)
        estimator.observe(chars, messages, usage, in_batch=in_batch)
        self._note_most(estimator)

    def export(self) -> dict[str, dict[str, Any]]:
        """What is worth knowing after a restart, by task type."""
        return {task_type: each.export() for task_type, each in self._by_type.items()}

    def _note_most(self, estimator: Estimator) -> None:
        if estimator.tokens_per_char > self.most_tokens_per_char:
            self.most_tokens_per_char = estimator.tokens_per_char
