"""Bodies of requests: read within a limit of bytes and time, parsed strictly.

What is done with a large body goes through `in_turn`: on the event loop it would hold up every other request.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

from aiohttp import hdrs, web

from ..core.intake.json_text import parse_json
from ..errors import InputError
from .formats.base import FormatError
from .formats.problems import ProblemKind

READ_S = 30.0
BYTES_PER_S = 10_000  # as for the pages: a slower sender holds memory for too long
MAX_DEPTH = 100  # of objects and lists; schemas of tools nest some ten deep
JSON_TYPE = "application/json"
AT_ONCE_BYTES = 100_000  # read on the event loop: 1 ms of an agent's turns, 15 ms of the smallest objects
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a surrogate pair, perhaps the half of a whole one
P = ParamSpec("P")
T = TypeVar("T")


class Body(NamedTuple):
    """A JSON object, and whether it was a large one."""

    value: dict[str, Any]
    is_large: bool

    async def in_turn(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What `read` returns, of a large body from a thread."""
        return await _in_turn(self.is_large, read, *args, **kwargs)


async def _in_turn(is_large: bool, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    return await asyncio.to_thread(read, *args, **kwargs) if is_large else read(*args, **kwargs)


def check_type(request: web.Request) -> None:
    """Refuse a body by its type, before a byte of it is read. Raises FormatError."""
    if request.content_type != JSON_TYPE:
        # A web page can send other types to this machine without asking; and an API takes nothing else.
        raise FormatError(f"the content type must be {JSON_TYPE}", kind=ProblemKind.MEDIA_TYPE)


def too_large(max_bytes: int) -> FormatError:
    """The refusal of a body above the limit."""
    message = f"the body is larger than {max_bytes / 1e6:g} MB ([gateway] max_body_mb)"
    return FormatError(message, kind=ProblemKind.BODY_TOO_LARGE)


async def _let_come(request: web.Request) -> None:
    """Tell a client that waits for it to send its body."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # this is no part of the answer


async def read_body(request: web.Request, max_bytes: int) -> bytes:
    """The body, also a second time. Raises FormatError."""
    if (request.content_length or 0) > max_bytes:
        raise too_large(max_bytes)
    try:
        if request.content.is_eof():  # it came with the head, as most do: no time limit is needed
            return await request.read()
        await _let_come(request)
        async with asyncio.timeout(READ_S + (request.content_length or max_bytes) / BYTES_PER_S):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise too_large(max_bytes) from None
    except web.RequestPayloadError:
        raise FormatError("the body can't be read: its content or transfer encoding is broken") from None
    except TimeoutError:
        raise FormatError("the body did not arrive in time") from None


async def read_object(request: web.Request, max_bytes: int) -> Body:
    """The JSON object in the body. Raises FormatError."""
    content = await read_body(request, max_bytes)
    is_large = len(content) > AT_ONCE_BYTES
    return Body(await _in_turn(is_large, _parsed, content), is_large)


def _parsed(content: bytes) -> dict[str, Any]:
    """Raises FormatError."""
    try:
        value = parse_json(content.decode())
    except UnicodeDecodeError as error:
        raise FormatError(f"the body is not UTF-8 at byte {error.start + 1}") from None
    except InputError as error:
        raise FormatError(f"the body can't be read: {error.what}") from None
    if not isinstance(value, dict):
        raise FormatError("the body must be a JSON object")
    if _is_deep(value):
        raise FormatError(f"the body nests more than {MAX_DEPTH} objects and lists")
    if _HALF.search(content) and not _is_unicode(value):
        raise FormatError("a string in the body has an unpaired surrogate")
    return value


def _is_unicode(value: dict[str, Any]) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_deep(value: dict[str, Any]) -> bool:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            each
            for outer in level
            for each in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(each, dict | list)
        ]
        if not level:
            return False
    return True
