"""HTTP below google-generativeai: `requests`, with the bounds of `transport.py`. Imported where the SDK is.

urllib3 itself reuses no connection with unread data, or one that the server has closed.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urljoin

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from .network import ERROR_BYTES, AnswerTooLarge, Redirected, Unreadable, has_no_host, may_follow

_PART_BYTES = 65_536
_MOST_HEADERS = 4_000  # http.client refuses an answer with more than 100, as aiohttp and h11 do not


class BoundedAdapter(HTTPAdapter):
    """One exchange. `take` gets the response and its body; the package gets an empty object instead.

    The package knows neither thoughts nor newer finish reasons, and fails on answers of compatible servers.
    """

    def __init__(self, connections: int, max_bytes: int, take: Callable[[Response, bytes], None]) -> None:
        super().__init__(pool_maxsize=connections)
        self._max_bytes, self._take = max_bytes, take
        http.client._MAXHEADERS = _MOST_HEADERS  # type: ignore[attr-defined]

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        """One exchange. Raises requests' exceptions, and `RejectedAnswer` for what is not accepted."""
        response = super().send(request, *args, **{**options, "stream": True})
        try:
            if response.is_redirect:
                self._check_redirect(response, request)
            content = self._content(response)
        except BaseException:
            response.close()
            raise
        self._take(response, content)
        response._content = b"{}"
        response._content_consumed = True  # type: ignore[attr-defined]
        return response

    @staticmethod
    def _check_redirect(response: Response, request: PreparedRequest) -> None:
        here, location = str(request.url), response.headers["location"]
        try:
            there = "" if has_no_host(location) else urljoin(here, location)
        except ValueError:
            there = ""
        if not may_follow(response.status_code, str(request.method), here, there):
            raise Redirected(response.status_code, here, there)

    def _content(self, response: Response) -> bytes:
        most = self._max_bytes if response.status_code < 300 else ERROR_BYTES
        parts: list[bytes] = []
        size = 0
        for part in _parts_of(response):
            parts.append(part)
            size += len(part)
            if size > most and response.status_code < 300:
                raise AnswerTooLarge(most)
            if size > most:
                response.close()
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _parts_of(response: Response) -> Iterator[bytes]:
    """The body in parts. Raises Unreadable for a chunk size that urllib3 does not check: a negative one."""
    try:
        yield from response.iter_content(_PART_BYTES)
    except (ValueError, OverflowError) as error:
        raise Unreadable(f"the answer is not a valid HTTP body: {error}") from error
