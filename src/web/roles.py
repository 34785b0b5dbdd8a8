"""Roles, and one table of all endpoints with the roles that may use them, which `guard` enforces.

    submit    own tasks: submit, read, export, cancel, run again; own files and batches
    read      read everything, change nothing
    operate   everything

A caller's own tasks are those that the caller submitted or reran (and pays for), and those in a batch that
the caller started. The queue is shared, so no caller owns it. For `submit`, other tasks do not exist: 404.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..tokens import ROLES, Role

_ANYBODY = frozenset[Role](("submit", "read", "operate"))  # for `submit`: only the caller's own part
_READERS = frozenset[Role](("read", "operate"))
_SUBMITTERS = frozenset[Role](("submit", "operate"))
_OPERATORS = frozenset[Role](("operate",))

OPEN_ENDPOINTS = frozenset(
    {"static", "auth.login", "auth.logout", "health.healthz", "health.leader", "health.readyz"}
)
ALLOWED: Mapping[str, frozenset[Role]] = {
    "pages.dashboard": _ANYBODY,
    "pages.provider_status": _ANYBODY,
    "pages.steer": _OPERATORS,
    "pages.rebalance": _READERS,
    "pages.rebalance_form": _OPERATORS,
    "pages.tasks": _ANYBODY,
    "pages.task": _ANYBODY,
    "pages.task_named": _ANYBODY,
    "pages.task_by_id": _ANYBODY,
    "pages.task_verb": _SUBMITTERS,
    "pages.export_tasks": _ANYBODY,
    "batches.index": _ANYBODY,
    "batches.batch": _ANYBODY,
    "batches.batch_by_query": _ANYBODY,
    "batches.change": _SUBMITTERS,
    "batches.purge": _OPERATORS,
    "provider_batches.index": _READERS,
    "provider_batches.cancel": _OPERATORS,
    "submit.new": _SUBMITTERS,
    "submit.submit_task": _SUBMITTERS,
    "submit.upload": _SUBMITTERS,
    "submit.uploaded": _SUBMITTERS,
    "submit.start_upload": _SUBMITTERS,
    "lists.costs": _READERS,
    "lists.export_costs": _READERS,
    "lists.events": _READERS,
    "metrics.scrape": _READERS,
    "api.openapi": _ANYBODY,
    "api.providers_status": _ANYBODY,
    "api.dashboard": _ANYBODY,
    "api.weights": _READERS,
    "api.rebalance": _OPERATORS,
    "api.undo": _OPERATORS,
    "api.redo": _OPERATORS,
    "api.steer": _OPERATORS,
    "api.submit": _SUBMITTERS,
    "api.tasks": _ANYBODY,
    "api.task": _ANYBODY,
    "api.task_named": _ANYBODY,
    "api.task_by_id": _ANYBODY,
    "api.task_verb": _SUBMITTERS,
    "api.task_verb_named": _SUBMITTERS,
    "api.task_verb_by_id": _SUBMITTERS,
    "api.batches": _ANYBODY,
    "api.cancel_batch": _SUBMITTERS,
    "api.retry_batch": _SUBMITTERS,
    "api.purge_batch": _OPERATORS,
    "api.provider_batches": _READERS,
    "api.cancel_provider_batch": _OPERATORS,
    "api.usage": _READERS,
    "api.events": _READERS,
}


def may(role: Role, endpoint: str) -> bool:
    """Whether this role may use the endpoint. An endpoint without an entry is closed to all."""
    return role in ALLOWED.get(endpoint, ())


def needed(endpoint: str) -> str:
    """The roles that may use the endpoint, as text."""
    return " or ".join(role for role in ROLES if may(role, endpoint)) or "none"
