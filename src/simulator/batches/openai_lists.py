"""Lists of OpenAI, of files and of batches, and their pages."""

from __future__ import annotations

from collections.abc import Mapping

from ..shapes import Json, refused


def positive(query: Mapping[str, str], name: str, usual: int, most: int) -> int:
    """A number from 1 to `most` in a query. Raises Fail otherwise."""
    value = query.get(name)
    if value is None:
        return usual
    if not value.isdecimal() or not 1 <= int(value) <= most:
        text = f"Invalid '{name}': expected an integer from 1 to {most}, but got {value} instead."
        raise refused(text, name, "invalid_value")
    return int(value)


def page(items: list[Json], after: str | None, limit: int) -> Json:
    """A page of a list: those that follow the id `after`."""
    if after is not None:
        ids = [item["id"] for item in items]
        items = items[ids.index(after) + 1 :] if after in ids else []
    found = items[:limit]
    return {
        "object": "list",
        "data": found,
        "first_id": found[0]["id"] if found else None,
        "last_id": found[-1]["id"] if found else None,
        "has_more": len(items) > limit,
    }
