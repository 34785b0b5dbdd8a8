"""Options of a pool for tasks that do not set a field themselves, as `run` has them for rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from os import PathLike
from typing import Any, TypedDict

from ..core.intake import RowDefaults, check_agent, check_pins, shown
from ..errors import InputError, hint
from ..records import MAX_USD
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


def check_options(**given: Any) -> None:
    """Raises InputError for a value of another kind, before anything is asked and paid. None: not set."""
    for name, value in given.items():
        is_fit, allowed = _OPTIONS[name]
        if value is not None and not is_fit(value):
            raise InputError(f"{name} is {shown(value)}; it must be {allowed}")


def _is_usd(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool) and 0 < value <= MAX_USD


def _is_path(value: Any) -> bool:
    return isinstance(value, str | PathLike) and bool(str(value))


_OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "run_name": (lambda value: isinstance(value, str), "text"),
    "max_cost_usd": (_is_usd, f"above 0, and at most {MAX_USD:,}"),
    "on_progress": (callable, "a function"),
    "config": (_is_path, "the path of a file"),
    "state_dir": (_is_path, "the path of a folder"),
}


def _as_tuple(value: Any) -> Any:
    """Several values as `RowDefaults` has them; what is not several stays, and is refused with its kind."""
    is_several = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    return tuple(value) if is_several else value


def defaults_of(options: TaskOptions, settings: Settings) -> RowDefaults:
    """The options as defaults. Raises InputError for a value that no task may have, TypeError for a name."""
    for name in options:
        if name not in TaskOptions.__annotations__:
            raise TypeError(f"unknown option {name!r}; {hint(name, TaskOptions.__annotations__)}")
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    models = given.pop("models", ())
    given["models"] = (models,) if isinstance(models, str) else _as_tuple(models)
    given["choices"] = _as_tuple(given.get("choices", ()))
    defaults = RowDefaults(**given)
    defaults.check(lambda name: name)
    check_agent(defaults.agent, settings)
    check_pins(defaults.models, (), settings, "models")
    return defaults
