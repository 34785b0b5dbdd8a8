"""Answers that are given again as they are, before any of Flask's work: for programs that ask all the time.

What is repeated is a whole answer together with the decision to give it. It holds for a request that shows
the guard the same things (address, host, token, and no cookie), and only while the view it was made of is
the newest one: half a second at most, and not at all after a change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .context import ViewCache

BASIS = "orchestrator.basis"  # in the environ: (name, view) that an answer was made of, and of nothing else
MAX_KEPT = 64
_END = b"\r\n\r\n"
_Key = tuple[str, str, str, bytes]


@dataclass(frozen=True, slots=True)
class _Answer:
    basis: tuple[str, Any]
    headers: list[tuple[str, str]]
    tag: str
    head: bytes  # the same as bytes, for HTTP/1.1
    body: bytes


class QuickAnswers:
    """Stands in front of a WSGI application."""

    def __init__(self, application: WSGIApplication, cache: ViewCache) -> None:
        self._application, self._recent = application, cache
        self._kept: dict[_Key, _Answer] = {}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        key = _key(environ)
        if key is None:
            return self._application(environ, start_response)
        kept = self._fresh(key)
        if kept is None:
            return self._ask(key, environ, start_response)
        return _again(kept, environ, start_response)

    def packet(self, environ: WSGIEnvironment) -> bytes | None:
        """The whole HTTP/1.1 answer where it lies ready and would only be copied."""
        key = None if "HTTP_IF_NONE_MATCH" in environ else _key(environ)
        kept = None if key is None else self._fresh(key)
        if kept is None:
            return None
        return b"".join((kept.head, b"Date: ", formatdate(usegmt=True).encode(), _END, kept.body))

    def _fresh(self, key: _Key) -> _Answer | None:
        kept = self._kept.get(key)
        return kept if kept is not None and self._recent.peek(kept.basis[0]) is kept.basis[1] else None

    def _ask(self, key: _Key, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Let the application answer, and keep the answer where it says what it was made of."""
        told: list[tuple[str, list[tuple[str, str]]]] = []

        def listen(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            told.append((status, headers))
            return start_response(status, headers, exc_info)

        answer = self._application(environ, listen)
        basis = environ.get(BASIS)
        if basis is None or not _is_for_everybody(*told[-1]):
            return answer
        body = b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        status, headers = told[-1]
        tag = dict(headers).get("ETag", "")
        self._kept[key] = _Answer(basis, headers, tag, _head(status, headers), body)
        return [body]


def _key(environ: WSGIEnvironment) -> _Key | None:
    """What the guard looks at; None for a request that has more to it. Tokens are kept as digests."""
    if environ["REQUEST_METHOD"] != "GET" or environ.get("QUERY_STRING") or "HTTP_COOKIE" in environ:
        return None
    token = environ.get("HTTP_AUTHORIZATION", "")
    digest = hashlib.sha256(token.encode("latin-1", "replace")).digest() if token else b""
    return environ["PATH_INFO"], environ.get("HTTP_HOST", ""), environ.get("REMOTE_ADDR", ""), digest


def _is_for_everybody(status: str, headers: list[tuple[str, str]]) -> bool:
    return status.startswith("200 ") and all(name != "Set-Cookie" for name, _ in headers)


def _head(status: str, headers: list[tuple[str, str]]) -> bytes:
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers), ""]
    return "\r\n".join(lines).encode("latin-1")


def _again(kept: _Answer, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if kept.tag and environ.get("HTTP_IF_NONE_MATCH") == kept.tag:
        headers = [h for h in kept.headers if h[0] not in ("Content-Type", "Content-Length")]
        start_response("304 NOT MODIFIED", headers)
        return []
    start_response("200 OK", kept.headers)
    return [kept.body]
