"""Changes of the pool: weights, pauses, breakers. Each writes the store and records an event."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.store import ProviderBatch
from ..core.weight_changes import normalised
from .bodies import RebalanceBody
from .context import AppContext
from .presenters.pool import weight_changes
from .presenters.presets import preset
from .problems import Problem, not_found
from .visibility import MAX_ROW_DIGITS, row_number

_DONE = {"pause": "paused", "resume": "resumed", "reset": "closed the breaker of"}


def wanted_weights(context: AppContext, body: RebalanceBody) -> dict[str, float]:
    """The weights that a request sets, normalised; providers it does not name keep their weight.

    Raises Problem 422 for an unknown provider or version.
    """
    if body.preset is not None:
        return preset(context, body.preset)
    if body.version is not None:
        return _weights_of_version(context, body.version)
    given = dict(body.weights or {})
    known = context.settings.providers
    for name in given:
        if name not in known:
            message = f"weights.{name}: no provider has this name; known: {', '.join(known)}"
            raise Problem(422, "invalid", message, {"field": f"weights.{name}", "known": list(known)})
    return normalised(weight_changes(context).in_force() | given)


def _weights_of_version(context: AppContext, version: int) -> dict[str, float]:
    weights = weight_changes(context).of_version(version)
    if weights is None:
        message = f"version: no change of weights has number {version}"
        raise Problem(422, "invalid", message, {"field": "version"})
    return normalised(weights)


def apply_weights(context: AppContext, weights: Mapping[str, float], caller: str) -> int:
    """Set the weights. Returns the number of the change in the history."""
    with context.changing_settings():
        return weight_changes(context).apply(weights, who=caller, now=context.now())


def undo_weights(context: AppContext, caller: str) -> int:
    """Revert the last change of weights that stands. Raises Problem 409 if there is none."""
    with context.changing_settings():
        version = weight_changes(context).undo(who=caller, now=context.now())
    if version is None:
        raise Problem(409, "nothing_to_undo", "No change of weights is left to undo.")
    return version


def redo_weights(context: AppContext, caller: str) -> int:
    """Repeat the change of weights that was undone last. Raises Problem 409 if there is none."""
    with context.changing_settings():
        version = weight_changes(context).redo(who=caller, now=context.now())
    if version is None:
        raise Problem(409, "nothing_to_redo", "No change of weights was undone since the last new one.")
    return version


def steer(context: AppContext, provider: str, verb: str, caller: str) -> None:
    """Pause, resume or reset a provider. Raises Problem 404 for an unknown one."""
    if provider not in context.settings.providers:
        raise not_found(f"provider {provider!r}")
    now = context.now()
    if verb in ("pause", "resume"):
        _set_paused(context, provider, verb == "pause", caller)
    if verb in ("resume", "reset"):
        context.store.controls.add_command(verb, {"provider": provider}, who=caller, now=now)
    context.record_event(f"provider_{verb}", f"{caller} {_DONE[verb]} {provider}", provider=provider)


def cancel_batch(context: AppContext, number: str, caller: str) -> ProviderBatch:
    """Ask the orchestrator to cancel a batch at its provider; its rows that are not done go live.

    Raises Problem 404 if there is no such batch, and 409 if it has ended.
    """
    batch = context.store.provider_batches.find(row_number(number))
    if batch is None:
        raise not_found(f"batch {number[:MAX_ROW_DIGITS]} at a provider")
    if not batch.can_be_cancelled:
        raise Problem(409, "ended", f"Batch {batch.id} at {batch.provider} has ended: it is {batch.state}.")
    batch = context.store.provider_batch_lists.ask_cancel(batch.id, context.now())
    text = f"{caller} cancelled batch {batch.id} at {batch.provider}: {batch.left_rows:,} rows are left"
    context.record_event("batch_cancel_asked", text, provider=batch.provider)
    return batch


def _set_paused(context: AppContext, provider: str, is_paused: bool, caller: str) -> None:
    with context.changing_settings():
        before = set(context.store.controls.current_settings().get("paused", ()))
        after = before | {provider} if is_paused else before - {provider}
        if after != before:
            context.store.controls.put_setting("paused", sorted(after), who=caller, now=context.now())
