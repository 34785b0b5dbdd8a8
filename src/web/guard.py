"""Checks before every request, and headers after it.

    1. the Host header names this server          421 host_not_allowed
    2. no other site changes anything             403 cross_site
    3. a token, where tokens are set              401 unauthorized, 429 too_many_failures, or the login page
    4. the token's role may use this address      403 forbidden; see `roles`
    5. a change comes from a page of this server (a CSRF token in the form or header), or from a program
       that sends JSON or a Bearer token          403 csrf, 415 unsupported_media_type
    6. path, query and form are text that the
       database takes: no NUL                     404 not_found, 422 invalid

Checks 1 to 4 do not read the body, so a caller without permission can't make this server receive it.

Browsers set Origin and Sec-Fetch-Site themselves, and no page can forge them; programs send neither.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from typing import cast
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, g, redirect, request, session, url_for
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Response as AnyResponse

from ..records import LOCAL
from ..storable import clean, is_clean
from ..tokens import OPERATE, Token
from .connections import HEADERS_ONLY
from .context import app_context, caller_role
from .problems import Problem, wants_json
from .roles import OPEN_ENDPOINTS, may, needed
from .sessions import begin, forget, token_of_session

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORM_TYPES = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
SMALL_BODY_BYTES = 1 << 20
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


def install(app: Flask) -> None:
    app.before_request(_check)
    app.after_request(_finish)


def _check() -> AnyResponse | None:
    if not app_context().access.hosts.allows(request.host):
        raise Problem(
            421,
            "host_not_allowed",
            "This host name is not allowed. Add it to ORCHESTRATOR_HOSTS.",
        )
    request.max_content_length = body_limit()
    if request.method not in SAFE_METHODS:
        _refuse_other_sites()
    headers_only = request.environ.get(HEADERS_ONLY)
    if headers_only is None:
        return _enter()
    answer = _enter(with_body=False)
    if answer is None and request.routing_exception is None:
        limit = request.max_content_length or 0
        if (request.content_length or 0) > limit:
            raise RequestEntityTooLarge
        headers_only.append(limit)
        return Response(status=204)
    return answer


def _enter(*, with_body: bool = True) -> AnyResponse | None:
    if request.endpoint in OPEN_ENDPOINTS:
        return None
    turned_away = _identify()
    if turned_away is not None or request.routing_exception is not None:  # Flask answers 404 or 405
        return turned_away
    if not may(g.role, request.endpoint or ""):
        message = f"This token has the role {g.role}; this needs {needed(request.endpoint or '')}."
        raise Problem(403, "forbidden", message)
    if request.method not in SAFE_METHODS:
        _check_csrf(with_body)
    _refuse_unstorable_text(with_body)
    return None


def _refuse_unstorable_text(with_body: bool) -> None:
    """For every route: no view needs to ask whether the database takes a name. Fields check JSON."""
    if not is_clean(request.path):
        raise Problem(404, "not_found", "Page not found.")
    given = [("query", name, value) for name, value in request.args.items(multi=True)]
    if with_body and request.mimetype in FORM_TYPES:
        given += [("form", name, value) for name, value in request.form.items(multi=True)]
        given += [("form", name, file.filename or "") for name, file in request.files.items(multi=True)]
    for where, name, value in given:
        if not is_clean(name + value):
            field = clean(name)
            message = f"{field}: must be valid text without NUL"
            raise Problem(422, "invalid", message, {"field": field, "in": where})


def body_limit() -> int:
    """The largest body of this endpoint: small, except where tasks are submitted."""
    taker = current_app.view_functions.get(request.endpoint or "")
    return cast(int, getattr(taker, "body_bytes", SMALL_BODY_BYTES))


def _refuse_other_sites() -> None:
    origin = request.headers.get("Origin")
    from_us = origin is None or (urlsplit(origin).netloc == request.host and origin != "null")
    if not from_us or request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise Problem(403, "cross_site", "Pages of other sites may not change anything here.")


# ------------------------------------------------------------------ caller


def _identify() -> AnyResponse | None:
    """Set `g.caller` and `g.role`, or return the response for an unknown caller."""
    tokens = app_context().access.tokens
    g.by_bearer = False
    if not tokens:
        g.caller, g.role = LOCAL, OPERATE
        return None
    bearer = _bearer()
    if bearer:
        _set_caller(check_token(bearer))
        g.by_bearer = True
        return None
    if (token := token_of_session(tokens, _secret(), app_context().now())) is not None:
        _set_caller(token)
        return None
    forget()
    if wants_json():
        raise _unauthorized("Send a token: Authorization: Bearer ....")
    target = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return redirect(url_for("auth.login", next=target), 303)


def _set_caller(token: Token) -> None:
    g.caller, g.role = token.name, token.role


def _bearer() -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def check_token(secret: str) -> Token:
    """The token. Raises Problem 401 for an unknown or expired one, or 429 after too many unknown ones.

    A known token is accepted however many unknown ones came from the same network.
    """
    access, now, address = app_context().access, app_context().now(), request.remote_addr or ""
    token = access.tokens.find(secret)
    if token is not None and not token.has_expired(now):
        return token
    if token is not None:
        raise _unauthorized("This token has expired.")
    wait_s = access.throttle.wait_s(address, now)
    if wait_s:
        headers = {"Retry-After": str(int(wait_s) + 1)}
        message = f"Too many wrong tokens from this network. Try again in {int(wait_s) + 1} s."
        raise Problem(429, "too_many_failures", message, headers=headers)
    access.throttle.failed(address, now)
    raise _unauthorized("Unknown token.")


def _unauthorized(message: str) -> Problem:
    return Problem(401, "unauthorized", message, headers={"WWW-Authenticate": "Bearer"})


def begin_session(name: str) -> None:
    """Start a new session after signing in, which carries on nothing from before."""
    begin(name, app_context().access.tokens, _secret(), app_context().now())


def _secret() -> bytes:
    key = current_app.secret_key or ""
    return key if isinstance(key, bytes) else key.encode()


def allows(path: str, method: str = "GET") -> bool:
    """Whether the caller may use this path, so that pages show no button that would be refused."""
    try:
        endpoint, _ = current_app.url_map.bind("localhost").match(path, method=method)
    except HTTPException:
        return False
    return may(caller_role(), endpoint)


# ------------------------------------------------------------------ CSRF


def csrf_token() -> str:
    """The CSRF token of this session, masked anew for each response: `compression` says why."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    if "masked_csrf" not in g:
        token = session["csrf"].encode()
        mask = secrets.token_bytes(len(token))
        g.masked_csrf = base64.urlsafe_b64encode(mask + _xor(mask, token)).decode()
    return cast(str, g.masked_csrf)


def _xor(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def _unmasked(given: str) -> bytes:
    """The token of the session that `csrf_token` masked; empty for anything else."""
    try:
        both = base64.b64decode(given.encode(), altchars=b"-_", validate=True)
    except ValueError:
        return b""
    half, rest = divmod(len(both), 2)
    return b"" if rest else _xor(both[:half], both[half:])


def _check_csrf(with_body: bool) -> None:
    if g.by_bearer:
        return
    if wants_json():
        if request.mimetype in FORM_TYPES:
            raise Problem(415, "unsupported_media_type", "Send this as application/json.")
        if app_context().access.tokens:
            require_csrf(request.headers.get("X-CSRF-Token", ""))
        return
    if with_body:
        require_csrf(request.form.get("csrf", ""))
    elif not session.get("csrf"):  # no session, so no form can hold its token
        require_csrf("")


def require_csrf(given: str) -> None:
    wanted = session.get("csrf", "")
    if not wanted or not hmac.compare_digest(wanted.encode(), _unmasked(given)):
        raise Problem(
            403, "csrf", "This form is from an earlier session. Go back, reload the page and try again."
        )


# ------------------------------------------------------------------ after


def _finish(response: Response) -> Response:
    response.headers.update(HEADERS)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response
