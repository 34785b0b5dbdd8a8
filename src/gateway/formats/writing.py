"""What all writers share: JSON, server-sent events, ids, and an answer's parts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from json.encoder import encode_basestring
from typing import Any

from ...messages import ContentPart, Text, ToolCall, tool_calls_in
from ...records import Completion, FinishReason

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
# Some clients split a stream at these too, which JSON leaves as they are.
_LINE_ENDS = {"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_LONGEST_ID = 40  # OpenAI Chat Completions takes no longer ids of calls, the others do


def json_bytes(value: Any) -> bytes:
    """JSON in UTF-8; unpaired surrogates become question marks."""
    text = _encode(value)
    if text.isascii():
        return text.encode("ascii")
    return _on_one_line(text).encode("utf-8", "replace")


def quoted(text: str) -> bytes:
    """A JSON string: `json_bytes` for the hot path."""
    if text.isascii():
        return encode_basestring(text).encode("ascii")
    return _on_one_line(encode_basestring(text)).encode("utf-8", "replace")


def _on_one_line(text: str) -> str:
    """JSON whose line ends are escaped. Not `str.translate`, which takes 0.4 us for each character."""
    for end, escaped in _LINE_ENDS.items():
        if end in text:
            text = text.replace(end, escaped)
    return text


def named_event(name: str, data: Any) -> bytes:
    """A server-sent event with a name."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json_bytes(data))


def comment(text: str) -> bytes:
    """A line that readers of server-sent events leave out."""
    return f": {' '.join(text.split())}\n\n".encode("utf-8", "replace")


def call_id(call_ident: str, prefix: str, answer_id: str, number: int) -> str:
    """The id of a tool call towards the caller: the provider's, where the caller's API takes such a one."""
    if len(call_ident) <= _LONGEST_ID and _ID.fullmatch(call_ident):
        return call_ident
    named = f"{answer_id}\0{number}\0{call_ident}".encode("utf-8", "surrogatepass")
    return f"{prefix}{hashlib.blake2b(named, digest_size=12).hexdigest()}"


def parts_of(completion: Completion) -> Sequence[ContentPart]:
    """The assistant's turn, also of an answer that is text alone."""
    if completion.parts:
        return completion.parts
    return (Text(completion.text),) if completion.text else ()


def end_of(completion: Completion) -> FinishReason:
    """Why it ended. Some APIs say of an answer with tool calls that it simply stopped."""
    reason = completion.finish_reason
    if reason in (FinishReason.STOP, FinishReason.OTHER) and tool_calls_in(completion.parts):
        return FinishReason.TOOL
    return reason


def arguments_object(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call as an object; what is none is its one member, `arguments`."""
    if not call.arguments.strip():
        return {}
    try:
        found = json.loads(call.arguments)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"arguments": call.arguments}
