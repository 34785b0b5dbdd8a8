"""The usage of a call: the provider's counts where they are possible, else an estimate. Pure.

Counts that are not possible are replaced one by one:

    missing, null, no number or below zero     `values.count` has made None of them
    input above 2 x (bytes of text in the prompt + what its images and documents can count) + 2,000
    output above 2 x (max_tokens + thinking headroom)
    less than a token for LONGEST_TOKEN_CHARS of the text: zero beside a prompt or an answer, too

An estimate is UTF-8 bytes / 4, and a warning says so: budgets must hold whatever a provider reports.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..records import CompletionRequest, Usage
from .prompt_size import bytes_in, media_tokens, media_tokens_at_most, text_bytes, text_chars

LONGEST_TOKEN_CHARS = 256  # no vocabulary has a longer one: the longest of o200k has 128
USAGE_ESTIMATED = "the provider returned no usage; tokens are estimated from characters"
NO_REASON = "the answer has no stop reason; its length agrees with the usage that was reported"
HEADROOM = "thinking_headroom_tokens"  # in a request's parameters

_BYTES_PER_TOKEN = 4
_INPUT_MARGIN_TOKENS = 2_000  # a provider's own frame, of tools and roles
_TIMES = 2
_LEAST_BYTES_PER_TOKEN = 3  # of a whole text: fewer, and a part of it is missing
_FRAME_TOKENS = 16
_SHORT_CHARS = 24
_ENDS = (
    ".", "!", "?", "…", "。", "\uff01", "\uff1f",  # of a sentence
    '"', "'", "”", "\u2019", "»", ")", "]", "}", ">", "`", "|", "*",
)  # fmt: skip


class Reported(NamedTuple):
    """Counts as an answer has them, None where it has none. `prompt` includes what was cached."""

    prompt: int | None
    output: int | None  # includes reasoning
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0

    @property
    def usage(self) -> Usage:
        """As our record, whose input leaves out what was cached; parts are no more than their whole."""
        prompt, output = self.prompt or 0, self.output or 0
        read = min(prompt, self.cache_read)
        write = min(prompt - read, self.cache_write)
        return Usage(prompt - read - write, read, write, output, min(self.reasoning, output))


NOTHING = Reported(None, None)


def of_answer(reported: Reported, request: CompletionRequest, text: str) -> tuple[Usage, tuple[str, ...]]:
    """What an answer used, with a warning where it is estimated."""
    wrong_input, wrong_output = _wrong_input(reported, request), _wrong_output(reported, request, text)
    if not wrong_input and not wrong_output:
        return reported.usage, ()
    if wrong_input:
        tokens = math.ceil(text_bytes(request) / _BYTES_PER_TOKEN) + media_tokens(request)
        reported = reported._replace(prompt=tokens, cache_read=0, cache_write=0)
    if wrong_output:
        tokens = math.ceil(bytes_in((text,)) / _BYTES_PER_TOKEN)
        reported = reported._replace(output=tokens, reasoning=0)
    if wrong_input == wrong_output == _MISSING:
        return reported.usage, (USAGE_ESTIMATED,)
    wrong = [f"{wrong_input} input tokens"] if wrong_input else []
    wrong += [f"{wrong_output} output tokens"] if wrong_output else []
    return reported.usage, (f"the provider reported {' and '.join(wrong)}; estimated from characters",)


def of_error(reported: Reported, request: CompletionRequest) -> Usage | None:
    """What an answer without usable text used; None where that is not known."""
    if _wrong_input(reported, request) or _wrong_output(reported, request, ""):
        return None
    return reported.usage


def is_whole(reported: Reported, request: CompletionRequest, text: str) -> bool:
    """Whether a text without a stop reason is all there: it ends as texts do, and where its tokens end."""
    if not _ends(text.rstrip()) or _wrong_output(reported, request, text) or not reported.output:
        return False
    shown = reported.output - min(reported.reasoning, reported.output)
    longest = bytes_in((text,)) / _LEAST_BYTES_PER_TOKEN + _FRAME_TOKENS
    return shown <= longest and reported.output < request.max_tokens


def _ends(text: str) -> bool:
    """Whether the end of a sentence, of JSON or of code is there; a word or two need none."""
    return text.endswith(_ENDS) or 0 < len(text) <= _SHORT_CHARS


_MISSING = "no"


def _wrong_input(reported: Reported, request: CompletionRequest) -> str:
    """What is wrong with the count, as a word before "input tokens"; "" where it can be true."""
    reported_tokens = reported.prompt
    if reported_tokens is None:
        return _MISSING
    chars = text_chars(request)
    if reported_tokens * LONGEST_TOKEN_CHARS < chars:
        return f"only {reported_tokens:,}"
    if (
        reported_tokens <= _TIMES * chars + _INPUT_MARGIN_TOKENS
    ):  # nearly always: bytes are no fewer than characters
        return ""
    most = _TIMES * (text_bytes(request) + media_tokens_at_most(request)) + _INPUT_MARGIN_TOKENS
    return f"{reported_tokens:,} (at most {most:,} are possible)" if reported_tokens > most else ""


def _wrong_output(reported: Reported, request: CompletionRequest, text: str) -> str:
    reported_tokens = reported.output
    if reported_tokens is None:
        return _MISSING
    if reported_tokens * LONGEST_TOKEN_CHARS < len(text):
        return f"only {reported_tokens:,}"
    most = _TIMES * (request.max_tokens + int(request.parameters.get(HEADROOM, 0)))
    return f"{reported_tokens:,} (at most {most:,} are possible)" if reported_tokens > most else ""
