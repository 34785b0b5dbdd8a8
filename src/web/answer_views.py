"""An answer as it reads best: Markdown rendered, JSON with indentation."""

from __future__ import annotations

import json
from dataclasses import dataclass

from markupsafe import Markup

from . import markdown

MAX_JSON_CHARS = 200_000


@dataclass(frozen=True, slots=True)
class RenderedAnswer:
    """`kind` names the view. `markup` of Markdown, else `text`."""

    kind: str
    text: str = ""
    markup: Markup | None = None


def as_answer(output: str) -> RenderedAnswer | None:
    """How to show an answer beside the text as it is; None if that text reads best."""
    pretty = _pretty_json(output)
    if pretty is not None:
        return None if pretty == output else RenderedAnswer("JSON", pretty)
    markup = markdown.render(output)
    return None if markup is None else RenderedAnswer("Rendered", markup=markup)


def _pretty_json(output: str) -> str | None:
    """An object or a list with indentation; None if the answer is something else."""
    if output.lstrip()[:1] not in ("{", "[") or len(output) > MAX_JSON_CHARS:
        return None
    try:
        return json.dumps(json.loads(output), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
