"""Access control: who may call, throttling of guesses, trusted proxies, allowed host names.

Values and rules without a web framework: the guards of the pages and of the gateway apply them to requests.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .errors import ConfigError
from .tokens import ONE_TOKEN, TOKENS_FILE, Role, Tokens

# Priority 1 goes before priority 0 across submitters; operators can always go first.
MAX_PRIORITY: Mapping[Role, int] = {"submit": 9, "read": 0, "operate": 1_000_000}

HOSTS, PROXIES = "ORCHESTRATOR_HOSTS", "ORCHESTRATOR_TRUSTED_PROXIES"
FREE_FAILURES = 5
MAX_PAUSE_S = 60.0
FORGET_AFTER_S = 3600.0  # a network without a wrong token for this long starts again at zero
_REMEMBERED = 1_000


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


@dataclass(slots=True)
class AccessPolicy:
    """The access rules of one application. `reload` replaces its tokens; the rest stays."""

    tokens: Tokens = field(default_factory=Tokens)
    hosts: AllowedHosts = field(default_factory=AllowedHosts)
    throttle: Throttle = field(default_factory=Throttle)
    trusted_proxies: TrustedProxies = field(default_factory=TrustedProxies)
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)  # where the tokens came from

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
                f"set {ONE_TOKEN} (or {TOKENS_FILE} for several people) or leave the host at 127.0.0.1"
            )
        hosts = AllowedHosts(host, [*environ.get(HOSTS, "").split(","), *allowed_hosts])
        return cls(tokens, hosts, trusted_proxies=TrustedProxies(environ.get(PROXIES, "")), environ=environ)

    def reload(self) -> int:
        """Read the tokens file again; returns how many tokens are known. Raises ConfigError: the old stay."""
        self.tokens = Tokens.from_environment(self.environ)
        return len(self.tokens)
