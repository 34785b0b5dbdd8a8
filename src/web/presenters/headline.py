"""The dashboard in one sentence: is it running, when is it done, what blocks it, its cost, who is down."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...formatting import count, money, rough_duration, utc_minute
from ...records import ProviderCondition
from .budgets import LOW
from .dashboard import DashboardView, HeldTasks
from .outages import OUT_STATES, Outage
from .pool_views import ProviderView

_WORDS = {
    ProviderCondition.EXHAUSTED: "out of quota",
    ProviderCondition.MISCONFIGURED: "misconfigured",
    ProviderCondition.OFFLINE: "offline",
}


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of the sentence. `at` is a time that stands at its end; `tone`: bad, warn or empty."""

    text: str
    link: str = ""
    tone: str = ""
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Headline:
    """The sentence, and its gravest tone."""

    clauses: tuple[Clause, ...]
    now: float

    @property
    def tone(self) -> str:
        tones = {clause.tone for clause in self.clauses}
        return next((tone for tone in ("bad", "warn") if tone in tones), "")

    def __str__(self) -> str:
        parts = (c.text if c.at is None else f"{c.text} {utc_minute(c.at, self.now)}" for c in self.clauses)
        return ", ".join(parts)


def headline(view: DashboardView, outages: tuple[Outage, ...]) -> Headline:
    """The sentence for this view."""
    parts = (_work(view), _obstacles(view), _cost(view), _providers(view, outages))
    return Headline(tuple(clause for part in parts for clause in part), view.pool.now)


def _work(view: DashboardView) -> Iterator[Clause]:
    orchestrator, waiting = view.pool.orchestrator, view.waiting
    if not orchestrator.running:
        tone = "bad" if waiting or orchestrator.state == "silent" else ""
        if orchestrator.state == "never":
            yield Clause("Never started", tone=tone)
        else:
            yield Clause(f"Not running for {rough_duration(orchestrator.age_s or 0.0)}", tone=tone)
    if waiting:
        yield Clause(f"{count(waiting)} waiting", "/tasks?status=waiting")
    elif view.calling:
        yield Clause(f"{count(view.calling)} in flight", "/tasks?status=in_flight")
    elif orchestrator.running:
        yield Clause("Running, nothing to do")
    if orchestrator.running and view.left_s:
        yield Clause("done about", at=view.pool.now + view.left_s)


def _obstacles(view: DashboardView) -> Iterator[Clause]:
    if view.pool.offline_since is not None:
        yield Clause(f"offline for {rough_duration(view.pool.now - view.pool.offline_since)}", tone="bad")
    if view.held:
        yield _held(view.held, view.pool.now)
    elif view.pool.waiting_for:
        most = max(view.pool.waiting_for, key=lambda w: w.tasks)
        yield Clause(f"held by {most.what}", "#waiting")


def _held(held: HeldTasks, now: float) -> Clause:
    tone = "bad" if held.until is None else "warn"
    return Clause(f"{count(held.tasks)} held by {held.what} {held.lasts(now)}", "#waiting", tone)


def _cost(view: DashboardView) -> Iterator[Clause]:
    """What today cost, as a range where calls were cut off that may have been billed."""
    paid, uncertain = view.money, view.today.uncertain_nanos
    most = f" to {money(paid.today_nanos + uncertain)}" if uncertain else ""
    budget = f" of {money(paid.budget_nanos)}" if paid.budget_nanos else ""
    used = paid.budget_used or 0.0
    tone = "bad" if used >= 1 else "warn" if used >= LOW else ""
    yield Clause(f"{money(paid.today_nanos)}{most}{budget} today", "/costs", tone)


def _providers(view: DashboardView, outages: tuple[Outage, ...]) -> Iterator[Clause]:
    if not view.pool.orchestrator.running:
        return
    since = {outage.provider: outage.since for outage in outages if outage.until is None}
    for provider in view.pool.providers:
        if provider.state in OUT_STATES and view.pool.offline_since is None:
            yield _down(provider, since.get(provider.name), view.pool.now)


def _down(provider: ProviderView, since: float | None, now: float) -> Clause:
    word = _WORDS.get(provider.state, "down")
    lasts = "" if since is None else f" {rough_duration(now - since)}"
    return Clause(f"{provider.name} {word}{lasts}", f"/provider-status#{provider.name}", "bad")
