"""What holds for every request before and after its own work.

    1. the Host header names this server          421 host_not_allowed
    2. nothing is changed from another site       403 cross_site
    3. a token, where tokens are set              401 unauthorized, 429 too_many_failures, or the login page
    4. the token's role may use this address      403 forbidden; see `roles`
    5. what changes something was sent by our own pages (a token in the form or header), or by a program
       that sent JSON or a Bearer token           403 csrf, 415 unsupported_media_type

Up to and with 4 nothing of the body is read: who may not send one can't make this server take it in.

Browsers add Origin and Sec-Fetch-Site by themselves and no page can forge them; programs send neither.
"""

from __future__ import annotations

import hmac
import secrets
from typing import cast
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, g, redirect, request, session, url_for
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.wrappers import Response as AnyResponse

from .access import LOCAL
from .connections import HEADERS_ONLY
from .context import app_context, caller_role
from .problems import Problem, wants_json
from .roles import OPEN_ENDPOINTS, OPERATE, may, needed
from .sessions import begin, forget, is_valid

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
            "This server does not answer to that name. ORCHESTRATOR_HOSTS adds names.",
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
        message = f"The role of this token is {g.role}; this needs {needed(request.endpoint or '')}."
        raise Problem(403, "forbidden", message)
    if request.method not in SAFE_METHODS:
        _check_csrf(with_body)
    return None


def body_limit() -> int:
    """Bytes this address takes: little, except where tasks come in."""
    taker = current_app.view_functions.get(request.endpoint or "")
    return cast(int, getattr(taker, "body_bytes", SMALL_BODY_BYTES))


def _refuse_other_sites() -> None:
    origin = request.headers.get("Origin")
    from_us = origin is None or (urlsplit(origin).netloc == request.host and origin != "null")
    if not from_us or request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        raise Problem(403, "cross_site", "A page of another site may not change anything here.")


# ------------------------------------------------------------------ who


def _identify() -> AnyResponse | None:
    """Set `g.caller`, or turn the caller away."""
    access = app_context().access
    g.by_bearer = False
    if not access.tokens:
        g.caller, g.role = LOCAL, OPERATE
        return None
    bearer = _bearer()
    if bearer:
        _set_caller(check_token(bearer))
        g.by_bearer = True
        return None
    if is_valid(access.tokens, _secret(), app_context().now()):
        _set_caller(session["who"])
        return None
    forget()
    if wants_json():
        raise _unauthorized("Send a token: Authorization: Bearer ....")
    target = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return redirect(url_for("auth.login", next=target), 303)


def _set_caller(name: str) -> None:
    g.caller, g.role = name, app_context().access.tokens.role_of(name)


def _bearer() -> str:
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def check_token(token: str) -> str:
    """Whose token it is. Raises Problem for a wrong one: after too many of them with a time to wait.

    A right one counts however many wrong ones came from the same place.
    """
    access, now, address = app_context().access, app_context().now(), request.remote_addr or ""
    name = access.tokens.name_of(token)
    if name is not None:
        return name
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
    """Signed in: a new session, so that nothing from before it is carried on."""
    begin(name, app_context().access.tokens, _secret(), app_context().now())


def _secret() -> bytes:
    key = current_app.secret_key or ""
    return key if isinstance(key, bytes) else key.encode()


def allows(path: str, method: str = "GET") -> bool:
    """Whether who asks may use this address, so that pages show no button that would be refused."""
    try:
        endpoint, _ = current_app.url_map.bind("localhost").match(path, method=method)
    except HTTPException:
        return False
    return may(caller_role(), endpoint)


# ------------------------------------------------------------------ forms of our own


def csrf_token() -> str:
    """The word that forms of this session carry."""
    if "csrf" not in session:
        session["csrf"] = secrets.token_urlsafe(24)
    return cast(str, session["csrf"])


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
    elif not session.get("csrf"):  # whatever word the form has, it can't be the one
        require_csrf("")


def require_csrf(given: str) -> None:
    wanted = session.get("csrf", "")
    if not wanted or not hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace")):
        raise Problem(
            403, "csrf", "This form is from an earlier session. Go back, load the page again and repeat."
        )


# ------------------------------------------------------------------ after


def _finish(response: Response) -> Response:
    response.headers.update(HEADERS)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response
