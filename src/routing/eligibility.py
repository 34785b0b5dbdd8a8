"""Whether an option may serve a task now.

Each gate returns the `Refusal` that closes it, or None. Gates of the provider come before those of the task,
and cheap ones before expensive ones. A gate reserves nothing, so the scheduler may evaluate tasks that then
wait.
"""

from __future__ import annotations

from ..records import RefusalKind, Task
from .call_size import CallSizes, extra_tokens
from .canaries import is_due
from .health.circuit_breaker import CLOSED, OPEN
from .limits.group import RateLimitGroup
from .refusals import GROUP, NEVER, POOL, TASK, Refusal
from .registry import Registry
from .retry_state import RetryState
from .routes import CHARS_PER_TOKEN_AT_MOST, Option, Route
from .state import ModelState, ProviderState

RECHECK_S = 1.0  # when a gate that calls in flight decide is looked at again, should none of them end

# Refusals without a moment or detail of their own are made once.
_OFFLINE = Refusal(RefusalKind.OFFLINE, None, POOL)
_PAUSED = Refusal(RefusalKind.PAUSED)
_SUSPECT = Refusal(RefusalKind.SUSPECT)
_CONCURRENCY_LIMIT = Refusal(RefusalKind.CONCURRENCY_LIMIT)
_CONCURRENCY_SHARE = Refusal(RefusalKind.CONCURRENCY_SHARE)
_ZERO_WEIGHT = Refusal(RefusalKind.ZERO_WEIGHT, None, TASK)
_REFUSED_TASK = Refusal(RefusalKind.REFUSED_TASK, NEVER, TASK)
_UNKNOWN_PRICE = Refusal(RefusalKind.UNKNOWN_PRICE, NEVER, TASK)

_OF_BUDGET = {
    "unknown_price": RefusalKind.UNKNOWN_PRICE,
    "exhausted": RefusalKind.BUDGET_SPENT,
    "in_flight": RefusalKind.BUDGET_IN_USE,
    "too_large": RefusalKind.BUDGET_TOO_SMALL,
}


class Eligibility:
    """The gates in front of every option. All times are UTC epoch seconds passed in as `now`."""

    def __init__(self, registry: Registry, sizes: CallSizes) -> None:
        self._registry, self._sizes = registry, sizes
        self._stall_timeout_s = registry.settings.routing.stall_timeout_s

    # ------------------------------------------------------------------ the provider

    def of_provider(self, provider: ProviderState, now: float, *, for_canary: bool = False) -> Refusal | None:
        """Why no task at all may go to the provider now."""
        if self._registry.network.offline_since is not None:
            return _OFFLINE
        if provider.paused:
            return _PAUSED
        if provider.key.rejection or now < provider.key.doubt.until:
            return self._of_key(provider)
        if now < provider.quota.until:
            return _quota_spent(provider, provider.quota.until)
        breaker = provider.breaker
        if breaker.state is not CLOSED:
            refusal = self._of_open_breaker(provider, now, for_canary)
        elif provider.backoff.count or breaker.consecutive:
            refusal = self._of_failures(provider, now)
        else:
            refusal = None
        if refusal is None and provider.in_flight:
            return self._of_calls_in_flight(provider, now)
        return refusal

    def _of_key(self, provider: ProviderState) -> Refusal:
        if provider.key.rejection:
            until = None if self._registry.all_misconfigured else NEVER
            return Refusal(RefusalKind.KEY_REJECTED, until, detail=provider.key.rejection)
        return Refusal(RefusalKind.KEY_IN_DOUBT, provider.key.doubt.until)

    def _of_open_breaker(self, provider: ProviderState, now: float, for_canary: bool) -> Refusal | None:
        """A probe goes through everything that it is to test, but not before a time the provider named."""
        breaker = provider.breaker
        stated_until = provider.backoff.until if provider.backoff.is_stated else now
        if not breaker.admits(now):
            kind = RefusalKind.BREAKER_OPEN if breaker.state is OPEN else RefusalKind.BREAKER_HALF_OPEN
            return Refusal(kind, max(breaker.next_chance(now), stated_until))
        if is_due(self._registry, provider) and not for_canary:
            return Refusal(RefusalKind.BREAKER_HALF_OPEN, now + RECHECK_S)
        return Refusal(RefusalKind.OVERLOADED, stated_until) if now < stated_until else None

    def _of_failures(self, provider: ProviderState, now: float) -> Refusal | None:
        """After a back-off one call goes first; while failures in a row are in doubt, none does."""
        if now < provider.backoff.until:
            return Refusal(RefusalKind.OVERLOADED, provider.backoff.until)
        if provider.backoff.trial and now < provider.backoff.trial_until:
            return Refusal(RefusalKind.OVERLOAD_TRIAL, provider.backoff.trial_until)
        if provider.breaker.doubtful(now):
            return Refusal(RefusalKind.FAILING, now + RECHECK_S)
        return None

    def _of_calls_in_flight(self, provider: ProviderState, now: float) -> Refusal | None:
        in_flight, breaker = provider.in_flight, provider.breaker
        closed = breaker.state is CLOSED  # else the probe decides, beside calls that may hang
        silent = closed and now - provider.connection.heard_at > self._stall_timeout_s
        if silent and self._is_suspect(provider, now):
            return _SUSPECT
        limit, most = provider.concurrency.limit, self._registry.most_in_flight
        if in_flight >= (limit if closed else most):
            return _CONCURRENCY_LIMIT if limit < most else _CONCURRENCY_SHARE
        if breaker.slow_start_from is not None and in_flight >= max(
            1.0, breaker.slow_start_share(now) * limit
        ):
            return Refusal(RefusalKind.SLOW_START, breaker.slow_start_reaches(in_flight / limit, now))
        if provider.quota.until:
            return _quota_spent(provider, None)  # one call at a time probes the quota
        return None

    def _is_suspect(self, provider: ProviderState, now: float) -> bool:
        if provider.connection.probe_allowed:
            return False
        return provider.silent_since(now, self._stall_timeout_s) is not None

    # ------------------------------------------------------------------ the task

    def of_task(
        self, option: Option, task: Task, route: Route, retry: RetryState, now: float
    ) -> Refusal | None:
        """Why this task may not use the option, although its provider takes tasks."""
        model = option.model
        if model.is_out or model.was_out or now < model.doubt.until:
            refusal = _of_model(model, now)
            if refusal is not None:
                return refusal
        if (
            retry.attempt > 1
            or task.text_chars > option.most_chars
            or task.media
            or option.provider.weight <= 0
        ):
            refusal = self._of_suitability(option, task, route, retry, now)
            if refusal is not None:
                return refusal
        return self._of_limits(option, task, retry, now) or (
            self.of_budgets(option, task, route, retry, now) if self._registry.budgets is not None else None
        )

    @staticmethod
    def _of_suitability(
        option: Option, task: Task, route: Route, retry: RetryState, now: float
    ) -> Refusal | None:
        """By the task's size, its pins and its earlier attempts."""
        provider = option.provider
        if _is_too_long(task, option) or (retry.avoid and _avoids(retry, option)):
            return Refusal(RefusalKind.MODEL_UNSUITABLE, NEVER, TASK, option.model.name)
        if provider.weight <= 0 and not route.pinned:
            return _ZERO_WEIGHT
        if retry.refused & provider.bit:
            return _REFUSED_TASK
        if retry.tried & provider.bit and now < retry.tried_until and retry.again != provider.index:
            return Refusal(RefusalKind.FAILED_TASK, retry.tried_until, TASK)
        return None

    def _of_limits(self, option: Option, task: Task, retry: RetryState, now: float) -> Refusal | None:
        group = option.model.group
        hold = group.head_of_line
        if hold is not None and retry.order and hold[0] < retry.order and now < hold[1]:
            return Refusal(RefusalKind.HEAD_OF_LINE, hold[1], TASK)
        closed = group.closed(now)
        if closed is not None:
            return Refusal(closed.kind, closed.until, GROUP, closed.detail)
        if retry.draws_429 or now < group.evidence.first_until:
            refusal = self._of_429s(group, retry, now)
            if refusal is not None:
                return refusal
        if not group.counts_tokens or self._sizes.surely_fits(option, task, retry):
            return None
        dimension, wait_s = group.wait(self._sizes.need(option, task, retry), now)
        return Refusal(RefusalKind.RATE_LIMIT, now + wait_s, TASK, dimension) if wait_s else None

    def _of_429s(self, group: RateLimitGroup, retry: RetryState, now: float) -> Refusal | None:
        """After a hold one call goes first; a task that drew 429s waits for a call of another one."""
        if now < group.evidence.first_until:
            return Refusal(RefusalKind.TRIAL_AFTER_429, group.evidence.first_until, TASK)
        if retry.draws_429 and self._registry.canaries and group.evidence.wants_neighbour(retry, now):
            return Refusal(RefusalKind.NEIGHBOUR_FIRST, now + RECHECK_S, TASK)
        return None

    def of_budgets(
        self, option: Option, task: Task, route: Route, retry: RetryState, now: float
    ) -> Refusal | None:
        """Why no budget affords the call, not even with a smaller max_tokens where that is a default."""
        budgets, sizes = self._registry.budgets, self._sizes
        if budgets is None:
            return None
        price = self._registry.price_of(option.provider, option.model, now)
        max_tokens, defaulted = sizes.max_tokens(option, task, retry), route.defaulted_max_tokens
        bound = sizes.upper_bound(price, task, option.provider, max_tokens)
        least = sizes.least(max_tokens, defaulted=defaulted)
        minimum = sizes.upper_bound(price, task, option.provider, least) or 1
        refusal = budgets.check(now, option.provider.name, task.batch, task.submitter, bound, minimum)
        if refusal is None:
            return None
        kind = _OF_BUDGET[refusal.reason]
        if kind is RefusalKind.UNKNOWN_PRICE:
            return _UNKNOWN_PRICE
        if (
            not refusal.in_flight
            and defaulted
            and sizes.affordable(price, task, option.provider, refusal.headroom_nanos)
        ):
            return None
        return Refusal(kind, refusal.until, TASK, str(refusal.rule), refusal)


def last_to_end(refusal: Refusal, by_budget: Refusal | None) -> Refusal:
    """Of a provider's refusal with an end and that of a budget, the one that lasts longer.

    The result names the budget in either case, since it has to end too.
    """
    if by_budget is None:
        return refusal
    if refusal.until is not None and by_budget.until is not None and by_budget.until > refusal.until:
        return by_budget
    return refusal._replace(budget=by_budget.budget)


def _quota_spent(provider: ProviderState, until: float | None) -> Refusal:
    return Refusal(RefusalKind.QUOTA_SPENT, until, detail=provider.quota.code)


def _of_model(model: ModelState, now: float) -> Refusal | None:
    """Why no call goes to a model that was not found."""
    if model.is_out:
        return Refusal(RefusalKind.MODEL_UNAVAILABLE, NEVER, TASK, model.name)
    until = max(model.doubt.until, model.trial_until if model.trial else 0.0)
    return Refusal(RefusalKind.MODEL_IN_DOUBT, until, TASK, model.name) if now < until else None


def _is_too_long(task: Task, option: Option) -> bool:
    """Whether the prompt can't fit the model's window; an image counts like the text of as many tokens."""
    chars = task.text_chars
    if task.media:
        chars += CHARS_PER_TOKEN_AT_MOST * extra_tokens(task, option.provider)
    return chars > option.most_chars


def _avoids(retry: RetryState, option: Option) -> bool:
    """Whether the model can't serve the task, at any provider or at this one."""
    name = option.model.name
    return name in retry.avoid or f"{option.provider.name}/{name}" in retry.avoid
