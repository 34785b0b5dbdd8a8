"""Pins: the models and providers that may answer a task, by its row and by options for the whole file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from ...errors import InputError, hint
from ...records import Task
from ...settings import Settings

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pins:
    """Pins of a whole file. `model` replaces the models of every row; `only` restricts their providers."""

    model: str = ""
    only: Names = ()

    def check(self, settings: Settings) -> None:
        """Raises InputError for an unknown provider, and for a model that no allowed provider serves."""
        _check_providers("--only", self.only, settings)
        _check_models("--model", [self.model] if self.model else [], self.only, settings)

    def able(self, settings: Settings) -> Names:
        """The providers that may serve a row without pins of its own."""
        names = [name for name in self.only or settings.providers if settings.providers[name].enabled]
        if not self.model:
            return tuple(names)
        current, _ = settings.resolve_model(self.model)
        return tuple(name for name in names if settings.serves(name, current))

    def apply(
        self, models: Sequence[str], providers: Sequence[str], settings: Settings, line: int | None
    ) -> tuple[Names, Names]:
        """A row's effective `(models, providers)`. Raises InputError where none is left."""
        try:
            _check_providers("'providers'", providers, settings)
            allowed = self._among_only(providers)
            wanted = (self.model,) if self.model else tuple(models)
            _check_models("--model" if self.model else "'models'", wanted, allowed, settings)
        except InputError as error:
            raise InputError(error.what, line=line) from None
        return wanted, allowed

    def _among_only(self, providers: Sequence[str]) -> Names:
        if not (self.only and providers):
            return self.only or tuple(providers)
        allowed = tuple(name for name in providers if name in self.only)
        if not allowed:
            raise InputError(f"'providers': {', '.join(providers)} excluded by --only {','.join(self.only)}")
        return allowed


NO_PINS = Pins()


def unserved_reason(task: Task, settings: Settings, configured: Collection[str]) -> str:
    """Why none of the `configured` providers may serve a task with pins; empty where one may."""
    if not (task.models or task.providers):
        return ""
    names = settings.left_by(task.models, task.providers)
    if any(name in configured for name in names):
        return ""
    why = "; ".join(f"{name}: {settings.providers[name].why_not_configured}" for name in names)
    return f"{'models' if task.models else 'providers'!r}: no configured provider serves this ({why})"


def _check_providers(where: str, names: Iterable[str], settings: Settings) -> None:
    for name in names:
        if name not in settings.providers:
            raise InputError(f"{where}: unknown provider {name!r}; {hint(name, settings.providers)}")


def _check_models(where: str, models: Sequence[str], providers: Sequence[str], settings: Settings) -> None:
    """Raises InputError where no allowed provider serves one of `models`."""
    allowed = [name for name in providers or settings.providers if settings.providers[name].enabled]
    for model in models:
        current, _ = settings.resolve_model(model)
        if any(settings.serves(name, current) for name in allowed):
            return
    if models:
        these = ", ".join(map(repr, models))
        subject = f"none of {', '.join(providers)} serves" if providers else "no provider serves"
        raise InputError(f"{where}: {subject} {these}")
