"""The application factory."""

from __future__ import annotations

import hashlib
import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import Any

from flask import Flask, g, request

from ..errors import ConfigError
from ..package import RESOURCES
from ..private import make_private_folder
from . import charts, compression, guard, problems, template_filters
from .api import api, health
from .auth import auth
from .batch_pages import EveryText, batch_pages
from .connections import HEADERS_ONLY
from .context import AppContext, caller_name, visible_submitter
from .list_pages import list_pages
from .metrics import metrics
from .navigation import NAVIGATION, NEW
from .pages import pages
from .presenters.pool import pool_view
from .provider_batch_pages import provider_batch_pages
from .proxy_middleware import TrustedProxyMiddleware
from .sessions import SESSION_DAYS, SessionsOverTls
from .submit_pages import submit_pages

BLUEPRINTS = (
    health,
    metrics,
    api,
    auth,
    pages,
    batch_pages,
    provider_batch_pages,
    submit_pages,
    list_pages,
)


def create_app(context: AppContext) -> Flask:
    """The web application over an open store. Raises ConfigError if the state folder can't be written."""
    app = Flask(
        __name__,
        template_folder=str(RESOURCES / "templates"),
        static_folder=str(RESOURCES / "static"),
    )
    app.extensions["orchestrator"] = context
    secret = _secret(context.settings.state_dir)
    app.config.update(
        SECRET_KEY=secret,
        SESSION_COOKIE_NAME=f"orchestrator-{hashlib.sha256(secret).hexdigest()[:8]}",  # ports share cookies
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_REFRESH_EACH_REQUEST=False,  # they end SESSION_DAYS after signing in
        PERMANENT_SESSION_LIFETIME=timedelta(days=SESSION_DAYS),
        MAX_FORM_MEMORY_SIZE=guard.SMALL_BODY_BYTES,
    )
    app.session_interface = SessionsOverTls()
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.jinja_env.filters.update(template_filters.FILTERS)
    app.jinja_env.globals.update(allows=guard.allows)
    app.jinja_env.globals.update(navigation=NAVIGATION, navigation_new=NEW)
    app.jinja_env.globals.update(stacked=charts.stacked, segment=charts.Segment, spark=charts.sparkline)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    app.url_map.converters["every_text"] = EveryText
    guard.install(app)
    problems.install(app)
    compression.install(app)
    app.context_processor(_every_page)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    proxied = TrustedProxyMiddleware(app.wsgi_app, context.access.trusted_proxies)
    app.wsgi_app = proxied  # type: ignore[method-assign]
    return app


def _every_page() -> dict[str, Any]:
    """The variables of the base template."""
    from .context import app_context

    here = app_context()
    signed_in = bool(here.access.tokens) and "caller" in g
    by_headers = HEADERS_ONLY in request.environ
    return {
        "app": here,
        "csrf_token": guard.csrf_token,
        "sees_all": not visible_submitter(),  # else a task's batch may be another's, whose page is not found
        "signed_in_as": caller_name() if signed_in else "",
        # The server's loop refuses bodies by their headers, and must not wait for the store.
        "pool_of_frame": (lambda: pool_view(here)) if "caller" in g and not by_headers else None,
    }


def _secret(state_dir: Path) -> bytes:
    """The key that signs the cookies. It is kept in a file, so that sessions survive a restart."""
    path = state_dir / "web_secret"
    try:
        make_private_folder(state_dir)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(32))
        except FileExistsError:
            pass
        found = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be written ({error.strerror})", where=str(path)) from error
    return found if len(found) >= 32 else _secret_again(path)


def _secret_again(path: Path) -> bytes:
    """A new key for a file that was cut short, for instance by a crash."""
    fresh = secrets.token_bytes(32)
    path.write_bytes(fresh)
    return fresh
