"""Responses compressed with gzip, for clients that accept it.

Text of 600 bytes or more is compressed; a shorter response fits into one packet anyway. Streamed responses
stay streamed.

BREACH: the size of a compressed page tells something about a secret in it, if somebody can put text of their
own beside the secret and have the page fetched again and again. Two rules prevent that: a CSRF token never
looks the same twice (`guard.csrf_token`), and a page that another site asks for is not compressed, so that
the size tells nothing about prompts and answers either.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator

from flask import Flask, Response, request

SMALLEST_BYTES = 600
LEVEL = 5  # a page of 28 KB takes 0.1 ms; 9 takes twice that, to save 2 %
COMPRESSED_TYPES = frozenset(
    {
        "application/json",
        "application/openmetrics-text",
        "application/x-ndjson",
        "image/svg+xml",
        "text/css",
        "text/csv",
        "text/html",
        "text/javascript",
        "text/plain",
    }
)
_WITHOUT_WHOLE_BODY = (204, 206, 304)
_GZIP = 16 + zlib.MAX_WBITS  # for zlib: a gzip header and trailer


def install(app: Flask) -> None:
    """Compress the responses of `app`."""
    app.after_request(_compress)


def _compress(response: Response) -> Response:
    if response.mimetype not in COMPRESSED_TYPES or response.status_code in _WITHOUT_WHOLE_BODY:
        return response
    response.vary.add("Accept-Encoding")
    if not _may_compress() or "Content-Encoding" in response.headers:
        return response
    if response.is_streamed and not response.direct_passthrough:
        _stream(response)
    elif not _replace_body(response):
        return response
    response.headers["Content-Encoding"] = "gzip"
    tag, is_weak = response.get_etag()
    if tag and not is_weak:  # a strong one is for these very bytes
        response.set_etag(tag, weak=True)
    return response


def _may_compress() -> bool:
    from_elsewhere = request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none")
    return request.method != "HEAD" and request.accept_encodings.quality("gzip") > 0 and not from_elsewhere


def _replace_body(response: Response) -> bool:
    """Compress a body that is known; whether it was worth it."""
    if (response.content_length or SMALLEST_BYTES) < SMALLEST_BYTES:
        return False
    if response.direct_passthrough:  # a static file: it is read here
        response.direct_passthrough = False
        response.call_on_close(getattr(response.response, "close", lambda: None))
    body = response.get_data()
    if len(body) < SMALLEST_BYTES:
        return False
    response.set_data(gzip.compress(body, LEVEL, mtime=0))
    return True


def _stream(response: Response) -> None:
    plain = response.iter_encoded()
    response.call_on_close(getattr(response.response, "close", lambda: None))
    response.response = _compressed(plain)
    response.headers.pop("Content-Length", None)


def _compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
    for part in parts:
        if packed := packer.compress(part):
            yield packed
    yield packer.flush()
