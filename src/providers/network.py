"""What all adapters know of the network. Imports no HTTP library."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

NO_KEY = "none"  # the SDKs do not start without a key; a provider that needs none ignores it
GRACE_S = 2.0  # how much later than the caller's total an SDK's own timeout comes, so that the total decides


def is_loopback(url: str) -> bool:
    """Whether `url` names this machine."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
