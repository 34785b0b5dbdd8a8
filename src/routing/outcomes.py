"""The consequences of a call's end for money, limits and health, and for later calls.

Called once per permit. The effects of each error class are those of the table of failures in the summary
document. What the *task* does next is decided in `retry_policy.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import (
    PROVIDER_ERRORS,
    AuthFailed,
    ModelUnavailable,
    Overloaded,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    TimedOut,
    Unreachable,
)
from ..records import FLEX, Attempt, Completion, LimitReport, Outcome, ProviderCondition, RefusalKind, Usage
from ..refusal_text import refusal_text
from .canaries import comes_again, health_of
from .connectivity import ConnectivityMonitor
from .limits.attribution import NO_CANARY_S
from .registry import Registry
from .state import Permit
from .verification import FORBIDDEN, Verifier

LONGEST_QUOTA_S = 36 * 3600.0  # no quota is longer than a day; the rest is for clocks and zones
SAME_RESET_S = 60.0  # calls in flight get the same reset at different moments, in whole seconds
_ERROR_CHARS = 200

_OK = Outcome.OK  # a module name is found faster than a member of a class, after every call


class CallEnd(NamedTuple):
    """How a call has ended. `limits`: the reports of its response headers, in the order of the headers."""

    outcome: Outcome
    latency_s: float = 0.0
    usage: Usage | None = None
    error: ProviderError | None = None
    limits: Sequence[LimitReport] = ()
    price_factor: float = 1.0  # of the service tier that served it


class OutcomeRecorder:
    """Applies the end of a call to the components of its provider. Times are UTC epoch seconds."""

    def __init__(self, registry: Registry, connectivity: ConnectivityMonitor, verifier: Verifier) -> None:
        self._registry, self._connectivity, self._verifier = registry, connectivity, verifier

    def record(self, held: Permit, end: CallEnd, now: float) -> int | None:
        """Apply everything that the call has shown. Its cost in nano-dollars; None: the price is unknown."""
        registry, provider, error = self._registry, held.provider, end.error
        cost = self._settle_money(held, end, now)
        self._settle_limits(held, end, now)
        provider.statistics.record(end.outcome, end.usage, cost, error, now)
        self._settle_health(held, end, now)
        self._connectivity.settled(provider, end.outcome, error, held.placed_at, now)
        if end.outcome is _OK:
            self._verifier.succeeded(held, now)
            self._answered(held, end.usage)
            self._connectivity.stalls.answered(held, end.latency_s, now)
        elif error is not None:
            self._apply_error(held, error, now)
        held.model.call_ended(held.number)
        registry.rescore_one(provider, now)
        if error is not None or provider.shown_state is not ProviderCondition.HEALTHY:
            registry.status.report(provider, now)
        return cost

    # ------------------------------------------------------------------ money and limits

    def _settle_money(self, held: Permit, end: CallEnd, now: float) -> int | None:
        uncertain = end.outcome is Outcome.UNCERTAIN and end.usage is None
        price = self._registry.price_of(held.provider, held.model, held.placed_at)
        cost: int | None
        if end.usage is not None:
            cost = price.charge(end.usage, end.price_factor).cost_nanos if price is not None else None
        elif uncertain:
            cost = held.upper_bound_nanos if price is not None else None
        else:
            cost = 0
        if self._registry.budgets is not None and held.budget is not None:
            if cost == 0:
                self._registry.budgets.cancel(held.budget)
            else:
                self._registry.budgets.settle(held.budget, cost or 0, uncertain=uncertain)
        return cost

    @staticmethod
    def _settle_limits(held: Permit, end: CallEnd, now: float) -> None:
        group, is_ok = held.model.group, end.outcome is _OK
        group.settle(held.reservation, end.usage, charged=end.outcome is Outcome.UNCERTAIN, now=now)
        group.evidence.settled(held.number)
        if end.limits:
            group.learn(end.limits, held.reservation, now)
            if (per_s := group.stated_per_s) is not None:
                held.provider.concurrency.stated(per_s)
        answered = is_ok or (end.error is not None and end.error.status is not None)
        if answered and group.unknown and not isinstance(end.error, RateLimited):
            group.answered_without_headers(now)
        if is_ok:
            group.succeeded(held.reservation, now)
            group.evidence.answered(held.retry, held.number, held.chars)

    # ------------------------------------------------------------------ health

    def _settle_health(self, held: Permit, end: CallEnd, now: float) -> None:
        provider, error = held.provider, end.error
        healthy = self._health_of(held, end, now)
        if healthy is not None and not held.canary and not isinstance(error, AuthFailed):
            self._note_time(held, end, healthy, now)
        if isinstance(error, TimedOut) and held.placed_at < provider.connection.trusted_from:
            healthy = None  # it has answered since: a silence that has ended opens no breaker
        if held.canary:
            self._note_canary(held, healthy, error, now)
        if healthy is False:
            self._failed(held, error, now)
        else:
            provider.breaker.settle(healthy, held.probe, now, canary=held.canary)

    @staticmethod
    def _note_time(held: Permit, end: CallEnd, healthy: bool, now: float) -> None:
        """What the time of a call says of its provider."""
        provider = held.provider
        if not (held.embeds or held.is_flex):  # their time says nothing of that of answers
            provider.history.record(healthy, end.latency_s, now)
        kind = (held.model.name, f"{held.task_type} {FLEX}" if held.is_flex else held.task_type)
        if healthy and not held.has_begun:
            provider.concurrency.answered(placed_at=held.placed_at, kind=kind, latency_s=end.latency_s)
        provider.concurrency.record(
            ok=healthy, placed_at=held.placed_at, latency_s=end.latency_s,
            kind=kind, in_flight=held.in_flight, now=now,
        )  # fmt: skip

    def _health_of(self, held: Permit, end: CallEnd, now: float) -> bool | None:
        """Whether this call shows the provider healthy; None: it shows neither."""
        if end.outcome is _OK:
            return True
        error = end.error
        if error is None:
            return None
        healthy = health_of(error) if held.canary else _health_by(error, held, end.latency_s)
        return None if healthy is False and self._was_cut_off(held, error, now) else healthy

    def _was_cut_off(self, held: Permit, error: ProviderError, now: float) -> bool:
        """Whether the network, the machine's sleep or a comparison ended the call, not the provider."""
        network = self._registry.network
        if held.placed_at < network.jumped_at or held.compared:
            return True
        return isinstance(error, TimedOut | Unreachable) and network.was_offline(held.placed_at, now)

    def _note_canary(
        self, held: Permit, healthy: bool | None, error: ProviderError | None, now: float
    ) -> None:
        """Apply a canary's outcome. Failures before an answered one are the tasks' own."""
        provider = held.provider
        if healthy:
            provider.call_answered(held.number)
            result = "was answered, so the failures before it are the tasks' own"
        elif healthy is False:
            result = f"failed too: {error.message[:_ERROR_CHARS] if error is not None else ''}"
        else:
            result = "was not accepted"
            if not comes_again(error):
                provider.no_canary = provider.breaker.stage
        text = f"{provider.name}: the canary (one token) {result}"
        self._registry.events.add(now, "canary", text, provider.name)

    def _failed(self, held: Permit, error: ProviderError | None, now: float) -> None:
        """A failure that counts: against the provider, or against its task alone."""
        provider, retry = held.provider, held.retry
        blamed = retry is not None and any(
            self._registry.providers[index].answered > number for index, number in retry.failed
        )
        if retry is not None and all(index != provider.index for index, _ in retry.failed):
            retry.failed = (*retry.failed, (provider.index, held.number))
        provider.breaker.settle(
            False, held.probe, now,
            blamed=blamed, others_serve=self._registry.others_serve(provider, now),
        )  # fmt: skip
        if blamed or provider.answered > held.number:
            return  # calls that were sent later have been answered
        if isinstance(error, Overloaded):
            self._back_off(held, error, now)
        elif isinstance(error, TimedOut):
            provider.backoff.timed_out(held.number, held.placed_at, now)

    def _back_off(self, held: Permit, error: Overloaded, now: float) -> None:
        backoff, breaker = held.provider.backoff, held.provider.breaker
        stated_s = error.retry_after_s or 0.0
        ignores = (
            held.placed_at > backoff.began_at
            and not stated_s
            and (
                backoff.is_needless(breaker.consecutive, self._registry.settings.breaker.window_s, now)
                or breaker.false_alarm(now)
            )
        )
        backoff.overloaded(held.number, held.placed_at, stated_s, now, ignores=ignores)

    def _answered(self, held: Permit, usage: Usage | None) -> None:
        provider = held.provider
        provider.call_answered(held.number)
        if provider.backoff.count or provider.backoff.until > held.placed_at:
            provider.backoff.answered(held.number, held.placed_at)
        if provider.quota.until:
            provider.quota.answered(held.placed_at)
        if usage is not None and not held.canary and not held.embeds:
            text_chars = 0 if held.has_media else held.chars
            provider.estimators.observe(held.task_type, text_chars, held.messages, usage)

    # ------------------------------------------------------------------ limits and quotas that were reached

    def _apply_error(self, held: Permit, error: ProviderError, now: float) -> None:
        if isinstance(error, RateLimited):
            self._rate_limited(held, error, now)
        elif isinstance(error, QuotaExhausted):
            self._exhausted(held, error, now)
        elif isinstance(error, AuthFailed | ModelUnavailable):
            self._verifier.refused(held, error, now)

    def _rate_limited(self, held: Permit, error: RateLimited, now: float) -> None:
        """Hold the group, unless the 429 is its task's own: see `limits/attribution.py`."""
        group, retry = held.model.group, held.retry
        if held.canary:
            group.evidence.no_canary_until = now + NO_CANARY_S
        if retry is not None:
            known = retry.is_limited_alone
            counts = group.evidence.counts(retry, held.number, held.chars)
            if (retry.is_limited_alone and not known) or (counts and group.evidence.are_tasks_own):
                group.go_on_as_before(now)
                group.rejections.begin_stray(now)
            if counts or known:
                group.refused_for_its_task()
                return
        wait_s = min(error.retry_after_s or 0.0, self._registry.settings.routing.max_hold_s)
        was_held = now < group.held_until
        group.rate_limited(wait_s, held.reservation.sent_at, now)
        if now < group.held_until and not was_held:
            group.evidence.hold_began()

    def _exhausted(self, held: Permit, error: QuotaExhausted, now: float) -> None:
        code = str(error.code or error.status)
        routing = self._registry.settings.routing
        if error.resets_at is None:
            held.provider.quota.spent(code, now + routing.quota_probe_s, now)
            return
        longest_s = routing.max_hold_s if error.reset_guessed else LONGEST_QUOTA_S
        self._hold_until(min(error.resets_at, now + longest_s), code, held, now)
        self._probe_before(error, held, now)

    def _probe_before(self, error: QuotaExhausted, held: Permit, now: float) -> None:
        """Where the provider names a time before its reset, one call probes then, and seldom after a
        failure."""
        wait_s = error.retry_after_s
        if wait_s is None or error.resets_at is None or now + wait_s >= error.resets_at - SAME_RESET_S:
            return
        if held.reservation.probe:
            wait_s = max(wait_s, self._registry.settings.routing.quota_probe_s)
        held.model.group.probe_from(now + wait_s, now)

    def _hold_until(self, resets_at: float, code: str, held: Permit, now: float) -> None:
        """Hold the group until the reset, with one event for all calls in flight."""
        group, provider = held.model.group, held.provider
        is_known = group.held_kind is RefusalKind.QUOTA_SPENT and group.held_detail == code
        known_until = group.held_until if is_known and now < group.held_until else now
        is_news = resets_at > now and (known_until == now or resets_at > known_until + SAME_RESET_S)
        group.hold(resets_at, RefusalKind.QUOTA_SPENT, now, code)
        if is_news:
            text = f"{provider.name}: {refusal_text(RefusalKind.QUOTA_SPENT, code)}"
            self._registry.events.add(now, "quota_exhausted", text, provider.name, "alert", until=resets_at)
            self._registry.status.report(provider, now, silently=True)


def _health_by(error: ProviderError, held: Permit, latency_s: float) -> bool | None:
    """Whether a task's failed call shows the provider healthy; None: it shows neither."""
    provider = held.provider
    if isinstance(error, AuthFailed):  # a 403 may concern the request, where the key has worked
        return False if provider.key.worked and error.status != FORBIDDEN else None
    if isinstance(error, TimedOut) and held.cut_short:
        quantiles = provider.history.quantiles()
        if quantiles is not None and latency_s < quantiles[1]:
            return None  # the task had less time than an answer usually takes
    return False if error.counts_against_health else None


def outcome_of(completion: Completion | None, error: ProviderError | None) -> Outcome:
    """How a call is settled. One that was cut off, timed out or cancelled in flight may have been billed."""
    if completion is not None:
        return Outcome.OK
    if error is None:
        return Outcome.UNCERTAIN
    unanswered = error.status is None or error.status == 200
    if error.may_be_billed and error.sent and unanswered and error.usage is None:
        return Outcome.UNCERTAIN
    return Outcome.FAILED if error.counts_against_health else Outcome.NEUTRAL


def costs_attempt(attempt: Attempt, offered_at: float, registry: Registry) -> bool:
    """Whether a call uses up one of its task's attempts: a forced call or a dead network does not.

    `offered_at`: when the task was offered, UTC epoch seconds.
    """
    if attempt.forced or not attempt.error_kind:
        return False
    if attempt.error_kind in ("Unreachable", "TimedOut") and _may_be_network(attempt, offered_at, registry):
        return False
    return PROVIDER_ERRORS[attempt.error_kind].costs_attempt


def _may_be_network(attempt: Attempt, offered_at: float, registry: Registry) -> bool:
    if attempt.started_at < offered_at:
        return True  # before a restart: network outages of that time are unknown now
    ended_at = attempt.started_at + attempt.latency_s
    if registry.network.was_offline(attempt.started_at, ended_at):
        return True
    lost = attempt.error_kind == "Unreachable" and attempt.status is None
    return lost and not registry.heard_since(ended_at)
