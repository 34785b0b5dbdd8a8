"""Access control: tokens and roles, throttling of guesses, trusted proxies, allowed host names.

Values and rules without a web framework: the guards of the pages and of the gateway apply them to requests.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from .errors import ConfigError
from .records import LOCAL

Role = Literal["submit", "read", "operate"]
ROLES: tuple[Role, ...] = get_args(Role)
SUBMIT: Role = "submit"
OPERATE: Role = "operate"

# Priority 1 goes before priority 0 across submitters; operators can always go first.
MAX_PRIORITY: Mapping[Role, int] = {"submit": 9, "read": 0, "operate": 1_000_000}

ONE_TOKEN, MANY_TOKENS, HOSTS = "ORCHESTRATOR_TOKEN", "ORCHESTRATOR_TOKENS", "ORCHESTRATOR_HOSTS"
PROXIES = "ORCHESTRATOR_TRUSTED_PROXIES"
OWNER = "owner"  # the caller with the one token that has no name
MIN_TOKEN_CHARS = 16  # 16 random letters and digits can't be guessed at any rate
MAX_NAME_CHARS = 100
FREE_FAILURES = 5
MAX_PAUSE_S = 60.0
FORGET_AFTER_S = 3600.0  # a network without a wrong token for this long starts again at zero
_REMEMBERED = 1_000


class Tokens:
    """Names with the digests of their tokens and their roles. Empty: every caller on this machine is allowed.

    Raises ConfigError for a token that is too short or belongs to two names.
    """

    def __init__(self, tokens: Mapping[str, str], roles: Mapping[str, Role] | None = None) -> None:
        for name, token in tokens.items():
            if len(token) < MIN_TOKEN_CHARS:
                raise ConfigError(
                    f"the token of {name} has {len(token)} characters; it needs at least {MIN_TOKEN_CHARS} "
                    "(python -c 'import secrets; print(secrets.token_urlsafe(24))' makes one)"
                )
        self._digests = {name: _digest(token) for name, token in tokens.items()}
        names: dict[bytes, str] = {}
        for name, digest in self._digests.items():
            if (other := names.setdefault(digest, name)) != name:
                raise ConfigError(f"{other} and {name} have the same token; give each a different one")
        self._roles = dict(roles or {})

    def __bool__(self) -> bool:
        return bool(self._digests)

    def __repr__(self) -> str:
        return f"<Tokens of {', '.join(self._digests) or 'no one'}>"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Tokens:
        """ORCHESTRATOR_TOKEN with the role `operate`, or ORCHESTRATOR_TOKENS=alice:...,bob:...:operate.

        Raises ConfigError.
        """
        found: dict[str, str] = {}
        roles: dict[str, Role] = {}
        if one := environ.get(ONE_TOKEN, "").strip():
            found[OWNER] = one
        for pair in filter(None, (part.strip() for part in environ.get(MANY_TOKENS, "").split(","))):
            name, token, role = _read(pair)
            if name in found:
                raise ConfigError(f"the name {name} occurs twice", where=MANY_TOKENS)
            found[name], roles[name] = token, role
        return cls(found, roles)

    @property
    def names(self) -> Collection[str]:
        """The names that have a token."""
        return self._digests.keys()

    def role_of(self, name: str) -> Role:
        """The role of the token with this name."""
        return self._roles.get(name, OPERATE)

    def name_of(self, token: str) -> str | None:
        """The name of the token, None for an unknown one. Takes the same time for every token."""
        given, found = _digest(token), None
        for name, digest in self._digests.items():
            if hmac.compare_digest(given, digest):
                found = name
        return found

    def mark(self, name: str, secret: bytes) -> str:
        """The mark of a session that began with the current token of `name`; empty for an unknown name."""
        digest = self._digests.get(name)
        return "" if digest is None else hmac.new(secret, digest, hashlib.sha256).hexdigest()[:32]

    def has_mark(self, name: str, mark: str, secret: bytes) -> bool:
        wanted = self.mark(name, secret)
        return bool(wanted) and hmac.compare_digest(wanted, mark)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _read(pair: str) -> tuple[str, str, Role]:
    """Name, token and role of `name:token` or `name:token:role`; the default role is `submit`.

    Raises ConfigError, with a message that never repeats a possible token.
    """
    parts = [part.strip() for part in pair.split(":")]
    name = parts[0]
    if len(parts) not in (2, 3) or not all(parts):
        raise ConfigError("must be name:token or name:token:role, separated by commas", where=MANY_TOKENS)
    if not name.isprintable() or len(name) > MAX_NAME_CHARS:
        raise ConfigError("a name has at most 100 characters, all printable", where=MANY_TOKENS)
    if name == LOCAL:
        raise ConfigError(
            f"the name {LOCAL} is reserved for callers without a token; choose another", where=MANY_TOKENS
        )
    role = next((role for role in ROLES if role == (parts[2] if len(parts) == 3 else SUBMIT)), None)
    if role is None:
        raise ConfigError(f"the role of {name} must be one of {', '.join(ROLES)}", where=MANY_TOKENS)
    return name, parts[1], role


class Throttle:
    """Delays the check of further tokens from a network that sent wrong ones: 1 s, 2 s, up to a minute.

    A right token is always accepted and does not reset the delay: users behind the same proxy as an attacker
    are not locked out, and the owner of one token can't use it to guess another faster.
    """

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}  # by network: wrong tokens, end of the delay
        self._lock = threading.Lock()

    def wait_s(self, address: str, now: float) -> float:
        """Seconds until the next token of this address is checked; 0.0: now."""
        _, until = self._failures.get(network_of(address), (0, 0.0))
        return max(0.0, until - now)

    def failed(self, address: str, now: float) -> None:
        network = network_of(address)
        with self._lock:
            count, until = self._failures.pop(network, (0, now))
            count = 1 if now - until > FORGET_AFTER_S else count + 1
            pause_s = 0.0 if count < FREE_FAILURES else min(2.0 ** (count - FREE_FAILURES), MAX_PAUSE_S)
            self._failures[network] = (count, now + pause_s)
            if len(self._failures) > _REMEMBERED:
                del self._failures[next(iter(self._failures))]


def network_of(address: str) -> str:
    """The network an address is counted with: its /24, or its /64, which one IPv6 customer usually owns."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 6 and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    prefix = 24 if found.version == 4 else 64
    return str(ipaddress.ip_network((found, prefix), strict=False))


class TrustedProxies:
    """The proxies whose X-Forwarded-For and X-Forwarded-Proto are trusted.

    From other addresses these headers may be forged, so they are dropped.
    """

    def __init__(self, text: str = "") -> None:
        """`text`: addresses and networks, separated by commas. Raises ConfigError."""
        try:
            self._networks = [
                ipaddress.ip_network(part, strict=False)
                for part in filter(None, (part.strip() for part in text.split(",")))
            ]
        except ValueError as error:
            raise ConfigError(
                f"must list addresses and networks such as 10.0.0.0/8: {error}", where=PROXIES
            ) from error

    def __bool__(self) -> bool:
        return bool(self._networks)

    def includes(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = found.ipv4_mapped if found.version == 6 else None
        return any(each in network for network in self._networks for each in (found, mapped) if each)


class AllowedHosts:
    """The names that this server accepts in a Host header.

    Another site can point a name of its own at this machine (DNS rebinding) and read the answers to that
    name. An address can't be rebound, so a server beyond loopback accepts every address.
    """

    def __init__(self, bound: str = "127.0.0.1", extra: Iterable[str] = ()) -> None:
        self.is_local = is_loopback(bound)
        self._names = {"localhost", *(name.strip().lower() for name in extra if name.strip())}
        if not self.is_local:
            self._names |= {bound.lower(), socket.gethostname().lower()}

    def allows(self, header: str) -> bool:
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
    """Whether only this machine can connect to a server on this host."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The access rules of one application."""

    tokens: Tokens = field(default_factory=lambda: Tokens({}))
    hosts: AllowedHosts = field(default_factory=AllowedHosts)
    throttle: Throttle = field(default_factory=Throttle)
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)

    @classmethod
    def from_environment(
        cls, host: str, environ: Mapping[str, str], allowed_hosts: Iterable[str] = ()
    ) -> AccessPolicy:
        """The rules for a server on `host`, with further `allowed_hosts`.

        Raises ConfigError if it is reachable without a token.
        """
        tokens = Tokens.from_environment(environ)
        if not is_loopback(host) and not tokens:
            raise ConfigError(
                f"{host} can be reached from other machines, where anyone could spend your money: "
                f"set {ONE_TOKEN} (or {MANY_TOKENS}=name:token,...) or leave the host at 127.0.0.1"
            )
        hosts = AllowedHosts(host, [*environ.get(HOSTS, "").split(","), *allowed_hosts])
        return cls(tokens, hosts, trusted_proxies=TrustedProxies(environ.get(PROXIES, "")))
