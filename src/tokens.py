"""Who may call: tokens with their names, roles and ends, from variables and from a file.

    ORCHESTRATOR_TOKEN=TOKEN                       one caller, `owner`, who may do everything
    ORCHESTRATOR_TOKENS=alice:TOKEN,bob:TOKEN:operate
    ORCHESTRATOR_TOKENS_FILE=FILE                  digests instead of tokens; read again on SIGHUP:

        [alice]
        sha256 = "..."                             # of the token; the command `token` makes such a section
        role = "operate"                           # default: submit
        expires = 2027-01-31T00:00:00Z             # default: never

All three may be set together. Only digests are kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Literal, get_args

from .errors import ConfigError, hint
from .private import read_private
from .records import LOCAL
from .toml_text import parse_toml

Role = Literal["submit", "read", "operate"]
ROLES: tuple[Role, ...] = get_args(Role)
SUBMIT: Role = "submit"
OPERATE: Role = "operate"

ONE_TOKEN, MANY_TOKENS, TOKENS_FILE = "ORCHESTRATOR_TOKEN", "ORCHESTRATOR_TOKENS", "ORCHESTRATOR_TOKENS_FILE"
OWNER = "owner"  # the caller with the one token that has no name
MIN_TOKEN_CHARS = 16  # 16 random letters and digits can't be guessed at any rate
MAX_NAME_CHARS = 100
_KEYS = ("sha256", "role", "expires")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Token:
    """One caller's token. `expires_at`: UTC epoch seconds; None: never."""

    name: str
    digest: bytes = field(repr=False)
    role: Role
    expires_at: float | None = None

    def has_expired(self, now: float) -> bool:
        """Whether it is valid no longer."""
        return self.expires_at is not None and now >= self.expires_at


class Tokens:
    """All tokens. Empty: every caller on this machine is allowed.

    Immutable, so that a request which is checked in steps sees one state. Raises ConfigError for a name, or a
    token, that occurs twice.
    """

    def __init__(self, tokens: Iterable[Token] = ()) -> None:
        self._by_name: dict[str, Token] = {}
        names: dict[bytes, str] = {}
        for token in tokens:
            if token.name in self._by_name:
                raise ConfigError(f"the name {token.name} occurs twice among the tokens")
            self._by_name[token.name] = token
            if (other := names.setdefault(token.digest, token.name)) != token.name:
                raise ConfigError(f"{other} and {token.name} have the same token; give each a different one")

    def __bool__(self) -> bool:
        return bool(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"<Tokens of {', '.join(self._by_name) or 'no one'}>"

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Tokens:
        """The tokens of the three variables. Raises ConfigError."""
        found = []
        if one := environ.get(ONE_TOKEN, "").strip():
            found.append(Token(OWNER, _digest_of(OWNER, one), OPERATE))
        pairs = (part.strip() for part in environ.get(MANY_TOKENS, "").split(","))
        found += [_read_pair(pair) for pair in pairs if pair]
        if file := environ.get(TOKENS_FILE, "").strip():
            found += _read_file(Path(file))
        return cls(found)

    @property
    def names(self) -> Collection[str]:
        """The names that have a token."""
        return self._by_name.keys()

    def find(self, secret: str) -> Token | None:
        """The token with this text, also if it has expired. Takes the same time for every text."""
        given, found = _digest(secret), None
        for token in self._by_name.values():
            if hmac.compare_digest(given, token.digest):
                found = token
        return found

    def mark(self, name: str, secret: bytes) -> str:
        """The mark of a session that began with the current token of `name`; empty for an unknown name."""
        token = self._by_name.get(name)
        return "" if token is None else hmac.new(secret, token.digest, hashlib.sha256).hexdigest()[:32]

    def marked(self, name: str, mark: str, secret: bytes, now: float) -> Token | None:
        """The token of `name`, if it is valid and the session with this mark began with it."""
        token, wanted = self._by_name.get(name), self.mark(name, secret)
        if token is None or token.has_expired(now) or not hmac.compare_digest(wanted, mark):
            return None
        return token


def are_set(environ: Mapping[str, str]) -> bool:
    """Whether the environment names any tokens."""
    return any(environ.get(name, "").strip() for name in (ONE_TOKEN, MANY_TOKENS, TOKENS_FILE))


def file_section(name: str, secret: str, role: Role, expires: datetime | None) -> str:
    """The section of a tokens file for this token. Raises ConfigError for a name that can't have one."""
    _check_name(name, "NAME")
    lines = [f"[{_quoted(name)}]", f'sha256 = "{_digest_of(name, secret).hex()}"', f'role = "{role}"']
    if expires is not None:
        lines.append(f"expires = {expires.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}")
    return "\n".join(lines) + "\n"


def _quoted(name: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _digest_of(name: str, secret: str) -> bytes:
    """Raises ConfigError for a token that is too short."""
    if len(secret) < MIN_TOKEN_CHARS:
        raise ConfigError(
            f"the token of {name} has {len(secret)} characters; it needs at least {MIN_TOKEN_CHARS} "
            "(python -c 'import secrets; print(secrets.token_urlsafe(24))' makes one)"
        )
    return _digest(secret)


def _read_pair(pair: str) -> Token:
    """Name, token and role of `name:token` or `name:token:role`; the default role is `submit`.

    Raises ConfigError, with a message that never repeats a possible token.
    """
    parts = [part.strip() for part in pair.split(":")]
    if len(parts) not in (2, 3) or not all(parts):
        raise ConfigError("must be name:token or name:token:role, separated by commas", where=MANY_TOKENS)
    name = parts[0]
    _check_name(name, MANY_TOKENS)
    role = _role(name, parts[2] if len(parts) == 3 else SUBMIT, MANY_TOKENS)
    return Token(name, _digest_of(name, parts[1]), role)


def _check_name(name: str, where: str) -> None:
    if not name or not name.isprintable() or len(name) > MAX_NAME_CHARS:
        raise ConfigError(f"a name has 1 to {MAX_NAME_CHARS} characters, all printable", where=where)
    if name == LOCAL:
        raise ConfigError(
            f"the name {LOCAL} is reserved for callers without a token; choose another", where=where
        )


def _role(name: str, given: object, where: str) -> Role:
    role = next((role for role in ROLES if role == given), None)
    if role is None:
        raise ConfigError(f"the role of {name} must be one of {', '.join(ROLES)}", where=where)
    return role


# ------------------------------------------------------------------ the file


def _read_file(path: Path) -> Iterator[Token]:
    """Raises ConfigError for a file that others can read, that is malformed, or that holds no token.

    An emptied file must not open a server to everyone on its machine.
    """
    sections = parse_toml(read_private(path), str(path))
    if not sections:
        raise ConfigError("holds no token; the command `token NAME` makes a section for it", where=str(path))
    for name, section in sections.items():
        yield _read_section(name, section, str(path))


def _read_section(name: str, section: Any, where: str) -> Token:
    """No message repeats a value: it may be a token that was pasted by mistake."""
    _check_name(name, where)
    if not isinstance(section, dict):
        raise ConfigError(f"{_quoted(name)} must be a section, [{_quoted(name)}]", where=where)
    if unknown := next((key for key in section if key not in _KEYS), None):
        raise ConfigError(f"unknown key {unknown!r} of {name}; {hint(unknown, _KEYS)}", where=where)
    digest = section.get("sha256")
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
        problem = f"sha256 of {name} must be the SHA-256 digest of the token, 64 hexadecimal digits"
        raise ConfigError(problem, where=where)
    expires_at = _epoch(name, section["expires"], where) if "expires" in section else None
    return Token(name, bytes.fromhex(digest), _role(name, section.get("role", SUBMIT), where), expires_at)


def _epoch(name: str, given: object, where: str) -> float:
    """A day begins at midnight UTC."""
    if isinstance(given, date) and not isinstance(given, datetime):
        given = datetime.combine(given, time(), UTC)
    if not isinstance(given, datetime) or given.tzinfo is None:
        problem = f"expires of {name} must be a day or a time with its zone, as 2027-01-31T00:00:00Z"
        raise ConfigError(problem, where=where)
    return given.timestamp()
