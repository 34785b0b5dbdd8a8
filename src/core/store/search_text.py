"""The words of texts and of searches. It is pure, and both databases index the same words.

A word is a run of letters and digits in small letters, without accents: `Müller` is found as `muller`.
Chinese, Japanese, Thai and other scripts have no spaces between words, so there each character is a word.
What people type is split in the same way, so a term of several words (`sign-in`, `東京`) is a phrase, and no
character has a meaning in the language of a database.

    refund policy       both words, anywhere in prompt and answer
    "refund policy"     the phrase
    refund*             words that begin with `refund`
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from ...message_json import texts_of
from .codec import loads

VERSION = 1  # raise it with any change of the words of a text: the index is then built anew
INDEXED_CHARS = 100_000  # of the prompt, and of the answer
MAX_WORD_CHARS = 64  # longer ones, such as images in base64, are cut
MAX_TERMS = 32  # of a search; the others are ignored
_ACCENTS = re.compile("[\u0300-\u036f]+")
_NO_SPACES = (  # scripts without spaces between words
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff"
)
_ASCII_WORD = re.compile("[a-z0-9]+")
_WORD = re.compile(rf"[{_NO_SPACES}]|[^\W_{_NO_SPACES}]+")
_TERM = re.compile(r'"([^"]*)"?|([^\s"]+)')


@dataclass(frozen=True, slots=True)
class Term:
    """One or more words that follow each other; with `is_prefix` the last one may go on."""

    words: tuple[str, ...]
    is_prefix: bool = False


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    if text.isascii():
        found = _ASCII_WORD.findall(text.lower())
    else:
        bare = _ACCENTS.sub("", unicodedata.normalize("NFKD", text))
        found = [
            word for word in _WORD.findall(unicodedata.normalize("NFKC", bare.casefold())) if word.isalnum()
        ]
    return [word[:MAX_WORD_CHARS] for word in found]


def terms_of(search: str) -> list[Term]:
    """The terms of a search, all of which a task must have; empty if it has no word."""
    terms = []
    for phrase, plain in _TERM.findall(search):
        if words := words_of(phrase or plain):
            terms.append(Term(tuple(words), not phrase and plain.endswith("*")))
    return terms[:MAX_TERMS]


def document_words(body: str, output: str | None) -> list[str]:
    """The words that are indexed for a task: of its messages (`prompts.body`), then of its answer."""
    contents = (content for _, content in loads(body).get("messages", ()))
    prompt = "\n".join(text for content in contents for text in texts_of(content))
    return words_of(prompt[:INDEXED_CHARS]) + words_of((output or "")[:INDEXED_CHARS])
