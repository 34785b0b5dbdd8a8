"""Tasks of what a program passes: a prompt, a mapping with the keys of a task file, or a Task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ..core.intake import (
    RowDefaults,
    TaskContext,
    TaskFields,
    make_task,
    missing,
    shown,
    what_it_sends,
    written_choice,
)
from ..errors import InputError
from ..records import Task
from ..settings import Settings

GivenTask: TypeAlias = str | Mapping[str, Any] | Task


class TaskMaker:
    """Makes the tasks of one pool. Each has an id that no other task of the pool has.

    A task without an id gets a number. In a `resumable` pool it is named after its content instead, and after
    its place among equal tasks, so that it has the same id when the program runs again. `defaults` are the
    fields of tasks that do not set them; ids do not depend on them.
    """

    def __init__(
        self,
        batch: str,
        settings: Settings,
        now: Callable[[], float],
        defaults: RowDefaults,
        *,
        resumable: bool,
    ) -> None:
        self._batch, self._settings, self._now = batch, settings, now
        self._defaults = defaults.given()
        self._resumable = resumable
        self._count = 0
        self._equal: Counter[str] = Counter()
        self._given: set[str] = set()

    def make(self, given: GivenTask) -> Task:
        """Raises InputError for an invalid task, and for an id that an earlier task has."""
        row = self._row(given)
        context = TaskContext(self._batch, self._settings, self._now())
        defaults = missing(row, self._defaults)
        task = make_task(
            row | defaults,
            context,
            default_id=self._default_id,
            identity=lambda valid: what_it_sends(valid, None, defaults),
        )
        if row.get("id") is not None:
            if task.id in self._given:
                raise InputError(f"duplicate id {shown(task.id)}: an earlier task has it")
            self._given.add(task.id)
        return task

    def _row(self, given: Any) -> dict[str, Any]:
        if isinstance(given, str):
            return {"prompt": given}
        if isinstance(given, Task):
            return _row_of(given, self._now())
        if isinstance(given, Mapping):
            return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        raise InputError(
            f"must be a prompt, a mapping such as {{'prompt': ...}}, or a Task, not {type(given).__name__}"
        )

    def _default_id(self, digest: str) -> str:
        if not self._resumable:
            self._count += 1
            return f"task-{self._count}"
        self._equal[digest] += 1
        ordinal = self._equal[digest]
        return digest if ordinal == 1 else f"{digest}-{ordinal}"


def _row_of(task: Task, now: float) -> dict[str, Any]:
    """The keys of a task file that make this task."""
    row = {name: getattr(task, name) for name in TaskFields.model_fields if hasattr(task, name)}
    row["tool_choice"] = written_choice(task.tool_choice)
    if task.deadline_at is not None:
        row["deadline"] = task.deadline_at - now
    lists = {name: list(value) for name, value in row.items() if isinstance(value, tuple)}
    return {name: value for name, value in (row | lists).items() if value not in (None, "", [])}
