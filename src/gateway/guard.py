"""Checks of a request by its headers, before its body is read.

    1. the Host header names this gateway       another site's name may point at this machine (DNS rebinding)
    2. no web page sends it                     any page can send a request to 127.0.0.1 and spend money;
                                                `allowed_origins` lists those that may
    3. it has not come through this gateway     a provider's address leads here: 508
    4. a token, where tokens are set            also on loopback; `x-api-key` or `Authorization: Bearer`
    5. the token's role

Without tokens any key is ignored: clients of the APIs can't send none. No key is logged or stored.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from aiohttp import hdrs, web

from ..access import AccessPolicy, Throttle
from ..records import LOCAL
from ..tokens import OPERATE, Role
from .formats.base import FormatError
from .formats.problems import ProblemKind

API_KEY = "x-api-key"
HOSTS_KEPT = 256  # Host headers whose check is remembered
CORS_HEADERS = (
    "authorization, content-type, x-api-key, anthropic-version, anthropic-beta, idempotency-key, traceparent"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """The sender of a request."""

    name: str
    role: Role


class Guard:
    """The checks of one gateway. `via` is the name under which it passes requests on."""

    def __init__(self, access: AccessPolicy, origins: Collection[str], via: str) -> None:
        self._access, self._origins, self._via = access, frozenset(origins), via
        self._throttle = Throttle()
        self._allows = lru_cache(HOSTS_KEPT)(access.hosts.allows)

    def check_sender(self, request: web.Request) -> None:
        """Checks 1 to 3. Raises FormatError."""
        if not self._allows(request.headers.get(hdrs.HOST, "")):
            message = "this host name is not known; add it to [gateway] allowed_hosts or ORCHESTRATOR_HOSTS"
            raise FormatError(message, kind=ProblemKind.FORBIDDEN)
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and origin not in self._origins:
            message = "web pages may not send requests, except those of [gateway] allowed_origins"
            raise FormatError(message, kind=ProblemKind.FORBIDDEN)
        if any(self._via in value for value in request.headers.getall(hdrs.VIA, ())):
            message = "this request comes from this gateway: a provider's address leads back to it"
            raise FormatError(message, kind=ProblemKind.LOOP)

    def identify(self, request: web.Request, now: float) -> Caller:
        """The owner of the token. Raises FormatError."""
        tokens = self._access.tokens
        if not tokens:
            return Caller(LOCAL, OPERATE)
        token = tokens.find(_token(request))
        if token is not None and not token.has_expired(now):
            return Caller(token.name, token.role)
        if token is not None:
            raise FormatError("this token has expired", kind=ProblemKind.UNAUTHORIZED)
        if not _token(request):
            message = "send your token of this server as the API key"
            raise FormatError(message, kind=ProblemKind.UNAUTHORIZED)
        address = request.remote or ""
        if wait_s := self._throttle.wait_s(address, now):
            message = f"too many wrong tokens from this network; try again in {int(wait_s) + 1} s"
            raise FormatError(message, kind=ProblemKind.RATE_LIMITED)
        self._throttle.failed(address, now)
        raise FormatError("unknown token", kind=ProblemKind.UNAUTHORIZED)

    def cors(self, request: web.Request) -> dict[str, str]:
        """The headers that let a page of a configured origin read the answer."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin not in self._origins or origin is None:
            return {}
        return {
            "access-control-allow-origin": origin,
            "access-control-expose-headers": "*",
            "vary": "Origin",
        }

    def preflight(self, request: web.Request) -> dict[str, str]:
        """The answer to the question that a browser asks first."""
        wanted = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_HEADERS, "")
        names = [name.strip().lower() for name in wanted.split(",")]
        own = [name for name in names if name.startswith(("x-orchestrator-", "x-stainless-"))]
        return {
            "access-control-allow-methods": "GET, POST",
            "access-control-allow-headers": ", ".join([CORS_HEADERS, *own]),
            "access-control-max-age": "600",
        }


def _token(request: web.Request) -> str:
    if key := request.headers.get(API_KEY, ""):
        return key.strip()
    kind, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""
