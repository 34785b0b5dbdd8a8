"""Sign in with a token, and sign out."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from .context import app_context
from .guard import begin_session, check_token, require_csrf
from .problems import Problem
from .sessions import end

auth = Blueprint("auth", __name__)


@auth.route("/login", methods=["GET", "POST"])
def login() -> Response | str | tuple[str, int]:
    """Exchange a token for a session."""
    target = _own_path(request.values.get("next", ""))
    if not app_context().access.tokens:
        return redirect(target, 303)
    if request.method == "GET":
        return render_template("login.html", target=target, problem=None)
    require_csrf(request.form.get("csrf", ""))
    try:
        token = check_token(request.form.get("token", "").strip())
    except Problem as problem:
        return render_template("login.html", target=target, problem=problem), problem.status
    begin_session(token.name)
    return redirect(target, 303)


@auth.post("/logout")
def logout() -> Response:
    """End the session."""
    require_csrf(request.form.get("csrf", ""))
    end()
    return redirect(url_for("auth.login"), 303)


def _own_path(target: str) -> str:
    """The path to go to after signing in: on this server, never another address."""
    parts = urlsplit(target.replace("\\", "/"))
    own = target.startswith("/") and not target.startswith("//") and not parts.scheme and not parts.netloc
    return target if own and target.isprintable() else "/"
