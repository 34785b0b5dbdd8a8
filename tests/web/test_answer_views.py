"""Answers of models in a page: Markdown and JSON, and nothing that a model's text can do there."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.web import markdown
from src.web.answer_views import as_answer

TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s",
    "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {
    "a": {"href", "title", "rel"},
    "ol": {"start"},
    "code": {"class"},
    "td": {"class"},
    "th": {"class"},
}


class Reader(HTMLParser):
    """What a browser finds in the markup."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.text = ""
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in TAGS:
            self.wrong.append(tag)
        for name, value in attrs:
            if name not in ATTRIBUTES.get(tag, ()):
                self.wrong.append(f"{tag} {name}")
            if name == "href" and not re.match(r"(https?:|mailto:)", value or "", re.IGNORECASE):
                self.wrong.append(f"href {value}")
        if tag == "a" and dict(attrs).get("rel") != "noopener noreferrer nofollow":
            self.wrong.append("a without rel")

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.wrong.append("comment")

    def handle_decl(self, decl: str) -> None:
        self.wrong.append("declaration")


ATTACKS = [
    "**x** <script>alert(1)</script>",
    "**x** <img src=x onerror=alert(1)>",
    "# <svg/onload=alert(1)>",
    "[a](javascript:alert(1)) **b**",
    "[a](JaVaScRiPt:alert(1)) **b**",
    "[a](&#106;avascript:alert(1)) **b**",
    "[a](java\nscript:alert(1)) **b**",
    "[a](data:text/html,<script>alert(1)</script>) **b**",
    "[a](vbscript:x) <javascript:alert(1)> **b**",
    "[a](//evil.example/x) [b](/logout) [c](?x) [d](#main) **b**",
    "![x](https://evil.example/pixel.png)",
    "![x](javascript:alert(1)) **b**",
    '![a"onerror="alert(1)](https://x/"onload="alert(1))',
    '[a](https://x "t\\" onmouseover=alert(1) x=\\"") **b**',
    '```html" onload=alert(1)\n<b>\n```',
    "```<script>\nx\n```",
    "| <b> | [x](javascript:1) |\n|:--|--:|\n| `<i>` | <u> |",
    "<!-- --> <!doctype html> <![CDATA[x]]> **x**",
    "&lt;script&gt; &#60;b&#62; **x**",
    "[x]: javascript:alert(1)\n\n[x] **y**",
    "1. a\n2. b\n\n> q\n\n---\n\n***",
    '<https://a.example/"onclick=x> **x**',
    "[![i](https://a/i.png)](https://b/) **x**",
    "\u202eabc **x** \u0000 \u2028",
]


@pytest.mark.parametrize("text", ATTACKS)
def test_markup_of_a_model_stays_text(text: str) -> None:
    markup = markdown.render(text)
    assert markup is not None, "each of these has something to render"
    assert Reader(markup).wrong == []


FRAGMENTS = st.sampled_from(
    [
        "<", ">", '"', "'", "[", "](", ")", "!", "`", "```", "*", "**", "|", "\n", "---", "# ", "> ", "- ",
        "1. ", "&", "&#x6a;", "javascript:", "data:", "https://a", "mailto:b", "script", "img", " onload=x",
        "<script>", "style=x", "\\", "~~", "\t", "x",
    ]
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.one_of(FRAGMENTS, st.text(max_size=3)), max_size=25).map("".join))
def test_no_text_becomes_markup_of_its_own(text: str) -> None:
    markup = markdown.render(text)
    if markup is not None:
        assert Reader(markup).wrong == []


def test_markdown_is_rendered() -> None:
    text = "# Title\n\nA *word*, `code` and [a link](https://a.example/x).\n\n- one\n\n| a |\n|---|\n| 1 |\n"
    markup = markdown.render(text)
    assert markup is not None
    for part in ("<h3>Title</h3>", "<em>word</em>", "<code>code</code>", "<li>one</li>", "<td>1</td>",
                 '<a href="https://a.example/x" rel="noopener noreferrer nofollow">a link</a>'):  # fmt: skip
        assert part in markup


@pytest.mark.parametrize(
    "text", ["", "plain", "two\nlines", "two\n\nparagraphs", "5 < 6 & 7 > 3", "a_b_c", "2 * 3"]
)
def test_plain_text_has_no_second_view(text: str) -> None:
    assert as_answer(text) is None


def test_json_is_indented() -> None:
    shown = as_answer('{"b": [1, "é"], "a": null}')
    assert shown is not None and shown.kind == "JSON" and shown.markup is None
    assert shown.text == '{\n  "b": [\n    1,\n    "é"\n  ],\n  "a": null\n}'
    assert as_answer(shown.text) is None, "it is indented already"
    assert as_answer("[" * 100_000) is None
    assert as_answer('{"broken": ') is None
    assert json.loads(shown.text) == {"b": [1, "é"], "a": None}


@pytest.mark.parametrize(
    "piece", ["[", "*a ", "> ", "[a](", "<", "_a*", "![[]()", "|a", "- a\n", "`", "&#", "\\", "~~"]
)
def test_no_text_takes_long(piece: str) -> None:
    text = piece * (markdown.MAX_CHARS // len(piece))
    began = time.process_time()
    markdown.render(text)
    assert time.process_time() - began < 10, "seconds of CPU; it takes less than one"
    assert markdown.render("*a* " * markdown.MAX_CHARS) is None, "too long"


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_JSON, max_size=4) | st.dictionaries(_TEXTS, _JSON, max_size=4), st.booleans())
def test_json_is_indented_as_python_does_it(value: object, ascii_only: bool) -> None:
    found, expected = as_answer(json.dumps(value, ensure_ascii=ascii_only)), json.dumps(value, indent=2)
    if found is not None:
        assert json.loads(found.text) == value
        assert found.text.count("\n") == expected.count("\n")


def test_indented_json_loses_nothing_and_can_always_be_sent() -> None:
    found = as_answer('{"a": "\\ud800", "a": 1.10, "b": 1e400, "c": [], "d": "caf\\u00e9"}')
    assert found is not None
    assert found.text.splitlines()[1:-1] == [
        '  "a": "\\ud800",', '  "a": 1.10,', '  "b": 1e400,', '  "c": [],', '  "d": "café"',
    ]  # fmt: skip
    assert found.text.encode(), "half of a surrogate pair stays an escape"


def test_json_whose_indentation_would_take_megabytes_is_shown_as_it_is() -> None:
    assert as_answer("[" * 900 + ",".join("1" * 50_000) + "]" * 900) is None
