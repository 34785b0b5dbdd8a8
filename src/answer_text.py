"""The JSON in a model's answer, whatever stands around it.

    <think>maybe {"choice": "spam"}</think>      thinking: nothing in it is an answer
    Sure! {"choice": "eggs"}                     a draft
    ```json
    {"choice": "ham"}                            the last one: what the model ended with
    ```

The text is read once from its beginning. Rules:

- Thinking is what stands between tags of that name, or in a fence of that language. It begins with the
  text where only its end is there (some templates of prompts open it themselves), and goes on to the end of
  the text where that is missing.
- JSON that is found is passed over as a whole: tags and fences in its strings are text, and what it holds is
  no answer of its own.
- What begins like JSON and is broken is passed over too, to its closing bracket. Without one it goes on to
  the end of the text: a part of an answer that was cut off is none.
- A bracket that begins no JSON is prose.

Models write anything, so the work is bounded: `_MOST_WORK` characters looked at again after something that
was no JSON.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


STRICT_JSON = json.JSONDecoder(parse_constant=_refuse_constant)

_THINKING = r"(?:ant|seed:)?think(?:ing)?|thoughts?|reason(?:ing)?|reflection|scratchpad"
_TOKEN = re.compile(
    rf"<(?P<close>/?)(?P<tag>{_THINKING})(?:\s[^<>\n]{{0,100}})?>"
    r"|[\[◁](?P<other_close>/?)(?P<other_tag>think)[\]▷]"
    r"|(?P<fence>```|~~~)(?P<language>[\w:+.-]*)[^\n`]*(?:\n|$)"
    r"|[{\[]",
    re.IGNORECASE,
)
_IS_THINKING = re.compile(_THINKING, re.IGNORECASE)
_MAY_BE_JSON = re.compile(r'\{\s*["}]|\[\s*[\]{\["\d\-tfn]')
# Not `[1, 2`: an interval or a footnote, and a list of numbers that was cut off holds no answer anyway.
_LIKE_JSON = re.compile(r'\{\s*(?:["}]|$)|\[\s*(?:[{\[]|$)')
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[{}\[\]]', re.DOTALL)
_MOST_WORK = 50_000_000
_DEEP_WORK = 500_000  # what the decoder looks at before it finds that something is nested too deeply


def json_within(text: str) -> list[str]:
    """Every whole JSON outside of thinking, in the text's order: objects, lists, and what fills a fence."""
    return _Search(text).run()


class _Search:
    def __init__(self, text: str) -> None:
        self._text = text
        self._found: list[str] = []
        self._work = 0

    def run(self) -> list[str]:
        at = 0
        while self._work < _MOST_WORK and (token := _TOKEN.search(self._text, at)):
            if token["tag"] or token["other_tag"]:
                at = self._after_tag(token)
            elif token["fence"]:
                at = self._after_fence(token)
            else:
                at = self._after_bracket(token.start())
        return self._found

    def _after_tag(self, token: re.Match[str]) -> int:
        if (
            token["close"] or token["other_close"]
        ):  # what came before it was thinking, although nothing said so
            self._found.clear()
            return token.end()
        name = re.escape(token["tag"] or token["other_tag"])
        return self._end_of(rf"[<\[◁]/{name}\s*[>\]▷]", token.end())

    def _after_fence(self, token: re.Match[str]) -> int:
        if _IS_THINKING.fullmatch(token["language"]):
            return self._end_of(token["fence"], token.end())
        end = self._text.find(token["fence"], token.end())
        if end < 0:
            return token.end()
        body = self._text[token.end() : end].strip()
        if not body or not self._is_json(body):
            return token.end()  # also the end of a fence: what comes after it is no body
        self._found.append(body)
        return end + len(token["fence"])

    def _end_of(self, what: str, start: int) -> int:
        end = re.compile(what, re.IGNORECASE).search(self._text, start)
        return end.end() if end else len(self._text)

    def _is_json(self, body: str) -> bool:
        try:
            STRICT_JSON.decode(body)
        except ValueError:
            self._work += len(body)
            return False
        except RecursionError:
            self._work += _DEEP_WORK
            return False
        return True

    def _after_bracket(self, start: int) -> int:
        if not _MAY_BE_JSON.match(self._text, start):
            return self._after_broken(start) if _LIKE_JSON.match(self._text, start) else start + 1
        try:
            _, end = STRICT_JSON.raw_decode(self._text, start)
        except (ValueError, RecursionError) as error:
            self._work += _DEEP_WORK if isinstance(error, RecursionError) else self._looked_at(error, start)
            self._work += start // 16  # the decoder counts the lines up to where it failed
            return self._after_broken(start) if _LIKE_JSON.match(self._text, start) else start + 1
        self._found.append(self._text[start:end])
        return end

    def _looked_at(self, error: ValueError, start: int) -> int:
        """A string without an end is reported with the place where it begins."""
        if isinstance(error, json.JSONDecodeError) and not error.msg.startswith("Unterminated"):
            return error.pos - start + 1
        return len(self._text) - start

    def _after_broken(self, start: int) -> int:
        depth = 0
        for bracket in _BRACKET.finditer(self._text, start):
            if (kind := bracket[0]) in "{[":
                depth += 1
            elif kind in "}]":
                depth -= 1
                if not depth:
                    return bracket.end()
        return len(self._text)
