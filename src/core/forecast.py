"""Predicts the latency and tokens of calls from recorded ones: the `service` of a run in virtual time.

Recorded usage is looked up from the particular to the general: (provider, model, task type), (provider,
task type), (provider, model), the task type at any provider, the provider, all calls. Without any record
`usual_output` and the assumptions below apply, and the plan says so. Tokens per character are taken from the
newest prompts.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..errors import ServerError
from ..records import Completion, FinishReason, Placement, Task, Usage
from ..routing.limits.estimator import CHARS_PER_TOKEN, TOKENS_PER_MESSAGE, usual_output
from ..routing.simulation import Answer
from ..settings import ProviderConfig
from .store import CallSums, PromptSize, Store

# Without a record: a typical chat model.
ASSUMED_FIRST_TOKEN_S = 0.8
ASSUMED_PER_TOKEN_S = 0.012
LATENCY_SIGMA = 0.35  # of single calls around their mean, log-normal
FRAME_TOKENS = TOKENS_PER_MESSAGE / 2  # that a message needs beside its text
ENOUGH = 5  # recorded answers before they count
ENOUGH_PROMPTS = 20  # of a provider, before its own tokens per character count

Key = tuple[str, str, str]  # provider, model, task type; empty: any


@dataclass(frozen=True, slots=True)
class Record:
    """Means over recorded calls of one kind. `success`: the share that was answered, 0 to 1."""

    answers: int
    success: float
    latency_s: float
    prompt_tokens: float
    output_tokens: float


class Forecast:
    """Answers as the recorded calls suggest. Deterministic for a seed."""

    def __init__(
        self,
        records: Mapping[Key, Record],
        seed: int = 1,
        *,
        failures: bool = False,
        tokens_per_char: Mapping[str, float] | None = None,
        long: Collection[str] = (),
        providers: Mapping[str, ProviderConfig] | None = None,
    ) -> None:
        """`long`: ids of tasks whose answer is expected to be as long as allowed.

        `providers`: how each counts images and documents; without it they count nothing.
        """
        self._records = records
        self._tokens_per_char = tokens_per_char or {}  # by provider
        self._random = random.Random(seed)
        self._failures = failures
        self._long = long
        self._providers = providers or {}

    @classmethod
    def from_store(
        cls,
        store: Store,
        start: float,
        end: float,
        *,
        failures: bool = False,
        long: Collection[str] = (),
        providers: Mapping[str, ProviderConfig] | None = None,
    ) -> Forecast:
        """From calls recorded in [start, end), epoch seconds. `failures`: fail as often as recorded."""
        sums: dict[Key, list[CallSums]] = defaultdict(list)
        for row in store.reports.usage(start, end, ("provider", "model", "task_type")):
            provider, model, task_type = (str(part) for part in row.key)
            for key in _keys(provider, model, task_type):
                sums[key].append(row.sums)
        known = ((key, record_of(rows)) for key, rows in sums.items())
        records = {key: found for key, found in known if found is not None and found.answers >= ENOUGH}
        per_char = _tokens_per_char(store.reports.prompt_sizes())
        return cls(records, failures=failures, tokens_per_char=per_char, long=long, providers=providers)

    @property
    def is_known(self) -> bool:
        """Whether any call is recorded."""
        return ("", "", "") in self._records

    def record(self, provider: str, model: str, task_type: str) -> Record | None:
        """The most specific record that exists."""
        for key in _keys(provider, model, task_type):
            if key in self._records:
                return self._records[key]
        return None

    def usage(self, placement: Placement, output_share: float = 1.0) -> Usage:
        """The expected tokens of a call; `output_share` scales its answer."""
        task, provider, max_tokens = placement.task, placement.provider, placement.max_tokens
        expected = self.output_tokens(task, provider, placement.model, max_tokens)
        output = max(1, min(round(expected * output_share), max_tokens))
        return Usage(self.prompt_tokens(task, provider, task.text_chars), output_tokens=output)

    def output_tokens(self, task: Task, provider: str, model: str, max_tokens: int) -> float:
        """Of the answer that this model is expected to give."""
        if task.id in self._long:
            return max_tokens
        found = self.record(provider, model, task.task_type)
        return found.output_tokens if found else usual_output(max_tokens, task.choice_bytes)

    def prompt_tokens(self, task: Task, provider: str, chars: float) -> int:
        """Of the task's prompt, if its text has so many characters."""
        per_char = self._tokens_per_char.get(provider, 1.0 / CHARS_PER_TOKEN)
        prompt = math.ceil(chars * per_char + FRAME_TOKENS * len(task.messages))
        if task.media and provider in self._providers:
            prompt += sum(map(self._providers[provider].api.media_tokens, task.media))
        return prompt

    def __call__(self, placement: Placement, now: float) -> tuple[float, Answer]:
        """The latency of a call in seconds, and its answer."""
        task = placement.task
        usage = self.usage(placement)
        found = self.record(placement.provider, placement.model, task.task_type)
        mean_s = (
            found.latency_s if found else ASSUMED_FIRST_TOKEN_S + ASSUMED_PER_TOKEN_S * usage.output_tokens
        )
        spread = self._random.lognormvariate(-0.5 * LATENCY_SIGMA**2, LATENCY_SIGMA)
        if self._failures and found and self._random.random() > found.success:
            return mean_s * spread, ServerError("predicted failure", provider=placement.provider, status=500)
        return mean_s * spread, Completion("", FinishReason.STOP, usage, placement.model)


def _keys(provider: str, model: str, task_type: str) -> tuple[Key, ...]:
    """The keys of records that apply, the most specific first."""
    return (
        (provider, model, task_type),
        (provider, "", task_type),
        (provider, model, ""),
        ("", "", task_type),
        (provider, "", ""),
        ("", "", ""),
    )


def _tokens_per_char(sizes: Iterable[PromptSize]) -> dict[str, float]:
    """By provider, its tokens per character: languages and tokenizers differ widely."""
    found: dict[str, list[PromptSize]] = defaultdict(list)
    for size in sizes:
        found[size.provider].append(size)
    return {
        provider: max(0.0, sum(s.tokens - FRAME_TOKENS * s.messages for s in own)) / sum(s.chars for s in own)
        for provider, own in found.items()
        if len(own) >= ENOUGH_PROMPTS and sum(s.chars for s in own) > 0
    }


def record_of(rows: Sequence[CallSums]) -> Record | None:
    """The means over `rows` of usage; None without an answer."""
    answers = sum(r.ok for r in rows)
    if not answers:
        return None
    judged = answers + sum(r.failed + r.uncertain for r in rows)
    return Record(
        answers,
        answers / judged,
        sum(r.latency_us for r in rows) / 1e6 / answers,
        sum(r.prompt_tokens for r in rows) / answers,
        sum(r.output_tokens for r in rows) / answers,
    )
