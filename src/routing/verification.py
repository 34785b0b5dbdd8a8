"""Raises doubts about keys and models, and decides them: see `health/doubts.py`."""

from __future__ import annotations

from collections.abc import Collection

from ..errors import AuthFailed, ModelUnavailable, ProviderError
from .registry import Registry
from .state import ModelState, Permit, ProviderState

REFUSALS = 3  # in a row that outweigh a list of models which has the model
FORBIDDEN = 403  # may concern the request, or the list of models alone


class Verifier:
    """Applies the rules of `health/doubts.py` to ended calls and health checks, and reports what it finds.

    Times are UTC epoch seconds.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    # ------------------------------------------------------------------ calls

    def refused(self, held: Permit, error: ProviderError, now: float) -> None:
        """A call has ended with AuthFailed or ModelUnavailable."""
        newest = max(held.number, *self._registry.permits) if self._registry.permits else held.number
        if isinstance(error, AuthFailed):
            self._key_refused(held, error, newest, now)
        elif isinstance(error, ModelUnavailable):
            self._model_refused(held, error, newest, now)

    def succeeded(self, held: Permit, now: float) -> None:
        """A call was answered: its key works, and its model is there."""
        provider, model = held.provider, held.model
        provider.key.answered()
        if model.answered():
            text = f"{provider.name}: {model.name} is available again"
            self._registry.events.add(now, "model_available", text, provider.name, "alert")

    def _key_refused(self, held: Permit, error: AuthFailed, newest: int, now: float) -> None:
        provider = held.provider
        if provider.key.refused(_rejection(provider, error), error.status, held.number, newest, now):
            self._reject_key(provider, now)

    def _model_refused(self, held: Permit, error: ModelUnavailable, newest: int, now: float) -> None:
        model = held.model
        model.error = error.message[:200]
        was_trial = model.call_ended(held.number)
        if model.doubt.refused(error.status, held.number, newest, now, wait=not model.worked) or was_trial:
            self._take_out(held.provider, model, now)

    # ------------------------------------------------------------------ the second look

    def health_check(
        self,
        provider: ProviderState,
        asked_at: float,
        now: float,
        *,
        answers: bool,
        status: int | None,
        models: Collection[str],
    ) -> bool:
        """A health check has ended with an answer. `status`: of a refused key, else None.

        `answers`: it returned a list, with `models`. Whether that changes where calls may go.
        """
        changed = False
        if provider.key.doubt.raised and asked_at >= provider.key.doubt.raised_at:
            changed = self._look_at_key(provider, now, answers=answers, status=status)
        if not answers:
            return changed
        for model in provider.models.values():
            if model.doubt.raised and asked_at >= model.doubt.raised_at and not model.is_out:
                changed = True
                if models and not lists(models, model.name):
                    self._take_out(provider, model, now)
                else:
                    model.doubt.vouched(REFUSALS if models else 1)
        return changed

    def _look_at_key(self, provider: ProviderState, now: float, *, answers: bool, status: int | None) -> bool:
        doubt = provider.key.doubt
        if status is not None and (status != FORBIDDEN or doubt.status == FORBIDDEN):
            self._reject_key(provider, now)
            return True
        if not answers:
            return False
        provider.key.vouched(REFUSALS if doubt.status == FORBIDDEN else 1)
        return True

    def mended(self, provider: ProviderState, now: float) -> bool:
        """The health check answers. Whether calls may try a rejected key again."""
        if not provider.key.rejection:
            return False
        wait_s = self._registry.settings.routing.quota_probe_s if provider.key.list_is_public else 0.0
        if now < provider.key.rejected_at + wait_s:
            return False
        provider.key.accept()
        return True

    # ------------------------------------------------------------------ condemned

    def _reject_key(self, provider: ProviderState, now: float) -> None:
        provider.key.reject(now)
        self._registry.status.report(provider, now)

    def _take_out(self, provider: ProviderState, model: ModelState, now: float) -> None:
        """The model is not available; one event per outage."""
        is_news = model.take_out(now + self._registry.settings.routing.quota_probe_s)
        self._registry.routes_version += 1
        if is_news:
            self._registry.events.add(
                now, "model_unavailable", f"{provider.name}: {model.error}", provider.name, "alert"
            )


def _rejection(provider: ProviderState, error: ProviderError) -> str:
    return rejection(provider.name, " or ".join(provider.config.api_key_env), error)


def rejection(name: str, keys: str, error: ProviderError) -> str:
    """`openai rejected OPENAI_API_KEY (401 invalid_api_key)`: the message for the user."""
    keys = keys or "the call, which has no key"
    answer = f"{error.status or ''} {error.code}".strip()
    why = "" if error.code else f": {error.message[:200]}"
    return f"{name} rejected {keys} ({answer}){why}" if answer else f"{name} rejected {keys}{why}"


def lists(models: Collection[str], name: str) -> bool:
    """Whether a list of models has this one, which may be named by an alias or without its tag."""
    plain = name.partition(":")[0]
    return any(
        listed in (name, plain) or listed.startswith((f"{name}-", f"{plain}:", f"{name}@"))
        for listed in models
    )
