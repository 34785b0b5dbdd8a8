"""Makes tasks of rows: validation, pins, and ids for rows without one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from ...errors import InputError, nearest
from ...message_json import encode_content, encode_tool
from ...records import GENERAL, LOCAL, Task
from ...settings import Settings
from .agent_prompts import with_agent_prompt
from .fields import TaskFields
from .json_values import check_values
from .pins import Names, effective_providers
from .validation_messages import validation_message

ID_BYTES = 10  # of the digest that becomes an id: 80 bits, enough for a billion lines without a collision


@dataclass(frozen=True, slots=True)
class TaskContext:
    """What all tasks of a file or a request have in common. `now`: when they are submitted, epoch seconds."""

    batch: str
    settings: Settings
    now: float
    submitter: str = LOCAL


def make_task(
    fields: Mapping[str, Any],
    context: TaskContext,
    *,
    line: int | None = None,
    default_id: Callable[[str], str] = lambda digest: digest,
    identity: Callable[[TaskFields], Mapping[str, Any]] | None = None,
    only: Names = (),
) -> Task:
    """Validate the fields of one task. Raises InputError with a message of one line.

    A task without an id gets `default_id(digest)`. The digest is that of `identity`, by default of what the
    task sends. `only`: the providers that an option allows.
    """
    valid = _validated(fields, line)
    try:
        providers = effective_providers(valid.models, valid.providers, only, context.settings)
        messages = with_agent_prompt(valid.turns(), valid.agent, context.settings)
    except InputError as error:
        raise InputError(error.what, line=line) from None
    task_id = valid.id
    if task_id is None:
        task_id = default_id(content_digest(what_it_sends(valid) if identity is None else identity(valid)))
    return Task(
        id=task_id,
        batch=context.batch,
        messages=messages,
        task_type=valid.task_type,
        tier=valid.tier or usual_tier(valid.task_type, context.settings),
        max_tokens=valid.max_tokens,
        temperature=valid.temperature,
        top_p=valid.top_p,
        seed=valid.seed,
        stop=tuple(valid.stop),
        models=tuple(valid.models),
        providers=providers,
        deadline_at=None if valid.deadline is None else context.now + valid.deadline,
        priority=valid.priority,
        metadata=valid.metadata,
        line=line,
        submitter=context.submitter,
        created_at=context.now,
        response_schema=valid.schema_of_answer(),
        agent=valid.agent or "",
        reasoning_effort=valid.reasoning_effort,
        service_tier=valid.service_tier or "",
        tools=valid.tools or (),
        tool_choice=(valid.tool_choice or "") if valid.tools else "",
        parallel_tool_calls=valid.parallel_tool_calls,
    )


def _validated(fields: Mapping[str, Any], line: int | None) -> TaskFields:
    try:
        check_values(fields)
        return TaskFields.model_validate(fields)
    except InputError as error:
        raise InputError(error.what, line=line) from None
    except ValidationError as error:
        where = error.errors()[0]["loc"]
        field = str(where[0]) if where else ""
        raise InputError(validation_message(error, TaskFields), line=line, field=field) from None


def what_it_sends(
    valid: TaskFields, filled: Sequence[str] | None = None, defaulted: Collection[str] = ()
) -> dict[str, Any]:
    """What makes two rows the same: the prompt and the row's own parameters, without defaults.

    `filled`: the values that the row fills into a template stand for its prompt. So after an edit of the
    template the rows keep their ids. `defaulted`: the fields that an option of the whole file has set; they
    are no part of a row.
    """
    asks: list[Any] = [[turn.role, encode_content(turn.content)] for turn in valid.turns()]
    if valid.system and "system" in defaulted:
        del asks[0]
    if filled is not None:
        asks[-1] = list(filled)
    names = (
        "task_type", "agent", "tier", "max_tokens", "temperature", "top_p", "seed", "stop", "models",
        "providers", "reasoning_effort", "tool_choice", "parallel_tool_calls",
    )  # fmt: skip
    given = {name: getattr(valid, name) for name in names if name not in defaulted}
    if not {"response_schema", "choices"} & {*defaulted}:
        given["response_schema"] = valid.schema_of_answer()
    if valid.tools:
        given["tools"] = [encode_tool(tool) for tool in valid.tools]
    default = {"task_type": GENERAL, "tier": "auto"}
    return {"asks": asks} | {name: v for name, v in given.items() if v not in (None, [], default.get(name))}


def usual_tier(task_type: str, settings: Settings) -> str:
    """The tier of a task that names none: that of its type, which is standard unless it is configured."""
    return (settings.task_types.get(task_type) or settings.task_types[GENERAL]).tier


def unknown_type_warning(task_type: str, settings: Settings) -> str:
    """The warning for a task type that is not configured; empty for one that is."""
    if task_type in settings.task_types:
        return ""
    near = nearest(task_type, settings.task_types)
    rest = f"; did you mean {near!r}?" if near else f"; [task_types.{task_type}] would add it"
    return f"unknown task type {task_type!r} is served as {GENERAL!r}{rest}"


def content_digest(fields: Mapping[str, Any]) -> str:
    """A digest of the content without its id; spacing and the order of keys do not change it."""
    content = {key: value for key, value in fields.items() if key != "id"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        return hashlib.blake2b(text.encode(), digest_size=ID_BYTES).hexdigest()
    except UnicodeEncodeError as error:
        raise InputError("half of a surrogate pair, which is not valid text") from error
