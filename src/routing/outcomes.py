"""What an attempt's end means: for money, limits, health, and for calls to come.

Called by the balancer once per permit. The effects of each error class are those of the table of
failures in the summary document; what the *task* does next is `retry_policy.py`'s business.
"""

from __future__ import annotations

from collections.abc import Sequence

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
from ..records import Attempt, Completion, LimitReport, Outcome, RefusalKind, Usage
from ..refusal_text import refusal_text
from .canaries import comes_again, health_of
from .connectivity import ConnectivityMonitor
from .limits.attribution import NO_CANARY_S
from .registry import Registry
from .state import Permit
from .verification import FORBIDDEN, Verifier

LONGEST_QUOTA_S = 36 * 3600.0  # no quota is longer than a day; the rest is for clocks and zones
SAME_RESET_S = 60.0  # calls in flight are told the same reset at different moments, as so many seconds

_OK = Outcome.OK  # a name of its own is found sooner, at every decision


class OutcomeRecorder:
    """See the top of the file."""

    def __init__(self, registry: Registry, reach: ConnectivityMonitor, verifier: Verifier) -> None:
        self._registry, self._connectivity, self._verifier = registry, reach, verifier

    def settle(
        self,
        held: Permit,
        outcome: Outcome,
        now: float,
        *,
        latency_s: float,
        usage: Usage | None,
        error: ProviderError | None,
        limits: Sequence[LimitReport],
    ) -> int | None:
        """Take over everything the attempt has shown. Returns its cost, None where the price is unknown."""
        registry, provider = self._registry, held.provider
        cost = self._settle_money(held, outcome, usage, now)
        self._settle_limits(held, outcome, usage, error, limits, now)
        provider.statistics.record(outcome, usage, cost, error)
        healthy = self._health_of(held, outcome, error, latency_s)
        if healthy is False and self._was_cut_off(held, error, now):
            healthy = None
        if healthy is not None and not held.canary and not isinstance(error, AuthFailed):
            provider.history.record(healthy, latency_s, now)
            provider.concurrency.record(
                ok=healthy, placed_at=held.placed_at, latency_s=latency_s,
                kind=(held.model.name, held.task_type), in_flight=held.in_flight, now=now,
            )  # fmt: skip
        if isinstance(error, TimedOut) and held.placed_at < provider.connection.trusted_from:
            healthy = None  # it has answered since: late news of a silence that is over opens no breaker
        if held.canary:
            self._note_canary(held, healthy, error, now)
        if healthy is False:
            self._failed(held, error, now)
        else:
            provider.breaker.settle(healthy, held.probe, now, forced=held.forced, canary=held.canary)
        self._connectivity.settled(provider, outcome, error, held.placed_at, now)
        if outcome is _OK:
            self._verifier.succeeded(held, now)
            self._succeeded(held, usage)
            self._connectivity.stalls.answered(held, latency_s, now)
        elif error is not None:
            self._apply_error(held, error, now)
        held.model.call_ended(held.number)
        registry.rescore_one(provider, now)
        if error is not None or provider.shown_state != "healthy":
            registry.status.report(provider, now)
        return cost

    def _note_canary(
        self, held: Permit, healthy: bool | None, error: ProviderError | None, now: float
    ) -> None:
        """Say what it has shown. What failed before one that was answered is the rows' own from now on."""
        provider = held.provider
        if healthy:
            provider.call_answered(held.number)
            said = "was answered, so the failures before it are the tasks' own"
        elif healthy is False:
            said = f"failed too: {error.message[:200] if error is not None else ''}"
        else:
            said = "was not accepted"
            if not comes_again(error):
                provider.no_canary = provider.breaker.stage
        text = f"{provider.name}: the canary (one token) {said}"
        self._registry.events.add(now, "canary", text, provider.name, "info")

    def _failed(self, held: Permit, error: ProviderError | None, now: float) -> None:
        """A failure that counts: against the provider, or against its row alone."""
        provider, retry = held.provider, held.retry
        blamed = retry is not None and any(
            self._registry.providers[index].answered > number for index, number in retry.failed
        )
        if retry is not None and all(index != provider.index for index, _ in retry.failed):
            retry.failed = (*retry.failed, (provider.index, held.number))
        provider.breaker.settle(
            False, held.probe, now,
            forced=held.forced, blamed=blamed, others_serve=self._registry.others_serve(provider, now),
        )  # fmt: skip
        if blamed or provider.answered > held.number:
            return  # calls sent later have been answered
        if isinstance(error, Overloaded):
            self._back_off(held, error, now)
        elif isinstance(error, TimedOut):
            provider.backoff.timed_out(held.number, held.placed_at, now)

    def _back_off(self, held: Permit, error: Overloaded, now: float) -> None:
        provider = held.provider
        breaker, window_s = provider.breaker, self._registry.settings.breaker.window_s
        told_s = error.retry_after_s or 0.0
        ignores = (
            held.placed_at > provider.backoff.began_at
            and not told_s
            and (provider.backoff.is_needless(breaker.consecutive, window_s, now) or breaker.false_alarm(now))
        )
        provider.backoff.overloaded(held.number, held.placed_at, told_s, now, ignores=ignores)

    def _settle_money(self, held: Permit, outcome: Outcome, usage: Usage | None, now: float) -> int | None:
        uncertain = outcome is Outcome.UNCERTAIN and usage is None
        price = self._registry.price_of(held.provider, held.model, held.placed_at)
        cost: int | None
        if usage is not None:
            cost = price.cost_nanos(usage) if price is not None else None
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

    def _settle_limits(
        self,
        held: Permit,
        outcome: Outcome,
        usage: Usage | None,
        error: ProviderError | None,
        limits: Sequence[LimitReport],
        now: float,
    ) -> None:
        group = held.model.group
        group.settle(held.reservation, usage, charged=outcome is Outcome.UNCERTAIN, now=now)
        group.evidence.settled(held.number)
        if limits:
            group.learn(limits, held.reservation, now)
            if (per_s := group.stated_per_s) is not None:
                held.provider.concurrency.stated(per_s)
        answered = outcome is _OK or (error is not None and error.status is not None)
        if answered and group.unknown and not isinstance(error, RateLimited):
            group.answered_without_headers(now)
        if outcome is _OK:
            group.succeeded(held.reservation, now)
            group.evidence.answered(held.retry, held.number, held.chars)

    @staticmethod
    def _health_of(
        held: Permit, outcome: Outcome, error: ProviderError | None, latency_s: float
    ) -> bool | None:
        provider = held.provider
        if outcome is _OK:
            return True
        if error is None:
            return None
        if held.canary:
            return health_of(error)
        if isinstance(error, AuthFailed):  # a 403 may be about the request, where the key has worked
            return False if provider.key.worked and error.status != FORBIDDEN else None
        if isinstance(error, TimedOut) and held.cut_short:
            quantiles = provider.history.quantiles()
            if quantiles is not None and latency_s < quantiles[1]:
                return None  # the task had less time than an answer usually takes
        return False if error.counts_against_health else None

    def _was_cut_off(self, held: Permit, error: ProviderError | None, now: float) -> bool:
        """Whether the network failed the call, or a laptop's sleep, or a comparison, and not the provider."""
        if held.placed_at < self._registry.network.jumped_at or held.compared:
            return True
        return isinstance(error, TimedOut | Unreachable) and self._registry.network.was_offline(
            held.placed_at, now
        )

    def _succeeded(self, held: Permit, usage: Usage | None) -> None:
        provider = held.provider
        provider.call_answered(held.number)
        provider.backoff.answered(held.number, held.placed_at)
        provider.quota.answered(held.placed_at)
        if usage is not None and not held.canary:
            provider.estimators.observe(held.task_type, held.chars, held.messages, usage)

    def _apply_error(self, held: Permit, error: ProviderError, now: float) -> None:
        """What the error means for calls to come: see the table of failures in the summary document."""
        if isinstance(error, RateLimited):
            self._rate_limited(held, error, now)
        elif isinstance(error, QuotaExhausted):
            self._exhaust(held, error, now)
        elif isinstance(error, AuthFailed | ModelUnavailable):
            self._verifier.refused(held, error, now)

    def _rate_limited(self, held: Permit, error: RateLimited, now: float) -> None:
        """Hold the model group, unless the 429 is its row's own: see `attribution.py`."""
        group, retry = held.model.group, held.retry
        if held.canary:
            group.evidence.no_canary_until = now + NO_CANARY_S
        if retry is not None:
            known = retry.is_limited_alone
            counts = group.evidence.counts(retry, held.number, held.chars)
            if (retry.is_limited_alone and not known) or (counts and group.evidence.is_of_rows):
                group.go_on_as_before(now)
                group.rejections.begin_stray(now)
            if counts or known:
                return
        wait_s = min(error.retry_after_s or 0.0, self._registry.settings.routing.max_hold_s)
        was_held = now < group.held_until
        group.rate_limited(wait_s, held.reservation.sent_at, now)
        if now < group.held_until and not was_held:
            group.evidence.hold_began()

    def _exhaust(self, held: Permit, error: QuotaExhausted, now: float) -> None:
        code = str(error.code or error.status)
        if error.resets_at is not None:
            longest_s = self._registry.settings.routing.max_hold_s if error.reset_guessed else LONGEST_QUOTA_S
            self._hold_until(min(error.resets_at, now + longest_s), code, held, now)
            self._probe_before(error, held, now)
            return
        again_at = now + self._registry.settings.routing.quota_probe_s
        held.provider.quota.spent(code, again_at, now)

    def _probe_before(self, error: QuotaExhausted, held: Permit, now: float) -> None:
        """Where it says to come back before its reset, one call does: then, and seldom where that fails."""
        wait_s = error.retry_after_s
        if wait_s is None or error.resets_at is None or now + wait_s >= error.resets_at - SAME_RESET_S:
            return
        if held.reservation.probe:
            wait_s = max(wait_s, self._registry.settings.routing.quota_probe_s)
        held.model.group.probe_from(now + wait_s, now)

    def _hold_until(self, resets_at: float, code: str, held: Permit, now: float) -> None:
        """Hold the model group to the reset and tell it once, however many calls were in flight."""
        group, provider = held.model.group, held.provider
        is_known = group.held_kind is RefusalKind.QUOTA_SPENT and group.held_detail == code
        known_until = group.held_until if is_known and now < group.held_until else now
        is_news = resets_at > now and (known_until == now or resets_at > known_until + SAME_RESET_S)
        group.hold(resets_at, RefusalKind.QUOTA_SPENT, now, code)
        if is_news:
            text = f"{provider.name}: {refusal_text(RefusalKind.QUOTA_SPENT, code)}"
            self._registry.events.add(now, "quota_exhausted", text, provider.name, "alert", until=resets_at)
            self._registry.status.report(provider, now, silently=True)


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
        return True  # before a restart: when the network was gone then is not known any more
    ended_at = attempt.started_at + attempt.latency_s
    if registry.network.was_offline(attempt.started_at, ended_at):
        return True
    lost = attempt.error_kind == "Unreachable" and attempt.status is None
    return lost and not registry.heard_since(ended_at)
