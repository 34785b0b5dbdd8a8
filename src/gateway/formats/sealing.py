"""Reasoning of one provider in a place where another API keeps its own: text that no other program reads.

A client sends back what it was given: the `encrypted_content` of a reasoning item, the `signature` of a
thinking block, the `data` of a redacted one. What another provider wrote is put there with a prefix, so that
it is known again in the next turn, goes to the model that wrote it and to no other one.

It is not encrypted: a caller may read and forge it, as it may write anything else into its own request.
"""

from __future__ import annotations

import base64
import binascii
import json

from ...messages import ContentPart, Reasoning

PREFIX = "orchestrator-reasoning-1."
_CHANGED = "the reasoning of an earlier answer has been changed"


class BrokenSealError(ValueError):
    """It begins like what `seal` writes and is something else."""


def seal(reasoning: Reasoning, *, with_text: bool, place: int = -1) -> str:
    """The reasoning as one word. `with_text`: its text does not stand beside it.

    `place`: its number among the parts of the answer, where it could not be written there; -1: it was.
    """
    values = [reasoning.opaque, reasoning.origin, reasoning.text if with_text else "", place]
    return PREFIX + base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def is_sealed(word: object) -> bool:
    """Whether it is what `seal` writes."""
    return type(word) is str and word.startswith(PREFIX)


class Unsealing:
    """The sealed reasoning of one answer, read into its parts. Parts without anything opaque are left out."""

    def __init__(self) -> None:
        self._late: list[tuple[int, Reasoning]] = []  # with the place that it belongs to

    def read(self, word: str, text: str) -> list[Reasoning]:
        """What is a part here; `text` is what stands beside the word. Raises BrokenSealError."""
        reasoning, place = _unseal(word, text)
        if not reasoning.opaque:
            return []
        if place < 0:
            return [reasoning]
        self._late.append((place, reasoning))
        return []

    def put_back(self, parts: list[ContentPart]) -> None:
        """When the parts are complete: those that came behind the answer go where they were written."""
        for place, reasoning in sorted(self._late, key=lambda each: each[0]):
            parts.insert(place, reasoning)
        self._late = []


def _unseal(word: str, text: str) -> tuple[Reasoning, int]:
    try:
        values = json.loads(base64.b64decode(word[len(PREFIX) :], altchars=b"-_", validate=True))
        opaque, origin, own, place = values
        if opaque:
            json.loads(opaque)
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise BrokenSealError(_CHANGED) from error
    if not (type(opaque) is type(origin) is type(own) is str and type(place) is int):
        raise BrokenSealError(_CHANGED)
    return Reasoning(opaque, origin, own or text), place
