"""An answer as it reads best: Markdown rendered, JSON with indentation."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from markupsafe import Markup

from ..storable import is_clean
from . import markdown

MAX_JSON_CHARS = 200_000
MAX_INDENTED_CHARS = 1_000_000  # deep nesting makes each line long
INDENT = "  "
_LEXEME = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


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
    """An object or a list with indentation; None if the answer is something else, or grows too long."""
    if output.lstrip()[:1] not in ("{", "[") or len(output) > MAX_JSON_CHARS:
        return None
    try:
        json.loads(output)
    except (ValueError, RecursionError):
        return None
    return _indented(output)


def _indented(text: str) -> str | None:
    """Valid JSON with indentation: its numbers and repeated keys stay as they were written."""
    parts: list[str] = []
    depth = size = 0
    opened = ""
    for lexeme in _LEXEME.findall(text):
        depth -= lexeme in "}]"
        new_line = "\n" + INDENT * depth
        if lexeme in "}]":
            part = lexeme if opened else new_line + lexeme
        elif lexeme in ",:":
            part = lexeme + (new_line if lexeme == "," else " ")
        else:
            part = (new_line if opened else "") + _readable(lexeme)
        opened = lexeme if lexeme in "{[" else ""
        depth += bool(opened)
        parts.append(part)
        size += len(part)
        if size > MAX_INDENTED_CHARS:
            return None
    return "".join(parts)


def _readable(lexeme: str) -> str:
    """A string with its characters in place of their escapes, unless one is half of a surrogate pair."""
    if "\\u" not in lexeme:
        return lexeme
    text = json.dumps(json.loads(lexeme), ensure_ascii=False)
    return text if is_clean(text) else lexeme
