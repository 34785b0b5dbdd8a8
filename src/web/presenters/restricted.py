"""Views for callers that may see only their own tasks: the pool without texts and names of others.

Load, cost and states of providers are shown, since a submitter plans with them. Events, errors, and names of
other batches and submitters are not.
"""

from __future__ import annotations

from dataclasses import replace

from ...core.intake import QUEUE
from ..context import AppContext, visible_submitter
from .budgets import BudgetView
from .dashboard import DashboardView, budget_attention, dashboard_view
from .pool import pool_view
from .pool_views import PoolView

_OF_OTHERS = ("batch", "submitter")  # budgets with these scopes name a batch or a person


def visible_pool_view(context: AppContext) -> PoolView:
    """The pool as the caller may see it."""
    view = pool_view(context)
    return _without_names(view) if visible_submitter() else view


def _without_names(view: PoolView) -> PoolView:
    return replace(
        view,
        orchestrator=replace(view.orchestrator, batch="", host="", pid=None),
        rows_in_flight=(),
        workers=(),
        standbys=(),
        providers=tuple(replace(each, errors=()) for each in view.providers),
        waiting_for=tuple(w for w in view.waiting_for if w.budget_scope not in _OF_OTHERS),
    )


def visible_dashboard_view(context: AppContext) -> DashboardView:
    """The dashboard as the caller may see it."""
    view, name = dashboard_view(context), visible_submitter()
    if not name:
        return view
    budgets = tuple(budget for budget in view.budgets if _may_see(context, budget, name))
    hidden = {budget_attention(budget) for budget in view.budgets if budget not in budgets}
    return replace(
        view,
        pool=_without_names(view.pool),
        held=view.held if view.held and view.held.budget_scope not in _OF_OTHERS else None,
        budgets=budgets,
        attention=tuple(a for a in view.attention if a not in hidden and not a.is_event),
        events=(),
    )


def _may_see(context: AppContext, budget: BudgetView, name: str) -> bool:
    if budget.scope == "batch":
        batch = context.store.reports.batch(budget.name)
        return batch is not None and batch.name != QUEUE and batch.submitter == name
    return budget.scope != "submitter" or budget.name == name
