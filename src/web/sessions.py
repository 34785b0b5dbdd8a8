"""Sessions of browsers: a signed cookie, and a list of those that were ended before their time.

The cookie holds a name, a mark of the token that it came in with, a word of its own and when it began. It
ends when the token changes, SESSION_DAYS after signing in, or by signing out: the word's digest is then a
file in the state folder, so that a copy of the cookie is worth nothing either, to any process of this state
and after a restart too.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from flask import Flask, request, session
from flask.sessions import SecureCookieSessionInterface

from ..private import make_private_folder
from .access import Tokens
from .context import app_context

SESSION_DAYS = 14
_LASTS_S = SESSION_DAYS * 86400.0
_FOLDER = "signed_out"
_KEYS = ("who", "mark", "word", "began")


class SessionsOverTls(SecureCookieSessionInterface):
    """The cookie is for TLS alone where the request came over it, which a trusted proxy tells."""

    def get_cookie_secure(self, app: Flask) -> bool:
        return bool(request.is_secure)


def begin(name: str, tokens: Tokens, secret: bytes, now: float) -> None:
    """A new session of this request's browser for the token of `name`."""
    session.clear()
    session.permanent = True
    session["who"], session["mark"] = name, tokens.mark(name, secret)
    session["word"], session["began"] = secrets.token_urlsafe(18), now


def is_valid(tokens: Tokens, secret: bytes, now: float) -> bool:
    """Whether this request's session stands for a token, and was not ended."""
    name, mark = session.get("who"), session.get("mark")
    word, began = session.get("word"), session.get("began")
    if not (isinstance(name, str) and isinstance(mark, str) and isinstance(word, str)):
        return False
    if not isinstance(began, int | float) or now - began > _LASTS_S:
        return False
    return tokens.has_mark(name, mark, secret) and not _ended(word).exists()


def forget() -> None:
    """Drop what is no session of anybody; the word that forms carry stays, for the one that signs in."""
    for key in _KEYS:
        session.pop(key, None)


def end() -> None:
    """Sign out: this session and every copy of its cookie."""
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
    """Drop what is older than a session lasts: twice that, since clocks differ."""
    for path in folder.iterdir():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - 2 * _LASTS_S:
                path.unlink()
