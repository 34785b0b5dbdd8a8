"""Values of a whole file, for rows that set none of their own: the options of `run` and `plan`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import ValidationError

from ...errors import InputError
from .fields import TaskFields
from .validation_messages import validation_message

Names = tuple[str, ...]
_SHAPES = frozenset(["response_schema", "choices"])  # a row sets one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class RowDefaults:
    """The fields of `TaskFields` that an option sets for all rows. None, or no name: not set."""

    task_type: str | None = None
    agent: str | None = None
    tier: str | None = None
    models: Names = ()
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    system: str | None = None
    response_schema: Mapping[str, Any] | None = None
    choices: Names = ()
    deadline: str | float | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> RowDefaults:
        """Those with these values, as `given` returns them."""
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        return cls(**values)

    def given(self) -> dict[str, Any]:
        """Those that are set, as a row sets them."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        lists = {name: list(value) for name, value in found.items() if isinstance(value, tuple)}
        return {name: value for name, value in (found | lists).items() if value not in (None, [])}

    def check(self, name_of: Callable[[str], str]) -> None:
        """Raises InputError for a value that no row may have. `name_of`: what sets a field, for messages."""
        given = self.given()
        if given.keys() >= _SHAPES:
            names = " and ".join(name_of(name) for name in ("response_schema", "choices"))
            raise InputError(f"both {names} are given; one of them is allowed")
        try:
            TaskFields.model_validate({"prompt": "x"} | given)
        except ValidationError as error:
            message = validation_message(error, TaskFields)
            for name in given:
                message = message.replace(f"'{name}'", name_of(name))
            raise InputError(message) from None


NO_DEFAULTS = RowDefaults()


def option_of(field: str) -> str:
    """The option that sets a field for all rows."""
    return {"models": "--model", "deadline": "--within"}.get(field, f"--{field.replace('_', '-')}")


def missing(row: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values `given` for all rows, those that the row does not set itself."""
    return {name: value for name, value in given.items() if not _sets(row, name)}


def _is_system(turn: Any) -> bool:
    role = turn.get("role") if isinstance(turn, Mapping) else getattr(turn, "role", None)
    return role in ("system", "developer")


def _sets(row: Mapping[str, Any], name: str) -> bool:
    if name in _SHAPES:
        return any(row.get(each) is not None for each in _SHAPES)
    if name == "system" and isinstance(row.get("messages"), list | tuple):
        return row.get(name) is not None or any(map(_is_system, row["messages"]))
    return row.get(name) is not None
