"""Browser sessions: a signed cookie, and a list of the sessions that were ended by signing out.

The cookie holds the caller's name, a mark of their token, a random word and the time of signing in. The
session ends when the token changes or expires, after SESSION_DAYS, or by signing out. Signing out stores the
digest of the word as a file in the state folder, so that copies of the cookie are invalid in every process
and after a restart.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from flask import Flask, Request, request, session
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface

from ..private import make_private_folder
from ..tokens import Token, Tokens
from .context import app_context

SESSION_DAYS = 14
_LASTS_S = SESSION_DAYS * 86400.0
_FOLDER = "signed_out"
_KEYS = ("who", "mark", "word", "began")


class SessionsOverTls(SecureCookieSessionInterface):
    """Marks the cookie `Secure` if the request came over TLS, as reported by a trusted proxy."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if self.get_cookie_name(app) not in request.cookies:
            return self.session_class()  # saves a tenth of a request from a program that polls
        return super().open_session(app, request)

    def get_cookie_secure(self, app: Flask) -> bool:
        return bool(request.is_secure)


def begin(name: str, tokens: Tokens, secret: bytes, now: float) -> None:
    """Start a session for the token of `name` in the browser of this request."""
    session.clear()
    session.permanent = True
    session["who"], session["mark"] = name, tokens.mark(name, secret)
    session["word"], session["began"] = secrets.token_urlsafe(18), now


def token_of_session(tokens: Tokens, secret: bytes, now: float) -> Token | None:
    """The valid token that the session of this request began with; None where there is none."""
    name, mark = session.get("who"), session.get("mark")
    word, began = session.get("word"), session.get("began")
    if not (isinstance(name, str) and isinstance(mark, str) and isinstance(word, str)):
        return None
    if not isinstance(began, int | float) or now - began > _LASTS_S:
        return None
    token = tokens.marked(name, mark, secret, now)
    return None if token is None or _ended(word).exists() else token


def forget() -> None:
    """Drop an invalid session but keep the CSRF token, for the form to sign in."""
    for key in _KEYS:
        session.pop(key, None)


def end() -> None:
    """End this session and every copy of its cookie."""
    word = session.get("word")
    session.clear()
    if not isinstance(word, str):
        return
    path = _ended(word)
    make_private_folder(path.parent)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    _sweep(path.parent)


def _ended(word: str) -> Path:
    return app_context().settings.state_dir / _FOLDER / hashlib.sha256(word.encode()).hexdigest()[:32]


def _sweep(folder: Path) -> None:
    """Delete files older than twice the life of a session, which allows for clocks that differ."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - 2 * _LASTS_S:
                path.unlink()
