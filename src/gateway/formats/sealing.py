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

from ...messages import Reasoning

PREFIX = "orchestrator-reasoning-1."


class BrokenSealError(ValueError):
    """It begins like what `seal` writes and is something else."""


def seal(reasoning: Reasoning, *, with_text: bool) -> str:
    """The reasoning as one word. `with_text`: its text does not stand beside it."""
    values = [reasoning.opaque, reasoning.origin, reasoning.text if with_text else ""]
    return PREFIX + base64.urlsafe_b64encode(json.dumps(values).encode()).decode()


def is_sealed(word: object) -> bool:
    """Whether it is what `seal` writes."""
    return type(word) is str and word.startswith(PREFIX)


def unseal(word: str, text: str = "") -> Reasoning:
    """The reasoning; `text` is what stands beside it. Raises BrokenSealError."""
    try:
        values = json.loads(base64.b64decode(word[len(PREFIX) :], altchars=b"-_", validate=True))
        if values[0]:
            json.loads(values[0])
        opaque, origin, own = values
    except (binascii.Error, ValueError, TypeError, LookupError, RecursionError) as error:
        raise BrokenSealError("the reasoning of an earlier answer has been changed") from error
    if not (type(opaque) is type(origin) is type(own) is str):
        raise BrokenSealError("the reasoning of an earlier answer has been changed")
    return Reasoning(opaque, origin, own or text)
