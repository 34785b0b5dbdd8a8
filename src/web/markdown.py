"""Markdown of a model's answer as markup that is safe in a page.

The text is not trusted. HTML in it is shown as text, images are links (a page loads nothing from elsewhere),
links lead to http, https and mailto only, tell the other side nothing (`noreferrer`) and give it no credit
(`nofollow`). The strict Content-Security-Policy of the pages stands behind this.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

MAX_CHARS = 20_000  # a longer answer is shown as it is: the worst text of this length takes half a second
_SCHEMES = frozenset({"http", "https", "mailto"})
_REL = "noopener noreferrer nofollow"


def render(text: str) -> Markup | None:
    """The text as markup; None if it is too long, or reads the same without it."""
    if len(text) > MAX_CHARS:
        return None
    renderer = _renderer()
    tokens = renderer.parse(text)
    if _is_plain(tokens):
        return None
    return Markup(renderer.renderer.render(tokens, renderer.options, {}))  # noqa: S704 - html is off


def _is_plain(tokens: Sequence[Token]) -> bool:
    """Whether there are only paragraphs of text."""
    return all(
        token.type in ("paragraph_open", "paragraph_close", "inline")
        and all(child.type in ("text", "softbreak") for child in token.children or ())
        for token in tokens
    )


@cache
def _renderer() -> MarkdownIt:
    """CommonMark with tables and strikethrough; a line break of the text is one of the page."""
    made = MarkdownIt("commonmark", {"html": False, "linkify": False, "breaks": True, "maxNesting": 40})
    made.enable(["table", "strikethrough"])
    made.validateLink = _is_allowed  # type: ignore[method-assign]
    made.add_render_rule("link_open", _link_open)
    made.add_render_rule("image", _image)
    for cell in ("td_open", "th_open"):
        made.add_render_rule(cell, _cell)
    made.add_render_rule("heading_open", _heading)
    made.add_render_rule("heading_close", _heading)
    return made


def _is_allowed(url: str) -> bool:
    try:
        return urlsplit(url.strip()).scheme.lower() in _SCHEMES
    except ValueError:
        return False


def _link_open(
    self: Any, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]
) -> str:
    tokens[index].attrSet("rel", _REL)
    rendered: str = self.renderToken(tokens, index, options, env)
    return rendered


def _image(
    self: Any, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]
) -> str:
    """A link to the image, with its description."""
    token = tokens[index]
    said = self.renderInlineAsText(token.children or [], options, env) or "image"
    return str(Markup('<a href="{}" rel="{}">{}</a>').format(token.attrGet("src") or "", _REL, said))


def _heading(
    self: Any, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]
) -> str:
    """Two levels lower: `h1` and `h2` are the page's own."""
    level = min(6, int(tokens[index].tag[1:]) + 2)
    return f"</h{level}>\n" if tokens[index].nesting < 0 else f"<h{level}>"


def _cell(self: Any, tokens: Sequence[Token], index: int, options: Any, env: MutableMapping[str, Any]) -> str:
    """Alignment is an inline style, which the pages' policy forbids; only columns of numbers matter."""
    token = tokens[index]
    return f'<{token.tag} class="num">' if token.attrGet("style") == "text-align:right" else f"<{token.tag}>"
