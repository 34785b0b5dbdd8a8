"""Addresses, proxies and redirects, for all adapters. Imports no HTTP library."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

NO_KEY = "none"  # the SDKs need some key; a provider without keys ignores it
ERROR_BYTES = 1_000_000  # of an error's body: what is longer is cut off
REDIRECTS_FOLLOWED = 3  # within one origin
GRACE_S = 2.0  # how much an SDK's own timeout is longer than the caller's total, so that the total decides


def is_loopback(url: str) -> bool:
    """Whether `url` names this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# ---------------------------------------------------------------- rejected answers


class RejectedAnswer(Exception):
    """An answer that is rejected for its size, encoding or redirect. `billed`: it may have been billed."""

    billed = True


class AnswerTooLarge(RejectedAnswer):
    """Longer than `max_answer_mb`. The connection is closed where the limit was passed."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the answer is longer than {limit_bytes / 1e6:g} MB (max_answer_mb)")


class Unreadable(RejectedAnswer):
    """The body is not what its headers say."""


class Redirected(RejectedAnswer):
    """A redirect that is not followed: key and prompt go to this origin only, with the same credentials."""

    billed = False

    def __init__(self, status: int, here: str, there: str) -> None:
        target = origin(there) or "an unreadable address"
        if target == origin(here) and not _same_user(here, there):
            target += " with other credentials"
        origins = f"from {origin(here)} to {target}"
        super().__init__(f"answered {status}, a redirect {origins}, which is not followed (check base_url)")


def may_follow(status: int, method: str, here: str, there: str) -> bool:
    """Whether a redirect is followed: within the origin, with the same credentials, method and body."""
    same = origin(here) == origin(there) != "" and _same_user(here, there)
    return same and (status in (307, 308) or method == "GET")


def has_no_host(location: str) -> bool:
    """Whether `location` is absolute and names no host: each client goes somewhere else then."""
    parts = urlsplit(location)
    return bool(parts.scheme) and not parts.hostname


def _same_user(here: str, there: str) -> bool:
    """Whether both addresses have the same user and password, or none."""
    return urlsplit(here).netloc.rpartition("@")[0] == urlsplit(there).netloc.rpartition("@")[0]


def origin(url: str) -> str:
    """Scheme, host and port, without a user's name or password; "" where the URL has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname else ""


def proxy_for(url: str) -> str | None:
    """The environment's proxy for `url`; None for a server on this machine."""
    parts = urlsplit(url)
    if is_loopback(url) or proxy_bypass(parts.hostname or ""):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    return found if not found or "://" in found else f"http://{found}"
