"""Options of a pool for tasks that do not set a field themselves, as `run` has them for rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from ..core.intake import RowDefaults, check_agent, check_pins
from ..errors import hint
from ..settings import Settings


class TaskOptions(TypedDict, total=False):
    """Fields of a task; a task's own value wins. Several `models` are an order."""

    task_type: str | None
    agent: str | None
    tier: str | None
    models: str | Sequence[str] | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    seed: int | None
    reasoning_effort: str | None
    service_tier: str | None
    system: str | None
    response_schema: Mapping[str, Any] | None
    choices: Sequence[str] | None


def defaults_of(options: TaskOptions, settings: Settings) -> RowDefaults:
    """The options as defaults. Raises InputError for a value that no task may have, TypeError for a name."""
    for name in options:
        if name not in TaskOptions.__annotations__:
            raise TypeError(f"unknown option {name!r}; {hint(name, TaskOptions.__annotations__)}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    models = given.pop("models", ())
    given["models"] = (models,) if isinstance(models, str) else tuple(models)
    given["choices"] = tuple(given.get("choices", ()))
    defaults = RowDefaults(**given)
    defaults.check(lambda name: name)
    check_agent(defaults.agent, settings)
    check_pins(defaults.models, (), settings, "models")
    return defaults
