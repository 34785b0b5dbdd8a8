"""Who may come in: tokens, the slowing down of guesses, and the names this server answers to.

Nothing here knows Flask; `guard` asks.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import ConfigError

ONE_TOKEN, MANY_TOKENS, HOSTS = "ORCHESTRATOR_TOKEN", "ORCHESTRATOR_TOKENS", "ORCHESTRATOR_HOSTS"
OWNER = "owner"  # who bears the one token that has no name
LOCAL = "local"  # who comes where no token is needed
FREE_FAILURES = 5
LONGEST_PAUSE_S = 60.0
_REMEMBERED = 1_000


class Tokens:
    """Names and their tokens, kept as digests. Empty: everybody on this machine may come in."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._digests = {name: _digest(token) for name, token in tokens.items()}

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __repr__(self) -> str:
        return f"<Tokens of {', '.join(self._digests) or 'nobody'}>"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Tokens:
        """ORCHESTRATOR_TOKEN, or ORCHESTRATOR_TOKENS=alice:...,bob:.... Raises ConfigError."""
        found: dict[str, str] = {}
        if one := environ.get(ONE_TOKEN, "").strip():
            found[OWNER] = one
        for pair in filter(None, (part.strip() for part in environ.get(MANY_TOKENS, "").split(","))):
            name, _, token = (part.strip() for part in pair.partition(":"))
            if not name or not token or name in found:
                raise ConfigError("is not name:token,name:token with different names", where=MANY_TOKENS)
            found[name] = token
        return cls(found)

    def name_of(self, token: str) -> str | None:
        """Whose token it is. Takes the same time whether it is right, nearly right or wrong."""
        given, found = _digest(token), None
        for name, digest in self._digests.items():
            if hmac.compare_digest(given, digest):
                found = name
        return found

    def mark(self, name: str, secret: bytes) -> str:
        """What a session carries to show that it began with the token `name` still has; "" for nobody's."""
        digest = self._digests.get(name)
        return "" if digest is None else hmac.new(secret, digest, hashlib.sha256).hexdigest()[:32]

    def has_mark(self, name: str, mark: str, secret: bytes) -> bool:
        wanted = self.mark(name, secret)
        return bool(wanted) and hmac.compare_digest(wanted, mark)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


class Throttle:
    """After a few wrong tokens an address waits before its next one counts: 1 s, 2 s, 4 s, up to a minute."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def wait_s(self, address: str, now: float) -> float:
        """How long this address has to wait; 0.0: it may try."""
        _, until = self._failures.get(address, (0, 0.0))
        return max(0.0, until - now)

    def failed(self, address: str, now: float) -> None:
        with self._lock:
            count = self._failures.pop(address, (0, 0.0))[0] + 1
            pause_s = 0.0 if count < FREE_FAILURES else min(2.0 ** (count - FREE_FAILURES), LONGEST_PAUSE_S)
            self._failures[address] = (count, now + pause_s)
            if len(self._failures) > _REMEMBERED:
                del self._failures[next(iter(self._failures))]

    def passed(self, address: str) -> None:
        with self._lock:
            self._failures.pop(address, None)


class Hosts:
    """The names in a Host header that we answer to.

    A page of somebody else can point a name of its own at this machine and then read what we answer to that
    name. An address can't be pointed anywhere, so beyond loopback every address is fine.
    """

    def __init__(self, bound: str = "127.0.0.1", extra: Iterable[str] = ()) -> None:
        self.is_local = is_loopback(bound)
        self._names = {"localhost", *(name.strip().lower() for name in extra if name.strip())}
        if not self.is_local:
            self._names |= {bound.lower(), socket.gethostname().lower()}

    def answers_to(self, header: str) -> bool:
        name = _without_port(header).lower()
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return address.is_loopback or not self.is_local


def _without_port(header: str) -> str:
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what is bound there."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Door:
    """All of it together. Raises ConfigError for an open door: bound beyond loopback without a token."""

    tokens: Tokens = field(default_factory=lambda: Tokens({}))
    hosts: Hosts = field(default_factory=Hosts)
    throttle: Throttle = field(default_factory=Throttle)

    @classmethod
    def of(cls, host: str, environ: Mapping[str, str]) -> Door:
        tokens = Tokens.from_environment(environ)
        if not is_loopback(host) and not tokens:
            raise ConfigError(
                f"{host} can be reached from other machines, and there everybody could spend your money: "
                f"set {ONE_TOKEN} (or {MANY_TOKENS}=name:token,...), or leave --host out"
            )
        return cls(tokens, Hosts(host, environ.get(HOSTS, "").split(",")))
