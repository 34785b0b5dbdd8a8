"""The client address and scheme of requests that come through a trusted proxy."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

from ..access import TrustedProxies

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FORWARDED = ("FOR", "PROTO", "HOST", "PORT", "PREFIX", "BY")


class TrustedProxyMiddleware:
    """WSGI middleware: applies the last X-Forwarded-For and X-Forwarded-Proto entry of a trusted proxy.

    The proxy must pass on the browser's Host header; all other forwarding headers are ignored.
    """

    def __init__(self, application: WSGIApplication, trusted_proxies: TrustedProxies) -> None:
        self._direct, self._proxies = application, trusted_proxies
        self._behind = ProxyFix(application, x_for=1, x_proto=1, x_host=0, x_port=0, x_prefix=0)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._proxies.includes(environ.get("REMOTE_ADDR", "")):
            return self._behind(environ, start_response)
        for name in FORWARDED:
            environ.pop(f"HTTP_X_FORWARDED_{name}", None)
        environ.pop("HTTP_FORWARDED", None)
        return self._direct(environ, start_response)
