"""Where keys may be sent: what `.env` and a configuration may decide about keys that they do not hold.

A key in the environment is the user's. The `.env` of the current folder may be a stranger's: it may have come
with an archive or a clone. So without consent

    an address, or a configuration, of `.env`    applies only to keys of the same `.env`
    `api_key_env`                                accepts only variables that are named like a provider's key

Consent (`--trust-env-file`) is for these files, with this content, at this path. It is stored as a digest in
the user's own folder, never in the current one. Beside it are the hosts that each key was sent to: a key that
is sent to a new host gets a line on the terminal. Keys are stored as digests too.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from .config import CONFIG, Environment, ProviderAccess, provider_access
from .errors import ConfigError
from .private import make_private_folder
from .settings import Settings

FLAG = "--trust-env-file"
OURS = "agent-orchestrator"
DATABASE, DATABASE_PASSWORD = "DATABASE_URL", "PGPASSWORD"
_HOLDS_KEY = re.compile(r"[A-Za-z0-9_]*_(KEY|TOKEN)", re.IGNORECASE)
# Services whose credentials end like a provider's. Clouds that also serve models are here: theirs open more.
_OTHER_SERVICES = re.compile(
    r"(.*_)?(AWS|GITHUB|GH|GITLAB|BITBUCKET|STRIPE|PAYPAL|SLACK|DISCORD|TELEGRAM|TWILIO|SENDGRID|MAILGUN|NPM|NODE"
    r"|PYPI|TWINE|CARGO|DOCKER|HEROKU|VERCEL|NETLIFY|CLOUDFLARE|CF|DIGITALOCEAN|DO|LINODE|HCLOUD|VAULT|CONSUL"
    r"|NOMAD|KUBE|SENTRY|DATADOG|DD|PAGERDUTY|GRAFANA|JIRA|ATLASSIAN|NOTION|LINEAR|OP|BW|SSH|GPG|ORCHESTRATOR"
    r"|DJANGO|FLASK|RAILS|JWT|SESSION|ENCRYPTION|SIGNING|PRIVATE|SECRET|DATABASE|DB|REDIS|PG|MYSQL|SUPABASE"
    r"|FIREBASE|AZURE_STORAGE|AZURE_CLIENT|ARM|ACCESS|S3|MINIO|CI|ACTIONS|RUNNER)_.*",
    re.IGNORECASE,
)


def is_key_of_a_provider(variable: str) -> bool:
    """Whether this variable is named like the key of a model provider."""
    return bool(_HOLDS_KEY.fullmatch(variable)) and not _OTHER_SERVICES.fullmatch(variable)


def check(
    settings: Settings,
    environ: Environment,
    *,
    config: Path | None,
    consents: bool,
    exported: Mapping[str, str],
) -> list[str]:
    """Check before any key is sent. Returns a line for each key that is sent to a new host.

    `config` is the file of the command line, `exported` the environment without `.env`. Raises ConfigError
    if consent is needed and neither given (`consents`) nor stored.
    """
    folder = _own_folder(exported)
    if objections := list(_objections(settings, environ, config)):
        accepted = _Kept(folder / "trusted", _digest_of_files(environ, config))
        if consents:
            accepted.write("")
        elif not accepted.exists():
            raise ConfigError(f"{'; '.join(objections)} (if that is right, say so once with {FLAG})")
    return list(_moves(folder / "hosts", provider_access(settings, environ).values()))


# ------------------------------------------------------------------ what needs consent


def _objections(settings: Settings, environ: Environment, config: Path | None) -> Iterator[str]:
    keyed = [a for a in provider_access(settings, environ).values() if a.configured and a.variable]
    yield from _file_objections([a for a in keyed if not environ.is_of_file(a.variable)], environ, config)
    where = config or environ.get(CONFIG)
    yield from (_name_objection(a, where) for a in keyed if not is_key_of_a_provider(a.variable))
    yield from _database_objections(environ)


def _file_objections(
    exported: list[ProviderAccess], environ: Environment, config: Path | None
) -> Iterator[str]:
    """What `.env` decides about keys of the environment."""
    if config is None and exported and environ.is_of_file(CONFIG):
        names = ", ".join(access.variable for access in exported)
        yield (
            f"{environ.file} sets {CONFIG}, and {names} of the environment would go where that file says: "
            "a file that a folder brings may only redirect keys of the same .env"
        )
    yield from (_address_objection(a, environ) for a in exported if environ.is_of_file(a.config.base_url_env))


def _address_objection(access: ProviderAccess, environ: Environment) -> str:
    return (
        f"{environ.file} sets {access.config.base_url_env}, and {access.variable} of the environment "
        f"would go to {_host(access)}: an address in .env applies only to keys of the same .env"
    )


def _name_objection(access: ProviderAccess, where: Path | str | None) -> str:
    return (
        f"{where}: api_key_env of {access.name} takes {access.variable}, which would go to {_host(access)}: "
        "its name is not that of a model provider's key"
    )


def _database_objections(environ: Environment) -> Iterator[str]:
    has_password = DATABASE_PASSWORD in environ and not environ.is_of_file(DATABASE_PASSWORD)
    if environ.is_of_file(DATABASE) and has_password:
        yield (
            f"{environ.file} sets {DATABASE}, and {DATABASE_PASSWORD} of the environment would go there: "
            "an address in .env applies only to passwords of the same .env"
        )


def _digest_of_files(environ: Environment, config: Path | None) -> str:
    """A digest of content and path of the files that were read."""
    digest = hashlib.sha256()
    named = config or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    for path, content in ((environ.file, environ.content), (named, named.read_bytes() if named else b"")):
        for part in (os.fsencode(Path(path).resolve()) if path else b"", content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


# ------------------------------------------------------------------ where keys have gone


def _moves(folder: Path, providers: Iterable[ProviderAccess]) -> Iterator[str]:
    """A line for each key that is sent to a new host, if it was sent to another one before."""
    by_key: dict[str, list[ProviderAccess]] = {}
    for each in providers:
        if each.configured and each.variable:
            by_key.setdefault(each.key.get_secret_value(), []).append(each)
    for key, users in by_key.items():
        kept = _Kept(folder, hashlib.sha256(f"{OURS} host of {key}".encode()).hexdigest()[:32])
        before = kept.lines()
        hosts = list(dict.fromkeys(_host(each) for each in users))
        new = [host for host in hosts if host not in before]
        if new:
            kept.write("\n".join([*before, *new]))
        if new and before:
            yield f"{users[0].variable} now also goes to {', '.join(new)} (before: {', '.join(before)})"


def _host(access: ProviderAccess) -> str:
    return urlsplit(access.base_url).hostname or access.base_url


# ------------------------------------------------------------------ the user's own folder


def _own_folder(exported: Mapping[str, str]) -> Path:
    """Named by the environment only: if `.env` could name it, `.env` could bring its own consent."""
    named = exported.get("XDG_STATE_HOME") or exported.get("LOCALAPPDATA") or ""
    if Path(named).is_absolute():
        return Path(named) / OURS
    with suppress(RuntimeError):
        return Path.home() / ".local" / "state" / OURS
    return Path(os.devnull)  # no home: nothing is remembered


class _Kept:
    """One small file of the user. If it can't be written, the user is asked again next time."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name

    def exists(self) -> bool:
        with suppress(OSError):
            return self._path.is_file()
        return False

    def lines(self) -> list[str]:
        with suppress(OSError, UnicodeDecodeError):
            return self._path.read_text(encoding="utf-8").split()
        return []

    def write(self, text: str) -> None:
        fresh = self._path.with_name(f"{self._path.name}.{secrets.token_hex(4)}")
        with suppress(OSError):
            make_private_folder(self._path.parent)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(text)
            fresh.replace(self._path)
