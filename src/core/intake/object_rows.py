"""JSON objects with a template: every key is data, except the id and keys such as `task.priority`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import InputError, hint
from .csv_rows import PREFIX, PROMPT_KEYS
from .fields import TaskFields
from .lines import Row
from .template import Template
from .validation_messages import near_key, shown

SETTABLE = [key for key in TaskFields.model_fields if key not in PROMPT_KEYS]


def filled_row(line: int, found: Mapping[str, Any], text: str, template: Template, ids: str | None) -> Row:
    """The object as fields of a task. `ids`: the key with the id, None for `id`.

    Raises InputError for an object without a key of the template, and for a misspelt `task.` key.
    """
    _check_keys(found, template, ids)
    cells = {key: _text(value) for key, value in found.items()}
    set_by = {key: _field(key) for key in found if key.startswith(PREFIX) and key not in template.columns}
    # Another key with the ids returns with the results.
    data = {key: value for key, value in found.items() if key not in set_by and (ids or key) != "id"}
    fields = {"metadata": data} | {field: found[key] for key, field in set_by.items()}
    fields |= {"id": found.get(ids or "id"), "prompt": template.fill(cells)}
    return Row(line, fields, text, content=found, filled=template.values(cells))


def _check_keys(found: Mapping[str, Any], template: Template, ids: str | None) -> None:
    for column in template.columns:
        if column not in found:
            raise InputError(f"no {shown(column)} for the template; {hint(column, found)}")
    if ids is not None and ids not in found:
        raise InputError(f"no {ids!r} (--id-column)")


def _field(key: str) -> str:
    """The field that a `task.` key sets."""
    field = key.removeprefix(PREFIX)
    if field in SETTABLE:
        return field
    near = near_key(field, SETTABLE)
    meant = f"did you mean {PREFIX + near!r}?" if near else f"fields are {', '.join(SETTABLE)}"
    raise InputError(f"unknown key {shown(key)}; {meant}")


def _text(value: Any) -> str:
    """A value as it stands in a prompt: null is empty, lists and objects are JSON."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
