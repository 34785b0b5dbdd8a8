"""Which providers may answer a task: by its models and providers, and by `--only` for the whole file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ...errors import InputError, hint
from ...records import Task
from ...settings import Settings
from .prices import check_known

Names = tuple[str, ...]


def check_pins(models: Names, only: Names, settings: Settings, where: str = "--model") -> None:
    """Check the options of a file. `where`: what sets the models, for the message.

    Raises InputError for an unknown provider or model, and for a model that no allowed provider serves.
    """
    _check_providers("--only", only, settings)
    for model in models:
        served_by = able_providers((model,), only, settings)
        if served_by or not able_providers((model,), (), settings):
            check_known(where, model, served_by or able_providers((), only, settings), settings)
        _check_models(where, [model], only, settings)


def able_providers(models: Names, only: Names, settings: Settings) -> Names:
    """The providers that may serve a row without pins of its own."""
    wanted = settings.with_families(only or settings.providers)
    names = [name for name in wanted if settings.providers[name].enabled]
    current = [settings.resolve_model(model)[0] for model in models]
    return tuple(
        name for name in names if not models or any(settings.serves(name, model) for model in current)
    )


def effective_providers(
    models: Sequence[str], providers: Sequence[str], only: Names, settings: Settings
) -> Names:
    """The providers of a row within `only`. Raises InputError where none is left for its models."""
    _check_providers("'providers'", providers, settings)
    allowed = _among_only(providers, only, settings)
    _check_models("'models'", models, allowed, settings)
    return allowed


def _among_only(providers: Sequence[str], only: Names, settings: Settings) -> Names:
    if not (only and providers):
        return only or tuple(providers)
    within = settings.with_families(only)
    if all(name in within for name in providers):
        return tuple(providers)
    allowed = tuple(name for name in settings.with_families(providers) if name in within)
    if not allowed:
        raise InputError(f"'providers': {', '.join(providers)} excluded by --only {','.join(only)}")
    return allowed


def unserved_reason(task: Task, settings: Settings, configured: Collection[str]) -> str:
    """Why none of the `configured` providers may serve a task with pins; empty where one may."""
    if not (task.models or task.providers):
        return ""
    names = settings.left_by(task.models, task.providers)
    if any(name in configured for name in names):
        return ""
    why = "; ".join(f"{name}: {settings.providers[name].why_not_configured}" for name in names)
    return f"{'models' if task.models else 'providers'!r}: no configured provider serves this ({why})"


def never_called(models: Sequence[str], settings: Settings, configured: Collection[str]) -> str:
    """A warning for models of an order that no configured provider serves; empty if there is none.

    `configured`: the providers that can be called.
    """
    lost = [model for model in models if not set(settings.left_by([model], ())) & set(configured)]
    if len(models) < 2 or not lost or len(lost) == len(models):
        return ""
    homes = dict.fromkeys(name for model in lost for name in settings.left_by([model], ()))
    why = "; ".join(f"{name}: {settings.providers[name].why_not_configured}" for name in homes)
    return f"{', '.join(lost)} will never be called ({why})"


def _check_providers(where: str, names: Iterable[str], settings: Settings) -> None:
    for name in names:
        if name not in settings.providers:
            raise InputError(f"{where}: unknown provider {name!r}; {hint(name, settings.providers)}")


def _check_models(where: str, models: Sequence[str], providers: Sequence[str], settings: Settings) -> None:
    """Raises InputError where no allowed provider serves one of `models`."""
    wanted = settings.with_families(providers or settings.providers)
    allowed = [name for name in wanted if settings.providers[name].enabled]
    for model in models:
        current, _ = settings.resolve_model(model)
        if any(settings.serves(name, current) for name in allowed):
            return
    if models:
        these = ", ".join(map(repr, models))
        subject = f"none of {', '.join(providers)} serves" if providers else "no provider serves"
        if len(providers) == 1:
            subject = f"{providers[0]} does not serve"
        raise InputError(f"{where}: {subject} {these}")
