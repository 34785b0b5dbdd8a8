"""HTTP below the anthropic and openai SDKs: aiohttp under httpx2. Only imported where an SDK is.

What went wrong on the way is read from the chain of causes, since the SDKs' own words for it differ: over
aiohttp openai calls a refused or reset connection a timeout, anthropic a connection error.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
import httpx2

from .failures import CUT_OFF, NEVER_SENT, NO_ANSWER, UNREADABLE, Verdict, causes
from .network import GRACE_S, is_loopback

# A subclass stands before its base: the first match counts.
_AIOHTTP: tuple[tuple[type[BaseException], Verdict], ...] = (
    (aiohttp.ConnectionTimeoutError, NEVER_SENT),
    (aiohttp.ServerTimeoutError, NO_ANSWER),
    (aiohttp.ClientConnectorError, NEVER_SENT),  # refused, DNS, TLS, a proxy that does not answer
    (aiohttp.ClientHttpProxyError, NEVER_SENT),
    (aiohttp.ServerFingerprintMismatch, NEVER_SENT),
    (aiohttp.InvalidURL, NEVER_SENT),
    (aiohttp.ClientConnectionError, CUT_OFF),  # reset, or closed without an answer
    (aiohttp.ClientPayloadError, CUT_OFF),  # closed in the middle of the body
    (aiohttp.ClientError, UNREADABLE),  # an answer that is not HTTP
)
_HTTPX2: tuple[tuple[type[BaseException], Verdict], ...] = (
    (httpx2.ConnectTimeout, NEVER_SENT),
    (httpx2.PoolTimeout, NEVER_SENT),
    (httpx2.TimeoutException, NO_ANSWER),
    (httpx2.ConnectError, NEVER_SENT),
    (httpx2.ProxyError, NEVER_SENT),
    (httpx2.UnsupportedProtocol, NEVER_SENT),
    (httpx2.LocalProtocolError, NEVER_SENT),
    (httpx2.InvalidURL, NEVER_SENT),
    (httpx2.NetworkError, CUT_OFF),
    (httpx2.RemoteProtocolError, CUT_OFF),
    (httpx2.HTTPError, UNREADABLE),  # wrongly compressed, redirected without end
    (httpx2.StreamError, UNREADABLE),
)
_SYSTEM: tuple[tuple[type[BaseException], Verdict], ...] = (
    (ConnectionRefusedError, NEVER_SENT),
    (ssl.SSLCertVerificationError, NEVER_SENT),
    (TimeoutError, NO_ANSWER),
    (OSError, CUT_OFF),
)


def verdict_on(error: BaseException) -> tuple[Verdict, BaseException] | None:
    """What the transport's part of the chain says, and the exception that says it; None if there is none.

    aiohttp's word counts before httpx2's, which is only a translation of it.
    """
    found = list(causes(error))
    for table in (_AIOHTTP, _HTTPX2, _SYSTEM):
        for cause in found:
            for cls, verdict in table:
                if isinstance(cause, cls):
                    return verdict, cause
    return None


def client_options(base_url: str, slots: int, connect_timeout_s: float) -> Mapping[str, Any]:
    """What the SDKs' aiohttp client is made with.

    Connections: one a slot and some for health calls, so that none waits for another. Idle ones are kept for
    4 s only: many self-hosted servers close theirs after 5 s, and a request that meets the closing is lost.
    """
    return {
        "limits": httpx2.Limits(
            max_connections=slots + 4, max_keepalive_connections=slots, keepalive_expiry=4.0
        ),
        "timeout": httpx2.Timeout(None, connect=connect_timeout_s),
        # the environment's proxy is for the world, never for a server on this machine
        "trust_env": not is_loopback(base_url),
    }


def timeout(total_s: float, connect_timeout_s: float) -> httpx2.Timeout:
    """Silence of `total_s` ends a call. No total: that is the caller's, and comes first by a little."""
    return httpx2.Timeout(total_s + GRACE_S, connect=connect_timeout_s, pool=None)
