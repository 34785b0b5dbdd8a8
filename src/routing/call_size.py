"""The size of a call: its answer's limit, its share of token limits, and its highest price."""

from __future__ import annotations

import math

from ..records import Task
from .cost.budgets import affordable_max_tokens
from .cost.pricing import CompiledPrice
from .limits.estimator import SAFETY, TOKENS_PER_MESSAGE
from .limits.group import ONE_CALL, Need
from .registry import Registry
from .retry_state import RetryState
from .routes import Option
from .state import ProviderState

MEDIA_MARGIN = 1.5  # a budget holds although the formulas for images and documents are estimates


def extra_tokens(task: Task, provider: ProviderState) -> int:
    """The tokens of the task's images and documents, which no number of characters shows."""
    count = provider.config.api.media_tokens
    return sum(count(each) for each in task.media) if task.media else 0


class CallSizes:
    """Sizes of calls to an option, in tokens and nano-dollars. Reserves nothing."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._least_max_tokens = registry.settings.budgets.min_max_tokens

    def max_tokens(self, option: Option, task: Task, retry: RetryState) -> int:
        """The longest answer to request, in tokens. A default leaves the prompt its place in the window."""
        wanted = retry.max_tokens or option.max_tokens
        if task.max_tokens is not None:
            return wanted
        extra = extra_tokens(task, option.provider)
        frame = TOKENS_PER_MESSAGE * (len(task.messages) + 1) + extra
        if wanted + task.prompt_bytes + frame <= option.window:  # no prompt has more tokens than bytes
            return wanted
        estimator = option.provider.estimators.of(task.task_type)
        prompt = task.text_chars * estimator.tokens_per_char * SAFETY
        prompt += TOKENS_PER_MESSAGE * len(task.messages) + extra
        return min(wanted, max(self._least_max_tokens, int(option.window - prompt)))

    def need(self, option: Option, task: Task, retry: RetryState) -> Need:
        """The expected use of the limits of the option's group."""
        if not option.model.group.counts_tokens:
            return ONE_CALL
        estimator = option.provider.estimators.of(task.task_type)
        max_tokens, extra = self.max_tokens(option, task, retry), extra_tokens(task, option.provider)
        return estimator.need(task.text_chars, len(task.messages), max_tokens, extra)

    def surely_fits(self, option: Option, task: Task, retry: RetryState) -> bool:
        """Whether the group has tokens for the call by any estimate; cheaper than to estimate its need."""
        most = task.text_chars * option.provider.estimators.most_tokens_per_char * SAFETY + 1.0
        most += TOKENS_PER_MESSAGE * len(task.messages) + (retry.max_tokens or option.max_tokens)
        if task.media:
            most += extra_tokens(task, option.provider)
        for bucket in option.model.group.token_buckets:  # noqa: SIM110  # at every decision
            if bucket.level < most:  # as it was last seen: it can only have grown since
                return False
        return True

    def upper_bound(
        self, price: CompiledPrice | None, task: Task, provider: ProviderState, max_tokens: int
    ) -> int | None:
        """The most that the call can cost, in nano-dollars; None where the price is unknown."""
        if price is None:
            return None
        return price.upper_bound_nanos(_prompt_tokens_at_most(task, provider), len(task.messages), max_tokens)

    def affordable(
        self, price: CompiledPrice | None, task: Task, provider: ProviderState, headroom_nanos: int
    ) -> int | None:
        """The max_tokens that `headroom_nanos` affords; None: fewer than are useful."""
        if price is None:
            return None
        size = _prompt_tokens_at_most(task, provider), len(task.messages)
        return affordable_max_tokens(price, *size, headroom_nanos, self._least_max_tokens)

    def least(self, max_tokens: int, *, defaulted: bool) -> int:
        """The smallest max_tokens that the call may be clamped to."""
        return min(self._least_max_tokens, max_tokens) if defaulted else max_tokens


def _prompt_tokens_at_most(task: Task, provider: ProviderState) -> int:
    """A token is a byte at least."""
    if not task.media:
        return task.prompt_bytes
    return task.prompt_bytes + math.ceil(MEDIA_MARGIN * extra_tokens(task, provider))
