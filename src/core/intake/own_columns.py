"""The columns of an input file that return with its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

RETURNED_FIELDS = ("id", "prompt", "metadata")  # other fields of a task, such as its tier, do not return


@dataclass(frozen=True, slots=True)
class OwnColumns:
    """Columns in the order of the file.

    `fields`: those that set a field of the task, by name; the cells of all others are metadata of the task.
    """

    names: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> str | None:
        """The column with the ids; None if there is none."""
        return next((name for name, key in self.fields.items() if key == "id"), None)


NO_COLUMNS = OwnColumns()


def of_table(names: tuple[str, ...], data: tuple[str, ...], keys: Mapping[str, str]) -> OwnColumns:
    """The columns of a table. `data`: those that are metadata; `keys`: the column of each field of a task."""
    fields = {name: key for key, name in keys.items() if key in RETURNED_FIELDS}
    return OwnColumns(tuple(name for name in names if name in fields or name in data), fields)


def of_objects(*keys: str) -> OwnColumns:
    """The keys of objects that are tasks."""
    return OwnColumns(keys, {key: key for key in keys})
