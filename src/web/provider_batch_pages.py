"""The batches at providers: their list, and the button that cancels one."""

from __future__ import annotations

from flask import Blueprint, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from . import provider_actions
from .bodies import ProviderBatchQuery, query_or_default
from .context import app_context, caller_name
from .presenters.pool import pool_view
from .presenters.provider_batches import provider_batch_list

provider_batch_pages = Blueprint("provider_batches", __name__)


@provider_batch_pages.get("/provider-batches")
def index() -> str:
    """The batches at providers, newest first."""
    here = app_context()
    wanted, problem = query_or_default(ProviderBatchQuery)
    return render_template(
        "provider_batches.html",
        page=provider_batch_list(here, wanted),
        wanted=wanted,
        query=wanted.in_query(),
        problem=problem,
        now=here.now(),
        refresh_s=pool_view(here).refresh_s,
    )


@provider_batch_pages.post("/provider-batches/<number>/cancel")
def cancel(number: str) -> AnyResponse:
    """Ask the orchestrator to cancel a batch at its provider."""
    batch = provider_actions.cancel_batch(app_context(), number, caller_name())
    flash(f"Batch {batch.id} at {batch.provider} is being cancelled; rows that are not done go live.")
    return redirect(url_for("provider_batches.index"), 303)
