"""What tasks will cost before they are started: what is to be expected, and what it can come to at most."""

from __future__ import annotations

from dataclasses import dataclass

from ...records import GENERAL, Task, Usage
from ...routing.estimates import TOKENS_PER_CHAR, TOKENS_PER_MESSAGE
from ...routing.pricing import CompiledPrice, catalogue_of
from ...routing.routes import choose_tier
from ...settings import ProviderRow
from ..site import Site
from .usage import DAY_S
from .weights import current_weights

LEARNED_DAYS = 30
UNLEARNED_PART = 0.5  # of max_tokens, where no answer is known yet


@dataclass(frozen=True, slots=True)
class Expectation:
    """`expected_nanos` by earlier answers; `at_most_nanos` if each takes one call and all its max_tokens."""

    tasks: int
    expected_nanos: int
    at_most_nanos: int
    unknown_price_tasks: int
    learned_from: int  # answers of the last 30 days that the lengths were taken from


class CostEstimate:
    """Adds up tasks one by one; see `Expectation`."""

    def __init__(self, site: Site) -> None:
        self._site, self._now = site, site.now()
        self._weights = {n: w for n, w in current_weights(site).items() if n in site.configured}
        self._lengths, self._learned_from = _answer_lengths(site, self._now)
        self._tasks = self._expected = self._at_most = self._unknown = 0

    def add(self, task: Task) -> None:
        self._tasks += 1
        tier = choose_tier(task, self._site.settings)
        choices = [(n, w, p) for n, w in self._shares(task) for p in [self._price(n, task, tier)]]
        known = [(weight, price) for _, weight, price in choices if price is not None]
        if not known or len(known) < len(choices):
            self._unknown += 1
        if not known:
            return
        max_tokens = task.max_tokens or self._site.settings.tiers.max_tokens(tier)
        usage = self._usage(task, max_tokens)
        total = sum(weight for weight, _ in known) or 1.0
        self._expected += int(sum(w * price.cost_nanos(usage) for w, price in known) / total)
        bounds = (p.upper_bound_nanos(task.prompt_bytes, len(task.messages), max_tokens) for _, p in known)
        self._at_most += max(bounds)

    def result(self) -> Expectation:
        return Expectation(self._tasks, self._expected, self._at_most, self._unknown, self._learned_from)

    def _shares(self, task: Task) -> list[tuple[str, float]]:
        """Who may serve the task, and how much of such tasks each is likely to get."""
        settings = self._site.settings
        able = {n: w for n, w in self._weights.items() if not task.providers or n in task.providers}
        row = settings.task_types.get(task.task_type)
        if settings.routing.preferences and row is not None and able.get(row.prefer):
            return [(row.prefer, 1.0)]
        used = {n: w for n, w in able.items() if w > 0} or able
        return list(used.items())

    def _price(self, provider: str, task: Task, tier: str) -> CompiledPrice | None:
        settings = self._site.settings
        row: ProviderRow = settings.providers[provider]
        own = [m for m in task.models if settings.model_row(settings.resolve_model(m)[0]).wire == row.wire]
        model = settings.resolve_model(own[0] if own else row.models.of(tier))[0]
        return self._site.prices.price(catalogue_of(provider, row.wire, row.base_url), model, self._now)

    def _usage(self, task: Task, max_tokens: int) -> Usage:
        learned = self._lengths.get(task.task_type, self._lengths.get(""))
        output = int(max_tokens * UNLEARNED_PART) if learned is None else min(max_tokens, int(learned))
        prompt = int(task.prompt_chars * TOKENS_PER_CHAR) + TOKENS_PER_MESSAGE * len(task.messages)
        return Usage(input_tokens=prompt, output_tokens=output)


def _answer_lengths(site: Site, now: float) -> tuple[dict[str, float], int]:
    """Mean tokens of an answer by task type, under "" of all, and how many answers that is from."""
    rows = site.store.usage(now - LEARNED_DAYS * DAY_S, now + 60, ("task_type",))
    answered = {str(row.key[0]) or GENERAL: row.sums for row in rows if row.sums.ok}
    lengths = {name: sums.output_tokens / sums.ok for name, sums in answered.items()}
    count = sum(sums.ok for sums in answered.values())
    if count:
        lengths[""] = sum(sums.output_tokens for sums in answered.values()) / count
    return lengths, count
