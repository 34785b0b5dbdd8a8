"""OpenAI's embeddings: the answer goes on as it came; only its end and its usage are read. Pure.

The vectors are cut out before the JSON is parsed: a thousand of them are a million numbers.
"""

from __future__ import annotations

import re

from ..errors import InvalidResponse
from ..records import CompletionRequest, FinishReason
from . import values
from .answers import Answer
from .prompts import Finish, Json
from .usage import NOTHING, Reported

_KEY = b'"embedding"'
_OPENING = re.compile(_KEY + rb'\s*:\s*(["\[])')
_CLOSING = {b'"': b'"', b"[": b"]"}  # of base64, and of numbers


def without_vectors(content: bytes) -> bytes:
    """The body of an answer with a 0 in place of each vector."""
    kept, at = [], 0
    while (key := content.find(_KEY, at)) >= 0:
        opening = _OPENING.match(content, key)
        end = content.find(_CLOSING[opening[1]], opening.end()) if opening else -1
        if opening is None or end < 0 or content.find(b"\\", opening.end(), end) >= 0:
            kept.append(content[at : key + len(_KEY)])  # no vector
            at = key + len(_KEY)
        else:
            kept += [content[at : opening.start(1)], b"0"]
            at = end + 1
    return b"".join([*kept, content[at:]])


def read_embeddings(body: Json, request: CompletionRequest, request_id: str) -> Answer:
    """What an answer says beside its vectors. There is one for each input, or it is none."""
    found, wanted = len(values.sequence(body.get("data"))), inputs_of(request)
    finish: Finish = FinishReason.STOP if found == wanted else InvalidResponse
    why = "" if found == wanted else f"{found:,} vectors for {wanted:,} inputs"
    model = values.text(body.get("model"))
    return Answer((), "", finish, "stop", why, _usage(body.get("usage")), model, request_id)


def inputs_of(request: CompletionRequest) -> int:
    """How many inputs the request has: a text, or an array of tokens, is one."""
    given = request.native.body.get("input") if request.native else None
    if isinstance(given, list) and not (given and isinstance(given[0], int)):
        return len(given)
    return 1


def _usage(usage: object) -> Reported:
    if not isinstance(usage, dict):
        return NOTHING._replace(output=0)
    return Reported(values.count(usage.get("prompt_tokens")), 0)
