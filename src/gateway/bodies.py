"""Bodies of requests: read within limits of bytes and time, parsed strictly.

Each has a limit, and so have all that are in memory together. A body counts as it comes, and until its
request has ended: while it waits, at a standby for a leader, and while it is answered. Of several submitters
each may take as much as is free beside it: one gets half of the memory, two get a third each. So the next one
always finds some, and no share needs a setting.

What is done with a large body goes through `in_turn`: on the event loop it would hold up every other request.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, ParamSpec, TypeVar

from aiohttp import hdrs, web

from ..core.intake.json_text import parse_json
from ..errors import InputError, WaitingLimit
from .answers import CALLER
from .formats.base import FormatError
from .formats.problems import ProblemKind
from .problems import RETRY_AFTER_S

READ_S = 30.0
LOOK_S = 0.01
BYTES_PER_S = 10_000  # as for the pages: a slower sender holds memory for too long
MAX_DEPTH = 100  # of objects and lists; schemas of tools nest some ten deep
JSON_TYPE = "application/json"
AT_ONCE_BYTES = 100_000  # read on the event loop: 1 ms of an agent's turns, 15 ms of the smallest objects
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a surrogate pair, perhaps the half of a whole one
_CONTENT: web.RequestKey[bytes] = web.RequestKey("content", bytes)
_SIZE: web.RequestKey[int] = web.RequestKey("size", int)  # of what has come of it
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


def _submitter(request: web.Request) -> str:
    return request[CALLER].name if CALLER in request else ""


def _no_room(whose: str, size: int) -> WaitingLimit:
    text = f"the bodies of {whose} take {size / 1e6:,.1f} MB (gateway.max_waiting_mb)"
    return WaitingLimit(text, RETRY_AFTER_S)


class Bodies:
    """The bodies that are in memory. `most_each` and `most`: bytes of one, and of all together.

    `is_shared`: whether there are several submitters.
    """

    def __init__(self, most_each: int, most: int, is_shared: Callable[[], bool]) -> None:
        self._most_each, self._most, self._is_shared = most_each, most, is_shared
        self._held: Counter[str] = Counter()  # by submitter
        self._arriving = 0

    async def read(self, request: web.Request) -> bytes:
        """The body, also a second time. Raises FormatError and WaitingLimit."""
        known: bytes | None = request.get(_CONTENT)
        if known is not None:
            return known
        said = request.content_length or 0
        self._check(request, said)
        try:
            if request.content.is_eof():  # it came with the head, as most do: no time limit is needed
                content = await self._all(request)
            else:
                content = await self._arrival(request, READ_S + (said or self._most_each) / BYTES_PER_S)
        except web.RequestPayloadError:
            raise FormatError("the body can't be read: its content or transfer encoding is broken") from None
        except TimeoutError:
            raise FormatError("the body did not arrive in time") from None
        request[_CONTENT] = content
        return content

    async def arrived(self, within_s: float) -> None:
        """Wait until all bodies have come whose heads have, at most `within_s`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._arriving:
                    await asyncio.sleep(LOOK_S)

    async def _arrival(self, request: web.Request, within_s: float) -> bytes:
        self._arriving += 1
        try:
            await _let_come(request)
            async with asyncio.timeout(within_s):
                return await self._all(request)
        finally:
            self._arriving -= 1

    def release(self, request: web.Request) -> None:
        """The request has ended."""
        submitter = _submitter(request)
        self._held[submitter] -= request.pop(_SIZE, 0)
        if not self._held[submitter]:
            del self._held[submitter]

    async def _all(self, request: web.Request) -> bytes:
        parts = []
        while part := await request.content.readany():
            size = request.get(_SIZE, 0)
            self._check(request, size + len(part))
            request[_SIZE] = size + len(part)
            self._held[_submitter(request)] += len(part)
            parts.append(part)
        return b"".join(parts)

    def _check(self, request: web.Request, size: int) -> None:
        """Refuse a body that is larger than one may be, or than what others leave. One alone always fits."""
        if size > self._most_each:
            raise too_large(self._most_each)
        submitter, known = _submitter(request), request.get(_SIZE, 0)
        others = self._held.total() - known
        of_same = self._held[submitter] - known
        free = self._most - others - size
        if others and free < 0:
            raise _no_room("open requests", others)
        if of_same and of_same + size > free and self._is_shared():
            raise _no_room(f"{submitter!r}'s open requests", of_same)


async def read_object(request: web.Request) -> Body:
    """The JSON object in the body. Raises FormatError and WaitingLimit."""
    content = await request.app[BODIES].read(request)
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


BODIES: web.AppKey[Bodies] = web.AppKey("bodies", Bodies)
