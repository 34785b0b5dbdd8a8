"""Budgets: dollars that are reserved before a call and booked after it, so that no budget is overrun.

Rules

1. A budget is a rule (scope, name, period, limit). It applies to a call of everything (`all`), of that
   provider, batch or submitter, or of every request of the gateway (`gateway`). A call must fit all budgets
   that apply to it; a limit of 0 is no budget.
2. Per period a budget keeps three sums apart: `reserved` (calls in flight, at their upper bound), `spent`
   (what answered calls cost) and `uncertain` (what calls may have cost that were cut off). A call is
   admitted if `reserved + spent + uncertain + its upper bound <= limit`; `reserve` checks once more itself.
3. Each reservation ends exactly once:

       settle(token, nanos)                   reserved -> spent, at what it really cost
       settle(token, nanos, uncertain=True)   reserved -> uncertain: it may have been billed
       cancel(token)                          reserved -> nothing: provably never sent

   A second end, or that of an unknown token, raises PermitError and changes nothing. The reservation of a
   provider's batch is settled in parts (`settle_part`), one for each of its tasks.
4. A charge belongs to the day and month of its reservation, however late it is settled.
5. What does not fit is refused with the reason, by the first that holds:

       unknown_price   a call whose price is unknown, under any budget
       exhausted       even the smallest useful call would not fit if all calls in flight cost nothing:
                       `until` is the reset (None: a total never resets)
       in_flight       check again when a call settles
       too_large       nothing of that budget is in flight: a smaller call, within `headroom_nanos`, would fit

6. When spent + uncertain reach a share of the limit (50, 80 and 100 percent by default), that is an
   alert, once per share and period. A batch's cap has none: its batch ends in view of the user who set it.

Days and months are those of a named time zone: a day ends at its local midnight, be it 23 or 25 hours
long; where clocks skip midnight, at the moment at which they skip it.

Why: usage that is counted only after the answer lets every call in flight pass the same last cent. With
reservations at an upper bound the order of settles does not matter: only a call that costs more than its
upper bound can overrun a budget; it is booked in full and nothing more is admitted.

Caveats: reservations live in retry. After a crash the caller finds unfinished calls in its store and
passes their upper bounds to `load` as uncertain, in the period in which they began. `now` never goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal
from math import inf
from typing import TYPE_CHECKING, Literal, Protocol

from ...errors import ConfigError, PermitError
from ...records import NANOS_PER_USD, REQUEST_BATCHES, RUNS
from ...setting_types import zone_of

if TYPE_CHECKING:
    from .pricing import CompiledPrice

Scope = Literal["all", "provider", "batch", "submitter", "gateway"]
Period = Literal["day", "month", "total"]
Reason = Literal["unknown_price", "exhausted", "in_flight", "too_large"]
Key = tuple[Scope, str, Period]

ALERT_PERCENT = (50, 80, 100)


@dataclass(frozen=True, slots=True)
class BudgetRule:
    """A limit in nano-dollars. `name` is the provider, batch or submitter; empty for `all` and `gateway`."""

    scope: Scope
    name: str
    period: Period
    limit_nanos: int

    @property
    def key(self) -> Key:
        """What identifies the budget: its scope, name and period."""
        return self.scope, self.name, self.period

    def __str__(self) -> str:
        if self.scope == "batch" and self.name.startswith(RUNS):
            return f"cap of run {self.name.removeprefix(RUNS)} (x-orchestrator-run-max-cost-usd)"
        if self.scope == "batch":
            return f"cap of batch {self.name} (--max-cost or max_cost_usd)"
        if self.scope == "gateway":
            return "budget of the gateway per day ([gateway] daily_usd)"
        whose = f"{self.scope} {self.name}" if self.name else "overall"
        return f"budget {whose} {'in total' if self.period == 'total' else f'per {self.period}'}"


@dataclass(frozen=True, slots=True)
class BudgetRefusal:
    """Why a call is not admitted (rule 5), by which budget, and what would help.

    `headroom_nanos` is what a call may cost at most now, by all budgets together; `until` (UTC epoch
    seconds) when the refusing budget starts anew, None when that is not what to wait for.
    """

    until: float | None
    reason: Reason
    rule: BudgetRule
    headroom_nanos: int
    in_flight: bool

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason.replace('_', ' ')}"


@dataclass(frozen=True, slots=True)
class BudgetGauge:
    """One budget as it stands. `resets_at` None: never."""

    scope: Scope
    name: str
    period: Period
    limit_nanos: int
    spent_nanos: int
    reserved_nanos: int
    uncertain_nanos: int
    resets_at: float | None


@dataclass(frozen=True, slots=True)
class BudgetAlert:
    """A budget has reached `percent` of its limit, by what was spent and what may have been."""

    rule: BudgetRule
    percent: int
    spent_nanos: int
    uncertain_nanos: int
    resets_at: float | None


class _Sums:
    """What one budget holds in one period. Reservations keep a reference, so that late charges come home."""

    __slots__ = ("account", "alerted", "end", "reserved", "spent", "start", "uncertain")

    def __init__(self, account: _Account, start: float, end: float) -> None:
        self.account, self.start, self.end = account, start, end
        self.spent = self.reserved = self.uncertain = 0
        self.alerted = 0  # how many of the account's thresholds were reported

    @property
    def resets_at(self) -> float | None:
        return None if self.end == inf else self.end


class _Account:
    """A rule and the sums of its current period."""

    __slots__ = ("limit", "rule", "sums", "thresholds", "zone")

    def __init__(self, rule: BudgetRule, zone: tzinfo, percents: Sequence[int]) -> None:
        self.zone = zone
        self.sums = _Sums(self, -inf, -inf)  # over before it began: the first use opens the real one
        self.change(rule, percents)

    def change(self, rule: BudgetRule, percents: Sequence[int]) -> None:
        """Take another limit. What was booked stays; what it has reached of the new limit is no news."""
        self.rule, self.limit = rule, rule.limit_nanos
        alerts = () if rule.scope == "batch" else percents
        self.thresholds = tuple((percent, -(-self.limit * percent // 100)) for percent in alerts)
        self.mark_reported()

    def mark_reported(self) -> None:
        """Treat the thresholds that are reached as reported."""
        used = self.sums.spent + self.sums.uncertain
        self.sums.alerted = sum(used >= threshold for _, threshold in self.thresholds)

    def at(self, now: float) -> _Sums:
        """The sums of the period that `now` is in."""
        if now >= self.sums.end:
            self.sums = _Sums(self, *period_bounds(self.rule.period, now, self.zone))
        return self.sums

    def potential(self, now: float) -> int:
        """What would be left if all calls in flight cost nothing; below 0 after a call above its bound."""
        sums = self.at(now)
        return self.limit - sums.spent - sums.uncertain


class Budgets:
    """All budgets together. Not thread-safe: for the one loop that dispatches.

    `time_zone` is an IANA name ("Europe/Berlin"); ConfigError for an unknown one. `alert_percent` are the
    shares of a limit that are worth an alert.
    """

    def __init__(
        self,
        rules: Iterable[BudgetRule] = (),
        time_zone: str = "UTC",
        alert_percent: Iterable[int] = ALERT_PERCENT,
    ) -> None:
        self._zone = _zone(time_zone)
        self._percents = tuple(sorted(set(alert_percent)))
        self._accounts: dict[Key, _Account] = {}
        self._by_name: dict[Scope, dict[str, tuple[_Account, ...]]] = {}
        self._open: dict[int, tuple[int, tuple[_Sums, ...]]] = {}
        self._held: dict[int, tuple[float, str, str, str]] = {}  # tokens of `hold`: since when, and for whom
        self._last_token = 0
        self._alerts: list[BudgetAlert] = []
        self._index()
        for rule in rules:
            self.set_rule(rule)

    def __repr__(self) -> str:
        return f"<Budgets {len(self._accounts)} rules, {len(self._open)} in flight>"

    # ------------------------------------------------------------ rules and what is known of the past

    def set_rule(self, rule: BudgetRule) -> None:
        """Add a budget, change the limit of the one with the same key, or (limit 0) end it.

        A new budget starts empty; `load` sets what its period has cost and what batches at providers hold.
        Calls in flight at that moment are not counted in it.
        """
        account = self._accounts.get(rule.key)
        if rule.limit_nanos <= 0:
            self._accounts.pop(rule.key, None)
        elif account is not None:
            account.change(rule, self._percents)
        else:
            self._accounts[rule.key] = _Account(rule, self._zone, self._percents)
        self._index()

    def _index(self) -> None:
        scopes: tuple[Scope, ...] = ("all", "provider", "batch", "submitter", "gateway")
        self._by_name = {scope: {} for scope in scopes}
        for (scope, name, _), account in self._accounts.items():
            named = self._by_name[scope]
            named[name] = (*named.get(name, ()), account)
        self._overall = self._by_name["all"].get("", ())
        self._of_requests = self._by_name["gateway"].get("", ())

    def openings(self, now: float) -> tuple[tuple[BudgetRule, float | None], ...]:
        """Each rule and when its period began (None: before all time): what to look up for `load`."""
        opened = ((account.rule, account.at(now).start) for account in self._accounts.values())
        return tuple((rule, None if start == -inf else start) for rule, start in opened)

    def load(self, now: float, rule: BudgetRule, spent_nanos: int, uncertain_nanos: int = 0) -> None:
        """Set what the current period of a rule has already cost. It raises no alerts again.

        What `hold` has taken over before counts in it too.
        """
        account = self._accounts.get(rule.key)
        if account is None:
            raise PermitError(f"{rule} is not one of these budgets")
        sums = account.at(now)
        sums.spent, sums.uncertain = _not_negative(spent_nanos), _not_negative(uncertain_nanos)
        for token, (at, *payer) in self._held.items():
            nanos, taken = self._open[token]
            if account in self._applying(*payer) and sums.start <= at and sums not in taken:
                sums.reserved += nanos
                self._open[token] = (nanos, (*taken, sums))
        account.mark_reported()

    # ------------------------------------------------------------ the three steps of a call

    def check(
        self,
        now: float,
        provider: str,
        batch: str,
        submitter: str,
        nanos: int | None,
        minimum_nanos: int = 1,
    ) -> BudgetRefusal | None:
        """None if a call of at most `nanos` fits all budgets that apply to it, else why not.

        `nanos` None: the price is unknown. `minimum_nanos` is the upper bound of the smallest call that the
        task could be clamped to; it distinguishes a wait for a settle from one for a reset.
        """
        if not self._accounts:
            return None
        accounts = self._applying(provider, batch, submitter)
        if nanos is None:
            return self._unknown_price(now, accounts) if accounts else None
        for account in accounts:
            sums = account.sums if now < account.sums.end else account.at(now)
            if sums.spent + sums.uncertain + sums.reserved + nanos > account.limit:
                return self._refusal(now, accounts, nanos, minimum_nanos)
        return None

    def reserve(self, now: float, provider: str, batch: str, submitter: str, nanos: int | None) -> int:
        """Set `nanos` aside in all budgets that apply; the token ends it by `settle` or `cancel`.

        Raises PermitError, with nothing changed, for what `check` would refuse.
        """
        self._last_token = token = self._last_token + 1
        accounts = self._applying(provider, batch, submitter) if self._accounts else ()
        if not accounts:
            self._open[token] = (nanos or 0, ())
            return token
        if nanos is None or nanos < 0:
            raise PermitError("a call under a budget needs an upper bound in nano-dollars, not below 0")
        taken = tuple([a.sums if now < a.sums.end else a.at(now) for a in accounts])
        for account, sums in zip(accounts, taken, strict=True):
            if sums.spent + sums.uncertain + sums.reserved + nanos > account.limit:
                raise PermitError(
                    f"{account.rule}: {nanos} nano-dollars do not fit; check before you reserve"
                )
        for sums in taken:
            sums.reserved += nanos
        self._open[token] = (nanos, taken)
        return token

    def adopt(self, now: float, provider: str, batch: str, submitter: str, nanos: int) -> int:
        """`reserve` for a call that is in flight already, whether or not it fits."""
        self._last_token = token = self._last_token + 1
        taken = tuple(account.at(now) for account in self._applying(provider, batch, submitter))
        for sums in taken:
            sums.reserved += nanos
        self._open[token] = (nanos, taken)
        return token

    def settle(self, token: int, actual_nanos: int | None = None, *, uncertain: bool = False) -> None:
        """Book what a call cost, or may have cost; None books all that was reserved. Exactly once."""
        if actual_nanos is not None and actual_nanos < 0:
            raise PermitError("a call can't cost less than 0")
        reserved, taken = self._close(token)
        self._book(taken, reserved, reserved if actual_nanos is None else actual_nanos, uncertain=uncertain)

    def settle_part(
        self, token: int, part_nanos: int, actual_nanos: int | None = None, *, uncertain: bool = False
    ) -> None:
        """Book what a part of a reservation cost, such as one task of a batch; the rest stays reserved.

        None books all of the part. Raises PermitError, with nothing changed, for more than is reserved.
        """
        reserved, taken = self._open.get(token, (-1, ()))
        if not 0 <= part_nanos <= reserved or (actual_nanos or 0) < 0:
            raise PermitError(f"budget reservation {token} has no part of {part_nanos} nano-dollars")
        self._open[token] = (reserved - part_nanos, taken)
        actual = part_nanos if actual_nanos is None else actual_nanos
        self._book(taken, part_nanos, actual, uncertain=uncertain)

    def hold(self, now: float, at: float, provider: str, batch: str, submitter: str, nanos: int) -> int:
        """Take over what an earlier orchestrator reserved at `at`, whether it fits or not.

        It counts in the budgets whose current period `at` belongs to; the token ends it as usual.
        """
        self._last_token = token = self._last_token + 1
        current = [account.at(now) for account in self._applying(provider, batch, submitter)]
        taken = tuple(sums for sums in current if sums.start <= at)
        for sums in taken:
            sums.reserved += nanos
        self._open[token] = (nanos, taken)
        self._held[token] = (at, provider, batch, submitter)
        return token

    def cancel(self, token: int) -> None:
        """Give a reservation back: the request provably never left. Exactly once."""
        reserved, taken = self._close(token)
        for sums in taken:
            sums.reserved -= reserved

    # ------------------------------------------------------------ what is left, and alerts

    def has_own(self, batch: str, submitter: str) -> bool:
        """Whether a budget of this batch or submitter applies, beside those that all tasks share."""
        return batch in self._by_name["batch"] or submitter in self._by_name["submitter"]

    def headroom_nanos(self, now: float, provider: str, batch: str, submitter: str) -> int | None:
        """What the next call may cost at most, by all budgets that apply; None: no budget does."""
        accounts = self._applying(provider, batch, submitter)
        return _headroom(now, accounts) if accounts else None

    def take_alerts(self) -> list[BudgetAlert]:
        """The alerts since the last call, oldest first; each is returned once."""
        alerts, self._alerts = self._alerts, []
        return alerts

    def snapshot(self, now: float) -> tuple[BudgetGauge, ...]:
        """Every budget as it stands at `now`, in the order of the rules."""
        return tuple(
            BudgetGauge(*key, account.limit, sums.spent, sums.reserved, sums.uncertain, sums.resets_at)
            for key, account in self._accounts.items()
            for sums in (account.at(now),)
        )

    # ------------------------------------------------------------ inside

    def _applying(self, provider: str, batch: str, submitter: str) -> tuple[_Account, ...]:
        named = self._by_name
        of_requests = self._of_requests if batch.startswith(REQUEST_BATCHES) else ()
        return (
            self._overall
            + of_requests
            + named["provider"].get(provider, ())
            + named["batch"].get(batch, ())
            + named["submitter"].get(submitter, ())
        )

    def _book(self, taken: tuple[_Sums, ...], reserved: int, actual: int, *, uncertain: bool = False) -> None:
        for sums in taken:
            sums.reserved -= reserved
            if uncertain:
                sums.uncertain += actual
            else:
                sums.spent += actual
            if sums.alerted < len(sums.account.thresholds):
                self._watch(sums)

    def _close(self, token: int) -> tuple[int, tuple[_Sums, ...]]:
        self._held.pop(token, None)
        try:
            return self._open.pop(token)
        except KeyError:
            raise PermitError(f"budget reservation {token} has ended before or was never made") from None

    def _watch(self, sums: _Sums) -> None:
        used, thresholds = sums.spent + sums.uncertain, sums.account.thresholds
        while sums.alerted < len(thresholds) and used >= thresholds[sums.alerted][1]:
            percent, _ = thresholds[sums.alerted]
            sums.alerted += 1
            self._alerts.append(
                BudgetAlert(sums.account.rule, percent, sums.spent, sums.uncertain, sums.resets_at)
            )

    def _unknown_price(self, now: float, accounts: tuple[_Account, ...]) -> BudgetRefusal:
        return BudgetRefusal(
            None, "unknown_price", accounts[0].rule, _headroom(now, accounts), in_flight=False
        )

    def _refusal(
        self, now: float, accounts: tuple[_Account, ...], nanos: int, minimum_nanos: int
    ) -> BudgetRefusal:
        """The reason by rule 5. Of several refusing budgets the one that keeps the call longest is named."""
        headroom = _headroom(now, accounts)
        full = [a for a in accounts if a.potential(now) - a.sums.reserved < nanos]
        if exhausted := [a for a in full if a.potential(now) < min(nanos, minimum_nanos)]:
            last = max(exhausted, key=lambda a: a.sums.end)
            return BudgetRefusal(last.sums.resets_at, "exhausted", last.rule, headroom, in_flight=False)
        if busy := [a for a in full if a.sums.reserved]:
            return BudgetRefusal(None, "in_flight", busy[0].rule, headroom, in_flight=True)
        last = max(full, key=lambda a: a.sums.end)
        return BudgetRefusal(last.sums.resets_at, "too_large", last.rule, headroom, in_flight=False)


def affordable_max_tokens(
    price: CompiledPrice, prompt_bytes: int, message_count: int, headroom_nanos: int, floor: int
) -> int | None:
    """The largest max_tokens whose upper bound is within the headroom; None if that is below `floor`.

    For clamping a *defaulted* max_tokens: take the smaller of the two.
    """
    most = price.max_tokens_within(headroom_nanos, prompt_bytes, message_count)
    return most if most >= floor else None


def period_bounds(period: Period, now: float, zone: tzinfo) -> tuple[float, float]:
    """`(start, end)` of the period that `now` is in: UTC epoch seconds, start <= now < end, or infinite."""
    if period == "total":
        return -inf, inf
    # Not from today's date: clocks that jump across midnight show a date too early or too late for a while.
    first = datetime.fromtimestamp(now, zone).date() - timedelta(days=1)
    if period == "month":
        first = first.replace(day=1)
    while _midnight(following := _next(period, first), zone) <= now:
        first = following
    return _midnight(first, zone), _midnight(following, zone)


def usd_to_nanos(usd: float) -> int:
    """The amount as it was written in decimal, in whole nano-dollars; more than 0 stays more than 0."""
    return max(int(Decimal(str(usd)) * NANOS_PER_USD), 1 if usd > 0 else 0)


class AmountsLike(Protocol):
    """Amounts per period, USD; 0: no budget."""

    @property
    def daily_usd(self) -> float:
        """Per day."""

    @property
    def monthly_usd(self) -> float:
        """Per month."""

    @property
    def total_usd(self) -> float:
        """In all."""


class BudgetSettingsLike(AmountsLike, Protocol):
    """The `[budgets]` of the configuration: overall amounts, and those by provider and submitter."""

    @property
    def providers(self) -> Mapping[str, AmountsLike]:
        """By provider."""

    @property
    def submitters(self) -> Mapping[str, AmountsLike]:
        """By submitter."""


def rules_from(
    settings: BudgetSettingsLike, batch_caps_usd: Mapping[str, float] | None = None
) -> tuple[BudgetRule, ...]:
    """The budgets of the configuration and the caps of batches (`--max-cost`, USD in total by batch name)."""
    rules = _amounts("all", "", settings)
    for name, amounts in settings.providers.items():
        rules += _amounts("provider", name, amounts)
    for name, amounts in settings.submitters.items():
        rules += _amounts("submitter", name, amounts)
    caps = (batch_caps_usd or {}).items()
    rules += [BudgetRule("batch", name, "total", usd_to_nanos(usd)) for name, usd in caps]
    return tuple(rule for rule in rules if rule.limit_nanos)


def _amounts(scope: Scope, name: str, amounts: AmountsLike) -> list[BudgetRule]:
    return [
        BudgetRule(scope, name, "day", usd_to_nanos(amounts.daily_usd)),
        BudgetRule(scope, name, "month", usd_to_nanos(amounts.monthly_usd)),
        BudgetRule(scope, name, "total", usd_to_nanos(amounts.total_usd)),
    ]


def _headroom(now: float, accounts: tuple[_Account, ...]) -> int:
    return max(0, min(account.potential(now) - account.sums.reserved for account in accounts))


def _not_negative(nanos: int) -> int:
    if nanos < 0:
        raise PermitError("a budget can't have spent less than 0")
    return nanos


def _next(period: Period, first: date) -> date:
    if period == "day":
        return first + timedelta(days=1)
    return (first + timedelta(days=32)).replace(day=1)


def _midnight(day: date, zone: tzinfo) -> float:
    """When the local day begins: its first 00:00, or where clocks skip that, the moment they skip it."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()


def _zone(name: str) -> tzinfo:
    try:
        return zone_of(name)
    except ValueError as error:
        raise ConfigError(f"{name!r} {error}", where="budgets.time_zone") from error
